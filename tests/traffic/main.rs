//! What the controller writes for a gateway, taken from the API server and given to the gateway as it is, beside the seed's network. Needs root.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

mod seed;

use std::net::SocketAddr;

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;
use sluice_apiserver_tests::wait::eventually;
use sluice_apiserver_tests::world::{self, World};
use sluice_tests::addresses::Family;
use sluice_tests::gateway::Sluice;
use sluice_tests::peers::Client;
use sluice_tests::script::{self, Servers};

/// The file in the ConfigMap of the Service `web`, as soon as it is another than `before`.
async fn gateway_file(world: &World, before: &str) -> String {
    eventually("the controller writes the gateway's file", async || {
        let map: ConfigMap = world.api().get_opt("lb-svc-web").await.unwrap()?;
        map.data?.remove("gateway.yaml").filter(|text| text != before)
    })
    .await
}

/// Where clients connect to, in each family.
fn vips() -> [SocketAddr; 2] {
    Family::ALL.map(|family| SocketAddr::new(family.plan().vip, script::TCP))
}

/// The files for a Service with one port, and after an edit to another.
async fn gateway_files(world: &World, [port, other]: [u16; 2]) -> [String; 2] {
    let both = Family::ALL.map(Family::plan);
    let network = world.network("external", &both.map(|plan| plan.external_subnet().to_string()).join(","));
    let network = network.gateway(&both.map(|plan| plan.gateway.to_string()).join(",")).create().await;
    let mut controller = world.controller().await;
    controller.start().await;
    let cluster_ips = both.map(|plan| plan.cluster_ip.to_string());
    let service = world.service("web").on(&network).dual_stack().port(port);
    let service = service.address(&both.map(|plan| plan.vip.to_string()).join(",")).edit(|service| {
        let spec = service.spec.as_mut().unwrap();
        spec.cluster_ip = Some(cluster_ips[0].clone());
        spec.cluster_ips = Some(cluster_ips.to_vec());
    });
    service.create().await;
    assert_eq!(world.published("web").await, both.map(|plan| plan.vip.to_string()));
    let first = gateway_file(world, "").await;
    let ports = json!([{ "name": "other", "port": other, "targetPort": 8080 }]);
    world.patch_service("web", json!({ "spec": { "ports": ports } })).await;
    let second = gateway_file(world, &first).await;
    [first, second]
}

#[test]
fn the_file_of_the_config_map_drives_the_gateway_unchanged() {
    let mut files = [String::new(), String::new()];
    world::test(async |world| files = gateway_files(world, [script::TCP, script::DEAF_TCP]).await);
    let [first, second] = files;

    let topology = script::topology().build().unwrap();
    let _servers = Servers::start(&topology).unwrap();
    let mut sluice = Sluice::new(&topology).unwrap();
    sluice.write_config_map(&first, 1).unwrap();
    sluice.start(&topology).unwrap();
    for vip in vips() {
        for from in [&topology.client, &topology.far] {
            Client::connect(from, vip).unwrap().echo(b"by way of the API server").unwrap();
        }
    }
    // The edit takes the port away: nobody listens behind the other one.
    let before = sluice.generation().unwrap();
    sluice.write_config_map(&second, 2).unwrap();
    sluice.wait_in_force(before).unwrap();
    for vip in vips() {
        Client::connect(&topology.client, vip).expect_err("the port is no longer the Service's");
    }
}
