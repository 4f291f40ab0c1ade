//! A flow as its target sees it: the reservation of a source port.

use bytemuck::{Pod, Zeroable};

use super::Activity;

/// Key of `replies_v4/6`: the target's view of a flow. The entry is the reservation of `snat_port`.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ReplyKey<A> {
    /// The target's address.
    pub target: A,
    /// The source address that the target sees.
    pub snat: A,
    /// The target's port, host byte order.
    pub target_port: u16,
    /// The reserved source port, host byte order.
    pub snat_port: u16,
    /// IP protocol number.
    pub protocol: u32,
}

/// Whose a reservation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner<A> {
    /// The client's address.
    pub client: A,
    /// The client's port, host byte order.
    pub client_port: u16,
    /// Slot of `targets`; 0: the reservation is free, [`OWNER_LOCKED`]: it is about to be deleted.
    pub target: u16,
}

/// [`Owner::target`] of a reservation that the sweep is deleting.
pub const OWNER_LOCKED: u16 = u16::MAX;

/// Value of `replies_v4`. The owner, the first eight bytes, is read and compare-and-swapped as one word.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ReplyV4 {
    /// The client's address.
    pub client: [u8; 4],
    /// The client's port, host byte order.
    pub client_port: u16,
    /// Slot of `targets`: see [`Owner::target`].
    pub target: u16,
    /// Last packet from the target, and bytes: see [`Activity`].
    pub activity: u64,
}

/// Value of `replies_v6`. The first eight bytes are compare-and-swapped as one word; `client` is valid while `epoch` is even
/// and the same before and after it is read.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ReplyV6 {
    /// The client's port, host byte order.
    pub client_port: u16,
    /// Slot of `targets`: see [`Owner::target`].
    pub target: u16,
    /// Raised by one before and by one after each change of owner.
    pub epoch: u32,
    /// Last packet from the target, and bytes: see [`Activity`].
    pub activity: u64,
    /// The client's address.
    pub client: [u8; 16],
}

/// What both families' reply values have in common, for readers that hold a copy (user space, or an entry being made).
pub trait Reply<A>: Pod {
    /// A fresh reservation.
    fn new(owner: &Owner<A>, activity: Activity) -> Self;
    /// The owner as this copy has it.
    fn owner(&self) -> Owner<A>;
    /// Last packet and bytes.
    fn activity(&self) -> Activity;
}

impl Reply<[u8; 4]> for ReplyV4 {
    #[inline(always)]
    fn new(owner: &Owner<[u8; 4]>, activity: Activity) -> Self {
        Self {
            client: owner.client,
            client_port: owner.client_port,
            target: owner.target,
            activity: activity.0,
        }
    }
    #[inline(always)]
    fn owner(&self) -> Owner<[u8; 4]> {
        Owner { client: self.client, client_port: self.client_port, target: self.target }
    }
    #[inline(always)]
    fn activity(&self) -> Activity {
        Activity(self.activity)
    }
}

impl Reply<[u8; 16]> for ReplyV6 {
    #[inline(always)]
    fn new(owner: &Owner<[u8; 16]>, activity: Activity) -> Self {
        Self {
            client_port: owner.client_port,
            target: owner.target,
            epoch: 0,
            activity: activity.0,
            client: owner.client,
        }
    }
    #[inline(always)]
    fn owner(&self) -> Owner<[u8; 16]> {
        Owner { client: self.client, client_port: self.client_port, target: self.target }
    }
    #[inline(always)]
    fn activity(&self) -> Activity {
        Activity(self.activity)
    }
}
