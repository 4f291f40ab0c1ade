//! A node: containerd, kubelet, kube-proxy, and the configuration of the pods' networks.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{
    addresses::{self, POD_MTU},
    control_plane::{ControlPlane, PROXY, kubelet_user},
    credentials::ADMIN,
    images::PAUSE,
    machine::Machine,
    programs,
};

/// The programs, in the order in which they start.
pub const PROGRAMS: [&str; 3] = ["containerd", "kubelet", "kube-proxy"];
/// containerd's socket, in the node's own `/run`.
pub const CONTAINERD: &str = "/run/containerd/containerd.sock";
/// Where Debian's package has the CNI plugins.
const PLUGINS: &str = "/usr/lib/cni";

/// A node's configuration.
#[derive(Debug)]
pub struct NodeFiles {
    /// Counted from 1.
    pub number: usize,
    /// Where the files are.
    pub folder: PathBuf,
    /// The control group of the node's pods.
    pub cgroup: String,
}

impl NodeFiles {
    /// Writes them.
    ///
    /// # Errors
    /// The folder is not writable, or a program is missing.
    pub fn write(&self, control_plane: &ControlPlane) -> Result<()> {
        for folder in [self.plugins(), self.networks()] {
            fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        }
        let plugins = fs::read_dir(PLUGINS).with_context(|| {
            format!("reading {PLUGINS}, which the package containernetworking-plugins brings")
        })?;
        for plugin in plugins {
            self.add_plugin(&plugin?.path())?;
        }
        self.add_plugin_as("multus", &programs::kubernetes("multus")?)?;
        self.save("containerd.toml", &self.containerd())?;
        self.save("kubelet.yaml", &format!("{:#}\n", self.kubelet()))?;
        self.save("networks/00-multus.conf", &format!("{:#}\n", self.multus(control_plane)))
    }

    /// Makes a further CNI plugin known to the node, under its file name.
    ///
    /// # Errors
    /// There is one of that name.
    pub fn add_plugin(&self, file: &Path) -> Result<()> {
        let name = file.file_name().context("a plugin without a name")?.to_string_lossy();
        self.add_plugin_as(&name, file)
    }

    /// Starts one of [`PROGRAMS`].
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&self, machine: &Machine, control_plane: &ControlPlane, program: &str) -> Result<()> {
        let [v4, v6] = addresses::node(self.number);
        let command = match program {
            "containerd" => {
                let mut command = Command::new("containerd");
                command.arg("--config").arg(self.folder.join("containerd.toml"));
                command
            }
            "kubelet" => {
                let mut command = Command::new(programs::kubernetes("kubelet")?);
                command.arg("--config").arg(self.folder.join("kubelet.yaml"));
                command.arg("--kubeconfig").arg(control_plane.kubeconfig(&kubelet_user(self.number)));
                command.args(["--hostname-override", machine.name(), "--node-ip", &format!("{v4},{v6}")]);
                command
            }
            _ => {
                let mut command = Command::new(programs::kubernetes("kube-proxy")?);
                command.arg("--kubeconfig").arg(control_plane.kubeconfig(PROXY.name));
                command.args(["--hostname-override", machine.name(), "--proxy-mode", "iptables"]);
                // These are limits of the whole kernel: it keeps its own.
                command.args(["--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0"]);
                command.arg("--conntrack-tcp-timeout-close-wait=0");
                command
            }
        };
        machine.start_program(program, command)
    }

    fn plugins(&self) -> PathBuf {
        self.folder.join("plugins")
    }

    fn networks(&self) -> PathBuf {
        self.folder.join("networks")
    }

    fn add_plugin_as(&self, name: &str, file: &Path) -> Result<()> {
        let link = self.plugins().join(name);
        symlink(file, &link).with_context(|| format!("linking {} to {}", link.display(), file.display()))
    }

    fn save(&self, name: &str, text: &str) -> Result<()> {
        let file = self.folder.join(name);
        fs::write(&file, text).with_context(|| format!("writing {}", file.display()))
    }

    fn containerd(&self) -> String {
        format!(
            "version = 2\n\
             [grpc]\n\
             address = \"{CONTAINERD}\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\"]\n\
             sandbox_image = \"{PAUSE}\"\n\
             disable_apparmor = true\n\
             # Without CAP_SYS_RESOURCE a machine may not lower this score: sandboxes would fail.\n\
             restrict_oom_score_adj = true\n\
             [plugins.\"io.containerd.grpc.v1.cri\".cni]\n\
             bin_dir = {:?}\n\
             conf_dir = {:?}\n",
            self.plugins(),
            self.networks()
        )
    }

    fn kubelet(&self) -> Value {
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": { "anonymous": { "enabled": true }, "webhook": { "enabled": false } },
            "authorization": { "mode": "AlwaysAllow" },
            "cgroupDriver": "cgroupfs",
            // Nobody answers there; without an address, each pod gets an Event about that.
            "clusterDNS": ["10.96.0.10"],
            "cgroupRoot": self.cgroup,
            "failCgroupV1": false,
            "failSwapOn": false,
            "containerRuntimeEndpoint": format!("unix://{CONTAINERD}"),
            "enforceNodeAllocatable": ["pods"],
            // The disk is the machine's, which others fill.
            "evictionHard": { "imagefs.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%" },
            "imageGCHighThresholdPercent": 100,
            "imageMinimumGCAge": "240h",
            "maxPods": 200,
            "resolvConf": "",
            "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        })
    }

    fn multus(&self, control_plane: &ControlPlane) -> Value {
        let ranges = addresses::pods(self.number).map(|subnet| json!([{ "subnet": subnet }]));
        json!({
            "cniVersion": "0.3.1",
            "name": "multus",
            "type": "multus",
            "kubeconfig": control_plane.kubeconfig(ADMIN.name),
            "confDir": self.networks(),
            "binDir": self.plugins(),
            "delegates": [{
                "cniVersion": "0.3.1",
                "name": "cluster",
                "type": "bridge",
                "bridge": "cni0",
                "isDefaultGateway": true,
                "hairpinMode": true,
                "mtu": POD_MTU,
                "ipam": { "type": "host-local", "ranges": ranges },
            }],
        })
    }
}
