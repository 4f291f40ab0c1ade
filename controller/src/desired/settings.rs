//! How the gateway pod of a Service is to be: its annotations over the controller's defaults.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ResourceRequirements, Service, Toleration};
use sluice_gateway::config::limits::DEFAULT_MAX_FLOWS;

use super::parse::{self, NotASetting};
use crate::Refusal;
use crate::api::{annotation, describe_service};

/// How a gateway pod is to be, apart from what it serves.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Image of the gateway.
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`; `None`: Kubernetes' own default, which looks at the tag.
    pub image_pull_policy: Option<String>,
    /// Names of Secrets, in the namespace of each Service, by which the image is pulled.
    pub image_pull_secrets: Vec<String>,
    /// Labels that the node has.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that are tolerated, beside those of `unreachable_seconds`.
    pub tolerations: Vec<Toleration>,
    /// Requests and limits, over those that follow from `max_flows`.
    pub resources: ResourceRequirements,
    /// Name of the PriorityClass.
    pub priority_class: Option<String>,
    /// Seconds after which the pod is replaced when its node is not ready or unreachable.
    pub unreachable_seconds: u32,
    /// Connections that can be tracked, for each address family.
    pub max_flows: u32,
    /// Which system calls the gateway may make.
    pub seccomp: Seccomp,
}

/// Seccomp profile of gateway pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Seccomp {
    /// The container runtime's own, which allows `bpf` to a container with the capability BPF. Older runtimes do not: containerd before
    /// 1.7 (1.6 has it in its later releases), Docker before 23, some CRI-O.
    #[default]
    RuntimeDefault,
    /// None.
    Unconfined,
}

impl Seccomp {
    /// As pods write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RuntimeDefault => "RuntimeDefault",
            Self::Unconfined => "Unconfined",
        }
    }
}

/// The settings of Services without annotations, from the controller's flags.
pub type Defaults = Settings;

impl Default for Settings {
    fn default() -> Self {
        Self {
            image: concat!("sluice-gateway:", env!("CARGO_PKG_VERSION")).to_owned(),
            image_pull_policy: None,
            image_pull_secrets: Vec::new(),
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            resources: ResourceRequirements::default(),
            priority_class: None,
            unreachable_seconds: 5,
            max_flows: DEFAULT_MAX_FLOWS,
            seccomp: Seccomp::default(),
        }
    }
}

/// The settings of `service`. An annotation of it takes the place of the default as a whole, for resources of each single one.
///
/// # Errors
/// An annotation that cannot be read.
pub fn settings(service: &Service, defaults: &Defaults) -> Result<Settings, Refusal> {
    let mut settings = defaults.clone();
    if let Some(selector) = read(service, annotation::NODE_SELECTOR, parse::node_selector)? {
        settings.node_selector = selector;
    }
    if let Some(tolerations) = read(service, annotation::TOLERATIONS, parse::tolerations)? {
        settings.tolerations = tolerations;
    }
    if let Some(resources) = read(service, annotation::RESOURCES, parse::resources)? {
        let mut merged = settings.resources;
        merged.requests.get_or_insert_default().extend(resources.requests.unwrap_or_default());
        merged.limits.get_or_insert_default().extend(resources.limits.unwrap_or_default());
        settings.resources = merged;
    }
    if let Some(max_flows) = read(service, annotation::MAX_FLOWS, parse::max_flows)? {
        settings.max_flows = max_flows;
    }
    Ok(settings)
}

fn read<T>(
    service: &Service,
    key: &str,
    parse: impl FnOnce(&str) -> Result<T, NotASetting>,
) -> Result<Option<T>, Refusal> {
    let Some(text) = annotation::get(service, key) else { return Ok(None) };
    let refuse = |NotASetting { fault, fix }| {
        let field = format!("metadata.annotations[{key}]");
        Refusal::new(&describe_service(service), field, format!("`{text}`: {fault}"), fix)
    };
    parse(text).map(Some).map_err(refuse)
}
