//! `sluice-controller rbac`: the role that `run` needs.

use std::io::Write as _;

use anyhow::Context as _;

use crate::crds::to_yaml;
use crate::rbac::{self, Controller};

/// Print the account and the role that `run` needs, as YAML
///
/// A ServiceAccount, and what binds it to exactly what the code asks for; the comments say what for.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sluice-controller rbac | kubectl apply -f -
  sluice-controller rbac --namespace sluice --serve edge | kubectl apply -f -
                                    for `run --namespace edge`: nothing of other namespaces is written")]
pub(super) struct Rbac {
    /// Namespace that the controller runs in, with its account and its Lease
    #[arg(long, default_value = "sluice-system", value_name = "NAMESPACE")]
    namespace: String,
    /// The only namespace whose Services are served, as of `run --namespace`
    #[arg(long, value_name = "NAMESPACE")]
    serve: Option<String>,
}

impl Rbac {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let controller = Controller { namespace: self.namespace, serves: self.serve };
        let yaml = to_yaml(&rbac::objects(&controller)).context("writing the role as YAML")?;
        let text = rbac::explanation() + &yaml;
        std::io::stdout().write_all(text.as_bytes()).context("writing the role to standard output")
    }
}
