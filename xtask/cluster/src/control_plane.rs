//! etcd, API server, controller manager and scheduler, on the hub.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result};

use crate::{
    addresses::{self, CONTROL_PLANE},
    credentials::{self, ADMIN, API_SERVER_FLAGS, AUTHORITY, User},
    machine::Machine,
    programs,
};

/// The programs, in the order in which they start.
pub const PROGRAMS: [&str; 4] = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];
const SCHEDULER: User<'static> = User { name: "system:kube-scheduler", group: "" };
/// As whom the nodes' proxies come.
pub const PROXY: User<'static> = User { name: "system:kube-proxy", group: "" };
/// In the hub's own `/run`.
const ETCD: &str = "unix:///run/etcd.sock";

/// The control plane of one cluster.
#[derive(Debug)]
pub struct ControlPlane {
    /// The hub's folder: where its programs start, and where the files are, also those that nodes need.
    pub folder: PathBuf,
}

impl ControlPlane {
    /// Writes keys and kubeconfigs.
    ///
    /// # Errors
    /// The folder is not writable.
    pub fn prepare(&self, nodes: usize) -> Result<()> {
        let kubelets: Vec<String> = (1..=nodes).map(kubelet_user).collect();
        let kubelets = kubelets.iter().map(|name| User { name, group: "system:nodes" });
        let users: Vec<User<'_>> = [ADMIN, SCHEDULER, PROXY].into_iter().chain(kubelets).collect();
        let addresses = [CONTROL_PLANE, addresses::CONTROL_PLANE_V6, "10.96.0.1", "fd00:10:109::1"];
        let addresses = addresses.map(str::parse).into_iter().collect::<Result<Vec<_>, _>>()?;
        credentials::make(&self.folder, &addresses, &users)?;
        for user in users {
            let authority = self.folder.join(AUTHORITY).display().to_string();
            let text = credentials::kubeconfig(&addresses::api_url(), Some(&authority), user.name, "default");
            let file = self.kubeconfig(user.name);
            fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        }
        Ok(())
    }

    /// The kubeconfig of a user.
    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        self.folder.join(format!("{}.kubeconfig", user.replace(':', "-")))
    }

    /// Starts one of [`PROGRAMS`].
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&self, hub: &Machine, program: &str) -> Result<()> {
        let mut command = Command::new(programs::kubernetes(program)?);
        let flags = match program {
            "etcd" => etcd(),
            "kube-apiserver" => api_server(),
            "kube-controller-manager" => self.controller_manager(),
            _ => self.scheduler(),
        };
        command.args(flags.into_iter().map(|(name, value)| format!("--{name}={value}")));
        hub.start_program(program, command)
    }

    fn controller_manager(&self) -> Vec<(&'static str, String)> {
        vec![
            ("kubeconfig", self.kubeconfig(ADMIN.name).display().to_string()),
            ("leader-elect", "false".to_owned()),
            ("secure-port", "0".to_owned()),
            ("root-ca-file", AUTHORITY.to_owned()),
            ("service-account-private-key-file", credentials::ACCOUNTS_KEY.to_owned()),
        ]
    }

    fn scheduler(&self) -> Vec<(&'static str, String)> {
        vec![
            ("kubeconfig", self.kubeconfig(SCHEDULER.name).display().to_string()),
            ("leader-elect", "false".to_owned()),
            ("secure-port", "0".to_owned()),
        ]
    }
}

fn etcd() -> Vec<(&'static str, String)> {
    // No other member ever connects: the peers' address is never used.
    let peer = "http://127.0.0.1:1";
    vec![
        ("name", "one".to_owned()),
        ("data-dir", "etcd".to_owned()),
        ("unsafe-no-fsync", "true".to_owned()),
        ("listen-client-urls", ETCD.to_owned()),
        ("advertise-client-urls", ETCD.to_owned()),
        ("listen-peer-urls", "unix:///run/etcd-peers.sock".to_owned()),
        ("initial-advertise-peer-urls", peer.to_owned()),
        ("initial-cluster", format!("one={peer}")),
    ]
}

fn api_server() -> Vec<(&'static str, String)> {
    let own = [
        ("etcd-servers", ETCD),
        ("bind-address", CONTROL_PLANE),
        ("advertise-address", CONTROL_PLANE),
        ("service-cluster-ip-range", addresses::SERVICE_RANGES),
        ("authorization-mode", "Node,RBAC"),
        ("allow-privileged", "true"),
        // Nodes have no names that resolve.
        ("kubelet-preferred-address-types", "InternalIP"),
    ];
    API_SERVER_FLAGS.into_iter().chain(own).map(|(name, value)| (name, value.to_owned())).collect()
}

/// The name by which a node's kubelet comes.
pub fn kubelet_user(node: usize) -> String {
    format!("system:node:node{node}")
}
