//! `cargo xtask`: the one door to building, testing and trying Sluice.

mod bench;
mod binaries;
mod build_ebpf;
mod cluster;
mod demo;
mod image;
mod kube;
mod libtest;
mod lint;
mod object;
mod packages;
#[cfg(test)]
mod pages;
mod paths;
mod process;
mod setup;
mod test;
mod toolchain;
mod tools;
mod ui;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Build, test and try Sluice.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    after_help = "\
Every command prints what it runs. What is missing it installs as root on Debian
and Ubuntu; elsewhere it prints the exact commands. On a fresh machine with Rust:

  cargo xtask demo          build everything, and show it at work (root)
  cargo xtask test          build everything, lint, run all rungs of tests (root)
  cargo xtask test unit     the tests that need neither root nor BPF in the kernel
  cargo xtask build-ebpf    the BPF programs alone, with their sizes
  cargo xtask image         container images of gateway and controller
  cargo xtask cluster up    a real Kubernetes cluster on this machine (root)
  cargo xtask bench all          the data path beside iptables and others, into docs/performance (root)
  cargo xtask bench controller   what the controller takes for 1000 Services
  cargo xtask bench image        what the gateway's image takes to start, and in memory

Environment:
  SLUICE_BPF_RUSTC=PATH     the rustc for the BPF programs, in place of xtask's choice
  LLVM_PREFIX=DIR           the LLVM for bpf-linker; default /usr/lib/llvm-<major>
  KUBEBUILDER_ASSETS=DIR    etcd, kube-apiserver, kube-controller-manager; what it has is not built
  NO_COLOR=1                no colours"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Setup(setup::Args),
    BuildEbpf(build_ebpf::Args),
    Demo(demo::Args),
    Image(image::Args),
    Cluster(cluster::Args),
    Lint(lint::Args),
    Test(test::Args),
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = process::handle_signals().and_then(|()| match cli.command {
        Command::Setup(args) => setup::run(&args),
        Command::BuildEbpf(args) => build_ebpf::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Image(args) => image::run(&args),
        Command::Cluster(args) => cluster::run(&args),
        Command::Lint(args) => lint::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Bench(args) => bench::run(&args),
    });
    match result {
        Ok(code) => code,
        Err(error) => match error.downcast_ref::<process::Interrupted>() {
            Some(interrupted) => interrupted.exit_code(),
            None => {
                ui::error(&error);
                ExitCode::FAILURE
            }
        },
    }
}
