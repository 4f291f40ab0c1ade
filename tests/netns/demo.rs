//! The demo, as `cargo xtask demo` runs it.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sluice_tests::wait;

/// A demo under a name of the test's own; what a failed test leaves of it is taken away.
struct Demo(String);

impl Demo {
    fn new(case: &str) -> Self {
        Self(format!("demo-{case}-{}", std::process::id()))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-demo"));
        command.args(["--name", &self.0]).args(args).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Starts the tour; returns when it has come to the line that contains `mark`.
    fn start(&self, args: &[&str], mark: &str) -> (Child, BufReader<ChildStdout>) {
        let mut child = self.command(args).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains(mark) {
            line.clear();
            assert_ne!(output.read_line(&mut line).unwrap(), 0, "the tour ended before {mark:?}");
        }
        (child, output)
    }

    /// Whatever of this demo is on the machine: names, and processes that have the name in their command line.
    fn traces(&self) -> Vec<String> {
        let names =
            ["/run", "/run/netns"].iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten());
        let names = names.flatten().map(|entry| entry.path().display().to_string());
        let processes = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            Some(String::from_utf8_lossy(&line).replace('\0', " "))
        });
        names.chain(processes).filter(|text| text.contains(&self.0)).collect()
    }

    /// Inode numbers of the demo's network namespaces.
    fn namespaces(&self) -> Vec<u64> {
        let names = fs::read_dir("/run/netns").unwrap().flatten();
        let own = names.filter(|entry| entry.file_name().to_string_lossy().starts_with(&self.0));
        own.map(|entry| fs::metadata(entry.path()).unwrap().ino()).collect()
    }

    fn is_gone(&self) {
        wait::until("nothing of the demo is left", wait::PATIENCE, || {
            Ok(self.traces().is_empty().then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error}: {:?}", self.traces()));
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.run(&["down"]);
        }
    }
}

/// Command lines of the processes in these namespaces.
fn inhabitants(namespaces: &[u64]) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
        fs::metadata(entry.path().join("ns/net")).is_ok_and(|netns| namespaces.contains(&netns.ino()))
    });
    processes.map(|entry| text(&fs::read(entry.path().join("cmdline")).unwrap_or_default())).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The process id in `grep CapEff /proc/<pid>/status`.
fn gateway_of(tour: &str) -> i32 {
    tour.split_once("/proc/").unwrap().1.split('/').next().unwrap().parse().unwrap()
}

#[test]
fn the_tour_shows_what_it_promises_and_leaves_nothing() {
    let demo = Demo::new("tour");
    let output = demo.run(&["tour"]);
    let tour = text(&output.stdout);
    assert!(output.status.success(), "{tour}\n{}", text(&output.stderr));
    for part in [
        "- address: 172.18.0.18/16",
        // The four capabilities' bits: 12, 13, 38, 39.
        "CapEff:\t000000c000003000",
        "client$ curl -sS -m 5 http://172.18.0.18/\nHello from backend",
        "far$ curl -sS -m 5 http://172.18.0.18/\nHello from backend",
        "You are 10.16.0.2:",
        "inet 172.18.0.18/16 scope global net1\n",
        "inet 10.16.0.2/16 scope global eth0\n",
        "32764:\tfrom all iif eth0 lookup 100\n32765:\tfrom all iif net1 lookup 100\n",
        "default via 172.18.0.1 dev net1 \n10.109.201.193 via 10.16.0.1 dev eth0 \n172.18.0.0/16 dev net1 scope link",
        "iptables-save\n\n",
        "Ready     yes",
        "tcp       established  192.0.2.100:",
        "vip: [172,18,0,18 ]",
        "snat_port: ",
        "remove the programs and maps in /sys/fs/bpf/sluice/v1/default",
    ] {
        assert!(tour.contains(part), "no {part:?} in\n{tour}");
    }
    let rows: usize = tour.lines().map(|line| line.chars().count().div_ceil(100).max(1)).sum();
    assert!(rows <= 105, "two screens have room for about a hundred lines, and the tour has {rows}");
    demo.is_gone();
    assert!(!Path::new(&format!("/proc/{}", gateway_of(&tour))).exists(), "the gateway still runs");
}

#[test]
fn a_demo_that_is_kept_can_be_played_with_and_taken_down() {
    let demo = Demo::new("keep");
    let output = demo.run(&["tour", "--keep"]);
    let tour = text(&output.stdout);
    assert!(output.status.success(), "{tour}\n{}", text(&output.stderr));
    let answer = demo.run(&["enter", "far", "--", "curl", "-sS", "-m", "5", "http://172.18.0.18/"]);
    assert!(text(&answer.stdout).starts_with("Hello from backend"), "{answer:?}");
    let flows = demo.run(&["enter", "pod", "--", "sluice-gateway", "flows", "--client", "192.0.2.100"]);
    assert!(text(&flows.stdout).contains("default/test-service"), "{flows:?}");

    let second = demo.run(&["tour"]);
    assert!(text(&second.stderr).contains("--down"), "{second:?}");
    let answer = demo.run(&["enter", "client", "--", "curl", "-sS", "-m", "5", "http://172.18.0.18/"]);
    assert!(answer.status.success(), "the second demo has disturbed the first: {answer:?}");

    let mut visitor = demo.command(&["enter", "pod", "--", "sleep", "600"]).spawn().unwrap();
    let namespaces = demo.namespaces();
    wait::until("the visitor is there", wait::PATIENCE, || {
        Ok(inhabitants(&namespaces).iter().any(|line| line.contains("600")).then_some(()))
    })
    .unwrap();
    assert!(demo.run(&["down"]).status.success());
    demo.is_gone();
    assert_eq!(visitor.wait().unwrap().signal(), Some(9), "a process in the pod outlives it");
    assert!(!Path::new(&format!("/proc/{}", gateway_of(&tour))).exists(), "the gateway still runs");
}

#[test]
fn an_interrupted_tour_leaves_nothing() {
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        let demo = Demo::new("interrupt");
        // By now the gateway serves, and a client has a connection open.
        let (mut child, mut output) = demo.start(&["tour", "--keep"], "has counted");
        let namespaces = demo.namespaces();
        assert_eq!(namespaces.len(), 7);
        assert!(inhabitants(&namespaces).iter().any(|line| line.contains("clock")), "nobody is there");
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        child.wait().unwrap();
        output.read_to_string(&mut String::new()).unwrap();
        demo.is_gone();
        wait::until("nobody is left", wait::PATIENCE, || {
            Ok(inhabitants(&namespaces).is_empty().then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error}: {:?}", inhabitants(&namespaces)));
    }
}

#[test]
fn what_a_killed_keeper_leaves_is_taken_away() {
    let demo = Demo::new("killed");
    assert!(demo.run(&["tour", "--keep"]).status.success());
    let state = fs::read_to_string(format!("/run/{}.json", demo.0)).unwrap();
    let keeper = serde_json::from_str::<serde_json::Value>(&state).unwrap()["keeper"].as_i64().unwrap();
    kill(Pid::from_raw(i32::try_from(keeper).unwrap()), Signal::SIGKILL).unwrap();
    wait::until("the keeper is gone", wait::PATIENCE, || {
        Ok((!Path::new(&format!("/proc/{keeper}/fd/0")).exists()).then_some(()))
    })
    .unwrap();
    assert!(!demo.traces().is_empty(), "this test needs something that was left");
    assert!(demo.run(&["down"]).status.success());
    demo.is_gone();
}
