//! A whole cluster: started, found again, stopped.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

pub use crate::folder::{remove, sweep};
use crate::{
    cgroup,
    control_plane::{self, ControlPlane},
    folder, images,
    machine::Machine,
    netns::Netns,
    network,
    node::{self, CONTAINERD, NodeFiles},
    spec::{Leftovers, Spec},
};

/// How long a part may take to be ready on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(180);
/// Multus' kind.
const DEFINITIONS: &str = include_str!("../manifests/network-attachment-definition.yaml");
/// What a node hides with its disk: nothing that it needs may be there.
const HIDDEN: [&str; 5] = ["/run", "/var/lib", "/var/log", "/proc", "/sys"];

/// What cluster to start.
#[derive(Debug)]
pub struct Options {
    /// Everything is made below this folder, which must not be there.
    pub folder: PathBuf,
    /// How many nodes.
    pub nodes: usize,
    /// Archives (OCI) of images that each node gets, beside those of [`images`].
    pub images: Vec<PathBuf>,
}

/// A cluster that runs. It ends with the process that started it, however that ends, unless [`Cluster::detach`] is called.
#[derive(Debug)]
pub struct Cluster {
    leftovers: Leftovers,
    control_plane: ControlPlane,
    /// Where the control plane is, and the bridges: see [`network`].
    pub hub: Machine,
    /// A client in the external network.
    pub client: Machine,
    /// The external network's router, [`crate::addresses::ROUTER`].
    pub router: Machine,
    /// A client behind the router.
    pub far: Machine,
    /// The nodes, from node 1 on. One that was killed stays in the list.
    pub nodes: Vec<Machine>,
}

impl Cluster {
    /// Starts one, and returns when its nodes are Ready and its API server knows Multus' kind. `progress` hears what happens.
    ///
    /// # Errors
    /// Something is missing or does not start; nothing stays then.
    pub fn start(options: &Options, progress: &(dyn Fn(&str) + Sync)) -> Result<Self> {
        for hidden in HIDDEN {
            ensure!(
                !options.folder.starts_with(hidden),
                "a cluster cannot be in {}: its machines have a {hidden} of their own. Take another folder",
                options.folder.display()
            );
        }
        let leftovers = folder::claim(&options.folder)?;
        Self::start_in(&leftovers, options, progress).inspect_err(|_| {
            // The first error is the one that matters.
            let _also_failed = folder::stop(&leftovers);
        })
    }

