//! Who has which address. They are the same in every cluster: each has networks of its own.

/// Where nodes and control plane meet, the control plane's address.
pub const CONTROL_PLANE: &str = "10.240.0.1";
/// The same in IPv6.
pub const CONTROL_PLANE_V6: &str = "fd00:240::1";
/// The API server's port.
pub const API_PORT: u16 = 6443;
/// Where Services get their cluster addresses from.
pub const SERVICE_RANGES: &str = "10.96.0.0/12,fd00:10:109::/112";
/// The external network's router, with its prefix.
pub const ROUTER: [&str; 2] = ["172.18.0.1/16", "fd00:172:18::1/64"];
/// The client in the external network.
pub const CLIENT: [&str; 2] = ["172.18.0.10/16", "fd00:172:18::10/64"];
/// The router's address in the network behind it.
pub const ROUTER_FAR: [&str; 2] = ["192.0.2.1/24", "2001:db8:2::1/64"];
/// The client behind the router.
pub const FAR: [&str; 2] = ["192.0.2.100/24", "2001:db8:2::100/64"];
/// The device of nodes in the external network: what macvlan networks are made on.
pub const EXTERNAL_DEVICE: &str = "ext0";
/// The largest packet in the cluster's network, as in the network that the example of Kube-OVN's documentation is from.
pub const POD_MTU: u16 = 1400;

/// A node's addresses, counted from 1.
pub fn node(number: usize) -> [String; 2] {
    let host = 10 + number;
    [format!("10.240.0.{host}"), format!("fd00:240::{host}")]
}

/// Where a node's pods get their addresses from.
pub fn pods(number: usize) -> [String; 2] {
    [format!("10.244.{number}.0/24"), format!("fd00:244:{number}::/64")]
}

/// The API server's.
pub fn api_url() -> String {
    format!("https://{CONTROL_PLANE}:{API_PORT}")
}
