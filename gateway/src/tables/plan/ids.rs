//! Service ids: kept while anything in the maps names them.

use std::collections::{HashMap, HashSet};

use sluice_gateway_ebpf::maps::{MAX_SERVICES, ServiceKey, TARGET_UNSET};

use super::slots::key_of;
use crate::tables::{
    address::IpBytes,
    contents::{Contents, FamilyContents},
    desired::{Desired, DesiredPort, Side},
};

/// The id of each service port.
pub(super) struct Ids {
    /// In the order of [`Desired::ports`]; `None` where none is needed or free.
    pub of_port: Vec<Option<u32>>,
    /// Ids that nothing named before.
    pub fresh: Vec<u32>,
}

/// Gives each service port the id that its entries have, else the one its resting targets have, else a free one.
///
/// Where ports that shared an id part, none of them keeps it: while their entries are switched one after the other, the ranges
/// of one would count for another.
pub(super) fn assign(now: &Contents, desired: &Desired) -> Ids {
    let mut of_port = vec![None; desired.ports.len()];
    let mut claimed = HashSet::new();
    let mut users = HashMap::new();
    users_of(now.v4.as_ref(), desired, |port| &port.v4, &mut users);
    users_of(now.v6.as_ref(), desired, |port| &port.v6, &mut users);
    for source in [Source::Entries, Source::Targets] {
        let v4 = Known::read(now.v4.as_ref(), source);
        let v6 = Known::read(now.v6.as_ref(), source);
        for (index, (port, id)) in desired.ports.iter().zip(&mut of_port).enumerate() {
            if id.is_none() {
                let own =
                    |id: &u32| users.get(id).is_none_or(|users| users.iter().all(|user| *user == index));
                *id = v4
                    .of(&port.v4)
                    .chain(v6.of(&port.v6))
                    .find(|id| valid(*id) && own(id) && claimed.insert(*id));
            }
        }
    }
    let mut used = claimed;
    named(now.v4.as_ref(), &mut used);
    named(now.v6.as_ref(), &mut used);
    let mut free = (1..MAX_SERVICES).filter(|id| !used.contains(id));
    let mut fresh = Vec::new();
    for (port, id) in desired.ports.iter().zip(&mut of_port) {
        if id.is_none() && has_entries(now, port) {
            *id = free.next();
            fresh.extend(*id);
        }
    }
    Ids { of_port, fresh }
}

/// Whether the port appears in a map at all.
pub(super) fn has_entries(now: &Contents, port: &DesiredPort) -> bool {
    now.v4.is_some() && !port.v4.entries.is_empty() || now.v6.is_some() && !port.v6.entries.is_empty()
}

fn valid(id: u32) -> bool {
    (1..MAX_SERVICES).contains(&id)
}

#[derive(Clone, Copy)]
enum Source {
    Entries,
    Targets,
}

/// Ids by service key.
struct Known<A>(HashMap<ServiceKey<A>, u32>);

impl<A: IpBytes> Known<A> {
    fn read(now: Option<&FamilyContents<A>>, source: Source) -> Self {
        Self(now.map_or_else(Default::default, |now| match source {
            Source::Entries => now.services.iter().map(|(key, service)| (*key, service.id)).collect(),
            Source::Targets => {
                let in_use = now.targets.values().filter(|target| target.state != TARGET_UNSET);
                in_use.map(|target| (key_of(target), target.service)).collect()
            }
        }))
    }

    fn of<'a>(&'a self, side: &'a Side<A>) -> impl Iterator<Item = u32> + 'a {
        side.entries.iter().filter_map(|entry| self.0.get(&entry.key).copied())
    }
}

/// Adds, for each id, the ports (as indexes) whose entries have it now.
fn users_of<A: IpBytes>(
    now: Option<&FamilyContents<A>>,
    desired: &Desired,
    side: impl Fn(&DesiredPort) -> &Side<A>,
    users: &mut HashMap<u32, HashSet<usize>>,
) {
    let Some(now) = now else { return };
    for (index, port) in desired.ports.iter().enumerate() {
        for entry in side(port).entries.iter().filter_map(|entry| now.services.get(&entry.key)) {
            users.entry(entry.id).or_default().insert(index);
        }
    }
}

/// Adds every id that the family's maps name.
fn named<A: IpBytes>(now: Option<&FamilyContents<A>>, used: &mut HashSet<u32>) {
    let Some(now) = now else { return };
    used.extend(now.services.values().map(|service| service.id));
    used.extend(
        now.targets.values().filter(|target| target.state != TARGET_UNSET).map(|target| target.service),
    );
    used.extend(now.ranges.iter().map(|(id, _)| *id));
}
