//! What changes while a Service is served.

use serde_json::json;

use crate::case::Case;

#[test]
fn the_type_changes_both_ways() {
    let case = Case::new("type");
    case.start_backends();
    case.apply(&case.service("web", &json!({ "type": "ClusterIP" })));
    assert_eq!(case.addresses("web"), [""; 0]);
    case.patch("service/web", &json!({ "spec": { "type": "LoadBalancer" } }));
    let [address] = &case.published("web")[..] else { panic!("one address") };
    case.assert_served(address);

    case.patch("service/web", &json!({ "spec": { "type": "ClusterIP" } }));
    case.eventually("everything of it is gone", || {
        let is_gone = case.addresses("web").is_empty()
            && case.find("deployment/lb-svc-web").is_none()
            && case.find("configmap/lb-svc-web").is_none()
            && case.list("pods", "app=lb-svc-web").is_empty()
            && case.find("service/web")?["metadata"]["finalizers"].is_null();
        is_gone.then_some(())
    });
    case.assert_not_served(address);

    case.patch("service/web", &json!({ "spec": { "type": "LoadBalancer" } }));
    assert_eq!(case.published("web"), [address.as_str()], "the lowest that is free");
    case.assert_served(address);
}

#[test]
fn another_address_can_be_asked_for() {
    let case = Case::new("other-address");
    case.start_backends();
    case.apply(&case.service("web", &json!({})));
    let old = case.published("web");
    let wanted = case.address(50);
    case.patch("service/web", &json!({ "spec": { "loadBalancerIP": wanted } }));
    case.eventually("the new address is published", || {
        (case.addresses("web") == [wanted.as_str()]).then_some(())
    });
    case.assert_served(&wanted);
    case.eventually("nobody has the old one", || case.hostname(&old[0]).err());
}

#[test]
fn a_gateway_that_moves_is_followed() {
    let case = Case::new("gateway-moves");
    case.start_backends();
    // The client behind the router is reached by the router alone, which has not the Subnet's gateway address but another.
    let router = &case.cluster.router;
    router.ip(&format!("addr add {}/24 dev eth0", case.address(253))).unwrap();
    case.apply(&case.service("web", &json!({})));
    let [address] = &case.published("web")[..] else { panic!("one address") };
    case.assert_served(address);
    let url = format!("http://{address}/hostname");
    let far = || case.cluster.far.output("curl", &["-sS", "-m", "2", &url]);
    far().expect_err("its gateway does not answer");

    let gateway = format!("{},{}", case.address(253), case.address_v6(1));
    case.patch(&format!("subnet/{}", case.namespace), &json!({ "spec": { "gateway": gateway } }));
    case.eventually("clients behind the router are answered", || far().ok());
    assert_eq!(case.published("web"), [address.as_str()]);
}

#[test]
fn another_network_takes_the_place_of_the_first() {
    let case = Case::new("network-changes");
    case.start_backends();
    case.apply(&case.service("web", &json!({})));
    let [address] = &case.published("web")[..] else { panic!("one address") };
    let pods = case.gateway_pods("web");
    let first = pods[0]["metadata"]["name"].as_str().unwrap();
    // The MTU of `net1` is the network's.
    case.apply(&case.network("external", &json!({ "mtu": 1300 })));
    let pod = case.eventually("another pod is ready", || {
        let pods = case.gateway_pods("web");
        let pod = pods.into_iter().find(|pod| pod["metadata"]["name"] != first)?;
        (pod["status"]["containerStatuses"][0]["ready"] == true).then_some(pod)
    });
    let name = pod["metadata"]["name"].as_str().unwrap();
    let status = case.kubectl(&["exec", name, "--", "/sluice-gateway", "status", "-o", "json"]);
    assert!(status.contains("1300"), "{status}");
    case.eventually("it serves the address", || case.hostname(address).ok());
    assert_eq!(case.published("web"), [address.as_str()]);
}
