//! The cables: a bridge on which nodes and control plane meet, and one that is the external network.
//!
//! ```text
//! hub (control plane)    uplink ───┬── eth0 node1 ext0 ──┬─── external (the hub's bridge, without an address)
//!                                  └── eth0 node2 ext0 ──┤
//!                                            client eth0 ┤
//!                                            router eth0 ┘
//!                                            router far0 ─── eth0 far
//! ```

use anyhow::Result;

use crate::{
    addresses::{self, EXTERNAL_DEVICE},
    machine::Machine,
};

/// What machines other than the hub do with packets that are not for them.
const FORWARDING: &str = "for f in /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding; do echo 1 > $f; done; \
                          for f in /proc/sys/net/ipv4/conf/*/send_redirects; do echo 0 > $f; done";

/// Makes the hub's two bridges.
///
/// # Errors
/// If `ip` fails.
pub fn lay_hub(hub: &Machine) -> Result<()> {
    hub.ip("link set lo up
            link add uplink type bridge
            link add external type bridge
            link set uplink up
            link set external up")?;
    address(hub, "uplink", [addresses::CONTROL_PLANE, addresses::CONTROL_PLANE_V6].map(with_prefix))?;
    forward(hub)
}

/// Connects client, router, and the client behind the router.
///
/// # Errors
/// If `ip` fails.
pub fn lay_outside(hub: &Machine, client: &Machine, router: &Machine, far: &Machine) -> Result<()> {
    for machine in [client, router, far] {
        machine.ip("link set lo up")?;
    }
    plug(hub, "external", client, "eth0")?;
    plug(hub, "external", router, "eth0")?;
    router.ip(&format!("link add far0 type veth peer name eth0 netns {}", far.init().pid()))?;
    router.ip("link set far0 up")?;
    far.ip("link set eth0 up")?;
    address(client, "eth0", addresses::CLIENT)?;
    address(router, "eth0", addresses::ROUTER)?;
    address(router, "far0", addresses::ROUTER_FAR)?;
    address(far, "eth0", addresses::FAR)?;
    forward(router)?;
    default_route(client, addresses::ROUTER)?;
    default_route(far, addresses::ROUTER_FAR)
}

/// Connects a node to both bridges, and leads its pods' addresses to it.
///
/// # Errors
/// If `ip` fails.
pub fn lay_node(hub: &Machine, node: &Machine, number: usize) -> Result<()> {
    node.ip("link set lo up")?;
    plug(hub, "uplink", node, "eth0")?;
    plug(hub, "external", node, EXTERNAL_DEVICE)?;
    let own = addresses::node(number);
    address(node, "eth0", own.clone().map(|address| with_prefix(&address)))?;
    forward(node)?;
    default_route(node, [addresses::CONTROL_PLANE, addresses::CONTROL_PLANE_V6])?;
    for (pods, via) in addresses::pods(number).iter().zip(own) {
        hub.ip(&format!("route replace {pods} via {via}"))?;
    }
    Ok(())
}

/// Takes away the hub's ends of the cables of a node that has ended: the kernel does so only in its own time.
pub fn unplug_node(hub: &Machine, node: &str) {
    for device in ["eth0", EXTERNAL_DEVICE] {
        let _gone_already = hub.ip(&format!("link del {}", port(node, device)));
    }
}

/// The hub's end of a cable.
pub fn port(machine: &str, device: &str) -> String {
    format!("{machine}-{device}")
}

fn plug(hub: &Machine, bridge: &str, machine: &Machine, device: &str) -> Result<()> {
    let port = port(machine.name(), device);
    hub.ip(&format!(
        "link add {port} type veth peer name {device} netns {}
         link set {port} master {bridge} up",
        machine.init().pid()
    ))?;
    machine.ip(&format!("link set {device} up"))
}

/// IPv6 addresses are used at once: nobody else has them.
fn address(machine: &Machine, device: &str, [v4, v6]: [impl AsRef<str>; 2]) -> Result<()> {
    machine.ip(&format!("addr add {} dev {device}\naddr add {} dev {device} nodad", v4.as_ref(), v6.as_ref()))
}

fn default_route(machine: &Machine, via: [&str; 2]) -> Result<()> {
    via.iter().try_for_each(|via| {
        let address = via.split('/').next().unwrap_or(via);
        machine.ip(&format!("route add default via {address}"))
    })
}

fn forward(machine: &Machine) -> Result<()> {
    machine.output("sh", &["-c", FORWARDING]).map(drop)
}

fn with_prefix(address: &str) -> String {
    format!("{address}/{}", if address.contains(':') { 64 } else { 24 })
}
