//! Flags for how gateway pods are.

use anyhow::{Context as _, ensure};
use clap::builder::NonEmptyStringValueParser;

use super::time::Time;
use crate::desired::{self, Defaults, Seccomp};

/// Defaults of the gateway pods, which annotations of a Service take the place of; see docs/controller.md.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Gateway pods")]
pub(super) struct GatewayPods {
    /// Image of the gateway
    #[arg(long, env = "SLUICE_GATEWAY_IMAGE", default_value_t = Defaults::default().image, value_name = "IMAGE")]
    gateway_image: String,
    /// When the image is pulled; if absent, Kubernetes decides by the tag
    #[arg(long, env = "SLUICE_GATEWAY_IMAGE_PULL_POLICY", value_parser = ["Always", "IfNotPresent", "Never"], value_name = "POLICY")]
    gateway_image_pull_policy: Option<String>,
    /// Secrets by which the image is pulled, such as `registry,mirror`: in the namespace of each Service
    #[arg(long, env = "SLUICE_GATEWAY_IMAGE_PULL_SECRETS", value_parser = NonEmptyStringValueParser::new(), value_delimiter = ',', value_name = "NAMES")]
    gateway_image_pull_secrets: Vec<String>,
    /// Labels that the node must have, such as `pool=edge,disk=ssd`
    #[arg(long, env = "SLUICE_GATEWAY_NODE_SELECTOR", default_value = "", value_name = "LABELS")]
    gateway_node_selector: String,
    /// Tolerations, as a list in JSON or YAML, such as `[{"key": "edge", "operator": "Exists"}]`
    #[arg(long, env = "SLUICE_GATEWAY_TOLERATIONS", default_value = "[]", value_name = "LIST")]
    gateway_tolerations: String,
    /// Requests and limits in JSON or YAML, such as `{"requests": {"cpu": "100m"}}`; memory follows from --gateway-max-flows
    #[arg(long, env = "SLUICE_GATEWAY_RESOURCES", default_value = "{}", value_name = "RESOURCES")]
    gateway_resources: String,
    /// PriorityClass
    #[arg(long, env = "SLUICE_GATEWAY_PRIORITY_CLASS", value_parser = NonEmptyStringValueParser::new(), value_name = "NAME")]
    gateway_priority_class: Option<String>,
    /// A gateway pod is replaced when its node has been unreachable or not ready for this long
    #[arg(long, env = "SLUICE_GATEWAY_UNREACHABLE_AFTER", default_value = "5s", value_name = "TIME")]
    gateway_unreachable_after: Time,
    /// Connections that a gateway can track, for each address family
    #[arg(long, env = "SLUICE_GATEWAY_MAX_FLOWS", default_value_t = Defaults::default().max_flows.to_string(), value_name = "NUMBER")]
    gateway_max_flows: String,
    /// System calls that gateways may make; `unconfined` for runtimes whose own profile refuses `bpf` in spite of the capability BPF
    #[arg(long, env = "SLUICE_GATEWAY_SECCOMP", value_enum, default_value_t, value_name = "PROFILE")]
    gateway_seccomp: Seccomp,
}

impl GatewayPods {
    /// What the flags say.
    ///
    /// # Errors
    /// A flag that cannot be read; the error names it.
    pub(super) fn defaults(self) -> anyhow::Result<Defaults> {
        let unreachable = self.gateway_unreachable_after.0;
        ensure!(
            unreachable.subsec_nanos() == 0,
            "--gateway-unreachable-after: {unreachable:?} is not whole seconds"
        );
        Ok(Defaults {
            image: self.gateway_image,
            image_pull_policy: self.gateway_image_pull_policy,
            image_pull_secrets: self.gateway_image_pull_secrets,
            node_selector: desired::node_selector(&self.gateway_node_selector)
                .context("--gateway-node-selector")?,
            tolerations: desired::tolerations(&self.gateway_tolerations).context("--gateway-tolerations")?,
            resources: desired::resources(&self.gateway_resources).context("--gateway-resources")?,
            priority_class: self.gateway_priority_class,
            unreachable_seconds: u32::try_from(unreachable.as_secs())
                .context("--gateway-unreachable-after")?,
            max_flows: desired::max_flows(&self.gateway_max_flows).context("--gateway-max-flows")?,
            seccomp: self.gateway_seccomp,
        })
    }
}
