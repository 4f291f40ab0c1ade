//! `cargo xtask bench controller`.

use std::process::Command;

use anyhow::Result;
use clap::ValueEnum;

use crate::{binaries, kube, ui};

/// What the controller takes for many Services at once, against a real API server
///
/// Starts etcd, kube-apiserver and kube-controller-manager on the loopback device, with a played kubelet; fills the cluster with foreign
/// pods; creates Services all at once and waits until each shows its address; lets the controller rest; starts it anew. Counted are the
/// writes that the API server's audit log has of the controller (its Lease apart), the time that passes over a Service took by its own
/// metrics, and the most memory that it had in RAM. No root; a few minutes for each stack, and more for the first build.
#[derive(clap::Args)]
#[command(after_help = "\
Goals:
  6 creates and patches for a Service (7 with two families): finalizer,
    reservation of each family, ConfigMap, Deployment, pod, status
  64 MiB of memory at most, while Services are created and after a restart
  no write in the steady state, although each Service is looked at every
    20 s meanwhile; none after a restart

Times of passes are the upper bounds of the histogram's buckets: the true
ones are up to half as long. All servers share the machine's CPUs, so times
say more about the machine than about the controller.

Examples:
  cargo xtask bench controller                          all of it
  cargo xtask bench controller --services 50 --steady 5 --stack single
  cargo xtask bench controller -o json --no-fail | tail -1 > figures.json")]
pub struct Args {
    /// Services that are created at once
    #[arg(long, default_value_t = 1000, value_name = "NUMBER")]
    services: u32,
    /// Pods in the cluster that are no concern of the controller's; default: five for each Service
    #[arg(long, value_name = "NUMBER")]
    foreign_pods: Option<u32>,
    /// How long the steady state is watched, seconds
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    steady: u32,
    /// Services of one family, of two, or one after the other in clusters of their own
    #[arg(long, value_enum, default_values_t = [Stack::Single, Stack::Dual])]
    stack: Vec<Stack>,
}

/// Addresses of a Service.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stack {
    /// IPv4
    Single,
    /// IPv4 and IPv6
    Dual,
}

/// Builds all that it takes, and returns the command that measures.
///
/// # Errors
/// If something cannot be built.
pub fn prepare(args: &Args) -> Result<Command> {
    ui::heading("Building");
    kube::ensure(kube::CONTROL_PLANE)?;
    let (controller, bench) = binaries::build_controller_bench()?;
    let mut bench = Command::new(bench);
    bench.env("SLUICE_CONTROLLER", controller);
    let foreign_pods = args.foreign_pods.unwrap_or(args.services.saturating_mul(5));
    bench.args(["--services", &args.services.to_string(), "--foreign-pods", &foreign_pods.to_string()]);
    bench.args(["--steady", &args.steady.to_string()]);
    for stack in &args.stack {
        bench.args(["--stack", if *stack == Stack::Single { "single" } else { "dual" }]);
    }
    Ok(bench)
}
