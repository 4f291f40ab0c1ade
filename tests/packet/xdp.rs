//! What the XDP program alone does: it takes established flows, and declines what it cannot send from where it stands.

use sluice_gateway_ebpf::{maps::Hop, packet::ETHERNET};

use crate::{
    build::{Tcp, tcp},
    hot::lookalike,
    rig::{Net, Rig, TARGET, clock},
};

both_families!(
    established_packets_are_redirected,
    only_frames_to_the_link_itself_and_of_no_vlan,
    only_while_the_way_is_known_to_arrive,
    only_targets_behind_the_next_hop,
    a_device_that_is_only_in_the_settings_is_sent_by,
    a_packet_in_several_buffers_is_left_alone,
    a_checksum_to_be_filled_in_is_left_alone,
);

/// `XDP_PASS`
const PASS: i32 = 2;
/// `XDP_REDIRECT`
const REDIRECT: i32 = 4;

fn established<N: Net>() -> (Rig<N>, Vec<u8>) {
    let rig = Rig::<N>::new();
    rig.establish(40000);
    (rig, tcp::<N>(N::CLIENT, N::VIP, &Tcp { payload: b"data", ..Tcp::default() }))
}

/// Declined, unchanged and uncounted.
fn assert_declined<N: Net>(rig: &Rig<N>, frame: &[u8]) {
    let before = (rig.stats(), rig.drops(), rig.flows());
    let outcome = rig.xdp(frame, 1);
    assert_eq!((outcome.verdict, &outcome.frame[..]), (PASS, frame));
    assert_eq!((rig.stats(), rig.drops(), rig.flows()), before);
}

fn established_packets_are_redirected<N: Net>() {
    let (rig, frame) = established::<N>();
    let before = rig.stats();
    assert_eq!(rig.xdp(&frame, 1).verdict, REDIRECT);
    assert_eq!(rig.stats().forward_packets, before.forward_packets + 1);
    // First packets and last ones are the tc program's.
    for flags in ["S", "FA", "RA"] {
        assert_declined(&rig, &tcp::<N>(N::CLIENT, N::VIP, &Tcp { flags, ..Tcp::default() }));
    }
    assert_declined(&rig, &tcp::<N>(N::CLIENT, N::VIP, &Tcp { source_port: 40001, ..Tcp::default() }));
}

fn a_device_that_is_only_in_the_settings_is_sent_by<N: Net>() {
    let (mut rig, frame) = established::<N>();
    let sent = rig.xdp(&frame, 1);
    rig.set_xdp_device(0);
    let outcome = rig.xdp(&frame, 1);
    assert_eq!((outcome.verdict, outcome.frame), (REDIRECT, sent.frame));
}

fn only_frames_to_the_link_itself_and_of_no_vlan<N: Net>() {
    let (mut rig, mut frame) = established::<N>();
    let own = [2, 0, 0, 0, 0, 0x42];
    rig.set_hop(|hop| hop.external = own);
    assert_declined(&rig, &frame);
    frame[..6].copy_from_slice(&own);
    assert_eq!(rig.xdp(&frame, 1).verdict, REDIRECT);
    for byte in 0..6 {
        let mut other = frame.clone();
        other[byte] ^= 0x10;
        assert_declined(&rig, &other);
    }
    // VLAN 5, and a tag that carries a priority only, which the tc program looks through.
    for tag in [[0x81, 0x00, 0x00, 0x05], [0x81, 0x00, 0xe0, 0x00]] {
        let mut tagged = frame.clone();
        tagged.splice(12..12, tag);
        assert_declined(&rig, &tagged);
    }
}

fn only_while_the_way_is_known_to_arrive<N: Net>() {
    let (mut rig, frame) = established::<N>();
    for until in [0, clock(), clock().wrapping_sub(1)] {
        rig.set_hop(|hop| hop.until = until);
        assert_declined(&rig, &frame);
    }
    rig.set_hop(|hop| *hop = Hop::default());
    assert_declined(&rig, &frame);
    rig.set_hop(|_| {});
    assert_eq!(rig.xdp(&frame, 1).verdict, REDIRECT);
}

fn only_targets_behind_the_next_hop<N: Net>() {
    let (mut rig, frame) = established::<N>();
    rig.set_hop(|hop| hop.address = N::ROUTER);
    assert_declined(&rig, &frame);
    // A target without a next hop is a neighbour itself.
    rig.set_target(TARGET, |target| target.cluster_next_hop = bytemuck::Zeroable::zeroed());
    rig.set_hop(|hop| hop.address = N::TARGET);
    assert_eq!(rig.xdp(&frame, 1).verdict, REDIRECT);
}

/// Longer than one page, so that the kernel hands it over in several; an MTU that lets it through.
fn a_packet_in_several_buffers_is_left_alone<N: Net>() {
    let (mut rig, _) = established::<N>();
    rig.configure(|config| config.cluster_mtu = 9000);
    let frame = |size: usize| tcp::<N>(N::CLIENT, N::VIP, &Tcp { payload: &vec![7; size], ..Tcp::default() });
    assert_eq!(rig.xdp(&frame(3000), 1).verdict, REDIRECT);
    let jumbo = frame(8000);
    assert!(jumbo.len() > ETHERNET as usize + 8000);
    assert_declined(&rig, &jumbo);
}

/// Whether its field holds the sum of the pseudo-header for that reason or by chance: here nobody could tell.
fn a_checksum_to_be_filled_in_is_left_alone<N: Net>() {
    let (rig, _) = established::<N>();
    let at = ETHERNET as usize + N::HEADER as usize + 16;
    let segment = |payload: &[u8]| tcp::<N>(N::CLIENT, N::VIP, &Tcp { payload, ..Tcp::default() });
    assert_declined(&rig, &lookalike::<N>(6, 22, at, segment));
    assert_eq!(rig.xdp(&segment(b"ab"), 1).verdict, REDIRECT);
}
