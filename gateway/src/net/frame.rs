//! Frames of ARP and neighbour discovery, and the socket that sends and receives them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd as _, AsRawFd, FromRawFd, OwnedFd};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const BROADCAST: [u8; 6] = [0xff; 6];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ICMPV6: u8 = 58;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Option: the sender's own Ethernet address.
const SOURCE_ADDRESS: u8 = 1;
/// Option: the Ethernet address of the address that is advertised.
const TARGET_ADDRESS: u8 = 2;
/// The longest frame that is looked at.
const RECEIVED: usize = 256;

/// The frames that announce `address` at `mac`. For IPv4 an ARP request (the announcement of RFC 5227) and an ARP reply,
/// since some routers learn from only one of them; for IPv6 an unsolicited neighbour advertisement (RFC 4861, 7.2.6).
pub(super) fn announcements(address: IpAddr, mac: [u8; 6]) -> Vec<Vec<u8>> {
    match address {
        IpAddr::V4(address) => [(ArpOperation::Request, [0; 6]), (ArpOperation::Reply, BROADCAST)]
            .map(|(operation, target)| arp(operation, (address, mac), (address, target)))
            .to_vec(),
        IpAddr::V6(address) => vec![neighbour_advertisement(address, mac)],
    }
}

#[derive(Clone, Copy)]
enum ArpOperation {
    Request = 1,
    Reply = 2,
}

fn arp(
    operation: ArpOperation,
    (sender, sender_mac): (Ipv4Addr, [u8; 6]),
    (target, target_mac): (Ipv4Addr, [u8; 6]),
) -> Vec<u8> {
    let mut frame = ethernet(BROADCAST, sender_mac, ETHERTYPE_ARP);
    // Ethernet, IPv4, and the lengths of their addresses.
    frame.extend_from_slice(&[0, 1, 0x08, 0x00, 6, 4, 0, operation as u8]);
    frame.extend_from_slice(&sender_mac);
    frame.extend_from_slice(&sender.octets());
    frame.extend_from_slice(&target_mac);
    frame.extend_from_slice(&target.octets());
    frame
}

fn neighbour_advertisement(address: Ipv6Addr, mac: [u8; 6]) -> Vec<u8> {
    // Flags: override, neither solicited nor router.
    let head = [NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, 0x20, 0, 0, 0];
    neighbour_message(head, (address, mac), (ALL_NODES, ALL_NODES_MAC), (address, TARGET_ADDRESS))
}

