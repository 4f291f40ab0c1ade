//! Addresses that tests use, of both families.

use std::fmt::Debug;

use aya::Pod;
use sluice_gateway::bpf::Objects;
use sluice_gateway_ebpf::family::{Address as _, Family, V4, V6};

/// A family with the addresses that tests use.
pub trait Net: Family<Addr: Pod + Send + Sync, Reply: Pod> + Debug + Send + Sync {
    /// Suffix of programs and maps.
    const SUFFIX: &'static str;
    /// The embedded object.
    fn object() -> &'static [u8];
    /// A client inside the VIP's subnet.
    const CLIENT: Self::Addr;
    /// A client behind the external gateway.
    const FAR_CLIENT: Self::Addr;
    /// The VIP.
    const VIP: Self::Addr;
    /// The netmask of the VIP's subnet.
    const MASK: Self::Addr;
    /// The external gateway.
    const GATEWAY: Self::Addr;
    /// The target.
    const TARGET: Self::Addr;
    /// Another target.
    const TARGET_2: Self::Addr;
    /// The address that the target sees.
    const SNAT: Self::Addr;
    /// Next hop to the target.
    const NEXT_HOP: Self::Addr;
    /// A router on the way.
    const ROUTER: Self::Addr;
}

impl Net for V4 {
    const SUFFIX: &'static str = "v4";
    fn object() -> &'static [u8] {
        Objects::EMBEDDED.v4
    }
    const CLIENT: [u8; 4] = [172, 18, 0, 100];
    const FAR_CLIENT: [u8; 4] = [192, 0, 2, 77];
    const VIP: [u8; 4] = [172, 18, 0, 18];
    const MASK: [u8; 4] = [255, 255, 0, 0];
    const GATEWAY: [u8; 4] = [172, 18, 0, 1];
    const TARGET: [u8; 4] = [10, 109, 201, 193];
    const TARGET_2: [u8; 4] = [10, 109, 201, 194];
    const SNAT: [u8; 4] = [10, 16, 0, 2];
    const NEXT_HOP: [u8; 4] = [10, 16, 0, 1];
    const ROUTER: [u8; 4] = [198, 51, 100, 9];
}

/// An IPv6 address of the documentation prefix (RFC 3849).
const fn v6(subnet: u8, host: u8) -> [u8; 16] {
    [0x20, 0x01, 0x0d, 0xb8, 0, subnet, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, host]
}

impl Net for V6 {
    const SUFFIX: &'static str = "v6";
    fn object() -> &'static [u8] {
        Objects::EMBEDDED.v6
    }
    const CLIENT: [u8; 16] = v6(1, 100);
    const FAR_CLIENT: [u8; 16] = v6(2, 77);
    const VIP: [u8; 16] = v6(1, 18);
    const MASK: [u8; 16] = [255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0];
    const GATEWAY: [u8; 16] = v6(1, 1);
    const TARGET: [u8; 16] = v6(3, 193);
    const TARGET_2: [u8; 16] = v6(3, 194);
    const SNAT: [u8; 16] = v6(4, 2);
    const NEXT_HOP: [u8; 16] = v6(4, 1);
    const ROUTER: [u8; 16] = v6(5, 9);
}

/// Host part of an address, for tests that need many clients.
pub fn client<N: Net>(number: u32) -> N::Addr {
    let mut words = N::CLIENT.words();
    let last = words.iter().rposition(|word| *word != 0).expect("not zero");
    words[last] = (u32::from_be(words[last]).wrapping_add(number)).to_be();
    N::Addr::from_words(words)
}
