//! The drop-in: a gateway pod as stock Kube-OVN makes it, told what to serve by its controller's commands.

use std::net::SocketAddr;
use std::process::Output;

use sluice_tests::addresses::Family;
use sluice_tests::gateway::KubeOvnPod;
use sluice_tests::kube_proxy::{ClusterIp, Forward, Protocol};
use sluice_tests::peers::{Client, Datagrams, Streams};
use sluice_tests::script::{self, Servers};
use sluice_tests::topology::Topology;
use sluice_tests::wait::{PATIENCE, until};

/// A second port of the Service, at which the same backends answer.
const OTHER: u16 = 8080;

fn topology() -> Topology {
    let other = |cluster_ip, port| Forward {
        cluster_ip,
        protocol: Protocol::Tcp,
        port,
        backends: vec![0, 1],
        target_port: 8080,
    };
    let builder = script::topology().forward(other(ClusterIp::Main, OTHER));
    builder.forward(other(ClusterIp::Other, script::TCP)).build().unwrap()
}

/// The rule of `dnat-add` as the controller writes it; without the gateway, that of `dnat-del`.
fn dnat(family: Family, to: ClusterIp, protocol: Protocol, port: u16) -> String {
    let (vip, target) = (family.plan().vip, to.address(family));
    format!("{vip},{port},{},{target},{port}", protocol.name())
}

fn add(family: Family, to: ClusterIp, protocol: Protocol, port: u16) -> String {
    format!("dnat-add {},{}", dnat(family, to, protocol, port), family.plan().node)
}

fn eip(family: Family) -> String {
    format!("eip-add {},{}", family.plan().vip_net(), family.plan().gateway)
}

/// What the controller runs on each event of a Service with ports 8080 and 80, in that order, and a UDP port.
fn all_operations() -> Vec<String> {
    let mut operations = vec!["init".to_owned()];
    for family in Family::ALL {
        operations.push(eip(family));
        operations.push(add(family, ClusterIp::Main, Protocol::Tcp, OTHER));
        operations.push(add(family, ClusterIp::Main, Protocol::Tcp, script::TCP));
        operations.push(add(family, ClusterIp::Main, Protocol::Udp, script::UDP));
    }
    operations
}

fn serving(topology: &Topology) -> KubeOvnPod {
    let mut pod = KubeOvnPod::new().unwrap();
    pod.start(topology).unwrap();
    pod.perform(topology, &all_operations()).unwrap();
    pod
}

fn vip(family: Family, port: u16) -> SocketAddr {
    SocketAddr::new(family.plan().vip, port)
}

fn answers(topology: &Topology, port: u16) {
    for netns in [&topology.client, &topology.far] {
        for family in Family::ALL {
            Client::connect(netns, vip(family, port)).unwrap().echo(b"hello").unwrap();
        }
    }
}

