//! Helm, and the chart.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sluice_cluster::programs::kubernetes;
use tokio::process::Command;

use crate::folder::Folder;

/// The chart's name, and that of its release.
pub const RELEASE: &str = "sluice";
/// Where the chart is installed.
pub const NAMESPACE: &str = "sluice-system";

/// Helm with a home of its own.
#[derive(Debug)]
pub struct Helm {
    home: Folder,
    kubeconfig: PathBuf,
}

/// `path` in the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The chart's folder.
pub fn chart() -> PathBuf {
    repository("deploy/chart/sluice")
}

impl Helm {
    /// For the cluster of `kubeconfig`; without one, what needs no cluster works.
    ///
    /// # Errors
    /// The folder for temporary files is not writable.
    pub fn new(kubeconfig: Option<&str>) -> Result<Self> {
        let home = Folder::new()?;
        let kubeconfig = home.write("kubeconfig", kubeconfig.unwrap_or_default())?;
        Ok(Self { home, kubeconfig })
    }

    /// What it prints when it is called with `arguments`, in [`NAMESPACE`].
    ///
    /// # Errors
    /// It has not been built, or fails; the error has what it says.
    pub async fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(kubernetes("helm")?);
        for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(variable, self.home.path());
        }
        command.env("KUBECONFIG", &self.kubeconfig).args(["--namespace", NAMESPACE]).args(arguments);
        let output = command.kill_on_drop(true).output().await.context("starting helm")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "helm {}: {said}", arguments.join(" "));
        String::from_utf8(output.stdout).context("helm's output")
    }

    /// What the chart makes with these further `arguments`, such as `--set`.
    ///
    /// # Errors
    /// The chart refuses them.
    pub async fn template(&self, arguments: &[&str]) -> Result<String> {
        let chart = chart().display().to_string();
        self.run(&[&["template", RELEASE, &chart], arguments].concat()).await
    }
}
