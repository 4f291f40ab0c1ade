//! What the hot path needs of a packet that came in by the external link, at whichever hook.

use super::{
    plain::Plain,
    rewrite::To,
    tables::{Addr, Tables},
};
use crate::{
    family::Family,
    maps::{Config, Target},
    verdict::Drop,
};

/// A received packet.
pub trait Ingress: Copy {
    /// How a packet leaves by the cluster link.
    type Way<A: Copy>: Copy;

    /// Address of the first byte that can be read directly.
    fn data(&self) -> usize;
    /// Address behind the last byte that can be read directly.
    fn data_end(&self) -> usize;
    /// Length of the frame in bytes.
    fn frame_length(&self) -> u32;
    /// Payload bytes per segment of a super-packet, else 0.
    fn gso_size(&self) -> u32;
    /// Segments that this packet stands for.
    fn segments(&self) -> u32;

    /// The way to `target`; none if this hook cannot send or rewrite the packet. Asked before anything is changed.
    fn way<T: Tables>(
        &self,
        packet: &Plain<T::Family>,
        config: &Config,
        target: &Target<Addr<T>>,
        now: u32,
    ) -> Option<Self::Way<Addr<T>>>;
    /// Rewrites the packet, and of its frame's addresses what the way knows.
    ///
    /// # Errors
    /// [`Drop::Helper`].
    fn rewrite<F: Family>(
        &self,
        packet: &Plain<F>,
        to: &To<F::Addr>,
        way: Self::Way<F::Addr>,
    ) -> Result<(), Drop>;
    /// Sends the packet on its way; returns the kernel's action.
    fn send<T: Tables>(&self, way: Self::Way<Addr<T>>) -> i32;
}
