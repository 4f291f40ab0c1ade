//! `cargo xtask test`.

use std::{
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use clap::ValueEnum;
use comfy_table::{CellAlignment, Table, presets};

use crate::{
    binaries, build_ebpf, cluster, image, kube,
    libtest::{self, Counts},
    lint,
    packages::{self, Group},
    process, setup, ui,
};

/// How many tests a test binary runs at once.
const THREADS: &str = "RUST_TEST_THREADS";

/// Runs the tests, rung by rung, and counts them
///
/// Without arguments: lint, then all rungs. A rung that cannot run, or that runs no test, fails. The last line is the
/// sum of all. Everything happens in network namespaces and virtual machines of the tests' own, and between servers on
/// the loopback device; Ctrl-C ends the tests and waits until they have cleaned up.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask test                       lint and all rungs, as in CI
  cargo xtask test unit packet           these rungs only, without lint
  cargo xtask test netns -- pmtu         the netns tests with `pmtu` in their name
  cargo xtask test packet -- --nocapture with what the tests print")]
pub struct Args {
    /// The rungs to run
    #[arg(value_enum)]
    rungs: Vec<Rung>,
    /// Arguments for each test binary, after `--`
    #[arg(last = true)]
    harness: Vec<String>,
}

/// A set of tests that needs more of the machine than the set before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Rung {
    /// The pure parts, on the host; no root
    Unit,
    /// Packets through the programs, run by the kernel (root)
    Packet,
    /// Real traffic between network namespaces, beside iptables as the oracle (root)
    Netns,
    /// A short measurement of the data path beside iptables: right, and not absurdly slow (root)
    Bench,
    /// The controller against a real API server, and with a gateway in namespaces (root)
    Apiserver,
    /// Sluice from its images and manifests, in a real cluster with kubelets, containerd, Multus and kube-proxy (root)
    Cluster,
    /// The packet rung and one end-to-end case on other kernels, in virtual machines; no root
    Kernels,
}

impl Rung {
    const ALL: [Self; 7] =
        [Self::Unit, Self::Packet, Self::Netns, Self::Bench, Self::Apiserver, Self::Cluster, Self::Kernels];

    fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Packet => "packet",
            Self::Netns => "netns",
            Self::Bench => "bench",
            Self::Apiserver => "apiserver",
            Self::Cluster => "cluster",
            Self::Kernels => "kernels",
        }
    }

    fn needs_root(self) -> bool {
        matches!(self, Self::Packet | Self::Netns | Self::Bench | Self::Apiserver | Self::Cluster)
    }

    fn needs_programs(self) -> bool {
        self != Self::Unit
    }

    fn needs_binaries(self) -> bool {
        matches!(self, Self::Netns | Self::Bench | Self::Apiserver)
    }

    fn groups(self) -> &'static [Group] {
        match self {
            Self::Unit => &[],
            Self::Packet | Self::Netns | Self::Bench | Self::Apiserver => &[Group::Network],
            Self::Cluster => &[Group::Network, Group::Kubernetes],
            Self::Kernels => &[Group::Network, Group::Kernels],
        }
    }

    /// Tests at a time; `None`: one for each CPU.
    ///
    /// The cases of these wait for other programs more than they compute: with six at a time, two CPUs are busy.
    fn threads(self) -> Option<&'static str> {
        matches!(self, Self::Apiserver | Self::Cluster).then_some("6")
    }

    fn command(self, harness: &[String]) -> Command {
        let mut command = process::cargo();
        // `--test-threads` among `harness` counts more, and so does the user's own variable.
        if let Some(threads) = self.threads()
            && std::env::var_os(THREADS).is_none()
        {
            command.env(THREADS, threads);
        }
        command.args(["test", "--no-fail-fast"]);
        match self {
            Self::Unit => command.args(["--workspace", "--lib", "--bins"]),
            Self::Cluster => command.args(["--package", "sluice-cluster-tests", "--test", self.name()]),
            Self::Bench => command.args(["--package", "sluice-bench", "--test", self.name()]),
            // The second has the real gateway serve what the controller wrote, in namespaces.
            Self::Apiserver => command
                .args(["--package", "sluice-apiserver-tests", "--test", self.name()])
                .args(["--package", "sluice-traffic-tests", "--test", "traffic"]),
            _ => command.args(["--package", "sluice-tests", "--test", self.name()]),
        };
        if !harness.is_empty() {
            command.arg("--").args(harness);
        }
        command
    }

    fn run(self, harness: &[String]) -> Result<Counts> {
        if self.needs_root() {
            setup::bpffs()?;
        }
        for group in self.groups() {
            packages::ensure(group.packages())?;
        }
        if self == Self::Apiserver {
            kube::ensure(kube::CONTROL_PLANE)?;
            kube::ensure(kube::HELM)?;
        }
        if self == Self::Cluster {
            cluster::prepare()?;
            kube::ensure(kube::HELM)?;
            image::archives()?;
        }
        if self.needs_binaries() {
            binaries::build()?;
        }
        let mut counts = Counts::default();
        let status = process::run_lines(&mut self.command(harness), |line| {
            anstream::println!("{line}");
            if let Some(more) = libtest::parse_result(line) {
                counts += more;
            }
        })?;
        if !status.success() && counts.failed == 0 {
            bail!("no test failed, but cargo did ({status}): see above");
        }
        if counts.passed + counts.failed == 0 {
            bail!("it ran no test");
        }
        Ok(counts)
    }
}

