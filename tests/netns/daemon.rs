//! The daemon as a process: who may ask it, how it starts and ends, what it survives.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sluice_gateway::config::Gateway;
use sluice_gateway::run::DEFAULT_RESYNC;
use sluice_gateway::status::{Origin, Status};
use sluice_gateway_ebpf::maps::SCHEMA_VERSION;
use sluice_tests::gateway::{GatewayUnderTest, Port, Sluice, Spec, gateway_file};
use sluice_tests::kube_proxy::Protocol;
use sluice_tests::netns::Netns;
use sluice_tests::topology::Topology;
use sluice_tests::wait;

const NOT_A_GATEWAY_FILE: &str = "version: 7\n";

fn spec() -> Spec {
    Spec::of(&[Port::new(Protocol::Tcp, 80)])
}

fn serving() -> (Topology, Sluice) {
    let topology = Topology::builder().build().unwrap();
    let mut sluice = Sluice::new(&topology).unwrap();
    sluice.serve(&topology, &spec()).unwrap();
    (topology, sluice)
}

fn connect(from: &Netns, address: IpAddr, port: u16) -> std::io::Result<TcpStream> {
    let _inside = from.enter().unwrap();
    TcpStream::connect_timeout(&SocketAddr::new(address, port), Duration::from_secs(2))
}

/// The status line and body of the admin server's answer.
fn ask(from: &Netns, address: IpAddr, path: &str) -> std::io::Result<String> {
    let mut stream = connect(from, address, Gateway::default().admin_port)?;
    stream.set_read_timeout(Some(wait::PATIENCE))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn the_admin_server_answers_the_cluster_and_nobody_else() {
    let (topology, _sluice) = serving();
    let admin = Gateway::default().admin_port;
    for family in topology.families() {
        let plan = family.plan();
        for path in ["/livez", "/readyz", "/metrics", "/problems"] {
            let answer = ask(&topology.node, plan.pod, path).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        }
        // The whole status is for the pod itself.
        assert!(ask(&topology.node, plan.pod, "/status").unwrap().starts_with("HTTP/1.1 404"));

        let error = connect(&topology.client, plan.vip, admin).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "the VIP's admin port: {error}");

        // Linux takes a packet for any of its addresses on any interface: this client sends those for eth0 to net1. A
        // listener that is bound to the address alone shows that they arrive.
        topology.client.ip(&format!("route add {}/{} via {}", plan.pod, family.bits(), plan.vip)).unwrap();
        let open = {
            let _inside = topology.pod.enter().unwrap();
            TcpListener::bind(SocketAddr::new(plan.pod, 0)).unwrap()
        };
        connect(&topology.client, plan.pod, open.local_addr().unwrap().port()).expect("the way is open");
        let error = connect(&topology.client, plan.pod, admin).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "eth0's admin port by net1: {error}");
    }
}

#[test]
fn an_interface_that_vanishes_is_waited_for() {
    let (topology, sluice) = serving();
    let pod = topology.families()[0].plan().pod;
    topology.pod.ip("link del net1").unwrap();
    // At first it is its programs that are missed: those are asked for when somebody asks, the interface by its notification.
    let missed = |status: &Status| status.not_ready == ["the external interface net1 is missing"];
    assert!(!until(&sluice, "net1 is missed", missed).ready);
    assert!(ask(&topology.node, pod, "/livez").unwrap().starts_with("HTTP/1.1 200"));
    let answer = ask(&topology.node, pod, "/readyz").unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("net1 is missing"), "{answer}");

    let path = topology.pod.path();
    topology.node.ip(&format!("link add link ext0 name net1 netns {path} type macvlan mode bridge")).unwrap();
    topology.pod.ip("link set net1 up").unwrap();
    let status = until(&sluice, "the new net1 is served", |status| status.ready);
    assert!(status.vips.iter().all(|vip| vip.present) && status.programs.iter().all(|p| p.attached));
}

/// A daemon started by hand: [`Sluice::start`] waits until the file is in force, which a bad one never is.
struct Started(Child);

impl Started {
    fn new(sluice: &Sluice, topology: &Topology) -> Self {
        Self::with(sluice, topology, &["--config", "/run/sluice/gateway.yaml"])
    }

