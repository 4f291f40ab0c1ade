//! `sluice-controller crds`: the definitions of the custom resources.

use std::io::Write as _;

use anyhow::Context as _;

use crate::{crds, policy};

/// Print the definitions of Sluice's custom resources, as YAML
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sluice-controller crds | kubectl apply --server-side -f -
  sluice-controller crds --without-subnet | kubectl apply --server-side -f -     where Kube-OVN is installed")]
pub(super) struct Crds {
    /// Leave out Subnet: Kube-OVN brings its own, which must not be replaced
    #[arg(long)]
    without_subnet: bool,
    /// Also the admission policy by which the API server refuses Services that no controller could serve
    #[arg(long)]
    with_policy: bool,
}

impl Crds {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mut definitions = vec![crds::ip_reservation()];
        if !self.without_subnet {
            definitions.push(crds::subnet());
        }
        let mut text = crds::to_yaml(&definitions).context("writing the definitions as YAML")?;
        if self.with_policy {
            text += &crds::to_yaml(&policy::objects()).context("writing the policy as YAML")?;
        }
        std::io::stdout().write_all(text.as_bytes()).context("writing to standard output")
    }
}
