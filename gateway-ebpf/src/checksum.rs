//! Incremental internet checksums (RFC 1071, RFC 1624).
//!
//! Everything works on words as they lie in memory: the one's complement sum does not care about byte order as long as all
//! words are read the same way.

use crate::address::Address;

/// A one's complement difference between what a checksum covered and what it covers now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta(u64);

impl Delta {
    /// No difference.
    pub const ZERO: Self = Self(0);

    /// Also replaces an aligned 16-bit word, in memory order.
    #[inline(always)]
    #[must_use]
    pub const fn word(self, old: u16, new: u16) -> Self {
        Self(self.0 + (!old) as u64 + new as u64)
    }

    /// Also replaces a port given in host byte order.
    #[inline(always)]
    #[must_use]
    pub const fn port(self, old: u16, new: u16) -> Self {
        self.word(old.to_be(), new.to_be())
    }

    /// Also replaces an address.
    #[inline(always)]
    #[must_use]
    pub fn address<A: Address>(self, old: &A, new: &A) -> Self {
        self.without(old).with(new)
    }

    /// Also takes an address away.
    #[inline(always)]
    #[must_use]
    pub fn without<A: Address>(self, old: &A) -> Self {
        // The complement of each word, all at once.
        Self(self.0 + A::LEN as u64 / 4 * 0xffff_ffff - sum(old))
    }

    /// Also adds an address.
    #[inline(always)]
    #[must_use]
    pub fn with<A: Address>(self, new: &A) -> Self {
        Self(self.0 + sum(new))
    }

    /// Both differences.
    #[inline(always)]
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The difference the other way round.
    #[inline(always)]
    #[must_use]
    pub const fn negate(self) -> Self {
        Self(!self.sum32() as u64)
    }

    /// As the kernel's `__wsum`: a 32-bit one's complement sum.
    #[inline(always)]
    pub const fn sum32(self) -> u32 {
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        ((sum & 0xffff_ffff) + (sum >> 32)) as u32
    }

    /// Folded to 16 bits, not inverted.
    #[inline(always)]
    pub const fn sum16(self) -> u16 {
        fold(self.sum32())
    }

    /// The checksum field `check` after this difference (RFC 1624, equation 3).
    #[inline(always)]
    pub const fn apply(self, check: u16) -> u16 {
        !Self(self.0 + (!check) as u64).sum16()
    }
}

/// The sum of an address's words.
#[inline(always)]
fn sum<A: Address>(address: &A) -> u64 {
    let [a, b, c, d] = address.words();
    if A::LEN == 4 { u64::from(a) } else { u64::from(a) + u64::from(b) + u64::from(c) + u64::from(d) }
}

/// Folds a 32-bit one's complement sum to 16 bits.
#[inline(always)]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The checksum of `bytes` from scratch (RFC 1071).
    fn naive(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            let high = u32::from(pair[0]) << 8;
            sum += high + u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    /// 0x0000 and 0xffff are the same number in one's complement.
    fn same(a: u16, b: u16) -> bool {
        a == b || (a ^ b == 0xffff && (a == 0 || b == 0))
    }

    proptest! {
        #[test]
        fn update_equals_recomputation(
            mut bytes in proptest::collection::vec(any::<u8>(), 60),
            address in any::<[u8; 4]>(), long in any::<[u8; 16]>(), ports in any::<[u16; 2]>(), word in any::<u16>(),
        ) {
            let before = naive(&bytes);
            let old: [u8; 4] = bytes[12..16].try_into().unwrap();
            let old_long: [u8; 16] = bytes[16..32].try_into().unwrap();
            let old_port = u16::from_be_bytes([bytes[32], bytes[33]]);
            let old_word = u16::from_ne_bytes([bytes[8], bytes[9]]);
            let delta = Delta::ZERO.address(&old, &address).address(&old_long, &long).port(old_port, ports[0]).word(old_word, word);
            bytes[12..16].copy_from_slice(&address);
            bytes[16..32].copy_from_slice(&long);
            bytes[32..34].copy_from_slice(&ports[0].to_be_bytes());
            bytes[8..10].copy_from_slice(&word.to_ne_bytes());
            let after = u16::from_be(delta.apply(before.to_be()));
            prop_assert!(same(after, naive(&bytes)), "{after:#06x} {:#06x}", naive(&bytes));
            let back = delta.negate().apply(after.to_be());
            prop_assert!(same(u16::from_be(back), before));
        }
    }
}
