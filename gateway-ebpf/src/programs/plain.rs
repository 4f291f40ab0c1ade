//! Plain packets, read straight from the kernel's memory.

use core::{
    marker::PhantomData,
    mem::{MaybeUninit, transmute},
    ops::Deref,
};

use super::{hop::Ethernet, ingress::Ingress};
use crate::{
    family::{Address, Family},
    maps::{FlowKey, ReplyKey},
    packet::{ETHERNET, ipv4, ipv6, protocol, transport, transport::flags},
};

/// The fields of a plain packet, read straight from its headers. Valid until a helper may have moved the packet.
pub(super) struct Plain<F> {
    family: PhantomData<F>,
    pub source_port: u16,
    pub destination_port: u16,
    pub protocol: u8,
    /// Address of the IP header.
    pub network: usize,
    /// Address of the transport checksum.
    pub checksum: usize,
    /// Length of the IP packet.
    pub length: u32,
    /// Length of the largest IP packet that leaves here: a super-packet is segmented later.
    pub largest: u32,
    /// Whether this is a super-packet.
    pub segmented: bool,
}

impl<F: Family> Plain<F> {
    /// Address of the source address, which the destination follows.
    #[inline(always)]
    pub const fn addresses(&self) -> usize {
        self.network + if F::IS_V4 { ipv4::SOURCE } else { ipv6::SOURCE } as usize
    }

    /// Address of the Ethernet header.
    #[inline(always)]
    pub const fn ethernet(&self) -> usize {
        self.network - ETHERNET as usize
    }

    /// Writes the frame's addresses.
    #[inline(always)]
    pub fn set_ethernet(&self, addresses: Ethernet) {
        // SAFETY: the Ethernet header lies before the IP header, which was found below `data_end`.
        unsafe { store(self.ethernet(), addresses) };
    }

    /// Segments that the packet stands for.
    #[inline(always)]
    pub fn segments(&self, frame: &impl Ingress) -> u32 {
        if self.segmented { frame.segments() } else { 1 }
    }

    /// The transport checksum as it lies in memory.
    #[inline(always)]
    pub fn transport_checksum(&self) -> u16 {
        // SAFETY: a `Plain` is made only after its headers were found below `data_end`.
        unsafe { load(self.checksum) }
    }

    /// The source address. Read anew each time, since kept values end up on the stack, which costs as much.
    #[inline(always)]
    pub fn source(&self) -> F::Addr {
        // SAFETY: as above.
        unsafe { load_address(self.addresses()) }
    }

    /// The destination address, as [`Plain::source`].
    #[inline(always)]
    pub fn destination(&self) -> F::Addr {
        // SAFETY: as above.
        unsafe { load_address(self.addresses() + F::Addr::LEN) }
    }

    /// The packet's key in `flows_*`.
    #[inline(always)]
    pub fn flow_key(&self) -> Key<FlowKey<F::Addr>> {
        self.key()
    }

    /// The packet's key in `replies_*`.
    #[inline(always)]
    pub fn reply_key(&self) -> Key<ReplyKey<F::Addr>> {
        self.key()
    }

    /// Source, destination, their ports and the protocol: what both keys are. In words of 64 bits: the kernel reads a key in words,
    /// and a processor that has written two halves of one has to wait until both have reached its cache.
    #[inline(always)]
    fn key<K>(&self) -> Key<K> {
        const { assert!(size_of::<K>() == 2 * F::Addr::LEN + size_of::<Ends>()) };
        let ends = Ends {
            source_port: self.source_port,
            destination_port: self.destination_port,
            protocol: u32::from(self.protocol),
        };
        let mut key = Key(MaybeUninit::<K>::uninit());
        let words = key.0.as_mut_ptr().cast::<u64>();
        let addresses = 2 * F::Addr::LEN / size_of::<u64>();
        // SAFETY: all words of the key are written. Both addresses lie below `data_end`, one behind the other.
        unsafe {
            for word in 0..addresses {
                words.add(word).write(load(self.addresses() + word * size_of::<u64>()));
            }
            words.add(addresses).write(transmute::<Ends, u64>(ends));
        }
        key
    }
}

/// What a key ends with.
#[repr(C)]
struct Ends {
    source_port: u16,
    destination_port: u16,
    protocol: u32,
}

/// The key of a map, where 64 bits can be written at once.
#[repr(C, align(8))]
pub(super) struct Key<K>(MaybeUninit<K>);

