//! The `gateway` section.

use super::super::file;
use super::super::model::{Gateway, Timeouts};
use super::super::{duration, limits};
use super::{Faults, Path};

/// The section with defaults for what it leaves out.
pub(super) fn check(faults: &mut Faults, section: Option<&file::Gateway>) -> Gateway {
    let default = Gateway::default();
    let Some(section) = section else { return default };
    let at = Path::root("gateway");
    let mut interface = |name: &str, value: Option<&String>, default: String| {
        let Some(value) = value else { return default };
        check_interface(faults, &at.field(name), value);
        value.clone()
    };
    let external_interface =
        interface("externalInterface", section.external_interface.as_ref(), default.external_interface);
    let cluster_interface =
        interface("clusterInterface", section.cluster_interface.as_ref(), default.cluster_interface);
    if external_interface == cluster_interface {
        let field =
            if section.cluster_interface.is_some() { "clusterInterface" } else { "externalInterface" };
        faults.add(
            &at.field(field),
            format!("`{cluster_interface}` is both the external and the cluster interface"),
            "name two different interfaces (the defaults are net1 and eth0)",
        );
    }
    let table = section.table.unwrap_or(default.table);
    if matches!(table, 253..=255) {
        faults.add(
            &at.field("table"),
            format!("{table} is one of the kernel's own tables"),
            format!("use a number from {} to {}", limits::TABLE.start(), limits::TABLE.end()),
        );
    } else {
        faults.within(&at.field("table"), table, &limits::TABLE);
    }
    let max_flows = section.max_flows.unwrap_or(default.max_flows);
    let icmp_errors_per_second = section.icmp_errors_per_second.unwrap_or(default.icmp_errors_per_second);
    let admin_port = section.admin_port.unwrap_or(default.admin_port);
    if admin_port == 0 {
        faults.add(&at.field("adminPort"), "0 is not a port", "use a number from 1 to 65535");
    }
    Gateway {
        external_interface,
        cluster_interface,
        cluster_gateways: faults.one_of_each_family(&at.field("clusterGateways"), &section.cluster_gateways),
        table,
        max_flows: faults.within(&at.field("maxFlows"), max_flows, &limits::MAX_FLOWS).next_power_of_two(),
        timeouts: timeouts(faults, &at.field("timeouts"), section.timeouts.as_ref()),
        icmp_errors_per_second: faults.within(
            &at.field("icmpErrorsPerSecond"),
            icmp_errors_per_second,
            &limits::ICMP_ERRORS_PER_SECOND,
        ),
        attach: section.attach.unwrap_or(default.attach),
        admin_port,
    }
}

/// The kernel's own rule for interface names (`dev_valid_name`), and the loopback interface never.
fn check_interface(faults: &mut Faults, at: &Path, name: &str) {
    let taken = matches!(name, "." | ".." | "lo");
    let wrong = |character: char| matches!(character, '/' | ':' | '\0') || character.is_whitespace();
    if name.is_empty() || name.len() > limits::MAX_INTERFACE_NAME || taken || name.contains(wrong) {
        faults.add(
            at,
            format!("`{}` cannot be this interface", name.escape_debug()),
            format!(
                "name an interface of the pod other than lo, 1 to {} bytes without spaces, slashes and colons",
                limits::MAX_INTERFACE_NAME
            ),
        );
    }
}

fn timeouts(faults: &mut Faults, at: &Path, section: Option<&file::Timeouts>) -> Timeouts {
    let default = Timeouts::default();
    let Some(section) = section else { return default };
    let mut read = |name: &str, text: Option<&String>, bounds, default: u32| {
        let Some(text) = text else { return default };
        duration::read(text, bounds).unwrap_or_else(|(fault, fix)| {
            faults.add(&at.field(name), fault, fix);
            default
        })
    };
    let (short, long) = (&limits::SHORT_TIMEOUT, &limits::LONG_TIMEOUT);
    Timeouts {
        tcp_half_open: read("tcpHalfOpen", section.tcp_half_open.as_ref(), short, default.tcp_half_open),
        tcp_established: read(
            "tcpEstablished",
            section.tcp_established.as_ref(),
            long,
            default.tcp_established,
        ),
        tcp_fin: read("tcpFin", section.tcp_fin.as_ref(), short, default.tcp_fin),
        tcp_time_wait: read("tcpTimeWait", section.tcp_time_wait.as_ref(), short, default.tcp_time_wait),
        tcp_closed: read("tcpClosed", section.tcp_closed.as_ref(), short, default.tcp_closed),
        udp_unreplied: read("udpUnreplied", section.udp_unreplied.as_ref(), short, default.udp_unreplied),
        udp_stream: read("udpStream", section.udp_stream.as_ref(), short, default.udp_stream),
        sctp_unreplied: read("sctpUnreplied", section.sctp_unreplied.as_ref(), short, default.sctp_unreplied),
        sctp_established: read(
            "sctpEstablished",
            section.sctp_established.as_ref(),
            long,
            default.sctp_established,
        ),
    }
}
