//! What a service's settings do to packets, at once.

use sluice_gateway_ebpf::{
    conntrack::State,
    maps::{SERVICE_HAS_RANGES, TARGET_DRAINING, TARGET_REMOVED},
    verdict::Drop,
};

use crate::{
    build::{Tcp, read, tcp, udp},
    rig::{Net, PASS, REDIRECT, Rig, SHOT, TARGET, TARGET_PORT, VIP_PORT},
};

both_hooks!(
    source_ranges,
    a_removed_port_stops,
    a_changed_target_takes_new_flows,
    udp_leaves_a_draining_target,
    no_target_is_refused,
    two_ports_do_not_mix,
    an_unknown_link_resets_nothing,
);

fn syn<N: Net>(client: N::Addr, port: u16) -> Vec<u8> {
    tcp::<N>(client, N::VIP, &Tcp { source_port: port, flags: "S", ..Tcp::default() })
}

fn source_ranges<N: Net>() {
    let mut rig = Rig::<N>::new();
    rig.set_service(VIP_PORT, 6, |service| service.flags = SERVICE_HAS_RANGES);
    assert_eq!(rig.forward(&syn::<N>(N::CLIENT, 1)).verdict, SHOT);
    assert_eq!(rig.dropped(Drop::SourceRange), 1);
    let bits = if N::IS_V4 { 16 } else { 64 };
    rig.allow(N::CLIENT, bits);
    assert_eq!(rig.forward(&syn::<N>(N::CLIENT, 1)).verdict, REDIRECT);
    assert_eq!(rig.forward(&syn::<N>(N::FAR_CLIENT, 1)).verdict, SHOT);
    assert_eq!(rig.dropped(Drop::SourceRange), 2);
    assert_eq!(rig.flows().len(), 1);
}

fn a_removed_port_stops<N: Net>() {
    let mut rig = Rig::<N>::new();
    assert_eq!(rig.forward(&syn::<N>(N::CLIENT, 40000)).verdict, REDIRECT);
    rig.remove_service(VIP_PORT, 6);
    rig.set_target(TARGET, |target| target.state = TARGET_REMOVED);
    let frame = syn::<N>(N::CLIENT, 40000);
    let outcome = rig.forward(&frame);
    assert_eq!((outcome.verdict, outcome.frame), (PASS, frame), "the port is the kernel's again");
    let answer = Tcp { source_port: TARGET_PORT, destination_port: 40000, flags: "SA", ..Tcp::default() };
    assert_eq!(rig.reverse(&tcp::<N>(N::TARGET, N::SNAT, &answer)).verdict, PASS);
}

fn a_changed_target_takes_new_flows<N: Net>() {
    let mut rig = Rig::<N>::new();
    rig.establish(40000);
    rig.set_target(TARGET, |target| target.state = TARGET_DRAINING);
    rig.set_target(2, |target| target.address = N::TARGET_2);
    rig.set_service(VIP_PORT, 6, |service| service.first_target = 2);
    let data = tcp::<N>(N::CLIENT, N::VIP, &Tcp { flags: "AP", payload: b"on", ..Tcp::default() });
    assert_eq!(
        read(&rig.forward(&data).frame).destination,
        bytemuck::bytes_of(&N::TARGET),
        "an open connection stays"
    );
    let other = rig.forward(&syn::<N>(N::CLIENT, 40001));
    assert_eq!(
        read(&other.frame).destination,
        bytemuck::bytes_of(&N::TARGET_2),
        "a new one goes to the new target"
    );
    // The same client port anew, after its connection has ended.
    rig.forward(&tcp::<N>(N::CLIENT, N::VIP, &Tcp { flags: "R", ..Tcp::default() }));
    let again = rig.forward(&syn::<N>(N::CLIENT, 40000));
    assert_eq!(read(&again.frame).destination, bytemuck::bytes_of(&N::TARGET_2), "a reopened one too");
    assert_eq!(rig.reserved().len(), 2, "the old reservation was given back");
}

fn udp_leaves_a_draining_target<N: Net>() {
    let mut rig = Rig::<N>::new();
    let packet = udp::<N>(N::CLIENT, N::VIP, (40000, VIP_PORT), b"x");
    rig.forward(&packet);
    rig.set_target(TARGET, |target| target.state = TARGET_DRAINING);
    rig.set_target(2, |target| target.address = N::TARGET_2);
    rig.set_service(VIP_PORT, 17, |service| service.first_target = 102);
    assert_eq!(read(&rig.forward(&packet).frame).destination, bytemuck::bytes_of(&N::TARGET_2));
    assert_eq!(rig.reserved().len(), 1);
    let stats = rig.stats();
    assert_eq!((stats.flows_opened, stats.flows_closed), (2, 1));
}

fn no_target_is_refused<N: Net>() {
    let mut rig = Rig::<N>::new();
    rig.set_service(VIP_PORT, 6, |service| service.target_count = 0);
    assert_eq!(rig.forward(&syn::<N>(N::CLIENT, 1)).verdict, SHOT);
    assert_eq!(rig.dropped(Drop::NoTarget), 1);
    assert!(rig.replies().is_empty());
}

fn two_ports_do_not_mix<N: Net>() {
    // The original lost port 80 beside 8080, and sent both to the target port.
    let mut rig = Rig::<N>::new();
    rig.set_target(2, |target| {
        target.vip_port = 8080;
        target.port = 9090;
    });
    rig.set_service(8080, 6, |service| service.first_target = 2);
    for (port, expected) in [(80, TARGET_PORT), (8080, 9090)] {
        let frame =
            tcp::<N>(N::CLIENT, N::VIP, &Tcp { destination_port: port, flags: "S", ..Tcp::default() });
        assert_eq!(read(&rig.forward(&frame).frame).destination_port, expected);
    }
    assert!(rig.flows().iter().all(|(_, flow)| State::from_raw(flow.state) == State::SynSent));
}

/// Handed to the pod's own stack, what follows would be answered with a reset.
fn an_unknown_link_resets_nothing<N: Net>() {
    let mut rig = Rig::<N>::new();
    rig.establish(40000);
    rig.configure(|config| config.cluster_mtu = 0);
    let data = tcp::<N>(N::CLIENT, N::VIP, &Tcp { flags: "AP", payload: b"x", ..Tcp::default() });
    let answer = Tcp { source_port: TARGET_PORT, destination_port: 40000, flags: "AP", ..Tcp::default() };
    let answer = tcp::<N>(N::TARGET, N::SNAT, &answer);
    assert_eq!(rig.forward(&data).verdict, SHOT);
    assert_eq!(rig.forward(&syn::<N>(N::CLIENT, 40001)).verdict, SHOT);
    assert_eq!(rig.reverse(&answer).verdict, SHOT);
    assert_eq!(rig.drops(), [("unconfigured", 3)]);
    let other = tcp::<N>(N::CLIENT, N::VIP, &Tcp { destination_port: 81, flags: "S", ..Tcp::default() });
    assert_eq!(rig.forward(&other).verdict, PASS, "not ours");
    rig.configure(|_| {});
    assert_eq!(rig.forward(&data).verdict, REDIRECT);
    assert_eq!(rig.reverse(&answer).verdict, REDIRECT);
}
