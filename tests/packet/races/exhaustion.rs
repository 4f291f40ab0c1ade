//! The last ports towards a target, wanted by both CPUs.

use std::collections::HashSet;

use sluice_gateway_ebpf::{
    conntrack::State,
    maps::{Activity, Reply as _},
    ports,
    verdict::Drop,
};

use super::{FOREVER, Peer, UDP, answer, contest, owners, receiver, translated};
use crate::rig::{Net, Rig, client, clock};

both_families!(both_cpus_take_the_last_ports);

/// Every how manyth port is dead in the beginning.
const STEP: u32 = 126;
/// New clients of each CPU: enough for nearly all dead ports to be found, one at a time, by 128 probes.
const CLIENTS: u32 = 4000;

fn both_cpus_take_the_last_ports<N: Net>() {
    let mut rig = Rig::<N>::with_flows(131_072);
    rig.fill_ports(State::UdpStream);
    let long_ago = Activity::new(clock().wrapping_sub(FOREVER), 1);
    let dead = |port: u16| u32::from(port).is_multiple_of(STEP);
    for (key, mut flow) in rig.flows().into_iter().filter(|(_, flow)| dead(flow.snat_port)) {
        flow.activity = long_ago.0;
        rig.put_flow(key, flow);
    }
    for (key, reply) in rig.replies().into_iter().filter(|(key, _)| dead(key.snat_port)) {
        rig.put_reply(key, N::Reply::new(&reply.owner(), long_ago));
    }
    let [left, right] = [0, 1].map(|side| {
        let peer = |number: u32| Peer::<N> {
            address: client::<N>(200_000 + side * CLIENTS + number),
            port: ports::FIRST + (number * 13 % ports::COUNT) as u16,
            protocol: UDP,
        };
        (0..CLIENTS).map(peer).collect::<Vec<_>>()
    });
    let open = |peer: &Peer<N>| {
        let port = translated::<N>(&rig.forward(&peer.first()))?;
        // An exchange that is under way gives way to nobody.
        let back = rig.reverse(&answer::<N>(UDP, port));
        assert_eq!(receiver::<N>(&back), Some(peer.end()));
        Some((port, peer.owner()))
    };
    let all = |peers: &[Peer<N>]| peers.iter().filter_map(open).collect::<Vec<_>>();
    let (left, right) = contest(1, |_| all(&left), |_| all(&right)).remove(0);
    let opened = [left, right].concat();

    let ports: HashSet<u16> = opened.iter().map(|(port, _)| *port).collect();
    assert_eq!(ports.len(), opened.len(), "a port was given to two clients");
    assert!(ports.iter().all(|port| dead(*port)), "a port in use was given away");
    let owners = owners(&rig);
    assert!(opened.iter().all(|(port, owner)| owners[&(u32::from(UDP), *port)] == *owner));
    let refused = 2 * u64::from(CLIENTS) - opened.len() as u64;
    assert_eq!(rig.dropped(Drop::PortsExhausted), refused);
    let there_were = (ports::FIRST..=u16::MAX).filter(|port| dead(*port)).count();
    assert!(ports.len() * 10 > there_were * 9, "{} of {there_were} found", ports.len());
    assert_eq!((rig.flows().len() as u32, rig.reserved().len() as u32), (ports::COUNT, ports::COUNT));
    assert_eq!(rig.stats().flows_opened, rig.stats().flows_closed, "each took the place of another");
}
