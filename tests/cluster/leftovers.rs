//! A cluster leaves nothing, also when its starter had no time to clean up.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use sluice_cluster::process::Process;
use sluice_cluster::programs;

use crate::case::within;

const SOON: Duration = Duration::from_secs(60);

/// The first processes of the machines that have been started in a folder, by name.
fn machines(folder: &Path) -> Vec<(String, Process)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let machines = entries.flatten().map(|entry| entry.path());
    machines.filter_map(|path| Some((name(&path), Process::load(&path.join("init.pid"))?))).collect()
}

/// Control groups with this name, in any hierarchy: the one of version 2 may be all that there is.
fn cgroups(name: &str) -> Vec<PathBuf> {
    let mounts = fs::read_dir("/sys/fs/cgroup").unwrap().map(|entry| entry.unwrap().path());
    let mounts = mounts.chain(["/sys/fs/cgroup".into()]);
    mounts.map(|mount| mount.join(name)).filter(|group| group.exists()).collect()
}

#[test]
fn a_starter_that_is_killed_leaves_nothing() {
    let name = format!("leftovers-{}", std::process::id());
    let folder = programs::target().unwrap().join(format!("cluster-{name}"));
    let mut up = Command::new(programs::profile().unwrap().join("xtask"));
    up.args(["cluster", "up", "--no-sluice"]).env("SLUICE_CLUSTER", &name);
    let mut up = up.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let running = within(SOON, "a node's control groups are there, and containerd runs", || {
        assert!(up.try_wait().unwrap().is_none(), "it ended by itself");
        Process::load(&folder.join("node1/containerd.pid"))?;
        Some(machines(&folder)).filter(|machines| machines.iter().any(|(name, _)| name == "node1"))
    });
    let cgroup = fs::read_to_string(folder.join("cgroup")).unwrap();
    let cgroup = cgroup.trim_start_matches('/');
    assert!(!cgroups(cgroup).is_empty());

    up.kill().unwrap();
    up.wait().unwrap();
    within(SOON, "folder, control groups and machines are gone", || {
        let is_gone = !folder.exists() && cgroups(cgroup).is_empty();
        (is_gone && running.iter().all(|(_, machine)| !machine.runs())).then_some(())
    });
}