/// What became of one step of the run.
struct Outcome {
    step: &'static str,
    result: Result<Counts>,
    time: Duration,
}

impl Outcome {
    /// A step that failed as a whole counts as one failure, so that the sum never hides it.
    fn counts(&self) -> Counts {
        match &self.result {
            Ok(counts) => *counts,
            Err(_) => Counts { failed: 1, ..Counts::default() },
        }
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    let all = args.rungs.is_empty();
    let rungs: Vec<Rung> = Rung::ALL.into_iter().filter(|rung| all || args.rungs.contains(rung)).collect();
    require_root(&rungs, all)?;

    let mut outcomes = vec![step("programs", || build_ebpf::build(false).map(|()| Counts::default()))?];
    let built = outcomes.iter().all(|outcome| outcome.result.is_ok());
    if all {
        outcomes.push(step("lint", || lint::check().map(|()| Counts::default()))?);
    }
    for rung in rungs {
        outcomes.push(step(rung.name(), || {
            ui::heading(&format!("Rung {}", rung.name()));
            if rung.needs_programs() && !built {
                bail!("not run: there are no BPF programs");
            }
            rung.run(&args.harness)
        })?);
    }
    Ok(conclude(&outcomes))
}

/// Runs one step. Only an interrupt ends the whole run.
fn step(name: &'static str, work: impl FnOnce() -> Result<Counts>) -> Result<Outcome> {
    let started = Instant::now();
    let result = match work() {
        Err(error) if error.is::<process::Interrupted>() => return Err(error),
        Err(error) => Err(error.context(format!("{name} failed"))),
        Ok(counts) => Ok(counts),
    };
    if let Err(error) = &result {
        ui::error(error);
    }
    Ok(Outcome { step: name, result, time: started.elapsed() })
}

fn require_root(rungs: &[Rung], all: bool) -> Result<()> {
    let names = |of: &[Rung]| of.iter().map(|rung| format!(" {}", rung.name())).collect::<String>();
    let privileged: Vec<Rung> = rungs.iter().copied().filter(|rung| rung.needs_root()).collect();
    if privileged.is_empty() || packages::is_root() {
        return Ok(());
    }
    bail!(
        "these rungs load BPF programs and make network namespaces, which takes root:{}\n\nRun\n\n  sudo -E env \"PATH=$PATH\" \
         cargo xtask test{}\n\nor, without root,\n\n  cargo xtask test unit",
        names(&privileged),
        if all { String::new() } else { names(rungs) },
    )
}

/// Prints the table and the sum.
fn conclude(outcomes: &[Outcome]) -> ExitCode {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["RUNG", "PASSED", "FAILED", "IGNORED", "TIME", ""]);
    let mut sum = Counts::default();
    for outcome in outcomes {
        let counts = outcome.counts();
        sum += counts;
        let numbers = match (&outcome.result, counts == Counts::default()) {
            (Ok(_), true) => ["-".to_owned(), "-".to_owned(), "-".to_owned()],
            _ => [counts.passed, counts.failed, counts.ignored].map(|count| count.to_string()),
        };
        let [passed, failed, ignored] = numbers;
        let remark = match &outcome.result {
            Ok(counts) if counts.failed == 0 => "ok".to_owned(),
            Ok(_) => "FAILED".to_owned(),
            Err(error) => {
                format!("FAILED: {}", error.root_cause().to_string().lines().next().unwrap_or_default())
            }
        };
        table.add_row([outcome.step.to_owned(), passed, failed, ignored, ui::duration(outcome.time), remark]);
    }
    for column in 1..=4 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    anstream::println!("\n{table}");
    if sum.failed == 0 {
        ui::next(&[("cargo xtask build-ebpf", "the programs' sizes again")]);
    } else {
        ui::next(&[(
            "cargo xtask test RUNG -- NAME",
            "one rung, and in it the tests with NAME in their name",
        )]);
    }
    anstream::println!("\n{} passed, {} failed", sum.passed, sum.failed);
    if sum.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(result: Result<Counts>) -> Outcome {
        Outcome { step: "unit", result, time: Duration::ZERO }
    }

    #[test]
    fn a_step_that_fails_as_a_whole_fails_the_run() {
        let good = outcome(Ok(Counts { passed: 3, failed: 0, ignored: 0 }));
        let bad = outcome(Err(anyhow::anyhow!("it ran no test")));
        assert_eq!(bad.counts().failed, 1);
        assert_eq!(format!("{:?}", conclude(&[good])), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(format!("{:?}", conclude(&[bad])), format!("{:?}", ExitCode::FAILURE));
    }

    #[test]
    fn rungs_are_test_targets() {
        let line = |rung: Rung| process::shell_line(&rung.command(&["x".to_owned()]));
        assert_eq!(line(Rung::Unit), "cargo test --no-fail-fast --workspace --lib --bins -- x");
        assert_eq!(line(Rung::Netns), "cargo test --no-fail-fast --package sluice-tests --test netns -- x");
        assert_eq!(Rung::Netns.threads(), None);
        assert!(
            line(Rung::Apiserver).starts_with("RUST_TEST_THREADS=6 cargo test "),
            "{}",
            line(Rung::Apiserver)
        );
    }
}
