//! `flows`.

use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};
use comfy_table::Cell;
use ipnet::IpNet;

use super::Place;
use super::output::{self, Format, bytes, lines, seconds, table};
use crate::bpf::Maps;
use crate::config;
use crate::tables::flows::{Filter, FlowRecord, read, state_by_name, states};
use crate::tables::{Names, monotonic_seconds};

/// List the flows that this gateway tracks, read from the pinned maps.
///
/// Needs no daemon. Rows come in the table's own order. A flow is shown until it is swept, also when it has expired.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sluice-gateway flows --limit 20
  sluice-gateway flows --client 192.0.2.0/24 --state established
  sluice-gateway flows --service default/web --protocol tcp -o json | jq length

IN and OUT are IP bytes from the client and from the target. `-` stands where nothing is counted: TCP while a handshake is
open, and after the close.")]
pub struct Flows {
    #[command(flatten)]
    place: Place,
    /// Only clients in this network (or with this address).
    #[arg(long, value_name = "CIDR", value_parser = network)]
    client: Option<IpNet>,
    /// Only flows of this service, `<namespace>/<name>` or its name alone.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Only flows in this state.
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Option<&'static str>,
    /// Only flows of this protocol.
    #[arg(long, value_enum, value_name = "PROTOCOL")]
    protocol: Option<Protocol>,
    /// Stop after so many; 0: never. Unless set, a table ends after 1000 and JSON never.
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// A transport protocol on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl From<Protocol> for config::Protocol {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
            Protocol::Sctp => Self::Sctp,
        }
    }
}

impl Flows {
    pub fn execute(self) -> Result<ExitCode> {
        let maps = Maps::open_pinned(&self.place.pins().dir())?;
        // The daemon keeps what is in force as this copy; without it flows are shown without their services' names.
        let names = config::read(&self.place.runtime_dir.last_good())
            .map(|config| Names::new(&config))
            .unwrap_or_default();
        let filter = Filter {
            client: self.client,
            service: self.service,
            state: self.state.and_then(state_by_name),
            protocol: self.protocol.map(Into::into),
        };
        let visit =
            |see: Visit| read(&maps, &filter, &names, monotonic_seconds(), see).map_err(anyhow::Error::from);
        match self.output {
            Format::Json => print_json(self.limit.filter(|limit| *limit > 0), visit)?,
            Format::Table => print_table(self.limit.unwrap_or(TABLE_LIMIT), visit)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A table is made whole before its first line is printed, in the gateway's own memory.
const TABLE_LIMIT: usize = 1000;

/// Reads flows one by one, until told to stop.
type Visit<'a> = &'a mut dyn FnMut(FlowRecord) -> ControlFlow<()>;

/// One array, written as it is read: a full table would not fit into the pod's memory.
fn print_json(limit: Option<usize>, visit: impl FnOnce(Visit) -> Result<()>) -> Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut written = 0;
    let mut result = out.write_all(b"[");
    if result.is_ok() {
        visit(&mut |flow| {
            let separator: &[u8] = if written == 0 { b"\n" } else { b",\n" };
            result = out.write_all(separator).and_then(|()| Ok(serde_json::to_writer(&mut out, &flow)?));
            written += 1;
            let go_on = result.is_ok() && limit != Some(written);
            if go_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
    }
    output::ignore_broken_pipe(result.and_then(|()| out.write_all(b"\n]\n")).and_then(|()| out.flush()))
}

fn print_table(limit: usize, visit: impl FnOnce(Visit) -> Result<()>) -> Result<()> {
    let mut flows = Vec::new();
    let mut more = false;
    visit(&mut |flow| {
        more = limit > 0 && flows.len() == limit;
        if more {
            return ControlFlow::Break(());
        }
        flows.push(flow);
        ControlFlow::Continue(())
    })?;
    output::print(&render(&flows))?;
    if more {
        eprintln!("There are more than {limit}: see --limit, or filter.");
    }
    Ok(())
}

fn render(flows: &[FlowRecord]) -> String {
    if flows.is_empty() {
        return "No flows.\n".to_owned();
    }
    let mut shown = table(&[
        "PROTOCOL", "STATE", "CLIENT", "VIP", "SNAT", "TARGET", ">IN", ">OUT", ">IDLE", ">EXPIRES", "SERVICE",
    ]);
    for flow in flows {
        let idle = flow
            .target_idle_seconds
            .map_or(flow.client_idle_seconds, |idle| idle.min(flow.client_idle_seconds));
        let size = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), bytes);
        shown.add_row([
            Cell::new(flow.protocol),
            Cell::new(flow.state),
            Cell::new(flow.client),
            Cell::new(flow.vip),
            Cell::new(flow.snat),
            Cell::new(flow.target),
            Cell::new(size(flow.client_bytes)),
            Cell::new(size(flow.target_bytes)),
            Cell::new(seconds(idle.into())),
            Cell::new(seconds(flow.expires_in_seconds.into())),
            Cell::new(flow.service.as_deref().unwrap_or("-")),
        ]);
    }
    lines(shown)
}

fn network(text: &str) -> Result<IpNet, String> {
    let address = text.parse().map(|address: std::net::IpAddr| address.into());
    text.parse().or(address).map_err(|_| "expected a network such as 192.0.2.0/24, or an address".to_owned())
}

fn state(text: &str) -> Result<&'static str, String> {
    states().map(|state| state.name()).find(|name| *name == text).ok_or_else(|| {
        format!("expected one of {}", output::joined(states().map(|state| state.name()), "none"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_a_network_or_an_address() {
        assert_eq!(network("192.0.2.0/24"), Ok("192.0.2.0/24".parse().unwrap()));
        assert_eq!(network("192.0.2.7"), Ok("192.0.2.7/32".parse().unwrap()));
        assert_eq!(network("fd00::1"), Ok("fd00::1/128".parse().unwrap()));
        assert!(network("web").unwrap_err().contains("192.0.2.0/24"));
    }

    #[test]
    fn a_state_is_one_of_the_names_that_are_shown() {
        assert_eq!(state("established"), Ok("established"));
        assert!(state("ESTAB").unwrap_err().contains("syn-received"));
    }
}