    fn start_in(leftovers: &Leftovers, options: &Options, progress: &(dyn Fn(&str) + Sync)) -> Result<Self> {
        progress("machines and networks");
        let machine = |name: &str| start_machine(leftovers, name);
        let hub = machine("hub")?;
        let (client, router, far) = (machine("client")?, machine("router")?, machine("far")?);
        network::lay_hub(&hub)?;
        network::lay_outside(&hub, &client, &router, &far)?;
        let nodes =
            (1..=options.nodes).map(|number| machine(&node_name(number))).collect::<Result<Vec<_>>>()?;
        let control_plane = ControlPlane { folder: options.folder.join("hub") };
        control_plane.prepare(options.nodes)?;
        let cluster = Self { leftovers: leftovers.clone(), control_plane, hub, client, router, far, nodes };

        progress("control plane, and images for the nodes");
        thread::scope(|scope| -> Result<()> {
            let prepared: Vec<_> = (1..=options.nodes)
                .map(|number| {
                    let cluster = &cluster;
                    scope.spawn(move || cluster.prepare_node(number, &options.images))
                })
                .collect();
            let started = cluster.start_control_plane();
            let prepared = prepared.into_iter().map(|thread| match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            prepared.collect::<Result<()>>().and(started)
        })?;

        progress("kubelets and proxies");
        for number in 1..=options.nodes {
            for program in ["kubelet", "kube-proxy"] {
                cluster.start_on_node(number, program)?;
            }
        }
        cluster.apply(DEFINITIONS)?;
        cluster.wait_for_nodes()?;
        Ok(cluster)
    }

    /// The cluster in `folder`; `None`: there is none, or not all of it runs.
    pub fn find(folder: &Path) -> Option<Self> {
        let leftovers = folder::find(folder).ok()?;
        let machine = |name: &str| Machine::find(name, &folder.join(name));
        let nodes = (1..).map_while(|number| {
            let name = node_name(number);
            folder.join(&name).exists().then(|| machine(&name))
        });
        Some(Self {
            hub: machine("hub")?,
            client: machine("client")?,
            router: machine("router")?,
            far: machine("far")?,
            nodes: nodes.collect::<Option<Vec<_>>>()?,
            control_plane: ControlPlane { folder: folder.join("hub") },
            leftovers,
        })
    }

    /// Everything is below this folder: logs are in `<machine>/<program>.log`.
    pub fn folder(&self) -> &Path {
        &self.leftovers.folder
    }

    /// The control plane: to stop and start its programs on [`Self::hub`].
    pub const fn control_plane(&self) -> &ControlPlane {
        &self.control_plane
    }

    /// Imports an archive of images on every node.
    ///
    /// # Errors
    /// containerd refuses it.
    pub fn load(&self, archive: &Path) -> Result<()> {
        self.nodes.iter().try_for_each(|node| import(node, archive))
    }

    /// Starts one of [`node::PROGRAMS`] on a node, counted from 1. To stop it: [`Machine::stop_program`].
    ///
    /// # Errors
    /// It cannot be started, or runs already.
    pub fn start_on_node(&self, number: usize, program: &str) -> Result<()> {
        self.node_files(number).start(self.node(number)?, &self.control_plane, program)
    }

    /// Ends one of [`node::PROGRAMS`] (SIGKILL) and starts it again.
    ///
    /// # Errors
    /// As of [`Self::start_on_node`].
    pub fn restart_on_node(&self, number: usize, program: &str) -> Result<()> {
        self.node(number)?.stop_program(program, Signal::SIGKILL)?;
        self.start_on_node(number, program)
    }

    /// Switches a node on that was killed ([`Machine::kill`]): its disk is as it was, all else is new.
    ///
    /// # Errors
    /// It runs, or something does not start.
    pub fn boot_node(&mut self, number: usize) -> Result<()> {
        let name = node_name(number);
        ensure!(!self.node(number)?.init().runs(), "{name} runs");
        let cgroup = self.node_files(number).cgroup;
        cgroup::folders(&cgroup)?.iter().try_for_each(|folder| cgroup::remove(folder))?;
        cgroup::make(&cgroup)?;
        let mut machine = start_machine(&self.leftovers, &name)?;
        if !self.hub.ends_with_starter() {
            machine.detach()?;
        }
        network::unplug_node(&self.hub, &name);
        network::lay_node(&self.hub, &machine, number)?;
        *self.nodes.get_mut(number - 1).context("no such node")? = machine;
        node::PROGRAMS.iter().try_for_each(|program| self.start_on_node(number, program))?;
        // The kubelet ends where containerd is not there yet, until it finds it: on other machines, systemd starts it again.
        wait_until("the kubelet is healthy", || {
            let machine = self.node(number)?;
            if machine.program("kubelet").is_none() {
                self.start_on_node(number, "kubelet")?;
            }
            Ok(machine.output("curl", &["-sSf", "-m", "1", "http://127.0.0.1:10248/healthz"]).is_ok())
        })
    }

    /// Cuts the cable between a node and the others and the control plane (the external network stays), or mends it.
    ///
    /// # Errors
    /// If `ip` fails.
    pub fn set_partitioned(&self, number: usize, partitioned: bool) -> Result<()> {
        let port = network::port(self.node(number)?.name(), "eth0");
        self.hub.ip(&format!("link set {port} {}", if partitioned { "down" } else { "up" }))
    }

    /// A node, counted from 1.
    ///
    /// # Errors
    /// There are fewer.
    pub fn node(&self, number: usize) -> Result<&Machine> {
        number
            .checked_sub(1)
            .and_then(|index| self.nodes.get(index))
            .with_context(|| format!("there is no node {number}"))
    }

    /// The network of a pod, by its `metadata.uid`.
    ///
    /// # Errors
    /// No process of it runs on this machine.
    pub fn pod_network(&self, uid: &str) -> Result<Netns> {
        let pid = cgroup::process_in(&format!("pod{uid}"))
            .with_context(|| format!("no process of the pod {uid} runs"))?;
        Netns::of(pid, "the pod")
    }

    /// A node's configuration.
    pub fn node_files(&self, number: usize) -> NodeFiles {
        node_files(&self.leftovers, number)
    }

    /// Lets it outlive this process, until [`Cluster::stop`] or [`remove`].
    ///
    /// # Errors
    /// A machine has ended.
    pub fn detach(&mut self) -> Result<()> {
        let Self { hub, client, router, far, nodes, .. } = self;
        [hub, client, router, far].into_iter().chain(nodes).try_for_each(Machine::detach)
    }

    /// All machines.
    pub fn machines(&self) -> impl Iterator<Item = &Machine> {
        [&self.hub, &self.client, &self.router, &self.far].into_iter().chain(&self.nodes)
    }

    /// Ends everything and removes it.
    ///
    /// # Errors
    /// Something stays.
    pub fn stop(self) -> Result<()> {
        folder::stop(&self.leftovers)
    }

    fn start_control_plane(&self) -> Result<()> {
        for program in control_plane::PROGRAMS {
            self.control_plane.start(&self.hub, program)?;
            match program {
                "etcd" => wait_until("etcd listens", || {
                    self.hub.expect_program(program)?;
                    Ok(self.hub.path("/run/etcd.sock").exists())
                })?,
                "kube-apiserver" => self.wait_for_api_server()?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Waits until the API server is ready, as it says itself.
    ///
    /// # Errors
    /// It ends, or is not ready in time.
    pub fn wait_for_api_server(&self) -> Result<()> {
        wait_until("the API server is ready", || {
            self.hub.expect_program("kube-apiserver")?;
            Ok(self.kubectl(&["get", "--raw", "/readyz"]).is_ok())
        })
    }

    fn prepare_node(&self, number: usize, images: &[PathBuf]) -> Result<()> {
        let (machine, files) = (self.node(number)?, self.node_files(number));
        cgroup::make(&files.cgroup)?;
        network::lay_node(&self.hub, machine, number)?;
        files.write(&self.control_plane)?;
        self.start_on_node(number, "containerd")?;
        wait_until("containerd listens", || {
            machine.expect_program("containerd")?;
            Ok(machine.path(CONTAINERD).exists())
        })?;
        import(machine, &images::archive()?)?;
        images.iter().try_for_each(|archive| import(machine, archive))
    }

    fn wait_for_nodes(&self) -> Result<()> {
        wait_until("the nodes are Ready", || {
            for node in &self.nodes {
                node::PROGRAMS.iter().try_for_each(|program| node.expect_program(program))?;
            }
            control_plane::PROGRAMS.iter().try_for_each(|program| self.hub.expect_program(program))?;
            let ready = r#"jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}"#;
            let states = self.kubectl(&["get", "nodes", "-o", ready])?;
            Ok(states.split_whitespace().filter(|state| *state == "True").count() == self.nodes.len())
        })
    }
}

fn start_machine(leftovers: &Leftovers, name: &str) -> Result<Machine> {
    let folder = leftovers.folder.join(name);
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let spec = Spec {
        name: name.to_owned(),
        disk: name.starts_with("node").then(|| folder.join("disk")),
        removes: (name == "hub").then(|| leftovers.clone()),
    };
    Machine::start(&folder, &spec)
}

fn node_name(number: usize) -> String {
    format!("node{number}")
}

fn node_files(leftovers: &Leftovers, number: usize) -> NodeFiles {
    let name = node_name(number);
    NodeFiles { number, folder: leftovers.folder.join(&name), cgroup: format!("{}/{name}", leftovers.cgroup) }
}

fn import(node: &Machine, archive: &Path) -> Result<()> {
    let mut command = Command::new("ctr");
    command.args(["--address", CONTAINERD, "--namespace", "k8s.io", "images", "import"]).arg(archive);
    node.run(command).with_context(|| format!("importing {}", archive.display())).map(drop)
}

/// Waits for a condition, with a deadline.
///
/// # Errors
/// It is not met in time. Errors of `check` end the wait at once.
fn wait_until(what: &str, mut check: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !check()? {
        if start.elapsed() > PATIENCE {
            bail!("not within {PATIENCE:?}: {what}");
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
