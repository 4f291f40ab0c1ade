//! The names of reservations. A name is the address, so that the API server lets one object alone have it.

use std::net::IpAddr;

/// `<provider>.<address>`: IPv4 as four groups of three digits, IPv6 as eight groups of four hexadecimal ones, joined with dashes. The width
/// is fixed, so that names sort as their addresses do.
pub fn reservation(provider: &str, address: IpAddr) -> String {
    let groups: Vec<String> = match address {
        IpAddr::V4(v4) => v4.octets().iter().map(|octet| format!("{octet:03}")).collect(),
        IpAddr::V6(v6) => v6.segments().iter().map(|segment| format!("{segment:04x}")).collect(),
    };
    format!("{provider}.{}", groups.join("-"))
}
