//! The first process of a cluster's machine. It starts in new namespaces and makes them a machine: mounts that are its own. Then it buries processes
//! that nobody waits for, until it is told to end, or until its starter has ended.

use std::{
    fs,
    io::{Read as _, Write as _},
    path::Path,
    process::ExitCode,
    thread,
};

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sys::{
        signal::{SigSet, Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, getpid, sethostname},
};
use sluice_cluster::{
    leftovers,
    spec::{READY, STAY, Spec},
};

/// Parameters of the whole kernel that kubelet sets where they have other values. It finds files of the machine's own in their place, with its values.
const KERNEL_PARAMETERS: [(&str, &str); 6] = [
    ("kernel/keys/root_maxbytes", "25000000"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let text =
        std::env::args().nth(1).context("this program is started by `cargo xtask cluster` and its tests")?;
    let spec: Spec = serde_json::from_str(&text).context("reading what machine to be")?;
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGCHLD);
    signals.thread_block().context("blocking signals")?;

    sethostname(&spec.name).context("setting the host name")?;
    make_mounts(&spec)?;
    thread::spawn(|| {
        let mut said = Vec::new();
        let _ended = std::io::stdin().read_to_end(&mut said);
        if said != STAY {
            let _delivered = kill(getpid(), Signal::SIGTERM);
        }
    });
    let mut output = std::io::stdout();
    writeln!(output, "{READY}").and_then(|()| output.flush()).context("saying that the machine is there")?;

    while signals.wait().context("waiting for signals")? != Signal::SIGTERM {
        bury(WaitPidFlag::WNOHANG);
    }
    // All but this process: it is the first of its namespace.
    let _none_left = kill(Pid::from_raw(-1), Signal::SIGKILL);
    bury(WaitPidFlag::empty());
    spec.removes.map_or(Ok(()), |leftovers| leftovers::remove(&leftovers))
}

/// Takes the exit codes of processes that have ended; without [`WaitPidFlag::WNOHANG`], until there is none left.
fn bury(flags: WaitPidFlag) {
    loop {
        match waitpid(None, Some(flags)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
            _ => {}
        }
    }
}

fn make_mounts(spec: &Spec) -> Result<()> {
    // First nothing of this gets out; then containers, which get copies, see what is mounted here later.
    propagate(MsFlags::MS_PRIVATE)?;
    propagate(MsFlags::MS_SHARED)?;
    mount_new("proc", "/proc")?;
    mount_new("tmpfs", "/run")?;
    let Some(disk) = &spec.disk else { return Ok(()) };
    // Pins of BPF programs are of this machine.
    mount_new("bpf", "/sys/fs/bpf")?;
    for folder in ["lib", "log"] {
        let (from, to) = (disk.join(folder), Path::new("/var").join(folder));
        fs::create_dir_all(&from).with_context(|| format!("making {}", from.display()))?;
        bind(&from, &to)?;
    }
    let own = Path::new("/run/kernel-parameters");
    for (name, value) in KERNEL_PARAMETERS {
        let file = own.join(name.replace('/', "."));
        fs::create_dir_all(own).context("making a folder for kernel parameters")?;
        fs::write(&file, value).with_context(|| format!("writing {}", file.display()))?;
        bind(&file, &Path::new("/proc/sys").join(name))?;
    }
    Ok(())
}

fn propagate(kind: MsFlags) -> Result<()> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | kind, None::<&str>).context("separating mounts")
}

fn mount_new(kind: &str, folder: &str) -> Result<()> {
    mount(Some(kind), folder, Some(kind), MsFlags::empty(), None::<&str>)
        .with_context(|| format!("mounting {folder}"))
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("mounting {} on {}", from.display(), to.display()))
}
