//! The API server, asked by `kubectl`.

use std::{
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result};

use crate::{
    cluster::Cluster,
    credentials::ADMIN,
    netns::{describe, finish},
    programs,
};

/// Sluice, as it is deployed where Kube-OVN is not.
const SUBNET: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/chart/sluice/crds/subnets.kubeovn.io.yaml");
const SLUICE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/sluice.yaml");

impl Cluster {
    /// The kubeconfig of somebody who may do everything, for programs in the hub's network.
    pub fn kubeconfig(&self) -> PathBuf {
        self.control_plane().kubeconfig(ADMIN.name)
    }

    /// `kubectl`, as somebody who may do everything.
    ///
    /// # Errors
    /// It has not been built, or the hub does not run.
    pub fn kubectl_command(&self) -> Result<Command> {
        let mut command = self.hub.network_command(programs::kubernetes("kubectl")?)?;
        command.env("KUBECONFIG", self.kubeconfig());
        // The cache of the server's kinds goes with the cluster.
        command.env("KUBECACHEDIR", self.folder().join("hub/kubectl-cache"));
        Ok(command)
    }

    /// Runs `kubectl`, and returns what it printed.
    ///
    /// # Errors
    /// It fails: the error has what it said.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.kubectl_command()?;
        let output = command.args(arguments).output();
        let what = describe(&command);
        finish(output.with_context(|| what.clone())?, &what)
    }

    /// Like `kubectl apply --server-side`.
    ///
    /// # Errors
    /// The server refuses it.
    pub fn apply(&self, yaml: &str) -> Result<String> {
        let what = "kubectl apply";
        let mut command = self.kubectl_command()?;
        command.args(["apply", "--server-side", "--force-conflicts", "-f", "-"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context(what)?;
        if let Some(mut input) = child.stdin.take() {
            // If it ends early, its exit code and message say more than the broken pipe.
            let _ended = input.write_all(yaml.as_bytes());
        }
        finish(child.wait_with_output().context(what)?, what)
    }

    /// Deploys Sluice by its manifests and waits until its controllers are ready. The nodes must have its images.
    ///
    /// # Errors
    /// The server refuses a manifest, or the controllers do not become ready: the error has their log.
    pub fn install_sluice(&self) -> Result<()> {
        const CONTROLLER: [&str; 3] = ["--namespace", "sluice-system", "deployment/sluice-controller"];
        self.kubectl(&["apply", "--server-side", "-f", SUBNET, "-f", SLUICE])?;
        let [flag, namespace, name] = CONTROLLER;
        self.kubectl(&["rollout", "status", flag, namespace, name, "--timeout=120s"]).map(drop).map_err(
            |error| {
                let log = self.kubectl(&["logs", flag, namespace, name, "--tail=30"]);
                error.context(format!(
                    "Sluice's controllers are not ready: {}",
                    log.unwrap_or_else(|error| error.to_string())
                ))
            },
        )
    }
}
