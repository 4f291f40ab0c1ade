//! Source ports towards a target: chosen, kept, taken over, exhausted, given back.

use std::collections::HashSet;

use sluice_gateway_ebpf::{
    conntrack::State,
    maps::{SWEEP_EXPIRED, SWEEP_FLUSH, SWEEP_REPLIES},
    ports,
    verdict::Drop,
};

use crate::{
    build::{Tcp, read, tcp, udp},
    rig::{Net, REDIRECT, Rig, SHOT, TARGET_PORT, VIP_PORT, client},
};

both_families!(
    two_clients_with_one_port,
    a_repeated_syn_keeps_its_port,
    a_dead_flow_is_taken_over,
    a_dead_flow_of_the_same_client_begins_anew,
    an_open_connection_is_never_taken_over,
    a_closed_port_rests,
    exhaustion_is_counted_and_recovers,
    half_open_gives_way_when_nothing_is_left,
    a_full_table_is_counted,
    the_sweep_deletes_the_dead_only,
    flushing_deletes_the_living,
    what_could_not_be_deleted_is_deleted_later,
);

fn syn<N: Net>(source: N::Addr, port: u16) -> Vec<u8> {
    tcp::<N>(source, N::VIP, &Tcp { source_port: port, flags: "S", ..Tcp::default() })
}

fn snat_port(frame: &[u8]) -> u16 {
    read(frame).source_port
}

fn two_clients_with_one_port<N: Net>() {
    let rig = Rig::<N>::new();
    let first = snat_port(&rig.forward(&syn::<N>(N::CLIENT, 40000)).frame);
    let second = snat_port(&rig.forward(&syn::<N>(N::FAR_CLIENT, 40000)).frame);
    assert_eq!(first, 40000, "the client's own port, if it is free");
    assert_ne!(second, first);
    let answer = Tcp { source_port: TARGET_PORT, destination_port: second, flags: "SA", ..Tcp::default() };
    let back = read(&rig.reverse(&tcp::<N>(N::TARGET, N::SNAT, &answer)).frame);
    assert_eq!(back.destination, bytemuck::bytes_of(&N::FAR_CLIENT));
    assert_eq!(back.destination_port, 40000);
}

fn a_repeated_syn_keeps_its_port<N: Net>() {
    let rig = Rig::<N>::new();
    let ports: HashSet<u16> =
        (0..3).map(|_| snat_port(&rig.forward(&syn::<N>(N::CLIENT, 40000)).frame)).collect();
    assert_eq!(ports.len(), 1);
    assert_eq!((rig.flows().len(), rig.reserved().len()), (1, 1));
    assert_eq!(rig.stats().flows_opened, 1);
}

fn a_dead_flow_is_taken_over<N: Net>() {
    let mut rig = Rig::<N>::new();
    rig.forward(&syn::<N>(N::CLIENT, 40000));
    rig.age(61);
    let port = snat_port(&rig.forward(&syn::<N>(N::FAR_CLIENT, 40000)).frame);
    assert_eq!(port, 40000);
    assert_eq!((rig.flows().len(), rig.reserved().len()), (1, 1), "in place, nothing is left over");
    assert_eq!(rig.flow().0.client, N::FAR_CLIENT);
    let stats = rig.stats();
    assert_eq!((stats.flows_opened, stats.flows_closed), (2, 1));
}

fn a_dead_flow_of_the_same_client_begins_anew<N: Net>() {
    let mut rig = Rig::<N>::new();
    rig.establish(40000);
    rig.age(432_001);
    assert_eq!(snat_port(&rig.forward(&syn::<N>(N::CLIENT, 40000)).frame), 40000);
    assert_eq!(rig.state(), State::SynSent, "what the earlier flow was says nothing of this one");
    assert_eq!((rig.flows().len(), rig.reserved().len()), (1, 1));
    let stats = rig.stats();
    assert_eq!((stats.flows_opened, stats.flows_closed), (2, 1));
}

fn an_open_connection_is_never_taken_over<N: Net>() {
    let mut rig = Rig::<N>::new();
    rig.establish(40000);
    rig.age(3600);
    let port = snat_port(&rig.forward(&syn::<N>(N::FAR_CLIENT, 40000)).frame);
    assert_ne!(port, 40000);
    let data = tcp::<N>(N::CLIENT, N::VIP, &Tcp { flags: "AP", payload: b"x", ..Tcp::default() });
    assert_eq!(snat_port(&rig.forward(&data).frame), 40000);
}

fn a_closed_port_rests<N: Net>() {
    let mut rig = Rig::<N>::new();
    rig.establish(40000);
    rig.forward(&tcp::<N>(N::CLIENT, N::VIP, &Tcp { flags: "R", ..Tcp::default() }));
    assert_eq!(rig.state(), State::Reset);
    rig.age(9);
    assert_ne!(snat_port(&rig.forward(&syn::<N>(N::FAR_CLIENT, 40000)).frame), 40000, "still resting");
    rig.age(2);
    assert_eq!(snat_port(&rig.forward(&syn::<N>(client::<N>(7), 40000)).frame), 40000, "rested");
}

