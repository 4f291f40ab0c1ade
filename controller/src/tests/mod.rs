//! From manifests to gateway files: the seed's example as it is, and each thing that can be wrong with it.

mod desired;
mod documented;
mod refusals;
mod settings;

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};
use sluice_gateway::config::{self, Config, Protocol};

use crate::Refusal;
use crate::api::{NetworkAttachmentDefinition, Subnet};
use crate::desired::Defaults;
use crate::events::{EventReason, Warning};
use crate::ipam::Taken;
use crate::render::{Rendered, Surroundings, render};
use crate::select::{Selection, select};

const ATTACHMENT: &str = include_str!("../../../docs/examples/seed/network-attachment-definition.yaml");
const SUBNET: &str = include_str!("../../../docs/examples/seed/subnet.yaml");
const SERVICE: &str = include_str!("../../../docs/examples/seed/service.yaml");

/// The example's three documents, with the ClusterIP that the API server gave, as values that a test can edit.
struct Documents {
    attachment: Value,
    subnet: Value,
    service: Value,
}

impl Documents {
    fn new() -> Self {
        let read = |text| serde_saphyr::from_str::<Value>(text).unwrap();
        let mut documents =
            Self { attachment: read(ATTACHMENT), subnet: read(SUBNET), service: read(SERVICE) };
        documents.service["spec"]["clusterIP"] = "10.109.201.193".into();
        documents
    }

    fn dual_stack() -> Self {
        let mut documents = Self::new();
        documents.subnet["spec"]["cidrBlock"] = "172.18.0.0/16,fd00:18::/64".into();
        documents.subnet["spec"]["gateway"] = "172.18.0.1,fd00:18::1".into();
        documents.service["spec"]["clusterIPs"] = json!(["10.109.201.193", "fd00:109::1"]);
        documents.service["spec"]["ipFamilies"] = json!(["IPv4", "IPv6"]);
        documents.service["spec"]["ipFamilyPolicy"] = "RequireDualStack".into();
        documents
    }

    fn service(&self) -> Service {
        serde_json::from_value(self.service.clone()).unwrap()
    }

    fn render_with(&self, given: &[&str], taken: &[&str]) -> Result<Rendered, Refusal> {
        let attachments: Vec<NetworkAttachmentDefinition> =
            vec![serde_json::from_value(self.attachment.clone()).unwrap()];
        let subnets: Vec<Subnet> = vec![serde_json::from_value(self.subnet.clone()).unwrap()];
        let address = |text: &&str| -> IpAddr { text.parse().unwrap() };
        let taken: Taken =
            taken.iter().map(|text| (address(text), "Service default/other".to_owned())).collect();
        let around = Surroundings { attachments: &attachments, subnets: &subnets, taken: &taken };
        let service = self.service();
        match select(&service)? {
            Selection::Ours(provider) => render(
                &service,
                &provider,
                &Defaults::default(),
                &given.iter().map(address).collect::<Vec<_>>(),
                &around,
            ),
            Selection::NotOurs(reason) => panic!("not ours: {reason}"),
        }
    }

    fn render(&self) -> Result<Rendered, Refusal> {
        self.render_with(&[], &[])
    }

    /// What the gateway makes of the rendered file.
    fn config(&self) -> Config {
        let text = self.render().unwrap().file.to_yaml().unwrap();
        config::parse("gateway.yaml", &text).unwrap()
    }

    /// The VIPs with prefix length and gateway.
    fn vips(&self, given: &[&str], taken: &[&str]) -> Vec<String> {
        let file = self.render_with(given, taken).unwrap().file;
        let vips = file.services[0].vips.iter();
        vips.map(|vip| format!("{} {}", vip.address, vip.gateway.as_deref().unwrap_or("-"))).collect()
    }
}

#[test]
fn the_seeds_example() {
    let config = Documents::new().config();
    let [service] = config.services.as_slice() else { panic!("{config:?}") };
    assert_eq!(service.name, "default/test-service");
    assert_eq!(service.vips.len(), 1);
    assert_eq!(service.vips[0].address, "172.18.0.18/16".parse().unwrap());
    assert_eq!(service.vips[0].gateway, Some("172.18.0.1".parse().unwrap()));
    assert_eq!(service.targets, ["10.109.201.193".parse::<IpAddr>().unwrap()]);
    let [port] = service.ports.as_slice() else { panic!("{service:?}") };
    assert_eq!(
        (port.name.as_deref(), port.protocol, port.port, port.target_port),
        (Some("test"), Protocol::Tcp, 80, 80)
    );
    assert!(service.source_ranges.is_empty() && service.snat.is_empty());
    assert_eq!(config.gateway, config::Gateway::default());
}

