//! IP addresses as they stand in packets and maps.

use bytemuck::Pod;

mod sealed {
    /// The layouts of the maps are checked for these types only.
    pub trait Sealed {}
    impl Sealed for [u8; 4] {}
    impl Sealed for [u8; 16] {}
}

/// An IP address as it stands in a packet and in the maps: big-endian bytes.
pub trait Address: sealed::Sealed + Pod + Eq + Default + core::fmt::Debug {
    /// Bytes in one address: 4 or 16.
    const LEN: usize;
    /// The address as big-endian 32-bit words in memory order, unused words zero. What checksums add up.
    fn words(&self) -> [u32; 4];
    /// The address made of big-endian words in memory order; the inverse of [`Address::words`].
    fn from_words(words: [u32; 4]) -> Self;
    /// Whether every byte is zero, which in the maps means "unset".
    fn is_zero(&self) -> bool;
}

impl Address for [u8; 4] {
    const LEN: usize = 4;
    #[inline(always)]
    fn words(&self) -> [u32; 4] {
        [u32::from_ne_bytes(*self), 0, 0, 0]
    }
    #[inline(always)]
    fn from_words(words: [u32; 4]) -> Self {
        words[0].to_ne_bytes()
    }
    #[inline(always)]
    fn is_zero(&self) -> bool {
        u32::from_ne_bytes(*self) == 0
    }
}

impl Address for [u8; 16] {
    const LEN: usize = 16;
    #[inline(always)]
    fn words(&self) -> [u32; 4] {
        // One copy: taken apart byte by byte, an address would fill the BPF stack.
        bytemuck::cast(*self)
    }
    #[inline(always)]
    fn from_words(words: [u32; 4]) -> Self {
        bytemuck::cast(words)
    }
    #[inline(always)]
    fn is_zero(&self) -> bool {
        let [a, b, c, d] = self.words();
        (a | b | c | d) == 0
    }
}
