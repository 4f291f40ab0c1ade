//! An external network of the test's own: a NetworkAttachmentDefinition and its Subnet.

use kube::api::PostParams;
use serde_json::{Value, json};
use sluice_controller::api::{
    NetworkAttachmentDefinition, NetworkAttachmentDefinitionSpec, Provider, Subnet, SubnetSpec,
};

use super::World;

/// The names of what was made.
#[derive(Clone, Debug)]
pub struct Network {
    /// The NetworkAttachmentDefinition.
    pub provider: Provider,
    /// The Subnet.
    pub subnet: String,
}

/// A network that is going to be made.
pub struct NetworkBuilder<'w> {
    world: &'w World,
    config: Value,
    provider: Provider,
    spec: SubnetSpec,
}

impl World {
    /// Begins a network called `name`, in the test's namespace, with the addresses `cidr` (`v4`, `v6` or `v4,v6`).
    pub fn network(&self, name: &str, cidr: &str) -> NetworkBuilder<'_> {
        let provider = Provider { nad: name.to_owned(), namespace: self.namespace.clone() };
        let config = json!({ "cniVersion": "0.3.1", "type": "macvlan", "master": "ext0", "mode": "bridge" });
        let spec = SubnetSpec {
            provider: provider.to_string(),
            cidr_block: cidr.to_owned(),
            ..SubnetSpec::default()
        };
        NetworkBuilder { world: self, config, provider, spec }
    }

    /// The network of most tests: 172.18.0.0/16, whose lowest free address is 172.18.0.11.
    pub async fn external_network(&self) -> Network {
        let builder = self.network("external", "172.18.0.0/16").gateway("172.18.0.1");
        builder.exclude(&["172.18.0.0..172.18.0.10"]).create().await
    }
}

impl NetworkBuilder<'_> {
    /// The routers, as in a Subnet.
    #[must_use]
    pub fn gateway(mut self, gateway: &str) -> Self {
        gateway.clone_into(&mut self.spec.gateway);
        self
    }

    /// Addresses that are not given, as in a Subnet.
    #[must_use]
    pub fn exclude(mut self, addresses: &[&str]) -> Self {
        self.spec.exclude_ips = addresses.iter().map(|&address| address.to_owned()).collect();
        self
    }

    /// The type of the network's `ipam`; without it there is none.
    #[must_use]
    pub fn ipam(mut self, kind: &str) -> Self {
        self.config["ipam"] = json!({ "type": kind });
        self
    }

    /// Makes both.
    pub async fn create(self) -> Network {
        let Self { world, config, provider, spec } = self;
        let config = NetworkAttachmentDefinitionSpec { config: config.to_string() };
        let network = NetworkAttachmentDefinition::new(&provider.nad, config);
        world.api().create(&PostParams::default(), &network).await.unwrap();
        let subnet = format!("{}-{}", world.namespace, provider.nad);
        world.cluster_api().create(&PostParams::default(), &Subnet::new(&subnet, spec)).await.unwrap();
        Network { provider, subnet }
    }
}
