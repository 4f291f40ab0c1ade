//! The loader's handling of programs, maps and links, on namespaces and a pin folder of each test's own.

mod dump;
mod lifecycle;
mod neighbours;
mod refusals;
mod upgrade;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, ensure};
use aya::maps::MapInfo;
use aya::programs::{ProgramInfo, TcAttachType};
use sluice_gateway::bpf::{
    self, Attached, Attachment, DataPath, Devices, Families, Hook, LoadOptions, Objects, Pins,
};
use sluice_tests::netns::Netns;
use sluice_tests::wait::{PATIENCE, until};

const V4: Families = Families { v4: true, v6: false };
const V6: Families = Families { v4: false, v6: true };
const BOTH: Families = Families { v4: true, v6: true };
/// Both ways of attaching; this kernel has both.
const HOOKS: [Hook; 2] = [Hook::Tcx, Hook::Clsact];

/// A folder of the test's own on the BPF file system, removed with all pins in it.
struct Bpffs(PathBuf);

impl Bpffs {
    fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("sluice_test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = Path::new(bpf::pins::BPFFS).join(name);
        std::fs::create_dir(&dir).with_context(|| format!("making {} (needs root)", dir.display()))?;
        Ok(Self(dir))
    }

    /// Everything below the folder, as paths from it.
    fn contents(&self) -> Result<Vec<String>> {
        fn walk(dir: &Path, root: &Path, found: &mut Vec<String>) -> Result<()> {
            for entry in dir.read_dir()? {
                let path = entry?.path();
                found.push(path.strip_prefix(root)?.display().to_string());
                if path.is_dir() {
                    walk(&path, root, found)?;
                }
            }
            Ok(())
        }
        let mut found = Vec::new();
        walk(&self.0, &self.0, &mut found)?;
        found.sort();
        Ok(found)
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        // A failure leaves a folder whose name says which process made it; panicking here would hide the test's own failure.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A namespace with the two devices of a gateway. Their other ends are `peer1` and `peer0`, in the same namespace.
struct Pod {
    netns: Netns,
    pins: Pins,
    hook: Hook,
}

impl Pod {
    fn new(bpffs: &Bpffs, id: &str, hook: Hook) -> Result<Self> {
        let netns = Netns::new(id)?;
        netns.ip("link add net1 type veth peer name peer1\n\
             link add eth0 type veth peer name peer0\n")?;
        Ok(Self { netns, pins: Pins::new(&bpffs.0, id.parse()?), hook })
    }

    fn load(&self, families: Families) -> Result<DataPath> {
        self.load_sized(families, 1024)
    }

    fn load_sized(&self, families: Families, max_flows: u32) -> Result<DataPath> {
        let options = LoadOptions {
            pins: self.pins.clone(),
            families,
            max_flows,
            objects: Objects::EMBEDDED,
            hook: Some(self.hook),
        };
        self.netns.run(|| Ok(DataPath::load(options)?))
    }

    fn attach(&self, data_path: &DataPath) -> Result<Attached> {
        let attached = self.netns.run(|| Ok(data_path.attach(&devices())?))?;
        ensure!(attached.leftovers.is_empty(), "{:?}", attached.leftovers);
        Ok(attached)
    }

    /// What a loader does at its start, without filling the maps.
    fn start(&self, families: Families) -> Result<DataPath> {
        let data_path = self.load(families)?;
        self.attach(&data_path)?;
        Ok(data_path)
    }

    fn attachments(&self, families: Families) -> Result<Vec<Attachment>> {
        self.netns.run(|| Ok(bpf::attachments(&self.pins, families, &devices(), self.hook)?))
    }

    /// Ids of the attached programs, in the order of the slots; fails if one is missing.
    fn attached_ids(&self, families: Families) -> Result<Vec<u32>> {
        let id = |a: Attachment| {
            a.program_id.with_context(|| format!("{} is not attached to {}", a.program, a.device))
        };
        self.attachments(families)?.into_iter().map(id).collect()
    }

    fn map_ids(&self, families: Families) -> Result<Vec<u32>> {
        Ok(bpf::map_use(&self.pins, families)?.into_iter().map(|map| map.id).collect())
    }

    fn cleanup(&self) -> Result<()> {
        self.netns.run(|| Ok(bpf::cleanup(&self.pins)?))
    }

    /// Names of the pins that begin with `prefix`.
    fn pinned(&self, prefix: &str) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in self.pins.dir().read_dir()? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.retain(|name| name.starts_with(prefix));
        names.sort();
        Ok(names)
    }
}

fn devices() -> Devices {
    Devices { external: "net1".to_owned(), cluster: "eth0".to_owned() }
}

/// Ids of all programs on a TCX hook, in order.
fn tcx_programs(netns: &Netns, device: &str, direction: TcAttachType) -> Result<Vec<u32>> {
    netns.run(|| {
        let (_, programs) = aya::programs::SchedClassifier::query_tcx(device, direction)?;
        Ok(programs.iter().map(ProgramInfo::id).collect())
    })
}

/// Waits until none of the maps exists: the kernel frees them some time after the last user is gone.
fn maps_are_gone(ids: &[u32]) -> Result<()> {
    // The kernel takes namespaces apart one after the other, those of all tests that run beside this one too.
    until("the maps are freed", PATIENCE * 5, || {
        Ok(ids.iter().all(|id| MapInfo::from_id(*id).is_err()).then_some(()))
    })
}