#[test]
fn the_seeds_comment_in_json_is_read_over_and_reported() {
    let warnings = Documents::new().render().unwrap().warnings;
    let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
    assert!(
        warning
            .message
            .starts_with("NetworkAttachmentDefinition kube-system/lb-svc-attachment: spec.config: a `//`"),
        "{warning}"
    );
    assert_eq!(warning.reason, EventReason::CommentInNetwork);

    let mut documents = Documents::new();
    documents.attachment["spec"]["config"] = r#"{"type": "macvlan", "master": "eth0"}"#.into();
    assert_eq!(documents.render().unwrap().warnings, Vec::<Warning>::new());
}

#[test]
fn without_a_request_the_lowest_free_address() {
    let mut documents = Documents::new();
    documents.service["spec"].as_object_mut().unwrap().remove("loadBalancerIP");
    assert_eq!(documents.vips(&[], &[]), ["172.18.0.11/16 172.18.0.1"]);
    assert_eq!(documents.vips(&[], &["172.18.0.11"]), ["172.18.0.12/16 172.18.0.1"]);
    assert_eq!(documents.vips(&["172.18.0.77"], &[]), ["172.18.0.77/16 172.18.0.1"], "given before");
}

#[test]
fn a_request_goes_before_what_was_given() {
    assert_eq!(Documents::new().vips(&["172.18.0.77"], &[]), ["172.18.0.18/16 172.18.0.1"]);
}

#[test]
fn a_static_request_may_use_an_excluded_address() {
    let mut documents = Documents::new();
    documents.service["spec"]["loadBalancerIP"] = "172.18.0.10".into();
    assert_eq!(documents.vips(&[], &[]), ["172.18.0.10/16 172.18.0.1"]);
}

#[test]
fn the_target_port_is_the_services_port_and_order_is_kept() {
    let mut documents = Documents::new();
    documents.service["spec"]["ports"] = json!([
        {"name": "web", "protocol": "TCP", "port": 8080, "targetPort": 9090, "nodePort": 30056},
        {"name": "plain", "port": 80, "targetPort": "http"},
        {"name": "dns", "protocol": "UDP", "port": 53, "targetPort": 5353},
        {"name": "diameter", "protocol": "SCTP", "port": 3868},
    ]);
    let config = documents.config();
    let ports: Vec<_> = config.services[0]
        .ports
        .iter()
        .map(|port| (port.protocol.name(), port.port, port.target_port))
        .collect();
    assert_eq!(ports, [("TCP", 8080, 8080), ("TCP", 80, 80), ("UDP", 53, 53), ("SCTP", 3868, 3868)]);
}

#[test]
fn dual_stack() {
    let documents = Documents::dual_stack();
    assert_eq!(documents.vips(&[], &[]), ["172.18.0.18/16 172.18.0.1", "fd00:18::2/64 fd00:18::1"]);
    let service = documents.config().services.remove(0);
    assert_eq!(
        service.targets,
        ["10.109.201.193".parse::<IpAddr>().unwrap(), "fd00:109::1".parse().unwrap()]
    );

    let mut both = Documents::dual_stack();
    both.service["spec"]["loadBalancerIP"] = "fd00:18::99, 172.18.0.20".into();
    assert_eq!(both.vips(&[], &[]), ["172.18.0.20/16 172.18.0.1", "fd00:18::99/64 fd00:18::1"]);
}

#[test]
fn a_service_is_served_on_the_families_that_the_subnet_has() {
    let mut preferring = Documents::dual_stack();
    preferring.service["spec"]["ipFamilyPolicy"] = "PreferDualStack".into();
    preferring.subnet["spec"]["cidrBlock"] = "172.18.0.0/16".into();
    preferring.subnet["spec"]["gateway"] = "172.18.0.1".into();
    assert_eq!(preferring.vips(&[], &[]), ["172.18.0.18/16 172.18.0.1"]);

    let mut single = Documents::dual_stack();
    single.service["spec"]["ipFamilies"] = json!(["IPv6"]);
    single.service["spec"]["clusterIPs"] = json!(["fd00:109::1"]);
    single.service["spec"]["ipFamilyPolicy"] = "SingleStack".into();
    single.service["spec"]["loadBalancerIP"] = "fd00:18::18".into();
    assert_eq!(single.vips(&[], &[]), ["fd00:18::18/64 fd00:18::1"]);
    assert_eq!(single.config().services[0].targets, ["fd00:109::1".parse::<IpAddr>().unwrap()]);
}

