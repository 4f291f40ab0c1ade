//! Capabilities, and what fails without them.

use caps::{CapSet, Capability, CapsHashSet};
use sluice_gateway::config::Config;
use sluice_gateway::net::{Net, Outcome};

use super::pod::{Pod, dual_stack, seed};

#[test]
fn two_capabilities_are_enough_and_a_missing_one_is_named() {
    let pod = Pod::new();
    let with = |capabilities: &[Capability], config: &Config| -> std::result::Result<Outcome, String> {
        std::thread::scope(|scope| {
            let work = || {
                let _inside = pod.inside.enter().unwrap();
                let all: CapsHashSet = caps::read(None, CapSet::Effective).unwrap();
                caps::set(None, CapSet::Effective, &capabilities.iter().copied().collect()).unwrap();
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let outcome = runtime.block_on(async {
                    let net = Net::open().map_err(|error| error.to_string())?;
                    net.reconcile(config).await.map_err(|error| error.to_string())
                });
                // To find the way back to the machine's namespace.
                caps::set(None, CapSet::Effective, &all).unwrap();
                outcome
            };
            scope.spawn(work).join().unwrap()
        })
    };
    use caps::Capability::{CAP_NET_ADMIN as ADMIN, CAP_NET_RAW as RAW};

    let message = with(&[ADMIN], &seed()).unwrap_err();
    assert!(message.contains("NET_RAW"), "{message}");
    let outcome = with(&[RAW], &seed()).unwrap();
    assert!(outcome.done.is_empty());
    for failure in &outcome.failed {
        assert!(failure.to_string().ends_with("the capability NET_ADMIN is missing"), "{failure}");
    }
    assert!(
        outcome
            .failed
            .iter()
            .any(|failure| failure.to_string().contains("add address 172.18.0.18/16 dev net1"))
    );
    let outcome = with(&[ADMIN, RAW], &dual_stack()).unwrap();
    assert!(outcome.failed.is_empty(), "{}", outcome.failed[0]);
    assert_eq!(pod.addresses().len(), 2);
}

#[test]
fn a_failing_vip_leaves_the_others_alone() {
    let pod = Pod::new();
    pod.inside.sysctl(&[("net/ipv6/conf/net1/disable_ipv6", "1")]).unwrap();
    let net = pod.open();
    let outcome = pod.reconcile(&net, &dual_stack());
    let messages: Vec<String> = outcome.failed.iter().map(ToString::to_string).collect();
    assert_eq!(
        messages[0],
        "cannot add address fd00:18::18/64 dev net1: IPv6 is switched off on net1 (net.ipv6.conf.net1.disable_ipv6)"
    );
    assert_eq!(pod.addresses(), ["inet 172.18.0.18/16 scope global net1"]);
    assert_eq!(pod.ip("route show table 100").len(), 3);
}
