//! `status`.

use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Result;
use clap::Args;
use comfy_table::Cell;

use super::Place;
use super::output::{self, Format, ago, bytes, good, lines, table};
use crate::admin;
use crate::config;
use crate::run;
use crate::status::{Attach, Handover, Origin, Program, ServicePort, Status, Sweep};

/// Show what this gateway serves, how much of it, and what is wrong.
///
/// Asks the running daemon. Where none runs, tells what the kernel still does by itself from the pinned maps, and exits with 2.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sluice-gateway status
  sluice-gateway status -o json | jq '.services[] | {service, flows_active}'
Exit code 0: a daemon runs; 2: none runs, the pinned state is shown; 1: there is nothing to show")]
pub struct StatusCommand {
    #[command(flatten)]
    place: Place,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

impl StatusCommand {
    pub fn execute(self) -> Result<ExitCode> {
        let (status, code) = match admin::get_status(&self.place.runtime_dir.socket()) {
            Ok(status) => (status, ExitCode::SUCCESS),
            Err(error) => {
                eprintln!("{error:#}");
                (offline(&self.place)?, ExitCode::from(2))
            }
        };
        match self.output {
            Format::Json => output::print_json(&status)?,
            Format::Table => output::print(&render(&status, SystemTime::now()))?,
        }
        Ok(code)
    }
}

fn offline(place: &Place) -> Result<Status> {
    let config = config::read(&place.runtime_dir.last_good()).ok();
    run::offline::status(&place.pins(), config.as_ref())
}

/// The whole status for people, at the time `now`.
fn render(status: &Status, now: SystemTime) -> String {
    let mut text = heading(status, now);
    for part in [
        interfaces(status),
        programs(&status.programs),
        services(&status.services),
        flow_tables(status),
        drops(status),
    ] {
        if !part.is_empty() {
            text.push('\n');
            text.push_str(&part);
        }
    }
    if !status.problems.is_empty() {
        text.push_str("\nPROBLEMS\n");
        text.extend(status.problems.iter().map(|problem| format!("- {problem}\n")));
    }
    text
}

fn heading(status: &Status, now: SystemTime) -> String {
    let mut facts: Vec<(&str, Cell)> = Vec::new();
    facts.push(("Gateway", Cell::new(format!("{}, version {}", status.gateway_id, status.version))));
    facts.push(match &status.process {
        Some(process) => (
            "Daemon",
            Cell::new(format!("process {}, started {}", process.pid, ago(process.started_at, now))),
        ),
        None => ("Daemon", good("not running; the programs go on by themselves", false)),
    });
    facts.push(("Ready", good(if status.ready { "yes" } else { "no" }, status.ready)));
    facts.extend(status.not_ready.iter().map(|why| ("", Cell::new(why))));
    if let Some(config) = &status.config {
        let origin = match config.origin {
            Origin::None => "nothing in force yet".to_owned(),
            Origin::File => format!("generation {}", config.generation),
            Origin::LastGoodCopy => "the copy of the last good file is in force".to_owned(),
        };
        let applied = config.applied_at.map_or_else(
            || if config.origin == Origin::None { String::new() } else { ", not applied yet".to_owned() },
            |at| format!(", applied {}", ago(at, now)),
        );
        facts.push(("Config", Cell::new(format!("{}, {origin}{applied}", config.path.display()))));
        if let Some(refusal) = &config.refusal {
            facts.push(("Refused", good(format!("{}, the file as it is now:", ago(refusal.at, now)), false)));
            facts.extend(refusal.error.lines().map(|line| ("", Cell::new(line))));
        }
    }
    facts.extend(status.attach.as_ref().map(|attach| ("Attach", attach_cell(attach))));
    facts.extend(status.handover.as_ref().map(|handover| ("Handover", handover_cell(handover))));
    facts.extend(status.sweep.as_ref().map(|sweep| ("Sweep", sweep_cell(sweep, now))));
    if status.map_memory_bytes > 0 {
        facts.push(("Memory", Cell::new(format!("{} of maps", bytes(status.map_memory_bytes)))));
    }
    let mut heading = table(&[]);
    for (name, value) in facts {
        heading.add_row([Cell::new(name), value]);
    }
    lines(heading)
}

fn handover_cell(handover: &Handover) -> Cell {
    let used = match handover.used {
        Some(true) => "yes",
        Some(false) => "no",
        None => "not yet",
    };
    Cell::new(format!("{used}: {}", handover.reason))
}

fn attach_cell(attach: &Attach) -> Cell {
    let text = format!("{} ({} is asked for): {}", attach.mode.name(), attach.wanted.name(), attach.reason);
    good(text, !attach.falls_short())
}

fn sweep_cell(sweep: &Sweep, now: SystemTime) -> Cell {
    match (&sweep.error, sweep.last_at) {
        (Some(error), _) => good(error, false),
        (None, None) => Cell::new("not yet"),
        (None, Some(at)) => Cell::new(format!(
            "{}, {:.1} ms on the CPU; {} passes so far, {} entries deleted",
            ago(at, now),
            sweep.last_busy_seconds * 1000.0,
            sweep.passes,
            sweep.deleted
        )),
    }
}

fn interfaces(status: &Status) -> String {
    let mut interfaces = table(&["INTERFACE", "ROLE", "STATE", ">INDEX", ">MTU", "ADDRESSES"]);
    for interface in &status.interfaces {
        let (state, up) = match (interface.ifindex, interface.up) {
            (None, _) => ("missing", false),
            (Some(_), false) => ("down", false),
            (Some(_), true) => ("up", true),
        };
        let number =
            |value: u32| if interface.ifindex.is_some() { value.to_string() } else { "-".to_owned() };
        interfaces.add_row([
            Cell::new(&interface.name),
            Cell::new(interface.role.name()),
            good(state, up),
            Cell::new(number(interface.ifindex.unwrap_or_default())),
            Cell::new(number(interface.mtu)),
            Cell::new(output::joined(&interface.addresses, "")),
        ]);
    }
    unless_empty(status.interfaces.is_empty(), interfaces)
}

fn programs(programs: &[Program]) -> String {
    let mut shown = table(&["PROGRAM", "INTERFACE", "HOOK", "MODE", "STATE"]);
    for program in programs {
        shown.add_row([
            Cell::new(&program.name),
            Cell::new(&program.interface),
            Cell::new(&program.hook),
            Cell::new(&program.mode),
            good(if program.attached { "attached" } else { "not attached" }, program.attached),
        ]);
    }
    unless_empty(programs.is_empty(), shown)
}

fn services(services: &[ServicePort]) -> String {
    let mut shown = table(&[
        "SERVICE",
        "VIP",
        "PORT",
        "TARGET",
        ">PACKETS IN",
        ">OUT",
        ">BYTES IN",
        ">OUT",
        ">FLOWS",
        ">ACTIVE",
    ]);
    for port in services {
        let counters = &port.counters;
        shown.add_row([
            port.service.clone(),
            output::joined(&port.vips, "none"),
            format!("{}/{}", port.port, port.protocol),
            output::joined(&port.targets, "none"),
            counters.forward_packets.to_string(),
            counters.reverse_packets.to_string(),
            bytes(counters.forward_bytes),
            bytes(counters.reverse_bytes),
            counters.flows_opened.to_string(),
            counters.flows_active.to_string(),
        ]);
    }
    unless_empty(services.is_empty(), shown)
}

fn flow_tables(status: &Status) -> String {
    let mut shown = table(&["FLOW TABLE", ">FLOWS", ">ROOM FOR", ">USED"]);
    for family in &status.flow_tables {
        let used = family.percent();
        shown.add_row([
            Cell::new(&family.family),
            Cell::new(family.entries),
            Cell::new(family.capacity),
            good(format!("{used:.1} %"), used < 90.0),
        ]);
    }
    unless_empty(status.flow_tables.is_empty(), shown)
}

fn drops(status: &Status) -> String {
    let mut shown = table(&["DROPPED", ">PACKETS"]);
    let counted: Vec<_> = status.drops.iter().filter(|drop| drop.packets > 0).collect();
    for drop in &counted {
        shown.add_row([drop.reason.clone(), drop.packets.to_string()]);
    }
    unless_empty(counted.is_empty(), shown)
}

fn unless_empty(empty: bool, table: comfy_table::Table) -> String {
    if empty { String::new() } else { lines(table) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::status::sample;

    fn shown(change: impl FnOnce(&mut Status)) -> String {
        let mut status = sample();
        change(&mut status);
        render(&status, SystemTime::UNIX_EPOCH + Duration::from_secs(125))
    }

    #[test]
    fn people_see_what_is_served() {
        let text = shown(|_| {});
        let line = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap_or_default();
        assert!(line("Daemon").ends_with("process 7, started 2m 5s ago"), "{text}");
        assert!(
            line("Refused").contains("2m 5s ago") && text.contains("line 3: port: 0 is no port"),
            "{text}"
        );
        assert!(
            line("net1").contains("172.18.0.18/16") && line("forward_v4").ends_with("attached"),
            "{text}"
        );
        let service: Vec<_> = line("default/test").split_whitespace().collect();
        let want = [
            "default/test",
            "172.18.0.18",
            "80/tcp",
            "10.109.201.193:80",
            "11",
            "22",
            "1.1",
            "KiB",
            "2.1",
            "KiB",
            "5",
            "2",
        ];
        assert_eq!(service, want, "{text}");
        assert!(line("ipv4").ends_with("25.0 %") && line("no_flow").ends_with('3'), "{text}");
        assert!(!text.contains("PROBLEMS"), "{text}");
    }

    #[test]
    fn people_see_what_is_wrong_and_no_empty_tables() {
        let text = shown(|status| {
            status.ready = false;
            status.not_ready = vec!["the external interface net1 is missing".into()];
            status.problems = vec!["something".into()];
            status.interfaces[0].ifindex = None;
            status.programs.clear();
            status.drops.iter_mut().for_each(|drop| drop.packets = 0);
        });
        assert!(text.contains("net1 is missing") && text.ends_with("\nPROBLEMS\n- something\n"), "{text}");
        assert!(text.contains("missing") && !text.contains("PROGRAM") && !text.contains("DROPPED"), "{text}");
    }
}
