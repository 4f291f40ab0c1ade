//! Handing packets to the other end of the cluster link. What a test run can show of it is the frame's addresses: they are written by
//! the program where it hands over, and left to the kernel where it does not.

use sluice_gateway_ebpf::{maps::Hop, packet::ETHERNET};

use crate::{
    build::{Tcp, tcp, udp},
    hot::lookalike,
    rig::{CLUSTER_ETHERNET, Context, Net, REDIRECT, Rig, TARGET, VIP_PORT, clock},
};

both_families!(
    every_packet_of_a_flow_takes_the_same_way,
    only_while_the_neighbour_is_known,
    only_targets_behind_the_next_hop,
    packets_whose_checksum_the_kernel_mends_too,
    a_mark_stays_in_the_pod,
);

fn is_handed_over<N: Net>(rig: &Rig<N>, frame: &[u8]) -> bool {
    is_handed_over_with(rig, frame, Context::default())
}

fn is_handed_over_with<N: Net>(rig: &Rig<N>, frame: &[u8], context: Context) -> bool {
    let outcome = rig.run("forward", frame, context);
    assert_eq!(outcome.verdict, REDIRECT);
    let [destination, source] = CLUSTER_ETHERNET;
    let written = outcome.frame[..12] == [destination, source].concat();
    assert!(written || outcome.frame[..12] == frame[..12], "{:x?}", &outcome.frame[..12]);
    written
}

fn segment<N: Net>(flags: &str) -> Vec<u8> {
    tcp::<N>(N::CLIENT, N::VIP, &Tcp { flags, ..Tcp::default() })
}

/// The first packets, those of the hot path, and the last ones.
fn every_packet_of_a_flow_takes_the_same_way<N: Net>() {
    let mut rig = Rig::<N>::new();
    rig.set_handover(|_| {});
    assert!(is_handed_over(&rig, &segment::<N>("S")));
    rig.establish(40000);
    for flags in ["A", "PA", "FA", "RA"] {
        assert!(is_handed_over(&rig, &segment::<N>(flags)), "{flags}");
    }
    let datagram = udp::<N>(N::CLIENT, N::VIP, (40000, VIP_PORT), b"data");
    assert!(is_handed_over(&rig, &datagram));
    assert!(is_handed_over(&rig, &datagram));
}

fn only_while_the_neighbour_is_known<N: Net>() {
    let mut rig = Rig::<N>::new();
    rig.establish(40000);
    let frames = [segment::<N>("A"), segment::<N>("PA")];
    let assert_not = |rig: &Rig<N>| frames.iter().for_each(|frame| assert!(!is_handed_over(rig, frame)));
    assert_not(&rig);
    for until in [0, clock(), clock().wrapping_sub(1)] {
        rig.set_handover(|hop| hop.until = until);
        assert_not(&rig);
    }
    rig.set_handover(|_| {});
    assert!(frames.iter().all(|frame| is_handed_over(&rig, frame)));
    rig.set_handover(|hop| *hop = Hop::default());
    assert_not(&rig);
}

fn only_targets_behind_the_next_hop<N: Net>() {
    let mut rig = Rig::<N>::new();
    rig.establish(40000);
    rig.set_handover(|hop| hop.address = N::ROUTER);
    assert!(!is_handed_over(&rig, &segment::<N>("A")));
    assert!(!is_handed_over(&rig, &segment::<N>("FA")));
    // A target without a next hop is a neighbour itself.
    rig.set_target(TARGET, |target| target.cluster_next_hop = bytemuck::Zeroable::zeroed());
    rig.set_handover(|hop| hop.address = N::TARGET);
    assert!(is_handed_over(&rig, &segment::<N>("A")));
}

fn packets_whose_checksum_the_kernel_mends_too<N: Net>() {
    let mut rig = Rig::<N>::new();
    rig.establish(40000);
    rig.set_handover(|_| {});
    let of = |payload: &[u8]| tcp::<N>(N::CLIENT, N::VIP, &Tcp { payload, ..Tcp::default() });
    let at = ETHERNET as usize + N::HEADER as usize + 16;
    assert!(is_handed_over(&rig, &lookalike::<N>(6, 22, at, of)));
    let in_segments = Context { gso_size: 1000, gso_segs: 3, ..Context::default() };
    assert!(is_handed_over_with(&rig, &of(&[7; 3000]), in_segments));
}

fn a_mark_stays_in_the_pod<N: Net>() {
    let mut rig = Rig::<N>::new();
    rig.establish(40000);
    rig.set_handover(|_| {});
    for flags in ["A", "FA"] {
        let outcome = rig.run("forward", &segment::<N>(flags), Context { mark: 7, ..Context::default() });
        assert_eq!((outcome.verdict, outcome.mark), (REDIRECT, 0), "{flags}");
    }
}
