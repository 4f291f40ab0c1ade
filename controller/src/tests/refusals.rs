//! Each thing that keeps a Service from being served: the refusal names object, field, value and fix.

use serde_json::{Value, json};

use super::Documents;

const PROVIDER: &str = "ovn.kubernetes.io/attachmentprovider";
const SWITCH: &str = "lb-svc-attachment.kube-system.kubernetes.io/logical_switch";
const SERVICE: &str = "Service default/test-service";

/// The documents after `edit` are refused with an `object`, a `field`, and words in the fault and the fix.
#[track_caller]
fn refused(mut documents: Documents, edit: impl FnOnce(&mut Documents), expected: [&str; 4]) {
    edit(&mut documents);
    let refusal = documents.render().unwrap_err();
    let [object, field, fault, fix] = expected;
    assert_eq!((refusal.object.as_str(), refusal.field.as_str()), (object, field), "{refusal}");
    assert!(refusal.fault.contains(fault), "{refusal}");
    assert!(refusal.fix.contains(fix), "{refusal}");
}

#[track_caller]
fn service_refused(edit: impl FnOnce(&mut Value), field: &str, fault: &str, fix: &str) {
    refused(Documents::new(), |documents| edit(&mut documents.service), [SERVICE, field, fault, fix]);
}

#[test]
fn the_provider() {
    let field = format!("metadata.annotations[{PROVIDER}]");
    let annotate = |value: &'static str| {
        move |service: &mut Value| service["metadata"]["annotations"][PROVIDER] = value.into()
    };
    service_refused(
        annotate("lb-svc-attachment"),
        &field,
        "`lb-svc-attachment` is not <name>.<namespace>",
        "write",
    );
    service_refused(annotate(""), &field, "`` is not", "write");
    service_refused(annotate("a.b.ovn"), &field, "`a.b.ovn` is not", "write");
    service_refused(
        annotate("other.default"),
        &field,
        "`other.default`: there is no such",
        "create other in namespace default",
    );
    let only_class = |service: &mut Value| {
        service["metadata"]["annotations"] = json!({});
        service["spec"]["loadBalancerClass"] = "sluice.io/lb-svc".into();
    };
    service_refused(only_class, &field, "absent", "write <name>.<namespace>");
}

#[test]
fn the_subnet() {
    let field = format!("metadata.annotations[{SWITCH}]");
    let named = |service: &mut Value| service["metadata"]["annotations"][SWITCH] = "nowhere".into();
    service_refused(named, &field, "`nowhere`: there is no such Subnet", "create it");
    refused(
        Documents::new(),
        |documents| documents.subnet["spec"]["provider"] = "other.default".into(),
        [SERVICE, &field, "`attach-subnet` has the provider `other.default`", "of the Service's provider"],
    );
    let unnamed = |documents: &mut Documents| {
        documents.service["metadata"]["annotations"].as_object_mut().unwrap().remove(SWITCH);
        documents.subnet["spec"]["provider"] = "other.default".into();
    };
    refused(
        Documents::new(),
        unnamed,
        [SERVICE, &field, "no Subnet has the provider", "spec.provider: lb-svc-attachment.kube-system"],
    );
    refused(
        Documents::new(),
        |documents| documents.subnet["spec"]["cidrBlock"] = "172.18/16".into(),
        ["Subnet attach-subnet", "spec.cidrBlock", "`172.18/16` is not a prefix", "write"],
    );
}

#[test]
fn several_subnets_of_one_provider() {
    let documents = Documents::new();
    let mut service = documents.service();
    let provider = "lb-svc-attachment.kube-system".parse().unwrap();
    let mut subnets: Vec<crate::api::Subnet> =
        vec![serde_json::from_value(documents.subnet.clone()).unwrap(); 2];
    subnets[1].metadata.name = Some("second".to_owned());
    assert_eq!(crate::select::subnet(&service, &provider, &subnets).unwrap().name(), "attach-subnet");
    service.metadata.annotations.as_mut().unwrap().remove(SWITCH);
    let refusal = crate::select::subnet(&service, &provider, &subnets).unwrap_err();
    assert_eq!(refusal.field, format!("metadata.annotations[{SWITCH}]"));
    assert!(refusal.fault.contains("several Subnets"), "{refusal}");
    assert_eq!(refusal.fix, "name one of attach-subnet, second");
}

#[test]
fn the_network() {
    refused(
        Documents::new(),
        |documents| documents.attachment["spec"]["config"] = "{ type: macvlan }".into(),
        ["NetworkAttachmentDefinition kube-system/lb-svc-attachment", "spec.config", "not JSON", "as JSON"],
    );
}

#[test]
fn the_requested_address() {
    let field = "spec.loadBalancerIP";
    let request =
        |address: &'static str| move |service: &mut Value| service["spec"]["loadBalancerIP"] = address.into();
    service_refused(
        request("172.19.0.18"),
        field,
        "172.19.0.18 is outside 172.18.0.0/16",
        "Subnet attach-subnet",
    );
    service_refused(request("172.18.0.1"), field, "172.18.0.1 is the gateway", "another address");
    service_refused(request("172.18.255.255"), field, "network or broadcast", "another address");
    service_refused(
        request("web.example.com"),
        field,
        "`web.example.com` is not an IP address",
        "172.18.0.18",
    );
    service_refused(request("172.18.0.18,172.18.0.19"), field, "are both IPv4", "one address of each family");
    service_refused(request("fd00::18"), field, "served by IPv4 only", "family");

    let taken = Documents::new().render_with(&[], &["172.18.0.18"]).unwrap_err();
    assert_eq!(
        (taken.field.as_str(), taken.fault.as_str()),
        (field, "172.18.0.18 is held by Service default/other")
    );
}

