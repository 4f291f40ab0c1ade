//! A flow as its client sees it, and the fragments that belong to it.

use bytemuck::{Pod, Zeroable};

use crate::{address::Address, conntrack::State};

/// Key of `flows_v4/6`: the client's view of a flow.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey<A> {
    /// The client's address.
    pub client: A,
    /// The VIP.
    pub vip: A,
    /// The client's port, host byte order.
    pub client_port: u16,
    /// The service port, host byte order.
    pub vip_port: u16,
    /// IP protocol number.
    pub protocol: u32,
}

/// Value of `flows_v4/6`. The first eight bytes are changed only by compare-and-swap of the whole word.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Flow {
    /// The reserved source port towards the target, host byte order.
    pub snat_port: u16,
    /// Slot of `targets`.
    pub target: u16,
    /// [`flow_check`] of the key: tells a recycled map element from the one that was looked up.
    pub check: u16,
    /// A [`State`].
    pub state: u8,
    /// Zero.
    pub pad: u8,
    /// Last packet from the client, and bytes: see [`Activity`](super::Activity). While a TCP handshake is open the bytes are instead the
    /// acknowledgement number that completes it; once closed, the client's last sequence number.
    pub activity: u64,
}

/// The fields of [`Flow`] that change only together: its first eight bytes as one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowHead(pub u64);

impl FlowHead {
    /// Packs the fields.
    #[inline(always)]
    pub const fn new(snat_port: u16, target: u16, check: u16, state: State) -> Self {
        Self(snat_port as u64 | (target as u64) << 16 | (check as u64) << 32 | (state as u64) << 48)
    }
    /// [`Flow::snat_port`].
    #[inline(always)]
    pub const fn snat_port(self) -> u16 {
        self.0 as u16
    }
    /// [`Flow::target`].
    #[inline(always)]
    pub const fn target(self) -> u16 {
        (self.0 >> 16) as u16
    }
    /// [`Flow::check`].
    #[inline(always)]
    pub const fn check(self) -> u16 {
        (self.0 >> 32) as u16
    }
    /// [`Flow::state`].
    #[inline(always)]
    pub const fn state(self) -> State {
        State::from_raw((self.0 >> 48) as u8)
    }
    /// The same flow in another state.
    #[inline(always)]
    #[must_use]
    pub const fn with_state(self, state: State) -> Self {
        Self(self.0 & !(0xff << 48) | (state as u64) << 48)
    }
}

impl Flow {
    /// The head as one word.
    pub const fn head(&self) -> FlowHead {
        FlowHead(
            self.snat_port as u64
                | (self.target as u64) << 16
                | (self.check as u64) << 32
                | (self.state as u64) << 48,
        )
    }
}

/// 16 bits made of a flow key's client, kept in the value. See [`Flow::check`].
#[inline(always)]
pub fn flow_check<A: Address>(key: &FlowKey<A>) -> u16 {
    let [a, b, c, d] = key.client.words();
    let word = a ^ b ^ c ^ d ^ (u32::from(key.client_port) << 8);
    (word ^ (word >> 16)) as u16
}

/// Key of `fragments_v4/6`: one fragmented packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FragmentKey<A> {
    /// Source address as received.
    pub source: A,
    /// Destination address as received.
    pub destination: A,
    /// The identification field, host byte order.
    pub id: u32,
    /// IP protocol number (IPv6: the one in the fragment header).
    pub protocol: u32,
}

/// What the first fragment decided for those that follow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fragment<A> {
    /// The flow's client.
    pub client: A,
    /// Slot of `targets`.
    pub target: u32,
    /// CLOCK_MONOTONIC seconds when the entry was made.
    pub created: u32,
}
