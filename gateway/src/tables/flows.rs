//! Reading flows, for people: each flow joined with its reservation and its target.

use std::{
    net::{IpAddr, SocketAddr},
    ops::ControlFlow,
};

use aya::maps::MapError;
use ipnet::IpNet;
use serde::Serialize;
use sluice_gateway_ebpf::{
    conntrack::State,
    maps::{Activity, Config, Flow, FlowKey, Reply as _, ReplyKey, Target},
};

use super::{
    address::IpBytes,
    batch::{Batch, Cursor},
    desired::protocol_name,
    error::Error,
    names::Names,
    read,
};
use crate::{
    bpf::{FamilyMaps, LoaderFamily, Maps},
    config::Protocol,
};

/// One flow. Times are ages: they mean the same on another machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FlowRecord {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
    /// A [`State`] by name.
    pub state: &'static str,
    /// `<namespace>/<name>`; absent if the configuration does not know the VIP and port.
    pub service: Option<String>,
    /// The port's name, if it has one.
    pub port_name: Option<String>,
    /// The client.
    pub client: SocketAddr,
    /// What it addressed.
    pub vip: SocketAddr,
    /// The source that the target sees.
    pub snat: SocketAddr,
    /// Where its packets go.
    pub target: SocketAddr,
    /// Seconds since the last packet from the client.
    pub client_idle_seconds: u32,
    /// Seconds since the last packet from the target; absent if the reservation is gone.
    pub target_idle_seconds: Option<u32>,
    /// Seconds until the flow is dead, if nothing comes; 0: it is.
    pub expires_in_seconds: u32,
    /// IP bytes from the client; absent while a TCP handshake is open and after the connection was closed, when the word has
    /// another use.
    pub client_bytes: Option<u64>,
    /// IP bytes from the target; absent if the reservation is gone.
    pub target_bytes: Option<u64>,
}

/// Which flows to read; what is `None` matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The client's address lies in this network.
    pub client: Option<IpNet>,
    /// The service's `<namespace>/<name>`, or its name alone.
    pub service: Option<String>,
    /// State.
    pub state: Option<State>,
    /// Transport protocol.
    pub protocol: Option<Protocol>,
}

impl Filter {
    /// What can be told without the target and the reservation.
    fn matches(&self, client: IpAddr, protocol: u32, state: State) -> bool {
        self.client.is_none_or(|net| net.contains(&client))
            && self.protocol.is_none_or(|wanted| u32::from(wanted.number()) == protocol)
            && self.state.is_none_or(|wanted| wanted == state)
    }

    fn matches_service(&self, service: Option<&str>) -> bool {
        let Some(wanted) = &self.service else { return true };
        let Some(service) = service else { return false };
        service == wanted || service.rsplit_once('/').is_some_and(|(_, name)| name == wanted)
    }
}

/// The state of that name (see [`State::name`]).
pub fn state_by_name(name: &str) -> Option<State> {
    states().find(|state| state.name() == name)
}

/// Every state that a flow can be in.
pub fn states() -> impl Iterator<Item = State> {
    (1..=State::SctpEstablished as u8).map(State::from_raw)
}

/// Reads the flows that match, IPv4 first, in no other order, until there are no more or `visit` breaks. The tables change
/// meanwhile: a flow that is there throughout is read exactly once. `now` is [`super::monotonic_seconds`].
///
/// # Errors
///
/// [`Error::Read`], [`Error::Get`].
pub fn read(
    maps: &Maps,
    filter: &Filter,
    names: &Names,
    now: u32,
    mut visit: impl FnMut(FlowRecord) -> ControlFlow<()>,
) -> Result<(), Error> {
    let config = maps.shared.config.get(&0, 0).map_err(Error::get("config", 0))?;
    let reader = Reader { filter, names, now, config };
    if let Some(maps) = &maps.v4
        && reader.family(maps, &mut visit)?.is_break()
    {
        return Ok(());
    }
    if let Some(maps) = &maps.v6 {
        let _: ControlFlow<()> = reader.family(maps, &mut visit)?;
    }
    Ok(())
}

struct Reader<'a> {
    filter: &'a Filter,
    names: &'a Names,
    now: u32,
    config: Config,
}