#[test]
fn a_held_address_that_the_subnet_has_lost() {
    let mut documents = Documents::new();
    documents.service["spec"].as_object_mut().unwrap().remove("loadBalancerIP");
    let refused = |documents: &Documents, held| {
        let refusal = documents.render_with(&[held], &[]).unwrap_err();
        assert_eq!(refusal.object, "Subnet attach-subnet", "{refusal}");
        assert!(refusal.fix.contains("spec.loadBalancerIP of Service default/test-service"), "{refusal}");
        (refusal.field, refusal.fault)
    };
    documents.subnet["spec"]["cidrBlock"] = "172.18.0.0/24".into();
    let (field, fault) = refused(&documents, "172.18.1.1");
    assert_eq!(field, "spec.cidrBlock");
    assert_eq!(fault, "172.18.1.1, which Service default/test-service holds, is outside 172.18.0.0/24");
    let (field, fault) = refused(&documents, "172.18.0.1");
    assert_eq!(field, "spec.gateway");
    assert!(fault.contains("is the gateway of"), "{fault}");
}

#[test]
fn a_full_subnet() {
    let full = |documents: &mut Documents| {
        documents.service["spec"].as_object_mut().unwrap().remove("loadBalancerIP");
        documents.subnet["spec"]["excludeIps"] = json!(["172.18.0.0..172.18.255.255"]);
    };
    refused(
        Documents::new(),
        full,
        ["Subnet attach-subnet", "spec.cidrBlock", "no address of 172.18.0.0/16 is free", "widen"],
    );
    // Both families or none.
    let one_full = |documents: &mut Documents| {
        documents.subnet["spec"]["excludeIps"] = json!(["fd00:18::..fd00:18:0:1::"])
    };
    refused(
        Documents::dual_stack(),
        one_full,
        ["Subnet attach-subnet", "spec.cidrBlock", "no address of fd00:18::/64", "free"],
    );
}

#[test]
fn the_cluster_ip() {
    let without = |service: &mut Value| {
        service["spec"].as_object_mut().unwrap().remove("clusterIP");
    };
    service_refused(without, "spec.clusterIP", "missing", "--cluster-ip");
    service_refused(
        |service| service["spec"]["clusterIP"] = "".into(),
        "spec.clusterIP",
        "missing",
        "--cluster-ip",
    );
    service_refused(
        |service| service["spec"]["clusterIP"] = "None".into(),
        "spec.clusterIP",
        "`None` is not",
        "needs a ClusterIP",
    );
}

#[test]
fn families() {
    let requires = |documents: &mut Documents| {
        documents.subnet["spec"]["cidrBlock"] = "172.18.0.0/16".into();
        documents.subnet["spec"]["gateway"] = "172.18.0.1".into();
    };
    refused(
        Documents::dual_stack(),
        requires,
        [SERVICE, "spec.ipFamilies", "IPv4 and IPv6, but Subnet attach-subnet has `172.18.0.0/16`", "Subnet"],
    );
    service_refused(
        |service| service["spec"]["ipFamilies"] = json!(["IPv6"]),
        "spec.ipFamilies",
        "IPv6, but Subnet",
        "change",
    );
    service_refused(
        |service| service["spec"]["ipFamilies"] = json!(["IPv5"]),
        "spec.ipFamilies",
        "`IPv5`",
        "IPv4 or IPv6",
    );
    refused(
        Documents::dual_stack(),
        |documents| documents.service["spec"]["clusterIPs"] = json!(["10.109.201.193"]),
        [SERVICE, "spec.clusterIPs", "no IPv6 address", "--cluster-ip"],
    );
}

#[test]
fn ports() {
    let ports = |ports: Value| move |service: &mut Value| service["spec"]["ports"] = ports;
    service_refused(ports(json!([])), "spec.ports", "no port", "add");
    service_refused(ports(json!([{"port": 0}])), "spec.ports[0].port", "0 is not a port", "1 to 65535");
    service_refused(ports(json!([{"port": 65536}])), "spec.ports[0].port", "65536", "1 to 65535");
    service_refused(
        ports(json!([{"port": 1}, {"port": 2, "protocol": "DCCP"}])),
        "spec.ports[1].protocol",
        "`DCCP` is not supported",
        "TCP, UDP or SCTP",
    );
    // Faults that only the gateway's own reader knows come with its words.
    service_refused(ports(json!([{"port": 80}, {"port": 80}])), "spec", "TCP 80 is already item 0", "change");
}

#[test]
fn source_ranges() {
    let field = "spec.loadBalancerSourceRanges";
    let ranges =
        |ranges: Value| move |service: &mut Value| service["spec"]["loadBalancerSourceRanges"] = ranges;
    service_refused(
        ranges(json!(["10.0.0.0/8", "home"])),
        &format!("{field}[1]"),
        "`home` is not a network",
        "203.0.113.0/24",
    );
    // Only networks of a family that is not served: nobody, and never everybody.
    service_refused(
        ranges(json!(["2001:db8::/32"])),
        field,
        "no network of a family that is served among 2001:db8::/32",
        "everybody",
    );
}
