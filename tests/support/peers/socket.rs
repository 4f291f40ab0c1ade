//! Socket options that the standard library has no name for.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};

use crate::addresses::Family;

/// Sets an integer option.
pub fn set(
    socket: &impl AsRawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: `value` lives through the call and the length is its size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(&value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads an integer option.
pub fn get(socket: &impl AsRawFd, level: libc::c_int, name: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: both pointers are valid for the call, and `length` is the size of `value`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_mut(&mut value).cast(),
            std::ptr::from_mut(&mut length),
        )
    };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

/// Ends a TCP connection at once, with a RST.
pub fn disconnect(socket: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: an all-zero sockaddr is a valid one, of the family AF_UNSPEC.
    let nobody: libc::sockaddr = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is valid for the call and the length is that of what it points to.
    let result = unsafe {
        libc::connect(
            socket.as_raw_fd(),
            std::ptr::from_ref(&nobody),
            size_of::<libc::sockaddr>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What the kernel knows of a TCP connection.
pub fn tcp_info(socket: &impl AsRawFd) -> io::Result<libc::tcp_info> {
    // SAFETY: plain numbers, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: both pointers are valid for the call, and `length` is the size of `info`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            std::ptr::from_mut(&mut info).cast(),
            std::ptr::from_mut(&mut length),
        )
    };
    if result == 0 { Ok(info) } else { Err(io::Error::last_os_error()) }
}

/// Sets the TTL or hop limit of what the socket sends.
pub fn set_ttl(socket: &impl AsRawFd, family: Family, ttl: u8) -> io::Result<()> {
    match family {
        Family::V4 => set(socket, libc::IPPROTO_IP, libc::IP_TTL, ttl.into()),
        Family::V6 => set(socket, libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, ttl.into()),
    }
}

/// Sets the TOS or traffic class of what the socket sends.
pub fn set_tos(socket: &impl AsRawFd, family: Family, tos: u8) -> io::Result<()> {
    match family {
        Family::V4 => set(socket, libc::IPPROTO_IP, libc::IP_TOS, tos.into()),
        Family::V6 => set(socket, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, tos.into()),
    }
}

/// Whether the socket may fragment (and leaves DF clear), or must not.
pub fn set_dont_fragment(socket: &impl AsRawFd, family: Family, dont: bool) -> io::Result<()> {
    match (family, dont) {
        (Family::V4, true) => set(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO),
        (Family::V4, false) => set(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT),
        (Family::V6, true) => {
            set(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO)
        }
        (Family::V6, false) => {
            set(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_WANT)
        }
    }
}

/// Sends with DF set (IPv6: unfragmented) whatever path MTU is known, up to the device's.
pub fn set_probing(socket: &impl AsRawFd, family: Family) -> io::Result<()> {
    match family {
        Family::V4 => set(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE),
        Family::V6 => set(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE),
    }
}

/// The path MTU that a connected socket knows, bytes of IP.
pub fn path_mtu(socket: &impl AsRawFd, family: Family) -> io::Result<i32> {
    match family {
        Family::V4 => get(socket, libc::IPPROTO_IP, libc::IP_MTU),
        Family::V6 => get(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU),
    }
}

/// Asks for TTL and TOS of each datagram.
pub fn receive_headers(socket: &impl AsRawFd, family: Family) -> io::Result<()> {
    match family {
        Family::V4 => {
            set(socket, libc::IPPROTO_IP, libc::IP_RECVTTL, 1)?;
            set(socket, libc::IPPROTO_IP, libc::IP_RECVTOS, 1)
        }
        Family::V6 => {
            set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT, 1)?;
            set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)
        }
    }
}

/// What came with a datagram.
#[derive(Debug)]
pub struct Message {
    /// Bytes in the buffer.
    pub length: usize,
    /// TTL or hop limit, where [`receive_headers`] asked for it.
    pub ttl: Option<i32>,
    /// TOS or traffic class, likewise.
    pub tos: Option<i32>,
    /// Who sent it.
    pub peer: Option<SocketAddr>,
}

/// Receives one datagram.
pub fn receive(socket: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<Message> {
    let mut control = nix::cmsg_space!(libc::c_int, libc::c_int);
    let mut slices = [IoSliceMut::new(buffer)];
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(&mut control), MsgFlags::empty())?;
    let (mut ttl, mut tos) = (None, None);
    for item in message.cmsgs()? {
        match item {
            ControlMessageOwned::Ipv4Ttl(value) | ControlMessageOwned::Ipv6HopLimit(value) => {
                ttl = Some(value)
            }
            ControlMessageOwned::Ipv4Tos(value) => tos = Some(i32::from(value)),
            ControlMessageOwned::Ipv6TClass(value) => tos = Some(value),
            _ => {}
        }
    }
    let peer = message.address.and_then(|address| {
        let v4 = address.as_sockaddr_in().map(|a| SocketAddr::from(SocketAddrV4::from(*a)));
        v4.or_else(|| address.as_sockaddr_in6().map(|a| SocketAddrV6::from(*a).into()))
    });
    Ok(Message { length: message.bytes, ttl, tos, peer })
}
