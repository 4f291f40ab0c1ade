//! Changes that no pass over a Service would notice, such as those of a Subnet's status: to look at all Services of a Subnet each time one of
//! them gets an address would make the work of many Services grow with their square.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use kube::Resource;
use kube::runtime::reflector::Lookup;
use kube::runtime::watcher::Event;

use super::changed::Changed;

/// What was last seen of the objects of one kind that have an [essence](Changed::essence), by namespace and name.
#[derive(Debug, Default)]
pub struct Essences(HashMap<(Option<String>, String), u64>);

impl Essences {
    /// Takes note of `event`. False if it changes nothing that passes over Services read.
    pub fn changed<K: Changed + Lookup>(&mut self, event: &Event<K>) -> bool {
        match event {
            Event::Init => self.0.clear(),
            Event::Delete(object) => drop(self.0.remove(&key(object))),
            Event::InitApply(object) | Event::Apply(object) => {
                let Some(essence) = object.essence() else { return true };
                return self.0.insert(key(object), essence) != Some(essence);
            }
            Event::InitDone => {}
        }
        true
    }
}

/// All of an object that its users set: the API server raises `generation` with each change of its `spec`. `None` where it does not.
pub fn as_users_set<K: Resource>(object: &K) -> Option<u64> {
    let metadata = object.meta();
    let mut hasher = DefaultHasher::new();
    metadata.generation?.hash(&mut hasher);
    metadata.uid.hash(&mut hasher);
    metadata.finalizers.hash(&mut hasher);
    metadata.labels.hash(&mut hasher);
    metadata.annotations.hash(&mut hasher);
    metadata.deletion_timestamp.is_some().hash(&mut hasher);
    Some(hasher.finish())
}

fn key<K: Lookup>(object: &K) -> (Option<String>, String) {
    (object.namespace().map(Into::into), object.name().unwrap_or_default().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Subnet, SubnetSpec, SubnetStatus};

    fn subnet(generation: Option<i64>) -> Subnet {
        let mut subnet = Subnet::new("external", SubnetSpec::default());
        subnet.metadata.generation = generation;
        subnet.metadata.uid = Some("1".to_owned());
        subnet
    }

    #[test]
    fn a_status_is_no_change_and_everything_else_is() {
        let mut seen = Essences::default();
        assert!(seen.changed(&Event::InitApply(subnet(Some(1)))));
        let mut used = subnet(Some(1));
        used.status = Some(SubnetStatus { v4_using_ips: 1.0, ..SubnetStatus::default() });
        used.metadata.resource_version = Some("2".to_owned());
        assert!(!seen.changed(&Event::Apply(used.clone())));

        used.metadata.finalizers = Some(vec!["kubeovn.io/kube-ovn-controller".to_owned()]);
        assert!(seen.changed(&Event::Apply(used.clone())));
        used.metadata.generation = Some(2);
        assert!(seen.changed(&Event::Apply(used.clone())));
        used.metadata.uid = Some("another of its name".to_owned());
        assert!(seen.changed(&Event::Apply(used.clone())));
        assert!(!seen.changed(&Event::Apply(used.clone())));
        assert!(seen.changed(&Event::Delete(used.clone())));
        assert!(seen.changed(&Event::Apply(used)));
    }

    #[test]
    fn without_generations_everything_is_a_change() {
        let mut seen = Essences::default();
        for _ in 0..2 {
            assert!(seen.changed(&Event::Apply(subnet(None))));
        }
    }
}
