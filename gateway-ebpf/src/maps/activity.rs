//! When an entry was last used, and how much.

use bytemuck::{Pod, Zeroable};

/// Coarse seconds of a CLOCK_MONOTONIC reading in nanoseconds: the clock of every time stamp in the maps. Without a
/// division, which costs the packet path 10 ns; slow by 8 parts in 10^8.
#[inline(always)]
pub const fn clock_seconds(nanoseconds: u64) -> u32 {
    (((nanoseconds >> 20) * 1_125_900) >> 30) as u32
}

/// When an entry last saw a packet, and how many bytes it has seen, in one word that one store updates.
///
/// Upper 24 bits: [`clock_seconds`] modulo 2^24 (194 days). Lower 40 bits: bytes of IP packets, saturating at
/// 1 TiB - 1.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Activity(pub u64);

impl Activity {
    /// Bits of the byte counter.
    pub const BYTE_BITS: u32 = 40;
    /// Largest value of the byte counter.
    pub const MAX_BYTES: u64 = (1 << Self::BYTE_BITS) - 1;
    /// Bits of the clock.
    pub const CLOCK_MASK: u32 = (1 << 24) - 1;

    /// A word for `seconds` (CLOCK_MONOTONIC) and `bytes`.
    #[inline(always)]
    pub const fn new(seconds: u32, bytes: u64) -> Self {
        let bytes = if bytes > Self::MAX_BYTES { Self::MAX_BYTES } else { bytes };
        Self(((seconds & Self::CLOCK_MASK) as u64) << Self::BYTE_BITS | bytes)
    }
    /// Bytes seen.
    #[inline(always)]
    pub const fn bytes(self) -> u64 {
        self.0 & Self::MAX_BYTES
    }
    /// Seconds from the last packet to `now`, by the clock modulo 2^24. A stamp slightly ahead of `now` (another CPU's
    /// clock) counts as 0.
    #[inline(always)]
    pub const fn idle(self, now: u32) -> u32 {
        let seen = (self.0 >> Self::BYTE_BITS) as u32;
        let idle = now.wrapping_sub(seen) & Self::CLOCK_MASK;
        if idle > Self::CLOCK_MASK / 2 { 0 } else { idle }
    }
    /// The word after a packet that is not counted, at `now`: the low bits hold something else than bytes.
    #[inline(always)]
    #[must_use]
    pub const fn touched(self, now: u32) -> Self {
        Self::new(now, self.bytes())
    }
    /// The word after a packet of `bytes` at `now`.
    #[inline(always)]
    pub const fn after(self, now: u32, bytes: u32) -> Self {
        Self::new(now, self.bytes() + bytes as u64)
    }
}
