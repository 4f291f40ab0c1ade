//! Announcement frames, and the socket that sends them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const BROADCAST: [u8; 6] = [0xff; 6];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ICMPV6: u8 = 58;

/// The frames that announce `address` at `mac`. For IPv4 an ARP request (the announcement of RFC 5227) and an ARP reply,
/// since some routers learn from only one of them; for IPv6 an unsolicited neighbour advertisement (RFC 4861, 7.2.6).
pub(super) fn announcements(address: IpAddr, mac: [u8; 6]) -> Vec<Vec<u8>> {
    match address {
        IpAddr::V4(address) => {
            vec![arp(address, mac, ArpOperation::Request), arp(address, mac, ArpOperation::Reply)]
        }
        IpAddr::V6(address) => vec![neighbour_advertisement(address, mac)],
    }
}

#[derive(Clone, Copy)]
enum ArpOperation {
    Request = 1,
    Reply = 2,
}

fn arp(address: Ipv4Addr, mac: [u8; 6], operation: ArpOperation) -> Vec<u8> {
    let target = match operation {
        ArpOperation::Request => [0; 6],
        ArpOperation::Reply => BROADCAST,
    };
    let mut frame = ethernet(BROADCAST, mac, ETHERTYPE_ARP);
    // Ethernet, IPv4, and the lengths of their addresses.
    frame.extend_from_slice(&[0, 1, 0x08, 0x00, 6, 4, 0, operation as u8]);
    frame.extend_from_slice(&mac);
    frame.extend_from_slice(&address.octets());
    frame.extend_from_slice(&target);
    frame.extend_from_slice(&address.octets());
    frame
}

fn neighbour_advertisement(address: Ipv6Addr, mac: [u8; 6]) -> Vec<u8> {
    // Type 136; checksum below; flags: override, neither solicited nor router. Option 2: the target's link-layer address.
    let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    message.extend_from_slice(&address.octets());
    message.extend_from_slice(&[2, 1]);
    message.extend_from_slice(&mac);
    let sum = checksum(address, ALL_NODES, &message);
    message[2..4].copy_from_slice(&sum);

    let mut frame = ethernet(ALL_NODES_MAC, mac, ETHERTYPE_IPV6);
    let length = message.len() as u8;
    // Version 6; payload length; next header; hop limit 255, without which receivers drop it.
    frame.extend_from_slice(&[0x60, 0, 0, 0, 0, length, ICMPV6, 255]);
    frame.extend_from_slice(&address.octets());
    frame.extend_from_slice(&ALL_NODES.octets());
    frame.extend_from_slice(&message);
    frame
}

fn ethernet(destination: [u8; 6], source: [u8; 6], ethertype: [u8; 2]) -> Vec<u8> {
    [&destination[..], &source[..], &ethertype[..]].concat()
}

/// The ICMPv6 checksum (RFC 4443, 2.3) of an even number of bytes whose checksum field is zero.
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> [u8; 2] {
    let pseudo =
        [&source.octets()[..], &destination.octets()[..], &[0, 0, 0, message.len() as u8, 0, 0, 0, ICMPV6]];
    let words = pseudo.into_iter().chain([message]).flat_map(|part| part.chunks_exact(2));
    let mut sum: u32 = words.map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// A packet socket that only sends. Needs NET_RAW.
#[derive(Debug)]
pub(super) struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// Opens it in the calling thread's network namespace.
    pub(super) fn open() -> io::Result<Self> {
        // SAFETY: no pointers. Protocol 0 means that nothing is received.
        let fd = unsafe {
            libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and belongs to nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Sends one Ethernet frame by the interface of this index. Never waits.
    pub(super) fn send(&self, index: u32, frame: &[u8]) -> io::Result<()> {
        // SAFETY: all zero is a valid sockaddr_ll.
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        to.sll_family = libc::AF_PACKET as u16;
        to.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
        to.sll_protocol = u16::from_ne_bytes([frame[12], frame[13]]);
        // SAFETY: both pointers are valid for the lengths given with them, and the kernel only reads.
        let sent = unsafe {
            libc::sendto(
                self.0.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const to).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The layouts of RFC 826 and RFC 5227, byte by byte. (Neighbour advertisements are read by another parser in the
    /// netns tests.)
    #[test]
    fn arp_announcements() {
        let mac = [0xba, 0x85, 0xf7, 0x02, 0x9f, 0x42];
        let frames = announcements("172.18.0.18".parse().unwrap(), mac);
        let request = b"\xff\xff\xff\xff\xff\xff\xba\x85\xf7\x02\x9f\x42\x08\x06\
            \x00\x01\x08\x00\x06\x04\x00\x01\
            \xba\x85\xf7\x02\x9f\x42\xac\x12\x00\x12\
            \x00\x00\x00\x00\x00\x00\xac\x12\x00\x12";
        assert_eq!(frames[0], request);
        assert_eq!((frames[1].len(), frames[1][21]), (42, 2), "the same as a reply");
    }
}