#[test]
fn a_subnet_without_a_gateway() {
    let mut documents = Documents::new();
    documents.subnet["spec"].as_object_mut().unwrap().remove("gateway");
    assert_eq!(documents.vips(&[], &[]), ["172.18.0.18/16 -"]);
}

#[test]
fn the_subnet_is_found_by_the_provider_too() {
    let mut documents = Documents::new();
    let annotations = documents.service["metadata"]["annotations"].as_object_mut().unwrap();
    annotations.remove("lb-svc-attachment.kube-system.kubernetes.io/logical_switch").unwrap();
    assert_eq!(documents.vips(&[], &[]), ["172.18.0.18/16 172.18.0.1"]);
}

#[test]
fn source_ranges_as_kube_proxy_reads_them() {
    let mut documents = Documents::new();
    documents.service["spec"]["loadBalancerSourceRanges"] =
        json!([" 203.0.113.7/24", "10.0.0.0/8", "2001:db8::/32"]);
    let ranges = documents.config().services.remove(0).source_ranges;
    assert_eq!(ranges, ["203.0.113.0/24".parse().unwrap(), "10.0.0.0/8".parse::<ipnet::IpNet>().unwrap()]);
}

#[test]
fn what_full_nat_cannot_honour_is_a_warning() {
    let mut documents = Documents::new();
    documents.attachment["spec"]["config"] = "".into();
    documents.service["spec"]["sessionAffinity"] = "ClientIP".into();
    documents.service["spec"]["externalTrafficPolicy"] = "Local".into();
    documents.service["spec"]["internalTrafficPolicy"] = "Local".into();
    let warnings = documents.render().unwrap().warnings;
    let fields: Vec<_> = warnings.iter().filter_map(|warning| warning.message.split(": ").nth(1)).collect();
    assert_eq!(fields, ["spec.sessionAffinity", "spec.externalTrafficPolicy", "spec.internalTrafficPolicy"]);
}

#[test]
fn a_misspelt_annotation_is_a_warning() {
    let mut documents = Documents::new();
    documents.attachment["spec"]["config"] = "".into();
    let annotations = &mut documents.service["metadata"]["annotations"];
    annotations["sluice.io/max-flows"] = "128".into();
    annotations["sluice.io/maxflows"] = "256".into();
    annotations["sluice.io/resource"] = "{}".into();
    let warnings = documents.render().unwrap().warnings;
    let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
    assert_eq!(warning.reason, EventReason::UnknownAnnotation);
    assert!(
        warning
            .message
            .contains("metadata.annotations[sluice.io/maxflows], [sluice.io/resource]: no annotation"),
        "{warning}"
    );
    assert_eq!(documents.config().gateway.max_flows, 128);
}

#[test]
fn source_ranges_of_the_older_annotation() {
    let key = "service.beta.kubernetes.io/load-balancer-source-ranges";
    let mut documents = Documents::new();
    documents.service["metadata"]["annotations"][key] = "203.0.113.7/24, 10.0.0.0/8,".into();
    let ranges = |documents: &Documents| documents.config().services.remove(0).source_ranges;
    assert_eq!(
        ranges(&documents),
        ["203.0.113.0/24".parse().unwrap(), "10.0.0.0/8".parse::<ipnet::IpNet>().unwrap()]
    );
    documents.service["spec"]["loadBalancerSourceRanges"] = json!(["192.0.2.0/24"]);
    assert_eq!(ranges(&documents), ["192.0.2.0/24".parse::<ipnet::IpNet>().unwrap()], "the field counts");
    documents.service["spec"]["loadBalancerSourceRanges"] = json!([]);
    documents.service["metadata"]["annotations"][key] = "home".into();
    let refusal = documents.render().unwrap_err();
    assert_eq!(refusal.field, format!("metadata.annotations[{key}][0]"));
}

#[test]
fn whose_a_service_is() {
    let ours = |edit: fn(&mut Value)| {
        let mut documents = Documents::new();
        edit(&mut documents.service);
        matches!(select(&documents.service()), Ok(Selection::Ours(_)))
    };
    assert!(ours(|_| {}));
    assert!(ours(|service| service["spec"]["loadBalancerClass"] = "sluice.io/lb-svc".into()));
    assert!(!ours(|service| service["spec"]["loadBalancerClass"] = "example.com/other".into()));
    assert!(!ours(|service| service["spec"]["type"] = "ClusterIP".into()));
    assert!(!ours(|service| service["metadata"]["annotations"] = json!({})));
}