impl Reader<'_> {
    fn family<F: LoaderFamily<Addr: IpBytes>>(
        &self,
        maps: &FamilyMaps<F>,
        visit: &mut impl FnMut(FlowRecord) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Error> {
        let suffix = <F::Addr as IpBytes>::SUFFIX;
        let mut batch = Batch::new(1024);
        let mut cursor = Cursor::default();
        while cursor != Cursor::End {
            batch.read(&maps.flows, &mut cursor).map_err(Error::read("flows", suffix))?;
            for (key, flow) in batch.entries() {
                if !self.filter.matches(key.client.ip(), key.protocol, State::from_raw(flow.state)) {
                    continue;
                }
                let target = read::target(maps, flow.target)?;
                let reply = match maps.replies.get(&reply_key(&flow, &target), 0) {
                    Ok(reply) => Some(reply),
                    Err(MapError::KeyNotFound) => None,
                    Err(error) => return Err(Error::get(format!("replies_{suffix}"), "of a flow")(error)),
                };
                // A reservation that names another client has changed hands since the flow was read.
                let reply = reply.filter(|reply| {
                    let owner = reply.owner();
                    owner.client == key.client
                        && owner.client_port == key.client_port
                        && owner.target == flow.target
                });
                if let Some(record) = self.record(&key, &flow, &target, reply.map(|reply| reply.activity()))
                    && visit(record).is_break()
                {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn record<A: IpBytes>(
        &self,
        key: &FlowKey<A>,
        flow: &Flow,
        target: &Target<A>,
        reply: Option<Activity>,
    ) -> Option<FlowRecord> {
        let protocol = key.protocol as u8;
        let name = self.names.get(key.vip.ip(), key.vip_port, protocol);
        if !self.filter.matches_service(name.map(|name| name.service.as_str())) {
            return None;
        }
        let state = State::from_raw(flow.state);
        let activity = Activity(flow.activity);
        let client_idle = activity.idle(self.now);
        let target_idle = reply.map(|reply| reply.idle(self.now));
        let idle = target_idle.map_or(client_idle, |idle| idle.min(client_idle));
        Some(FlowRecord {
            protocol: protocol_name(protocol),
            state: state.name(),
            service: name.map(|name| name.service.clone()),
            port_name: name.and_then(|name| name.port_name.clone()),
            client: SocketAddr::new(key.client.ip(), key.client_port),
            vip: SocketAddr::new(key.vip.ip(), key.vip_port),
            snat: SocketAddr::new(target.snat.ip(), flow.snat_port),
            target: SocketAddr::new(target.address.ip(), target.port),
            client_idle_seconds: client_idle,
            target_idle_seconds: target_idle,
            expires_in_seconds: state.timeout(&self.config.timeouts).saturating_sub(idle),
            client_bytes: counts_bytes(state).then(|| activity.bytes()),
            target_bytes: reply.map(Activity::bytes),
        })
    }
}

/// Where the flow's reservation is.
fn reply_key<A: IpBytes>(flow: &Flow, target: &Target<A>) -> ReplyKey<A> {
    ReplyKey {
        target: target.address,
        snat: target.snat,
        target_port: target.port,
        snat_port: flow.snat_port,
        protocol: u32::from(target.protocol),
    }
}

/// Whether [`Flow::activity`] counts bytes in this state.
fn counts_bytes(state: State) -> bool {
    !matches!(
        state,
        State::Deleted
            | State::SynSent
            | State::SynReceived
            | State::ClosedByClient
            | State::ClosedByTarget
            | State::Reset
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::PortName;

    const NOW: u32 = 5_000;

    fn record(filter: &Filter, state: State, reply: Option<Activity>) -> Option<FlowRecord> {
        let mut config = crate::config::Config { gateway: Default::default(), services: vec![] };
        config.services.push(crate::config::Service {
            name: "default/web".into(),
            vips: vec![crate::config::Vip { address: "172.18.0.18/16".parse().unwrap(), gateway: None }],
            snat: vec![],
            targets: vec![],
            ports: vec![crate::config::Port {
                name: Some("http".into()),
                protocol: Protocol::Tcp,
                port: 80,
                target_port: 8080,
            }],
            source_ranges: vec![],
        });
        let names = Names::new(&config);
        let expected =
            PortName { service: "default/web".into(), port_name: Some("http".into()), protocol: 6, port: 80 };
        assert_eq!(names.get("172.18.0.18".parse().unwrap(), 80, 6), Some(&expected));
        let reader = Reader { filter, names: &names, now: NOW, config: Config::default() };
        let key = FlowKey {
            client: [192, 0, 2, 7],
            vip: [172, 18, 0, 18],
            client_port: 40_000,
            vip_port: 80,
            protocol: 6,
        };
        let target = Target {
            address: [10, 109, 201, 193],
            port: 8080,
            snat: [10, 16, 0, 5],
            protocol: 6,
            ..Target::default()
        };
        let flow = Flow {
            snat_port: 40_001,
            target: 1,
            state: state as u8,
            activity: Activity::new(NOW - 20, 1234).0,
            ..Flow::default()
        };
        if !filter.matches(key.client.ip(), key.protocol, state) {
            return None;
        }
        reader.record(&key, &flow, &target, reply)
    }

    #[test]
    fn a_record_has_ages_and_all_four_addresses() {
        let record =
            record(&Filter::default(), State::Established, Some(Activity::new(NOW - 7, 99))).unwrap();
        let json = serde_json::to_value(&record).unwrap();
        let expected = serde_json::json!({
            "protocol": "tcp", "state": "established", "service": "default/web", "port_name": "http",
            "client": "192.0.2.7:40000", "vip": "172.18.0.18:80", "snat": "10.16.0.5:40001",
            "target": "10.109.201.193:8080", "client_idle_seconds": 20, "target_idle_seconds": 7,
            "expires_in_seconds": 432_000 - 7, "client_bytes": 1234, "target_bytes": 99,
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn the_word_with_two_uses_is_not_shown_as_bytes() {
        let half_open = record(&Filter::default(), State::SynReceived, None).unwrap();
        assert_eq!((half_open.client_bytes, half_open.target_idle_seconds), (None, None));
        assert_eq!(half_open.expires_in_seconds, 40);
    }

    #[test]
    fn filters_select() {
        let keeps = |filter: Filter| record(&filter, State::Established, None).is_some();
        let client = |net: &str| Filter { client: Some(net.parse().unwrap()), ..Filter::default() };
        let service = |name: &str| Filter { service: Some(name.into()), ..Filter::default() };
        assert!(keeps(client("192.0.2.0/24")) && !keeps(client("192.0.3.0/24")) && !keeps(client("::/0")));
        assert!(keeps(service("default/web")) && keeps(service("web")) && !keeps(service("eb")));
        assert!(keeps(Filter { state: state_by_name("established"), ..Filter::default() }));
        assert!(!keeps(Filter { state: state_by_name("syn-sent"), ..Filter::default() }));
        assert!(!keeps(Filter { protocol: Some(Protocol::Udp), ..Filter::default() }));
        assert_eq!(state_by_name("deleted"), None);
        assert_eq!(states().count(), 13);
    }
}