fn refusal(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn what_kube_ovn_asks_for_is_served_when_its_command_returns() {
    let topology = topology();
    let _servers = Servers::start(&topology).unwrap();
    let pod = serving(&topology);
    answers(&topology, OTHER);
    answers(&topology, script::TCP);
    // The original's rules are nowhere.
    let rules = topology.pod.output("iptables-save", &[]).unwrap();
    assert!(!rules.contains("DNAT"), "{rules}");

    let generation = || pod.status().unwrap().config.unwrap().generation;
    let before = generation();
    pod.perform(&topology, &all_operations()).unwrap();
    assert_eq!(generation(), before, "repeated, the operations change nothing");
    answers(&topology, script::TCP);

    let main = |port| Family::ALL.map(|family| dnat(family, ClusterIp::Main, Protocol::Tcp, port));
    pod.perform(&topology, &main(OTHER).map(|rule| format!("dnat-del {rule}"))).unwrap();
    answers(&topology, script::TCP);
    for family in Family::ALL {
        Client::connect(&topology.client, vip(family, OTHER)).unwrap_err();
    }

    // The Service was made anew and has another ClusterIP; what the old one had is taken back late.
    let moved = Family::ALL.map(|family| add(family, ClusterIp::Other, Protocol::Tcp, script::TCP));
    pod.perform(&topology, &moved).unwrap();
    pod.perform(&topology, &main(script::TCP).map(|rule| format!("dnat-del {rule}"))).unwrap();
    answers(&topology, script::TCP);
    let targets = pod.status().unwrap().services.into_iter().filter(|port| port.port == script::TCP);
    let targets: Vec<SocketAddr> = targets.flat_map(|port| port.targets).collect();
    let other = Family::ALL.map(|family| SocketAddr::new(ClusterIp::Other.address(family), script::TCP));
    assert_eq!(targets, other);
}

#[test]
fn operations_at_once_lose_nothing() {
    let topology = topology();
    let mut pod = KubeOvnPod::new().unwrap();
    pod.start(&topology).unwrap();
    pod.perform(&topology, &Family::ALL.map(eip)).unwrap();
    let ports = 9000..9010;
    std::thread::scope(|scope| {
        for port in ports.clone() {
            let (pod, topology) = (&pod, &topology);
            scope.spawn(move || {
                let of = |family| add(family, ClusterIp::Main, Protocol::Tcp, port);
                pod.perform(topology, &Family::ALL.map(of)).unwrap();
            });
        }
    });
    let mut served: Vec<u16> = pod.status().unwrap().services.iter().map(|service| service.port).collect();
    served.sort_unstable();
    assert_eq!(served, ports.flat_map(|port| [port; 2]).collect::<Vec<_>>());
}

#[test]
fn a_container_that_is_restarted_is_not_noticed() {
    let topology = topology();
    let _servers = Servers::start(&topology).unwrap();
    let mut pod = serving(&topology);
    let places = [(&topology.client, Family::V4), (&topology.far, Family::V6)];
    let streams = places.map(|(netns, family)| Streams::start(netns, vip(family, script::TCP), 20).unwrap());
    let datagrams = places.map(|(netns, family)| Datagrams::start(netns, vip(family, script::UDP)).unwrap());
    let all_go_on = || streams.iter().for_each(|streams| streams.wait_rounds(2).unwrap());
    all_go_on();

    pod.kill().unwrap();
    // Filters and what they use are the pod's, whose network is still there.
    all_go_on();
    answers(&topology, OTHER);
    pod.start(&topology).unwrap();
    until("the new container serves", PATIENCE, || {
        Ok(pod.status().is_ok_and(|status| status.ready).then_some(()))
    })
    .unwrap();
    all_go_on();
    assert!(pod.log_tail().contains("took over the connections"), "{}", pod.log_tail());
    // Counted by the sweep, now and then: 40 streams and 2 exchanges of datagrams.
    let known =
        || pod.status().map(|status| status.flow_tables.iter().map(|table| table.entries).sum::<u64>());
    until("the flows are known", PATIENCE, || Ok((known()? >= 42).then_some(()))).unwrap();
    // Nobody has told it anything; then somebody does.
    answers(&topology, OTHER);
    pod.perform(&topology, &all_operations()).unwrap();
    let del = dnat(Family::V4, ClusterIp::Main, Protocol::Tcp, OTHER);
    pod.perform(&topology, &[format!("dnat-del {del}")]).unwrap();
    Client::connect(&topology.client, vip(Family::V4, OTHER)).unwrap_err();
    all_go_on();
    for datagrams in datagrams {
        assert!(datagrams.finish().unwrap() > 0);
    }
    for streams in streams {
        streams.finish().unwrap();
    }
}

/// A node that has rebooted makes the pod's sandbox anew: its network and its shared memory are empty. Kube-OVN's controller
/// sees the pod run again, and repeats everything.
#[test]
fn a_sandbox_that_is_made_anew_is_set_up_again() {
    let mut topology = topology();
    let _servers = Servers::start(&topology).unwrap();
    let mut pod = serving(&topology);
    answers(&topology, script::TCP);
    pod.kill().unwrap();
    topology.recreate_pod().unwrap();
    let mut pod = KubeOvnPod::new().unwrap();
    pod.start(&topology).unwrap();
    pod.perform(&topology, &all_operations()).unwrap();
    answers(&topology, script::TCP);
}

/// After a reboot Kube-OVN may be early, and not come back: what it says counts all the same.
#[test]
fn what_is_asked_for_before_net1_is_there_is_served_when_it_comes() {
    let topology = topology();
    let _servers = Servers::start(&topology).unwrap();
    topology.pod.ip("link del net1").unwrap();
    let mut pod = KubeOvnPod::new().unwrap();
    pod.start(&topology).unwrap();
    pod.perform(&topology, &["init".to_owned(), eip(Family::V4)]).unwrap();
    let add = add(Family::V4, ClusterIp::Main, Protocol::Tcp, script::TCP);
    let refusal = refusal(&pod.exec(&topology, &add).unwrap());
    assert!(refusal.contains("the external interface net1 is missing"), "{refusal}");

    let path = topology.pod.path();
    topology.node.ip(&format!("link add link ext0 name net1 netns {path} type macvlan mode bridge")).unwrap();
    topology.pod.ip("link set net1 up").unwrap();
    until("the port is served", PATIENCE, || Ok(pod.status()?.ready.then_some(()))).unwrap();
    Client::connect(&topology.client, vip(Family::V4, script::TCP)).unwrap().echo(b"hello").unwrap();
}

#[test]
fn what_cannot_be_done_is_refused_and_changes_nothing() {
    let topology = topology();
    let pod = serving(&topology);
    let before = pod.gateway_file().unwrap();
    let other_vip = Family::V4.plan().other_vip;
    for (operation, part) in [
        (format!("dnat-add {other_vip},80,tcp,10.96.0.7,80,"), "no eip-add has named"),
        ("dnat-add 172.18.0.18,80,sctp,10.96.0.7,81,".to_owned(), "SCTP"),
        ("eip-del 172.18.0.18/16".to_owned(), "`eip-del` is none"),
    ] {
        let refusal = refusal(&pod.exec(&topology, &operation).unwrap());
        assert!(refusal.contains(part), "{operation}: {refusal}");
    }
    let shell = pod.command(&topology, "bash").unwrap().args(["-c", "ip link"]).output().unwrap();
    assert!(refusal(&shell).contains("no shell"));
    assert_eq!(pod.gateway_file().unwrap(), before);
    // The gateway's own commands find it.
    let mut command = pod.command(&topology, "sluice-gateway").unwrap();
    let ready = command.arg("ready").output().unwrap();
    assert!(ready.status.success(), "{}", String::from_utf8_lossy(&ready.stderr));
}
