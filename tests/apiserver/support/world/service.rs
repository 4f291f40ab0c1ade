//! Services, and what is expected of them.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::Value;
use sluice_controller::api::annotation;

use super::{Network, World};
use crate::controller::Controller;
use crate::kubelet::is_ready;
use crate::wait;

/// A Service that is going to be made.
pub struct ServiceBuilder<'w> {
    world: &'w World,
    service: Service,
}

impl World {
    /// Begins a Service of type LoadBalancer.
    pub fn service(&self, name: &str) -> ServiceBuilder<'_> {
        let mut service = Service::default();
        service.metadata.name = Some(name.to_owned());
        let selector = [("app".to_owned(), name.to_owned())].into();
        service.spec = Some(ServiceSpec {
            type_: Some("LoadBalancer".to_owned()),
            selector: Some(selector),
            ..ServiceSpec::default()
        });
        ServiceBuilder { world: self, service }
    }

    /// What many tests begin with: a controller serves a Service of this name on the external network.
    pub async fn serving(&self, name: &str) -> (Network, Controller) {
        let network = self.external_network().await;
        let mut controller = self.controller().await;
        controller.start().await;
        self.service(name).on(&network).create().await;
        self.published(name).await;
        (network, controller)
    }

    /// The Service as it is now.
    pub async fn get_service(&self, name: &str) -> Service {
        self.api().get(name).await.unwrap()
    }

    /// Changes fields of a Service (RFC 7396).
    pub async fn patch_service(&self, name: &str, patch: Value) -> Service {
        self.api().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap()
    }

    /// Asks for a Service to be deleted, and returns at once.
    pub async fn delete_service(&self, name: &str) {
        self.api::<Service>().delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// The addresses that a Service's status shows.
    pub async fn vips(&self, name: &str) -> Vec<String> {
        vips(&self.get_service(name).await)
    }

    /// Waits until a Service's status shows addresses, and returns them.
    pub async fn published(&self, name: &str) -> Vec<String> {
        wait::eventually(&format!("Service {name} is published"), async || {
            Some(self.vips(name).await).filter(|vips| !vips.is_empty())
        })
        .await
    }

    /// Waits until a Service's status shows no address.
    pub async fn withdrawn(&self, name: &str) {
        wait::eventually(&format!("Service {name} is withdrawn"), async || {
            self.vips(name).await.is_empty().then_some(())
        })
        .await;
    }

    /// The Deployment of a Service's gateway; `None` if there is none.
    pub async fn deployment(&self, service: &str) -> Option<Deployment> {
        self.api().get_opt(&format!("lb-svc-{service}")).await.unwrap()
    }

    /// The pods of a Service's gateway, dying ones included.
    pub async fn gateway_pods(&self, service: &str) -> Vec<Pod> {
        let params = ListParams::default().labels(&format!("service={service}"));
        self.api().list(&params).await.unwrap().items
    }

    /// Waits until a Service has exactly one gateway pod, which is Ready and not dying.
    pub async fn gateway_pod(&self, service: &str) -> Pod {
        wait::eventually(&format!("Service {service} has one gateway pod, and it is Ready"), async || {
            let mut pods = self.gateway_pods(service).await;
            let pod = pods.pop().filter(|_| pods.is_empty())?;
            (pod.metadata.deletion_timestamp.is_none() && is_ready(&pod) == Some(true)).then_some(pod)
        })
        .await
    }

    /// Deletes a pod, and waits until it is gone.
    pub async fn delete_pod(&self, pod: &Pod) {
        self.api::<Pod>().delete(&pod.name_any(), &DeleteParams::default()).await.unwrap();
        self.gone::<Pod>(&pod.name_any()).await;
    }
}

/// The addresses that a Service's status shows.
pub fn vips(service: &Service) -> Vec<String> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.and_then(|load_balancer| load_balancer.ingress.as_ref()).into_iter().flatten();
    ingress.filter_map(|entry| entry.ip.clone()).collect()
}

impl ServiceBuilder<'_> {
    /// Asks for an address of this network: what makes the Service Sluice's.
    #[must_use]
    pub fn on(self, network: &Network) -> Self {
        self.annotate(annotation::ATTACHMENT_PROVIDER, &network.provider.to_string())
    }

    /// Names the Subnet that gives the address.
    #[must_use]
    pub fn subnet(self, network: &Network) -> Self {
        self.annotate(&annotation::logical_switch(&network.provider), &network.subnet)
    }

    /// Sets an annotation.
    #[must_use]
    pub fn annotate(mut self, key: &str, value: &str) -> Self {
        self.service.annotations_mut().insert(key.to_owned(), value.to_owned());
        self
    }

    /// Adds a TCP port.
    #[must_use]
    pub fn port(self, port: u16) -> Self {
        self.port_to("TCP", port, port)
    }

    /// Adds a port whose backends listen on another.
    #[must_use]
    pub fn port_to(self, protocol: &str, port: u16, target: u16) -> Self {
        let port = ServicePort {
            name: Some(format!("{}-{port}", protocol.to_lowercase())),
            protocol: Some(protocol.to_owned()),
            port: port.into(),
            target_port: Some(IntOrString::Int(target.into())),
            ..ServicePort::default()
        };
        self.edit(|service| spec(service).ports.get_or_insert_default().push(port))
    }

    /// Asks for an address (`spec.loadBalancerIP`).
    #[must_use]
    pub fn address(self, address: &str) -> Self {
        self.edit(|service| spec(service).load_balancer_ip = Some(address.to_owned()))
    }

    /// Requires both families.
    #[must_use]
    pub fn dual_stack(self) -> Self {
        self.edit(|service| spec(service).ip_family_policy = Some("RequireDualStack".to_owned()))
    }

    /// Changes anything else.
    #[must_use]
    pub fn edit(mut self, change: impl FnOnce(&mut Service)) -> Self {
        change(&mut self.service);
        self
    }

    /// Makes it, with port 80 if none was named.
    pub async fn create(self) -> Service {
        let api = self.world.api();
        api.create(&PostParams::default(), &self.build()).await.unwrap()
    }

    /// What [`Self::create`] makes.
    pub fn build(mut self) -> Service {
        if spec(&mut self.service).ports.is_none() {
            self = self.port(80);
        }
        self.service
    }
}

fn spec(service: &mut Service) -> &mut ServiceSpec {
    service.spec.get_or_insert_default()
}