/// The frame that asks for the Ethernet address of `neighbour` (RFC 826; RFC 4861, 7.2.2). `None`: the addresses are of different
/// families.
pub(super) fn solicitation(neighbour: IpAddr, own: IpAddr, mac: [u8; 6]) -> Option<Vec<u8>> {
    match (neighbour, own) {
        (IpAddr::V4(neighbour), IpAddr::V4(own)) => {
            Some(arp(ArpOperation::Request, (own, mac), (neighbour, [0; 6])))
        }
        (IpAddr::V6(neighbour), IpAddr::V6(own)) => {
            let [.., a, b, c] = neighbour.octets();
            // The solicited-node multicast address (RFC 4291, 2.7.1), and its Ethernet address (RFC 2464, 7).
            let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
            let to = (group, [0x33, 0x33, 0xff, a, b, c]);
            let head = [NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
            Some(neighbour_message(head, (own, mac), to, (neighbour, SOURCE_ADDRESS)))
        }
        _ => None,
    }
}

/// The Ethernet address that `neighbour` tells `mac`, if the frame is such an answer.
pub(super) fn answer(frame: &[u8], neighbour: IpAddr, mac: [u8; 6]) -> Option<[u8; 6]> {
    let at = |range: std::ops::Range<usize>| frame.get(range);
    if at(0..6)? != mac {
        return None;
    }
    let told = match neighbour {
        IpAddr::V4(neighbour) => {
            let is_reply = at(12..14)? == ETHERTYPE_ARP && at(20..22)? == [0, ArpOperation::Reply as u8];
            (is_reply && at(28..32)? == neighbour.octets()).then(|| at(22..28))??
        }
        IpAddr::V6(neighbour) => {
            let is_advertisement = at(12..14)? == ETHERTYPE_IPV6
                && at(20..22)? == [ICMPV6, 255]
                && at(54..56)? == [NEIGHBOUR_ADVERTISEMENT, 0];
            // The option may be left out of an answer to a unicast question only, but the frame's source says the same.
            (is_advertisement && at(62..78)? == neighbour.octets()).then(|| at(6..12))??
        }
    };
    told.try_into().ok()
}

/// A message of neighbour discovery about an address, with `mac` as the option of that kind.
fn neighbour_message(
    head: [u8; 8],
    (source, mac): (Ipv6Addr, [u8; 6]),
    (destination, destination_mac): (Ipv6Addr, [u8; 6]),
    (about, option): (Ipv6Addr, u8),
) -> Vec<u8> {
    let mut message = head.to_vec();
    message.extend_from_slice(&about.octets());
    message.extend_from_slice(&[option, 1]);
    message.extend_from_slice(&mac);
    let sum = checksum(source, destination, &message);
    message[2..4].copy_from_slice(&sum);

    let mut frame = ethernet(destination_mac, mac, ETHERTYPE_IPV6);
    let length = message.len() as u8;
    // Version 6; payload length; next header; hop limit 255, without which receivers drop it.
    frame.extend_from_slice(&[0x60, 0, 0, 0, 0, length, ICMPV6, 255]);
    frame.extend_from_slice(&source.octets());
    frame.extend_from_slice(&destination.octets());
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

/// A packet socket. Needs NET_RAW.
#[derive(Debug)]
pub(super) struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// One that receives the frames of an EtherType by the interface of this index.
    pub(super) fn listening(index: u32, ethertype: [u8; 2]) -> io::Result<Self> {
        let socket = Self::open()?;
        let at = link_address(index, ethertype)?;
        // SAFETY: the pointer is valid for the length given with it, and the kernel only reads.
        let bound = unsafe { libc::bind(socket.0.as_raw_fd(), (&raw const at).cast(), LINK_ADDRESS_LENGTH) };
        if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
    }

    /// The next frame, cut at [`RECEIVED`] bytes; `None` when none comes until `deadline`.
    pub(super) fn receive(&self, deadline: Instant) -> io::Result<Option<Vec<u8>>> {
        let rest = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(rest).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut frame = vec![0; RECEIVED];
        // SAFETY: the buffer is as long as it is said to be.
        let length = unsafe { libc::recv(self.0.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), 0) };
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        frame.truncate(length);
        Ok(Some(frame))
    }

    /// Opens it in the calling thread's network namespace, to send.
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
        let to = link_address(index, [frame[12], frame[13]])?;
        // SAFETY: both pointers are valid for the lengths given with them, and the kernel only reads.
        let sent = unsafe {
            libc::sendto(
                self.0.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const to).cast(),
                LINK_ADDRESS_LENGTH,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

const LINK_ADDRESS_LENGTH: libc::socklen_t = size_of::<libc::sockaddr_ll>() as libc::socklen_t;

/// The kernel's address of an interface and an EtherType.
fn link_address(index: u32, ethertype: [u8; 2]) -> io::Result<libc::sockaddr_ll> {
    // SAFETY: all zero is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
    address.sll_protocol = u16::from_ne_bytes(ethertype);
    Ok(address)
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

    const MAC: [u8; 6] = [0, 0, 0, 0x45, 0xf4, 0x29];
    const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 1];

    /// The layouts of RFC 826 and RFC 4861, byte by byte.
    #[test]
    fn questions_to_a_neighbour() {
        let ask =
            |neighbour: &str, own: &str| solicitation(neighbour.parse().unwrap(), own.parse().unwrap(), MAC);
        let request = b"\xff\xff\xff\xff\xff\xff\x00\x00\x00\x45\xf4\x29\x08\x06\
            \x00\x01\x08\x00\x06\x04\x00\x01\
            \x00\x00\x00\x45\xf4\x29\x0a\x10\x00\x02\
            \x00\x00\x00\x00\x00\x00\x0a\x10\x00\x01";
        assert_eq!(ask("10.16.0.1", "10.16.0.2").unwrap(), request);
        let solicitation = ask("fd00:16::a1b:2c3d", "fd00:16::2").unwrap();
        assert_eq!(solicitation[..14], *b"\x33\x33\xff\x1b\x2c\x3d\x00\x00\x00\x45\xf4\x29\x86\xdd");
        assert_eq!(solicitation[38..54], "ff02::1:ff1b:2c3d".parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(
            (solicitation[20], solicitation[21], solicitation[54], solicitation[78]),
            (58, 255, 135, 1)
        );
        assert_eq!(ask("10.16.0.1", "fd00:16::2"), None);
    }

    #[test]
    fn only_an_answer_of_the_neighbour_counts() {
        let own: (Ipv4Addr, _) = ([10, 16, 0, 2].into(), MAC);
        let router: (Ipv4Addr, _) = ([10, 16, 0, 1].into(), ROUTER);
        let mut reply = arp(ArpOperation::Reply, router, own);
        reply[..6].copy_from_slice(&MAC);
        let heard = |frame: &[u8]| answer(frame, router.0.into(), MAC);
        assert_eq!(heard(&reply), Some(ROUTER));
        assert_eq!(heard(&reply[..40]), Some(ROUTER), "the rest is not looked at");
        assert_eq!(heard(&reply[..30]), None);
        assert_eq!(answer(&reply, own.0.into(), MAC), None, "somebody else's address");
        assert_eq!(answer(&reply, router.0.into(), ROUTER), None, "to somebody else");
        let mut question = arp(ArpOperation::Request, router, own);
        question[..6].copy_from_slice(&MAC);
        assert_eq!(heard(&question), None);

        let address: Ipv6Addr = "fd00:16::1".parse().unwrap();
        let mut advertisement = neighbour_advertisement(address, ROUTER);
        advertisement[..6].copy_from_slice(&MAC);
        assert_eq!(answer(&advertisement, address.into(), MAC), Some(ROUTER));
        assert_eq!(answer(&advertisement, "fd00:16::9".parse().unwrap(), MAC), None);
    }
}
