//! One TCP stream, from client to server and back, by iperf3.

use std::process::{Child, Stdio};

use anyhow::{Context, Result};
use serde_json::Value;
use sluice_bench::contender::Contender;
use sluice_bench::cpu::Softirqs;
use sluice_bench::report::Section;
use sluice_bench::rounds::{Rounds, interleaved};
use sluice_bench::tcp::Path;
use sluice_figures::{Goal, Phase};
use sluice_tests::addresses::Family;
use sluice_tests::wait;

use crate::Effort;

const SECTION: Section = Section("TCP stream, net1 a macvlan");
const CONTENDERS: [Contender; 4] =
    [Contender::SluiceTc, Contender::IptablesLegacy, Contender::IptablesNft, Contender::Nftables];
/// Seconds of one stream.
const SECONDS: &str = "2";

/// Measures both directions.
///
/// # Errors
/// If iperf3 fails.
pub fn run(effort: Effort) -> Result<()> {
    let directions = [("client to server", false), ("server to client", true)];
    let mut phase = Phase::begin("TCP streams", directions.len() * effort.rounds * CONTENDERS.len());
    let mut paths =
        CONTENDERS.map(|contender| Path::new(contender, 1)).into_iter().collect::<Result<Vec<_>>>()?;
    let mut done = 0;
    for (name, backwards) in directions {
        let mut cost = vec![Rounds::default(); paths.len()];
        let rates = interleaved(&mut paths, effort.rounds, |path| {
            let stream = stream(path, backwards)?;
            let index = CONTENDERS.iter().position(|contender| *contender == path.contender());
            cost[index.unwrap_or_default()].0.push(stream.milliseconds);
            done += 1;
            phase.done(done);
            Ok(stream.gigabits)
        })?;
        for ((path, rates), cost) in paths.iter().zip(&rates).zip(&cost) {
            let case = path.contender().name();
            SECTION.rounds(name, case, rates, "Gbit/s", None);
            SECTION.rounds(&format!("{name}: CPU"), case, cost, "ms/Gbit", None);
        }
        let title = |what: &str| format!("{name}: sluice tc beside iptables-legacy, {what}");
        SECTION.ratio(&title("rate"), &rates[0].beside(&rates[1]), Goal::at_least(1.0));
        SECTION.ratio(&title("CPU per Gbit"), &cost[0].beside(&cost[1]), Goal::at_most(1.0));
    }
    Ok(())
}

/// What one stream came to.
struct Stream {
    /// Gbit/s that the receiver got.
    gigabits: f64,
    /// Milliseconds of a core for each Gbit: of both processes, with what the kernel does in their name, and of `ksoftirqd`.
    milliseconds: f64,
}

fn stream(path: &Path, backwards: bool) -> Result<Stream> {
    let port = Path::FIRST_PORT.to_string();
    let _server = Server::start(path, &port)?;
    let softirqs = Softirqs::of_all()?;
    let before = softirqs.now()?;
    let vip = Family::V4.plan().vip.to_string();
    let mut arguments = vec!["--client", &vip, "--port", &port, "--time", SECONDS, "--json"];
    arguments.extend(["--connect-timeout", "5000"]);
    arguments.extend(backwards.then_some("--reverse"));
    let output = path.client().output("iperf3", &arguments)?;
    let softirqs = softirqs.now()?.saturating_sub(before);
    let said: Value = serde_json::from_str(&output).context("reading what iperf3 says")?;
    let end = &said["end"];
    let number = |value: &Value| value.as_f64().with_context(|| format!("iperf3 said {output}"));
    let received = &end["sum_received"];
    let gigabits = number(&received["bits_per_second"])? / 1e9;
    let seconds = number(&received["seconds"])?;
    let used = &end["cpu_utilization_percent"];
    let used = (number(&used["host_total"])? + number(&used["remote_total"])?) / 100.0 * seconds;
    let milliseconds = (used + softirqs.as_secs_f64()) * 1000.0 / (gigabits * seconds);
    Ok(Stream { gigabits, milliseconds })
}

/// The iperf3 server, until it is dropped.
struct Server(Child);

impl Server {
    /// Starts it, and waits until it listens.
    fn start(path: &Path, port: &str) -> Result<Self> {
        let mut command = path.server().command("iperf3");
        command.args(["--server", "--port", port]).stdout(Stdio::null()).stdin(Stdio::null());
        let server = Self(command.spawn().context("starting the iperf3 server")?);
        let filter = format!("sport = :{port}");
        wait::until("the iperf3 server listens", wait::PATIENCE, || {
            let listeners = path.server().output("ss", &["-Hltn", &filter])?;
            Ok((!listeners.is_empty()).then_some(()))
        })?;
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
