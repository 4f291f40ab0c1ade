//! Control groups: one in each hierarchy for a cluster, with one in it for each node, which kubelet puts its pods' into.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// Version 1 has no place for a process in a group of this hierarchy before these have a value.
const CPUSET: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];
/// What kubelet looks for in version 2, where a group only has what its parent passes on.
const CONTROLLERS: &str = "+cpuset +cpu +memory +pids";

/// Makes the group `path`, such as `/cluster/node1`, in each hierarchy.
///
/// # Errors
/// Without root, or if no hierarchy is mounted.
pub fn make(path: &str) -> Result<()> {
    for mount in mounts()? {
        let mut group = mount;
        for part in Path::new(path).iter().filter(|part| *part != "/") {
            pass_on_controllers(&group);
            let parent = group.clone();
            group.push(part);
            match fs::create_dir(&group) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error).with_context(|| format!("making {}", group.display())),
            }
            inherit_cpuset(&parent, &group)?;
        }
        pass_on_controllers(&group);
    }
    Ok(())
}

/// The folders of the group `path` that there are.
///
/// # Errors
/// The list of mounts cannot be read.
pub fn folders(path: &str) -> Result<Vec<PathBuf>> {
    let relative = path.trim_start_matches('/');
    Ok(mounts()?.into_iter().map(|mount| mount.join(relative)).filter(|folder| folder.is_dir()).collect())
}

/// Removes a group and those in it.
///
/// # Errors
/// A process is in one of them.
pub fn remove(group: &Path) -> Result<()> {
    let what = || format!("removing the control group {}", group.display());
    let entries = match fs::read_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(what)?,
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path())?;
        }
    }
    match fs::remove_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).with_context(what),
        _ => Ok(()),
    }
}

/// A process in a group with `name` somewhere in its path.
pub fn process_in(name: &str) -> Option<i32> {
    let processes = fs::read_dir("/proc").ok()?;
    processes.flatten().find_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        let groups = fs::read_to_string(process.path().join("cgroup")).ok()?;
        groups.contains(name).then_some(pid)
    })
}

fn inherit_cpuset(parent: &Path, group: &Path) -> Result<()> {
    for name in CPUSET {
        let (from, to) = (parent.join(name), group.join(name));
        // Version 2 inherits by itself, and lists what is in force in another file.
        if group.join("cgroup.controllers").exists() || !to.exists() {
            continue;
        }
        let value = fs::read(&from).with_context(|| format!("reading {}", from.display()))?;
        fs::write(&to, value).with_context(|| format!("writing {}", to.display()))?;
    }
    Ok(())
}

/// What a hierarchy does not have, kubelet will name.
fn pass_on_controllers(group: &Path) {
    let file = group.join("cgroup.subtree_control");
    if file.exists() {
        let _refused = fs::write(file, CONTROLLERS);
    }
}

/// Where hierarchies are mounted.
fn mounts() -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("reading /proc/self/mounts")?;
    let found = parse_mounts(&mounts);
    if found.is_empty() {
        anyhow::bail!("no control groups are mounted: kubelet needs them below /sys/fs/cgroup");
    }
    Ok(found)
}

fn parse_mounts(mounts: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (folder, kind) = (fields.next()?, fields.next()?);
            matches!(kind, "cgroup" | "cgroup2").then(|| folder.into())
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_found() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                      cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let folders = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified"];
        assert_eq!(parse_mounts(mounts), folders.map(PathBuf::from));
    }
}
