//! The seed's manifests on the API server, and the real gateway serves what the API server has in the ConfigMap. Needs root, for network namespaces.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use sluice_apiserver_tests::kubelet::Kubelet;
use sluice_apiserver_tests::{wait, world};
use sluice_tests::addresses::Family;
use sluice_tests::gateway::Sluice;
use sluice_tests::kube_proxy::{ClusterIp, Forward, Protocol};
use sluice_tests::netns::Netns;
use sluice_tests::topology::Topology;

const NETWORK: &str = include_str!("../../docs/examples/seed/network-attachment-definition.yaml");
const SUBNET: &str = include_str!("../../docs/examples/seed/subnet.yaml");
const SERVICE: &str = include_str!("../../docs/examples/seed/service.yaml");
const NAME: &str = "test-service";

/// Waits until the ConfigMap's file has this text, and returns the file.
async fn file_with(maps: &Api<ConfigMap>, text: &str) -> String {
    wait::eventually(&format!("the file has {text}"), async || {
        let map = maps.get_opt("lb-svc-test-service").await.unwrap()?;
        map.data?.remove("gateway.yaml").filter(|file| file.contains(text))
    })
    .await
}

/// A web server in a backend.
fn answer(backend: &Netns) {
    let all = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 80));
    let listener = backend.run(|| Ok(TcpListener::bind(all)?)).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 1024];
            let _request_of_curl = stream.read(&mut request);
            let _client_may_have_gone =
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        }
    });
}

/// The example's network with a gateway in its pod.
struct Site {
    topology: Topology,
    sluice: Sluice,
}

impl Site {
    /// Starts the gateway with this file, byte for byte.
    fn start(file: &str) -> Self {
        let forward = |port| Forward {
            cluster_ip: ClusterIp::Main,
            protocol: Protocol::Tcp,
            port,
            backends: vec![0, 1],
            target_port: 80,
        };
        let builder = Topology::builder().families(&[Family::V4]).forward(forward(80)).forward(forward(8080));
        let topology = builder.build().unwrap();
        topology.backends.iter().for_each(answer);
        let mut sluice = Sluice::new(&topology).unwrap();
        sluice.write_config_map(file, 1).unwrap();
        sluice.start(&topology).unwrap();
        Self { topology, sluice }
    }

    fn edit(&mut self, file: &str) {
        let before = self.sluice.generation().unwrap();
        self.sluice.write_config_map(file, 2).unwrap();
        self.sluice.wait_in_force(before).unwrap();
    }

    /// Clients in the external network and behind its router reach the address, the first time that they try.
    fn is_served(&self, url: &str) {
        for client in [&self.topology.client, &self.topology.far] {
            let text = client.output("curl", &["-sS", "-m", "2", url]).unwrap();
            assert_eq!(text, "hello", "from {}", client.name());
        }
    }
}

/// Does what a test of namespaces does, on a thread of its own: those change the namespace of the thread.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[test]
fn the_gateway_serves_what_the_api_server_has() {
    // Of its own: the other test's Service has the same ClusterIP.
    world::test_with_own_servers(async |world| {
        let _kubelet = Kubelet::start(world.client.clone(), "default");
        let mut controller = world.controller_for("default").await;
        controller.start().await;
        let cluster_ip = Family::V4.plan().cluster_ip;
        let service = SERVICE.replace("\nspec:\n", &format!("\nspec:\n  clusterIP: {cluster_ip}\n"));
        for document in [NETWORK, SUBNET, &service] {
            world.apply(document).await;
        }
        let services = Api::<Service>::namespaced(world.client.clone(), "default");
        wait::eventually("the address is published", async || {
            (world::vips(&services.get(NAME).await.unwrap()) == ["172.18.0.18"]).then_some(())
        })
        .await;
        let maps = Api::<ConfigMap>::namespaced(world.client.clone(), "default");
        let file = file_with(&maps, &cluster_ip.to_string()).await;
        let mut site = aside(move || {
            let site = Site::start(&file);
            site.is_served("http://172.18.0.18/");
            site
        })
        .await;

        let ports = json!({"spec": {"ports": [{"name": "test", "port": 80}, {"name": "alt", "port": 8080}]}});
        services.patch(NAME, &PatchParams::default(), &Patch::Merge(ports)).await.unwrap();
        let file = file_with(&maps, "8080").await;
        aside(move || {
            site.edit(&file);
            site.is_served("http://172.18.0.18/");
            site.is_served("http://172.18.0.18:8080/");
        })
        .await;
    });
}