    fn with(sluice: &Sluice, topology: &Topology, arguments: &[&str]) -> Self {
        let mut command = sluice.command(topology, "run");
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Started {
    /// Asks it to end, and waits until it has.
    fn terminate(mut self) {
        kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM).unwrap();
        let status = wait::until("the daemon's end", wait::PATIENCE, || Ok(self.0.try_wait()?)).unwrap();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until(sluice: &Sluice, what: &str, holds: impl Fn(&Status) -> bool) -> Status {
    let mut last = None;
    let found = wait::until(what, wait::PATIENCE, || {
        last = sluice.status().ok();
        Ok(last.clone().filter(&holds))
    });
    found.with_context(|| format!("{last:?}")).unwrap()
}

#[test]
fn a_start_with_a_bad_file_goes_on_with_the_last_good_one() {
    let (topology, mut sluice) = serving();
    sluice.stop(Signal::SIGKILL).unwrap();
    sluice.write(NOT_A_GATEWAY_FILE).unwrap();
    let daemon = Started::new(&sluice, &topology);
    let status = until(&sluice, "the copy is in force", |status| status.ready);
    let config = status.config.unwrap();
    assert_eq!((config.origin, config.last_reload_successful), (Origin::LastGoodCopy, false));
    assert!(config.refusal.unwrap().error.contains("version: 7"));
    assert_eq!(status.services[0].service, "default/test-service");
    drop(daemon);

    // Without the copy nothing is known of the configuration, so nothing is touched: what is pinned goes on.
    let removed = sluice.confined(&topology, Path::new("/bin/rm")).arg("/run/sluice/last-good.yaml").status();
    assert!(removed.unwrap().success());
    let _daemon = Started::new(&sluice, &topology);
    let status = until(&sluice, "what is pinned is reported", |status| status.ready);
    assert_eq!(status.config.unwrap().origin, Origin::None);
    assert!(!status.services.is_empty() && status.programs.iter().all(|program| program.attached));
    assert_eq!(status.problems.len(), 1, "{:?}", status.problems);

    sluice.write(&gateway_file(&spec(), topology.families()).unwrap()).unwrap();
    let good = |status: &Status| status.config.as_ref().is_some_and(|config| config.last_reload_successful);
    let status = until(&sluice, "the good file is in force", |status| good(status) && status.ready);
    assert!(status.problems.is_empty(), "{:?}", status.problems);
}

fn shell(sluice: &Sluice, topology: &Topology, script: &str) {
    let status = sluice.confined(topology, Path::new("/bin/sh")).args(["-ec", script]).status().unwrap();
    assert!(status.success(), "{script}");
}

/// As the kubelet does it: the file is a link through the link `..data`, which is renamed onto another folder.
#[test]
fn an_edited_config_map_is_in_force_at_once() {
    let topology = Topology::builder().build().unwrap();
    let sluice = Sluice::new(&topology).unwrap();
    let publish = |version: u32, port: u16| {
        let text = gateway_file(&Spec::of(&[Port::new(Protocol::Tcp, port)]), topology.families()).unwrap();
        let script = format!(
            "mkdir -p /run/mount/..{version}; cd /run/mount; cat > ..{version}/gateway.yaml <<'END'\n{text}\nEND\n\
             ln -s ..{version} ..data_tmp; mv -T ..data_tmp ..data; ln -sf ..data/gateway.yaml gateway.yaml"
        );
        shell(&sluice, &topology, &script);
    };
    publish(1, 80);
    let _daemon = Started::with(&sluice, &topology, &["--config", "/run/mount/gateway.yaml"]);
    let serves = |generation: u64, port: u16| {
        move |status: &Status| {
            let edits = status.config.as_ref().map(|config| config.generation);
            let ports = status.services.iter().map(|service| service.port);
            status.ready && edits == Some(generation) && ports.eq([port])
        }
    };
    until(&sluice, "port 80 is served", serves(1, 80));

    let edited = Instant::now();
    publish(2, 81);
    until(&sluice, "port 81 is served instead", serves(2, 81));
    assert!(edited.elapsed() < DEFAULT_RESYNC / 2, "the watch did not see it: {:?}", edited.elapsed());
}

#[test]
fn an_address_that_somebody_removes_comes_back_at_once() {
    let (topology, sluice) = serving();
    let vip = topology.families()[0].plan().vip_net();
    topology.pod.ip(&format!("address del {vip} dev net1")).unwrap();
    let removed = Instant::now();
    until(&sluice, "the VIP is back", |_| {
        topology.pod.output("ip", &["address", "show", "net1"]).unwrap().contains(&vip.to_string())
    });
    assert!(removed.elapsed() < DEFAULT_RESYNC / 2, "only the resync saw it: {:?}", removed.elapsed());
    until(&sluice, "the gateway is ready", |status| status.ready);
}

/// Everything in the pod that a gateway could have changed, as the system's own tools print it.
fn traces(sluice: &Sluice, topology: &Topology) -> String {
    let commands: [&[&str]; 8] = [
        &["ip", "address"],
        &["ip", "rule"],
        &["ip", "-6", "rule"],
        &["ip", "route", "show", "table", "all"],
        &["ip", "-6", "route", "show", "table", "all"],
        &["tc", "qdisc"],
        &["sysctl", "-a", "-r", "net.ipv[46].conf.(eth0|net1).(forwarding|promote_secondaries)"],
        &["find", "/sys/fs/bpf", "/run/sluice", "-not", "-name", "log", "-not", "-name", "gateway.yaml"],
    ];
    let mut text = String::new();
    for command in commands {
        let output = sluice
            .confined(topology, Path::new("/usr/bin/env"))
            .args(command)
            .output()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        let lines = String::from_utf8(output.stdout).unwrap();
        text.extend(lines.lines().map(|line| format!("{}: {}\n", command.join(" "), line.trim_end())));
    }
    text
}

/// Lines of one text that the other does not have.
fn differences(before: &str, after: &str) -> Vec<String> {
    let missing = |from: &str, of: &str, sign: char| -> Vec<String> {
        let of: Vec<&str> = of.lines().collect();
        from.lines().filter(|line| !of.contains(line)).map(|line| format!("{sign} {line}")).collect()
    };
    [missing(before, after, '-'), missing(after, before, '+')].concat()
}

#[test]
fn the_data_path_outlives_the_daemon_and_cleanup_leaves_no_trace() {
    let topology = Topology::builder().build().unwrap();
    // Somebody else's: one of each kind of which Sluice makes some, in the places where it does.
    topology
        .pod
        .ip("address add 172.18.0.77/16 dev net1\nrule add from 198.51.100.1 table 100 priority 32763\n\
             route add 198.51.100.0/24 dev net1 table 100")
        .unwrap();
    let mut sluice = Sluice::new(&topology).unwrap();
    wait::until("the pod's own addresses are settled", wait::PATIENCE, || {
        Ok((!topology.pod.output("ip", &["address"])?.contains("tentative")).then_some(()))
    })
    .unwrap();
    let before = traces(&sluice, &topology);
    sluice.serve(&topology, &spec()).unwrap();
    let serving = traces(&sluice, &topology);
    assert!(differences(&before, &serving).len() > 10, "{serving}");

    sluice.stop(Signal::SIGTERM).unwrap();
    let gone = differences(&serving, &traces(&sluice, &topology));
    assert!(gone.len() == 1 && gone[0].ends_with("/run/sluice/gateway.sock"), "{gone:#?}");

    sluice.cleanup(&topology).unwrap();
    let left = differences(&before, &traces(&sluice, &topology));
    assert!(left.is_empty(), "cleaning up left or took something: {left:#?}");

    let arguments = ["--config", "/run/sluice/gateway.yaml", "--detach-on-exit"];
    let daemon = Started::with(&sluice, &topology, &arguments);
    until(&sluice, "the gateway is ready again", |status| status.ready);
    daemon.terminate();
    let left = differences(&before, &traces(&sluice, &topology));
    assert!(left.is_empty(), "ending with --detach-on-exit left or took something: {left:#?}");
}

#[test]
fn a_second_daemon_is_refused() {
    let (topology, sluice) = serving();
    for command in ["run", "cleanup"] {
        let output = sluice.command(&topology, command).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains("--runtime-dir"), "{command}: {error}");
    }
    assert!(sluice.status().unwrap().ready);
}

#[test]
fn what_a_dead_gateway_of_the_node_left_is_removed() {
    let (topology, mut sluice) = serving();
    let dead = format!("/sys/fs/bpf/sluice/v{SCHEMA_VERSION}/test-dead");
    let run = |sluice: &Sluice, program: &str, arguments: &[&str]| {
        let mut command = sluice.confined(&topology, Path::new(program));
        let status = command.args(arguments).arg(&dead).status().unwrap();
        assert!(status.success(), "{program}: {status}");
    };
    // Without a link to its namespace, and too old for one that is only starting.
    run(&sluice, "/usr/bin/mkdir", &[]);
    run(&sluice, "/usr/bin/touch", &["--date", "1 hour ago"]);
    assert!(sluice.pinned_gateways(&topology).unwrap().contains("test-dead"));
    sluice.stop(Signal::SIGTERM).unwrap();
    sluice.start(&topology).unwrap();
    let gateways = sluice.pinned_gateways(&topology).unwrap();
    assert!(!gateways.contains("test-dead") && gateways.contains("/test\n"), "{gateways}");
}
