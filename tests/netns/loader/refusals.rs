//! What the loader asks for before it starts.

use std::thread;

use anyhow::{Result, anyhow};
use sluice_gateway::bpf::{Error, Maps, preconditions};

use super::*;

/// CAP_NET_ADMIN, CAP_NET_RAW, CAP_PERFMON, CAP_BPF, from the kernel's `include/uapi/linux/capability.h`.
const CAPABILITIES: [(&str, u32); 4] =
    [("CAP_NET_ADMIN", 12), ("CAP_NET_RAW", 13), ("CAP_PERFMON", 38), ("CAP_BPF", 39)];

/// Runs `f` on a thread with no capabilities but those in `keep`.
fn with_capabilities<T: Send>(keep: &[u32], f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    let bits = keep.iter().fold(0_u64, |bits, capability| bits | (1 << capability));
    let (low, high) = (bits as u32, (bits >> 32) as u32);
    thread::scope(|scope| {
        let limited = scope.spawn(move || {
            let header = Header { version: 0x2008_0522, pid: 0 };
            // Effective, permitted, inheritable; lower, then upper half.
            let data = [low, low, 0, high, high, 0];
            // SAFETY: both pointers are to live values of the layout that capset(2) asks for; it concerns this thread alone.
            if unsafe { libc::syscall(libc::SYS_capset, &header, data.as_ptr()) } != 0 {
                return Err(std::io::Error::last_os_error().into());
            }
            f()
        });
        limited.join().map_err(|_| anyhow!("the thread panicked"))?
    })
}

#[test]
fn each_missing_capability_is_named() -> Result<()> {
    let bpffs = Bpffs::new()?;
    let check = || Ok(preconditions::check(&bpffs.0)?);
    let all: Vec<u32> = CAPABILITIES.iter().map(|(_, number)| *number).collect();
    with_capabilities(&all, check)?;
    for (name, number) in CAPABILITIES {
        let others: Vec<u32> = all.iter().copied().filter(|other| *other != number).collect();
        let error = format!("{:#}", with_capabilities(&others, check).unwrap_err());
        assert!(error.contains(name), "{error}");
        let named = CAPABILITIES.iter().filter(|(name, _)| error.contains(name)).count();
        assert_eq!(named, 1, "{error}");
    }
    Ok(())
}

/// In particular without CAP_SYS_ADMIN, which objects can be opened by id with and which no pod should have.
#[test]
fn four_capabilities_are_enough() -> Result<()> {
    for hook in HOOKS {
        let bpffs = Bpffs::new()?;
        let neighbour = Pod::new(&bpffs, "neighbour", hook)?;
        neighbour.start(V4)?;
        let pod = Pod::new(&bpffs, "limited", hook)?;
        // Entering the namespace takes CAP_SYS_ADMIN, so the thread does that before it gives its capabilities up.
        let all: Vec<u32> = CAPABILITIES.iter().map(|(_, number)| *number).collect();
        let options = |families| LoadOptions {
            pins: pod.pins.clone(),
            families,
            max_flows: 1024,
            objects: Objects::EMBEDDED,
            hook: Some(hook),
        };
        pod.netns.run(|| {
            with_capabilities(&all, || {
                for _ in 0..2 {
                    DataPath::load(options(BOTH))?.attach(&devices())?;
                }
                let attached = bpf::attachments(&pod.pins, BOTH, &devices(), hook)?;
                assert!(attached.iter().all(|a| a.program_id.is_some()), "{attached:?}");
                assert_eq!(bpf::map_use(&pod.pins, BOTH)?.len(), 22);
                Maps::open_pinned(&pod.pins.dir())?;
                Ok(bpf::cleanup(&pod.pins)?)
            })
        })?;
        assert!(!pod.pins.dir().exists());
        neighbour.attached_ids(V4)?;
    }
    Ok(())
}

#[test]
fn a_build_without_programs_says_so() -> Result<()> {
    let bpffs = Bpffs::new()?;
    let pod = Pod::new(&bpffs, "empty", Hook::Tcx)?;
    let options = LoadOptions {
        pins: pod.pins.clone(),
        families: V4,
        max_flows: 1024,
        objects: Objects { v4: &[], v6: &[] },
        hook: None,
    };
    let error = pod.netns.run(|| Ok(DataPath::load(options)?)).map(drop).unwrap_err().to_string();
    assert!(error.contains("cargo xtask build-ebpf"), "{error}");
    Ok(())
}

#[test]
fn nothing_pinned_means_not_running() -> Result<()> {
    let bpffs = Bpffs::new()?;
    let pins = Pins::new(&bpffs.0, "nobody".parse()?);
    assert!(matches!(Maps::open_pinned(&pins.dir()).map(drop), Err(Error::NotRunning { .. })));
    Ok(())
}
