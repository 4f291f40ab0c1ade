//! docs/quickstart.md: its commands, as a reader would type them.

use std::process::{Command, Stdio};

const PAGE: &str = include_str!("../../docs/quickstart.md");
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// All commands of the page, in order.
fn commands() -> String {
    PAGE.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

#[test]
fn its_commands_work_in_the_order_of_the_page() {
    let commands = commands();
    assert!(commands.contains("curl"), "{commands}");
    // If one fails, the cluster goes all the same.
    let script =
        format!("set -e\ntrap 'cargo xtask cluster down > /dev/null 2>&1 || true' EXIT\nset -v\n{commands}");
    let mut shell = Command::new("sh");
    shell.args(["-s"]).current_dir(ROOT).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Beside the one that a user of this folder may have.
    shell.env("SLUICE_CLUSTER", format!("quickstart-{}", std::process::id()));
    let mut shell = shell.spawn().unwrap();
    std::io::Write::write_all(&mut shell.stdin.take().unwrap(), script.as_bytes()).unwrap();
    let output = shell.wait_with_output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{errors}");
    // A line of `kubectl get service hello`.
    assert!(said.lines().any(|line| line.starts_with("hello ") && line.contains("172.18.0.11")), "{said}");
    // The stand-in for nginx says the time, without the end of a line, when it is asked for nothing else.
    assert_eq!(said.matches("NOW: ").count(), 2, "{said}\n{errors}");
}
