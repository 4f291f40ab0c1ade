//! BPF_PROG_TEST_RUN: one packet, as many runs as asked for.

use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::{
    Ebpf,
    programs::{Program, ProgramFd},
};

/// What became of a packet.
#[derive(Debug)]
pub struct Outcome {
    /// What the program returned.
    pub verdict: i32,
    /// The frame afterwards.
    pub frame: Vec<u8>,
    /// The mark afterwards.
    pub mark: u32,
    /// Mean time of one run.
    pub nanoseconds: u32,
}

/// What `__sk_buff` says of a packet besides its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context {
    /// Payload bytes per segment; 0: no super-packet.
    pub gso_size: u32,
    /// Number of segments.
    pub gso_segs: u32,
    /// The mark.
    pub mark: u32,
    /// The device delivered the sum of the whole packet (CHECKSUM_COMPLETE). The kernel then checks after the run that the sum
    /// it keeps is still that of the packet, and fails the run if not (Linux 6.16).
    pub checksum_complete: bool,
}

/// The kernel's `__sk_buff`, as far as a test run reads it (include/uapi/linux/bpf.h).
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Zeroable)]
struct SkBuff {
    head: [u32; 2],
    mark: u32,
    middle: [u32; 38],
    gso_segs: u32,
    sk: [u32; 2],
    gso_size: u32,
    tail: [u32; 3],
}

const _: () =
    assert!(std::mem::offset_of!(SkBuff, gso_segs) == 164 && std::mem::offset_of!(SkBuff, gso_size) == 176);

/// `union bpf_attr` of BPF_PROG_TEST_RUN. aya's own call has no way to ask for a complete checksum.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    pad: u32,
}

const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_F_TEST_SKB_CHECKSUM_COMPLETE: u32 = 1 << 2;

/// Loads every program of an object.
pub fn load_all(ebpf: &mut Ebpf) {
    for (name, program) in ebpf.programs_mut() {
        match program {
            Program::SchedClassifier(program) => program.load(),
            Program::Xdp(program) => program.load(),
            _ => panic!("{name} is neither a tc nor an XDP program"),
        }
        .unwrap_or_else(|error| panic!("load {name}: {error}"));
    }
}

/// A loaded program.
pub fn program<'a>(ebpf: &'a Ebpf, name: &str) -> &'a ProgramFd {
    ebpf.program(name).unwrap_or_else(|| panic!("no program {name}")).fd().expect("loaded")
}

/// Runs an XDP program `repeat` times on a frame.
pub fn test_run_xdp(program: &ProgramFd, frame: &[u8], repeat: u32) -> Outcome {
    let mut out = vec![0; frame.len() + 512];
    let attr = TestRun { repeat, ..TestRun::new(program, frame, &mut out) };
    finish(attr, out)
}

/// Runs a tc program `repeat` times on a frame.
pub fn test_run(program: &ProgramFd, frame: &[u8], context: Context, repeat: u32) -> Outcome {
    let mut out = vec![0; frame.len() + 512];
    let ctx_in = SkBuff {
        mark: context.mark,
        gso_segs: context.gso_segs,
        gso_size: context.gso_size,
        ..bytemuck::Zeroable::zeroed()
    };
    let mut ctx_out: SkBuff = bytemuck::Zeroable::zeroed();
    let attr = TestRun {
        repeat,
        ctx_size_in: size_of::<SkBuff>() as u32,
        ctx_size_out: size_of::<SkBuff>() as u32,
        ctx_in: (&raw const ctx_in) as u64,
        ctx_out: (&raw mut ctx_out) as u64,
        flags: if context.checksum_complete { BPF_F_TEST_SKB_CHECKSUM_COMPLETE } else { 0 },
        ..TestRun::new(program, frame, &mut out)
    };
    let outcome = finish(attr, out);
    Outcome { mark: ctx_out.mark, ..outcome }
}

impl TestRun {
    fn new(program: &ProgramFd, frame: &[u8], out: &mut [u8]) -> Self {
        Self {
            prog_fd: program.as_fd().as_raw_fd() as u32,
            data_size_in: frame.len() as u32,
            data_size_out: out.len() as u32,
            data_in: frame.as_ptr() as u64,
            data_out: out.as_mut_ptr() as u64,
            ..Self::default()
        }
    }
}

fn finish(mut attr: TestRun, mut out: Vec<u8>) -> Outcome {
    // SAFETY: every pointer is valid for the size that stands next to it, for the length of the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_TEST_RUN, &raw mut attr, size_of::<TestRun>()) };
    assert_eq!(result, 0, "BPF_PROG_TEST_RUN: {}", std::io::Error::last_os_error());
    out.truncate(attr.data_size_out as usize);
    Outcome { verdict: attr.retval as i32, frame: out, mark: 0, nanoseconds: attr.duration }
}
