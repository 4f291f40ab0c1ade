//! `cargo xtask cluster`.

use std::{
    ffi::OsString,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use comfy_table::{Table, presets};
use serde::Serialize;
use sluice_cluster::{Cluster, Machine, Options, cluster, control_plane, node};

use crate::{
    binaries, image, kube,
    packages::{self, Group},
    process, setup,
    ui::{self, Output},
};

/// Names another cluster than the usual one.
const NAME: &str = "SLUICE_CLUSTER";

/// A real Kubernetes cluster on this machine, with Sluice: kubelets, containerd, Multus, macvlan
///
/// Each node is a set of namespaces with a kubelet and a containerd of its own. Nothing of it is seen outside but a folder in
/// `target` and control groups, and `down` takes all of it away. Beside the nodes there is an external network, with a client and a
/// router that leads to another client.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask cluster up                    one node, ready in half a minute (the first time it builds Kubernetes)
  cargo xtask cluster up --nodes 2          two
  cargo xtask cluster up --no-sluice        without Sluice, for the chart or for Kube-OVN's own way
  cargo xtask cluster kubectl get pods -A   kubectl, as somebody who may do everything
  cargo xtask cluster exec client -- curl http://172.18.0.11/
  cargo xtask cluster status                what runs, and where its logs are
  cargo xtask cluster load IMAGE.tar        an image (OCI or Docker archive) for all nodes
  cargo xtask cluster down                  take it away

Machines: hub (control plane), node1, node2, ..., client (172.18.0.10), router (172.18.0.1), far (192.0.2.100, behind the router).
The nodes' device in the external network, a macvlan network's `master`, is ext0.

Environment:
  SLUICE_CLUSTER=NAME       another cluster beside the usual one; in target/cluster-NAME")]
pub struct Args {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Start it
    Up {
        /// How many nodes
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=9))]
        nodes: u8,
        /// Without Sluice, to install it in another way, or none
        #[arg(long)]
        no_sluice: bool,
    },
    /// End it and remove all of it
    Down,
    /// Show what runs
    Status {
        /// How it is printed
        #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
        output: Output,
    },
    /// Run kubectl in it
    Kubectl {
        /// kubectl's arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Run a command in the network of one of its machines
    Exec {
        /// The machine, such as `client`
        machine: String,
        /// The command and its arguments
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Give an image to all nodes
    Load {
        /// The image's archive
        #[arg(value_name = "IMAGE.tar")]
        archive: PathBuf,
    },
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    if !packages::is_root() {
        bail!(
            "a cluster is made of namespaces and mounts, which takes root. Run\n\n  sudo -E env \"PATH=$PATH\" cargo xtask cluster ..."
        );
    }
    match &args.command {
        Action::Up { nodes, no_sluice } => up((*nodes).into(), !no_sluice),
        Action::Down => down(),
        Action::Status { output } => status(*output),
        Action::Kubectl { arguments } => become_command(find()?.kubectl_command()?.args(arguments)),
        Action::Exec { machine, command } => exec(machine, command),
        Action::Load { archive } => {
            find()?
                .load(&archive.canonicalize().with_context(|| format!("finding {}", archive.display()))?)?;
            ui::ok(&format!("all nodes have {}", archive.display()));
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Brings what a cluster takes onto the machine.
///
/// # Errors
/// Something is missing that cannot be installed or built.
pub fn prepare() -> Result<()> {
    for group in [Group::Network, Group::Kubernetes] {
        packages::ensure(group.packages())?;
    }
    setup::bpffs()?;
    kube::ensure(kube::CONTROL_PLANE)?;
    kube::ensure(kube::NODES)?;
    binaries::build_cluster()
}

fn up(nodes: usize, with_sluice: bool) -> Result<ExitCode> {
    let folder = folder();
    if folder.exists() {
        bail!(
            "there is a cluster in {}. See what runs, or take it away:\n\n  cargo xtask cluster status\n  cargo xtask cluster down",
            process::shorten(&folder)
        );
    }
    ui::heading("Preparing");
    prepare()?;
    let images = if with_sluice { image::archives()? } else { Vec::new() };
    ui::heading("Starting");
    let started = Instant::now();
    let report = |what: &str| ui::ok(&format!("{:>7}  {what}", ui::duration(started.elapsed())));
    let mut cluster = Cluster::start(&Options { folder, nodes, images }, &report)?;
    // Ctrl-C up to here ends it, and leaves nothing.
    cluster.detach()?;
    if with_sluice {
        report("Sluice");
        cluster.install_sluice()?;
    }
    report("ready");
    ui::next(&[
        ("cargo xtask cluster kubectl get pods -A", "kubectl, as somebody who may do everything"),
        ("cargo xtask cluster exec client -- ip address", "a command in the external network"),
        ("cargo xtask cluster status", "what runs, and where its logs are"),
        ("cargo xtask cluster down", "take it away"),
    ]);
    Ok(ExitCode::SUCCESS)
}

fn down() -> Result<ExitCode> {
    cluster::remove(&folder())?;
    ui::ok("the cluster is gone");
    Ok(ExitCode::SUCCESS)
}

/// What runs, for scripts.
#[derive(Serialize)]
struct Status<'a> {
    folder: PathBuf,
    kubeconfig: PathBuf,
    machines: Vec<MachineStatus<'a>>,
}

#[derive(Serialize)]
struct MachineStatus<'a> {
    name: &'a str,
    /// Of its first process.
    pid: i32,
    programs: Vec<ProgramStatus>,
}

#[derive(Serialize)]
struct ProgramStatus {
    name: &'static str,
    /// `None`: it has ended.
    pid: Option<i32>,
    log: PathBuf,
}

fn status(output: Output) -> Result<ExitCode> {
    let cluster = find()?;
    let machines = cluster.machines().map(machine_status).collect();
    let status = Status { folder: cluster.folder().to_owned(), kubeconfig: cluster.kubeconfig(), machines };
    if output == Output::Json {
        println!("{}", serde_json::to_string(&status)?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["MACHINE", "PROGRAM", "PID", "LOG"]);
    for machine in &status.machines {
        table.add_row([machine.name, "", &machine.pid.to_string(), ""]);
        for program in &machine.programs {
            let pid = program.pid.map_or_else(|| "ended".to_owned(), |pid| pid.to_string());
            table.add_row(["", program.name, &pid, &process::shorten(&program.log)]);
        }
    }
    anstream::println!("{table}\n\n{}", cluster.kubectl(&["get", "nodes"])?.trim_end());
    Ok(ExitCode::SUCCESS)
}

fn machine_status(machine: &Machine) -> MachineStatus<'_> {
    let programs: &[&str] = match machine.name() {
        "hub" => &control_plane::PROGRAMS,
        name if name.starts_with("node") => &node::PROGRAMS,
        _ => &[],
    };
    let programs = programs.iter().map(|name| ProgramStatus {
        name,
        pid: machine.program(name).map(|process| process.pid()),
        log: machine.log_file(name),
    });
    MachineStatus { name: machine.name(), pid: machine.init().pid(), programs: programs.collect() }
}

fn exec(machine: &str, command: &[OsString]) -> Result<ExitCode> {
    let cluster = find()?;
    let Some(place) = cluster.machines().find(|place| place.name() == machine) else {
        let names: Vec<&str> = cluster.machines().map(Machine::name).collect();
        bail!("there is no machine {machine}: it is one of {}", names.join(", "));
    };
    let (program, arguments) = command.split_first().context("no command")?;
    become_command(place.network_command(program)?.args(arguments))
}

/// In xtask's place, so that the command has the terminal to itself.
fn become_command(command: &mut Command) -> Result<ExitCode> {
    let error = command.exec();
    Err(error).with_context(|| format!("starting {}", command.get_program().display()))
}

fn find() -> Result<Cluster> {
    Cluster::find(&folder()).context("no cluster is up, or not all of its machines run. Start one by\n\n  cargo xtask cluster down; cargo xtask cluster up")
}

/// Where the cluster of this command is.
fn folder() -> PathBuf {
    let target = binaries::target();
    std::env::var(NAME).map_or_else(|_| target.join("cluster"), |name| target.join(format!("cluster-{name}")))
}
