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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::Provider;

    #[test]
    fn forms() {
        let name = |address: &str| reservation("lb-svc-attachment.kube-system", address.parse().unwrap());
        assert_eq!(name("172.18.0.11"), "lb-svc-attachment.kube-system.172-018-000-011");
        assert_eq!(
            name("fd00:18::1"),
            "lb-svc-attachment.kube-system.fd00-0018-0000-0000-0000-0000-0000-0001"
        );
    }

    /// A DNS subdomain (RFC 1123) of at most 253 characters, as the API server asks of names.
    fn is_a_name(text: &str) -> bool {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        text.len() <= 253
            && text.split('.').all(|label| {
                !label.is_empty()
                    && label.chars().all(good)
                    && !label.starts_with('-')
                    && !label.ends_with('-')
            })
    }

    #[test]
    fn the_longest_provider_fits() {
        let longest: Provider = format!("{}.{}", "n".repeat(63), "s".repeat(63)).parse().unwrap();
        for address in ["255.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"] {
            assert!(is_a_name(&reservation(&longest.to_string(), address.parse().unwrap())));
        }
    }

    proptest! {
        #[test]
        fn names_are_told_apart_and_sort_as_addresses(a in any::<IpAddr>(), b in any::<IpAddr>()) {
            let (name_a, name_b) = (reservation("n.s", a), reservation("n.s", b));
            prop_assert!(is_a_name(&name_a));
            prop_assert_eq!(name_a == name_b, a == b);
            if a.is_ipv4() == b.is_ipv4() {
                prop_assert_eq!(name_a.cmp(&name_b), a.cmp(&b));
            }
        }
    }
}