/// Fills every port towards the target with established connections.
fn fill<N: Net>(rig: &mut Rig<N>) {
    rig.fill_ports(State::Established);
}

fn exhaustion_is_counted_and_recovers<N: Net>() {
    let mut rig = Rig::<N>::with_flows(131_072);
    fill(&mut rig);
    assert_eq!(rig.reserved().len() as u32, ports::COUNT);
    assert_eq!(rig.forward(&syn::<N>(N::FAR_CLIENT, 40000)).verdict, SHOT);
    assert_eq!(rig.drops(), [("ports_exhausted", 1)]);
    // One connection ends.
    let (key, mut flow) =
        rig.flows().into_iter().find(|(_, flow)| flow.snat_port == 40000).expect("port 40000");
    flow.state = State::Reset as u8;
    rig.put_flow(key, flow);
    assert_eq!(rig.forward(&syn::<N>(N::FAR_CLIENT, 40000)).verdict, SHOT, "it rests");
    rig.age(11);
    assert_eq!(snat_port(&rig.forward(&syn::<N>(N::FAR_CLIENT, 40000)).frame), 40000);
}

fn half_open_gives_way_when_nothing_is_left<N: Net>() {
    let mut rig = Rig::<N>::with_flows(131_072);
    rig.fill_ports(State::SynReceived);
    let outcome = rig.forward(&syn::<N>(N::FAR_CLIENT, 40000));
    assert_eq!(outcome.verdict, REDIRECT, "{:?}", rig.drops());
    assert_eq!(rig.reserved().len() as u32, ports::COUNT);
    assert_eq!(rig.flows().len() as u32, ports::COUNT, "one came, one went");
}

fn a_full_table_is_counted<N: Net>() {
    let rig = Rig::<N>::with_flows(16);
    let mut refused = 0;
    for port in 0..64 {
        // Datagrams, since half-open connections would give way to one another.
        if rig.forward(&udp::<N>(N::CLIENT, N::VIP, (40000 + port, VIP_PORT), b"x")).verdict == SHOT {
            refused += 1;
        }
    }
    assert!(refused > 0);
    assert_eq!(rig.dropped(Drop::TableFull) + rig.dropped(Drop::PortsExhausted), refused);
    assert_eq!(rig.flows().len(), rig.reserved().len(), "a refused flow leaves no reservation");
}

fn the_sweep_deletes_the_dead_only<N: Net>() {
    let mut rig = Rig::<N>::new();
    rig.forward(&syn::<N>(N::CLIENT, 40000));
    rig.age(61);
    rig.forward(&syn::<N>(N::CLIENT, 40001));
    assert_eq!(rig.sweep_flows(SWEEP_EXPIRED), 1);
    assert_eq!(rig.flow().0.client_port, 40001);
    assert_eq!(rig.reserved().len(), 1);
    assert_eq!(rig.sweep_replies(SWEEP_REPLIES), 0, "just freed: a packet may still be looking at it");
    rig.age(3);
    assert_eq!(rig.sweep_replies(SWEEP_REPLIES), 1);
    assert_eq!(rig.replies().len(), 1);
    let stats = rig.stats();
    assert_eq!((stats.flows_opened, stats.flows_closed), (2, 1));
}

fn flushing_deletes_the_living<N: Net>() {
    let rig = Rig::<N>::new();
    rig.establish(40000);
    assert_eq!(rig.sweep_flows(SWEEP_EXPIRED), 0);
    assert_eq!(rig.sweep_flows(SWEEP_FLUSH), 1);
    assert!(rig.flows().is_empty() && rig.reserved().is_empty());
}

fn what_could_not_be_deleted_is_deleted_later<N: Net>() {
    let mut rig = Rig::<N>::new();
    rig.forward(&syn::<N>(N::CLIENT, 40000));
    // As a packet leaves a flow that it has ended, when the map refuses to delete it.
    let (key, mut flow) = rig.flow();
    flow.state = State::Deleted as u8;
    rig.put_flow(key, flow);
    assert_eq!(rig.forward(&syn::<N>(N::CLIENT, 40000)).verdict, SHOT);
    assert_eq!(rig.drops(), [("busy", 1)]);
    rig.age(3);
    assert_eq!(rig.sweep_flows(SWEEP_EXPIRED), 0, "who marked it may be about to delete it");
    rig.age(3);
    assert_eq!(rig.sweep_flows(SWEEP_EXPIRED), 1);
    assert_eq!(rig.forward(&syn::<N>(N::CLIENT, 40000)).verdict, REDIRECT);
    let stats = rig.stats();
    assert_eq!((stats.flows_opened, stats.flows_closed), (2, 1));
}
