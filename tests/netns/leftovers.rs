//! Nothing is left behind when a test is interrupted.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sluice_tests::addresses::Family;
use sluice_tests::gateway::{GatewayUnderTest, Sluice};
use sluice_tests::script;
use sluice_tests::topology::Topology;
use sluice_tests::wait;

/// Set for the process that is interrupted.
const VICTIM: &str = "SLUICE_TEST_VICTIM";
/// Flow tables of a size that no other test uses, to find them by.
const FLOWS: u32 = 512;

/// How many flow tables of the victim the kernel has.
fn flow_tables() -> usize {
    let maps = aya::maps::loaded_maps().filter_map(Result::ok);
    maps.filter(|map| map.name_as_str() == Some("flows_v4") && map.max_entries() == FLOWS).count()
}

/// Serves, says so with the daemon's process id, and waits to be interrupted.
fn victim() -> ! {
    let topology: Topology = script::topology().families(&[Family::V4]).build().unwrap();
    let mut sluice = Sluice::new(&topology).unwrap();
    let mut spec = script::spec();
    spec.max_flows = Some(FLOWS);
    sluice.serve(&topology, &spec).unwrap();
    println!("\nserving {}", sluice.pid().unwrap());
    loop {
        std::thread::park();
    }
}

#[test]
fn an_interrupted_test_leaves_nothing_behind() {
    if std::env::var_os(VICTIM).is_some() {
        victim();
    }
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "leftovers::an_interrupted_test_leaves_nothing_behind", "--nocapture"])
            .env(VICTIM, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let daemon = lines.find_map(|line| line.unwrap().strip_prefix("serving ").map(str::to_owned));
        let daemon = daemon.unwrap();
        assert_eq!(flow_tables(), 1);

        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(signal as i32));
        let gone = |what: &str, is_gone: &dyn Fn() -> bool| {
            wait::until(what, Duration::from_secs(20), || Ok(is_gone().then_some(()))).unwrap();
        };
        gone("the daemon ends with its test", &|| !std::path::Path::new("/proc").join(&daemon).exists());
        gone("the maps go", &|| flow_tables() == 0);
    }
}
