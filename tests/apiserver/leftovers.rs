//! Nothing is left behind when a test is interrupted.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sluice_apiserver_tests::wait::eventually;
use sluice_apiserver_tests::world;

/// Set for the process that is interrupted.
const VICTIM: &str = "SLUICE_TEST_VICTIM";

/// Starts everything, says where it works, and waits to be interrupted.
fn victim() {
    world::test_with_own_servers(async |world| {
        let mut controller = world.controller().await;
        controller.start().await;
        let folders = [world.servers.folder(), controller.log_file().parent().unwrap()];
        println!("\nrunning {}", folders.map(|folder| folder.display().to_string()).join(" "));
        std::future::pending::<()>().await;
    });
}

/// Whether any process has `text` in its arguments or its environment.
fn is_named(text: &str) -> bool {
    let has =
        |file: &Path| std::fs::read(file).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(text));
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .map(|process| process.path())
        .any(|path| has(&path.join("cmdline")) || has(&path.join("environ")))
}

#[tokio::test]
async fn an_interrupted_test_leaves_neither_processes_nor_files() {
    if std::env::var_os(VICTIM).is_some() {
        tokio::task::spawn_blocking(victim).await.unwrap();
    }
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "leftovers::an_interrupted_test_leaves_neither_processes_nor_files",
                "--nocapture",
            ])
            .env(VICTIM, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let folders =
            lines.find_map(|line| line.unwrap().strip_prefix("running /").map(|rest| format!("/{rest}")));
        let folders = folders.expect("it starts");
        for folder in folders.split(' ') {
            assert!(Path::new(folder).exists() && is_named(folder), "{folder}");
        }
        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(signal as i32));
        for folder in folders.split(' ') {
            eventually(&format!("{folder} goes, and all that works in it"), async || {
                (!Path::new(folder).exists() && !is_named(folder)).then_some(())
            })
            .await;
        }
    }
}
