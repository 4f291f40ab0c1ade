//! Announcements, and next hops.

use std::net::Ipv6Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use etherparse::{ArpOperation, LinkSlice, NetSlice, SlicedPacket, TransportSlice};
use nix::sys::socket::{AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, socket};
use sluice_gateway::net::Outcome;
use sluice_tests::netns::Netns;

use super::pod::{Pod, dual_stack};

#[test]
fn a_silent_gateway_delays_nothing_and_next_hops_are_resolved_without_traffic() {
    let pod = Pod::new();
    pod.outside.ip("addr add 10.16.0.1/16 dev eth0p").unwrap();
    let net = pod.open();
    let mut wanted = dual_stack();
    wanted.services[0].vips[0].gateway = Some("172.18.9.9".parse().unwrap());
    let start = Instant::now();
    pod.converge(&net, &wanted);
    assert!(start.elapsed() < Duration::from_secs(1));
    let resolved = |device: &str, address: &str| {
        let neighbours = pod.ip(&format!("neigh show dev {device}"));
        neighbours.iter().any(|line| line.starts_with(&format!("{address} lladdr")))
    };
    pod.wait("the next hops are known", || {
        Some(()).filter(|()| resolved("net1", "fd00:18::1") && resolved("eth0", "10.16.0.1"))
    });
    assert!(!resolved("net1", "172.18.9.9"));
}

#[test]
fn a_vip_is_announced_when_it_is_new_and_when_its_link_returns() {
    let pod = Pod::new();
    let listener = Listener::new(&pod.outside, "ext1");
    let mac = |outcome: &Outcome| outcome.interfaces.external.as_ref().unwrap().mac.unwrap();
    // Waits for so many announcements of each kind.
    let heard = |mac: [u8; 6], rounds: usize| {
        let mut counts = [0; 3];
        pod.wait("announcements", || {
            for heard in listener.drain().into_iter().filter(|heard| heard.mac == mac) {
                counts[heard.kind as usize] += 1;
            }
            Some(()).filter(|()| counts.iter().all(|count| *count >= rounds))
        });
    };
    // The fourth announcement of a burst comes two seconds after the third: what is heard within one is of a new burst.
    let at_once = |what: &str, mac: [u8; 6]| {
        let start = Instant::now();
        heard(mac, 1);
        assert!(start.elapsed() < Duration::from_secs(1), "{what}");
    };

    let net = pod.open();
    let own = mac(&pod.converge(&net, &dual_stack()));
    at_once("the first round", own);
    drop(net);
    listener.drain();

    let net = pod.open();
    pod.converge(&net, &dual_stack());
    heard(own, 3);
    pod.set("link set net1 down\nlink set net1 up");
    pod.changed(&net);
    pod.converge(&net, &dual_stack());
    at_once("the link was down between two rounds", own);

    pod.set("link set net1 address 02:00:00:00:00:99");
    pod.changed(&net);
    let new = mac(&pod.converge(&net, &dual_stack()));
    assert_eq!(new, [2, 0, 0, 0, 0, 0x99]);
    heard(new, 3);
    pod.set("addr del 172.18.0.18/16 dev net1\naddr del fd00:18::18/64 dev net1");
    pod.changed(&net);
    pod.converge(&net, &dual_stack());
    at_once("the addresses were deleted and added again", new);
}

/// What an announcement says.
#[derive(Debug)]
struct Heard {
    kind: Kind,
    mac: [u8; 6],
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    ArpRequest,
    ArpReply,
    Advertisement,
}

/// Receives the frames of one device, and reads the announcements among them.
struct Listener {
    socket: OwnedFd,
    index: usize,
}

impl Listener {
    fn new(netns: &Netns, device: &str) -> Self {
        netns
            .run(|| {
                let socket = socket(
                    AddressFamily::Packet,
                    SockType::Raw,
                    SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
                    SockProtocol::EthAll,
                )?;
                Ok(Self { socket, index: nix::net::if_::if_nametoindex(device)? as usize })
            })
            .unwrap()
    }

    /// The announcements that have arrived.
    fn drain(&self) -> Vec<Heard> {
        let (mut heard, mut buffer) = (Vec::new(), [0; 2048]);
        while let Ok((length, from)) = recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
            if from.unwrap().ifindex() == self.index {
                heard.extend(announcement(&buffer[..length]));
            }
        }
        heard
    }
}

/// Reads an announcement of one of the VIPs; panics if it is not as it must be.
fn announcement(frame: &[u8]) -> Option<Heard> {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(LinkSlice::Ethernet2(ethernet)) = packet.link else { panic!("no Ethernet header") };
    let mac = ethernet.source();
    match (packet.net, packet.transport) {
        (Some(NetSlice::Arp(arp)), _) => {
            let sender = arp.sender_protocol_addr();
            if sender != [172, 18, 0, 18] || sender != arp.target_protocol_addr() {
                return None;
            }
            assert_eq!(ethernet.destination(), [0xff; 6]);
            assert_eq!(arp.sender_hw_addr(), mac);
            let kind = match arp.operation() {
                ArpOperation::REQUEST => Kind::ArpRequest,
                ArpOperation::REPLY => Kind::ArpReply,
                other => panic!("{other:?}"),
            };
            Some(Heard { kind, mac })
        }
        (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Icmpv6(icmp))) => {
            let header = ip.header();
            let [kind, flags] = [icmp.slice()[0], icmp.slice()[4]];
            let target: [u8; 16] = icmp.slice().get(8..24)?.try_into().unwrap();
            if kind != 136
                || Ipv6Addr::from(target) != "fd00:18::18".parse::<Ipv6Addr>().unwrap()
                || flags & 0x40 != 0
            {
                return None;
            }
            assert!(icmp.is_checksum_valid(header.source(), header.destination()));
            assert_eq!((header.source_addr(), header.hop_limit()), (Ipv6Addr::from(target), 255));
            assert_eq!(header.destination_addr(), "ff02::1".parse::<Ipv6Addr>().unwrap());
            assert_eq!(ethernet.destination(), [0x33, 0x33, 0, 0, 0, 1]);
            assert_eq!(flags, 0x20, "override, and neither router nor solicited");
            assert_eq!(icmp.slice()[24..], [&[2, 1], &mac[..]].concat());
            Some(Heard { kind: Kind::Advertisement, mac })
        }
        _ => None,
    }
}