impl<K> Deref for Key<K> {
    type Target = K;

    #[inline(always)]
    fn deref(&self) -> &K {
        // SAFETY: `Plain::key`, which alone makes it, writes all of it, and keys are valid whatever their bytes.
        unsafe { self.0.assume_init_ref() }
    }
}

/// Loads a value of the packet.
///
/// # Safety
/// The bytes lie below `data_end`. The target has no alignment requirement for packet loads.
#[inline(always)]
pub(super) unsafe fn load<V: Copy>(address: usize) -> V {
    // SAFETY: as the caller promises.
    unsafe { *(address as *const V) }
}

/// Stores a value into the packet.
///
/// # Safety
/// As [`load`].
#[inline(always)]
pub(super) unsafe fn store<V>(address: usize, value: V) {
    // SAFETY: as the caller promises.
    unsafe { *(address as *mut V) = value }
}

/// Loads an address of the packet or of a map value, in words as long as can be rather than bytes.
///
/// # Safety
/// As [`load`], or within a map value.
#[inline(always)]
pub(super) unsafe fn load_address<A: Address>(address: usize) -> A {
    // SAFETY: as the caller promises.
    unsafe {
        if A::LEN == 4 {
            A::from_words([load(address), 0, 0, 0])
        } else {
            A::from_words(bytemuck::cast([load::<u64>(address), load::<u64>(address + 8)]))
        }
    }
}

/// Reads a packet without options, extension headers or fragments, with a TTL to spare, of a TCP segment without SYN, FIN
/// and RST, or of a UDP datagram with a checksum.
#[inline(always)]
pub(super) fn plain<F: Family, I: Ingress>(frame: &I) -> Option<Plain<F>> {
    let (data, data_end) = (frame.data(), frame.data_end());
    let network = data + ETHERNET as usize;
    let at = network + F::HEADER as usize;
    if at + 8 > data_end {
        return None;
    }
    // SAFETY: the fixed headers and eight bytes of the next lie below `data_end`, as just checked.
    let (length, ttl, ip_protocol, ports) = unsafe {
        let (length, ttl, ip_protocol) = if F::IS_V4 {
            let fragment = u16::from_be(load::<u16>(network + 6)) & 0x3fff;
            if load::<u8>(network) != 0x45 || fragment != 0 {
                return None;
            }
            let length = u32::from(u16::from_be(load::<u16>(network + 2)));
            (length, load::<u8>(network + 8), load::<u8>(network + 9))
        } else {
            if load::<u8>(network) >> 4 != 6 {
                return None;
            }
            let length = u32::from(u16::from_be(load::<u16>(network + 4))) + F::HEADER;
            (length, load::<u8>(network + 7), load::<u8>(network + 6))
        };
        (length, ttl, ip_protocol, load::<u32>(at))
    };
    if ttl <= 1 {
        return None;
    }
    let (header, checksum) = match ip_protocol {
        protocol::TCP => {
            if at + transport::TCP_HEADER as usize > data_end {
                return None;
            }
            // SAFETY: a whole TCP header lies below `data_end`.
            let (offset, tcp_flags) = unsafe { (load::<u8>(at + 12), load::<u8>(at + 13)) };
            let header = u32::from(offset >> 4) * 4;
            if header < transport::TCP_HEADER || tcp_flags & (flags::SYN | flags::FIN | flags::RST) != 0 {
                return None;
            }
            (header, at + transport::TCP_CHECKSUM as usize)
        }
        protocol::UDP => {
            // SAFETY: eight bytes of the header lie below `data_end`.
            let (udp_length, checksum) = unsafe { (load::<u16>(at + 4), load::<u16>(at + 6)) };
            let udp_length = u32::from(u16::from_be(udp_length));
            if checksum == 0 || udp_length < 8 || udp_length > length.wrapping_sub(F::HEADER) {
                return None;
            }
            (8, at + transport::UDP_CHECKSUM as usize)
        }
        _ => return None,
    };
    if length < F::HEADER + header || length + ETHERNET > frame.frame_length() {
        return None;
    }
    let gso_size = frame.gso_size();
    let largest = if gso_size == 0 { length } else { F::HEADER + header + gso_size };
    Some(Plain {
        family: PhantomData,
        source_port: u16::from_be(ports as u16),
        destination_port: u16::from_be((ports >> 16) as u16),
        protocol: ip_protocol,
        network,
        checksum,
        length,
        largest,
        segmented: gso_size != 0,
    })
}
