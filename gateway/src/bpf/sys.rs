//! The few bpf(2) calls that aya lacks, or makes in a way that asks for CAP_SYS_ADMIN.
//!
//! Layouts are those of `union bpf_attr` in the kernel's `include/uapi/linux/bpf.h` (Linux 6.6), the part that a call reads.

use std::{
    ffi::CString,
    io, mem,
    os::{
        fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use super::slots::Direction;

const BPF_PROG_LOAD: u32 = 5;
const BPF_OBJ_PIN: u32 = 6;
const BPF_OBJ_GET: u32 = 7;
const BPF_PROG_QUERY: u32 = 16;
const BPF_LINK_CREATE: u32 = 28;
const BPF_LINK_DETACH: u32 = 34;

const BPF_PROG_TYPE_SK_LOOKUP: u32 = 30;
const BPF_SK_LOOKUP: u32 = 36;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;

/// The most programs that one TCX hook holds (`BPF_MPROG_MAX`).
const MPROG_MAX: usize = 64;

/// A program on a TCX hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OnHook {
    /// Id of the program.
    pub program: u32,
    /// Id of the link that holds it there; 0 for one that was attached without a link.
    pub link: u32,
}

/// The programs on a TCX hook of the device `ifindex` in this thread's network namespace, in the order in which they run.
///
/// aya's own query also opens every program found by its id, which needs CAP_SYS_ADMIN.
///
/// # Errors
///
/// `EINVAL` on kernels without TCX (before 6.6), `ENODEV` if there is no such device.
pub(super) fn query_tcx(ifindex: u32, direction: Direction) -> io::Result<Vec<OnHook>> {
    #[repr(C)]
    struct Query {
        ifindex: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        program_ids: u64,
        count: u32,
        pad: u32,
        program_attach_flags: u64,
        link_ids: u64,
        link_attach_flags: u64,
        revision: u64,
    }
    let mut programs = [0_u32; MPROG_MAX];
    let mut links = [0_u32; MPROG_MAX];
    let mut query = Query {
        ifindex,
        attach_type: match direction {
            Direction::Ingress => BPF_TCX_INGRESS,
            Direction::Egress => BPF_TCX_EGRESS,
        },
        query_flags: 0,
        attach_flags: 0,
        program_ids: programs.as_mut_ptr() as u64,
        count: MPROG_MAX as u32,
        pad: 0,
        program_attach_flags: 0,
        link_ids: links.as_mut_ptr() as u64,
        link_attach_flags: 0,
        revision: 0,
    };
    // SAFETY: the two pointers are to live arrays of as many elements as `count` says.
    unsafe { bpf(BPF_PROG_QUERY, &mut query) }?;
    let found = programs.into_iter().zip(links).take(query.count as usize);
    Ok(found.map(|(program, link)| OnHook { program, link }).collect())
}

/// Takes a link's program off its device, now: to remove the link's pin does that too, but some time later.
pub(super) fn detach(link: impl AsFd) -> io::Result<()> {
    let mut fd: RawFd = link.as_fd().as_raw_fd();
    // SAFETY: no pointers; the file descriptor is open.
    unsafe { bpf(BPF_LINK_DETACH, &mut fd) }?;
    Ok(())
}

/// A link to `netns` (an open namespace file) that does nothing but exist: a program for socket lookups that lets each take its
/// course. See [`super::liveness`].
pub(super) fn link_to_netns(netns: impl AsFd) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct LinkCreate {
        program: RawFd,
        target: RawFd,
        attach_type: u32,
        flags: u32,
    }
    let program = load_sk_pass()?;
    let mut create = LinkCreate {
        program: program.as_raw_fd(),
        target: netns.as_fd().as_raw_fd(),
        attach_type: BPF_SK_LOOKUP,
        flags: 0,
    };
    // SAFETY: no pointers; both file descriptors are open.
    let fd = unsafe { bpf(BPF_LINK_CREATE, &mut create) }?;
    // SAFETY: the call returned a new file descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What BPF_OBJ_PIN and BPF_OBJ_GET read.
#[repr(C)]
struct Pin {
    path: u64,
    fd: RawFd,
    file_flags: u32,
}

/// Pins any BPF object at `path`.
pub(super) fn pin(object: impl AsFd, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut pin = Pin { path: path.as_ptr() as u64, fd: object.as_fd().as_raw_fd(), file_flags: 0 };
    // SAFETY: `path` is a live string that ends in a NUL.
    unsafe { bpf(BPF_OBJ_PIN, &mut pin) }?;
    Ok(())
}

/// Opens whatever is pinned at `path`; `None` if there is no such file.
pub(super) fn open(path: &Path) -> io::Result<Option<OwnedFd>> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut pin = Pin { path: path.as_ptr() as u64, fd: 0, file_flags: 0 };
    // SAFETY: `path` is a live string that ends in a NUL.
    match unsafe { bpf(BPF_OBJ_GET, &mut pin) } {
        // SAFETY: the call returned a new file descriptor, which nobody else owns.
        Ok(fd) => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Loads a program for socket lookups that returns SK_PASS, which means: look up as if there were no program.
fn load_sk_pass() -> io::Result<OwnedFd> {
    #[repr(C)]
    struct ProgLoad {
        prog_type: u32,
        insn_count: u32,
        insns: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log_buf: u64,
        kern_version: u32,
        prog_flags: u32,
        prog_name: [u8; 16],
        prog_ifindex: u32,
        expected_attach_type: u32,
    }
    // r0 = 1 (SK_PASS); exit
    let insns: [[u8; 8]; 2] = [[0xb7, 0, 0, 0, 1, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];
    let mut load = ProgLoad {
        prog_type: BPF_PROG_TYPE_SK_LOOKUP,
        insn_count: insns.len() as u32,
        insns: insns.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
        prog_name: *b"sluice_liveness\0",
        prog_ifindex: 0,
        expected_attach_type: BPF_SK_LOOKUP,
    };
    // SAFETY: the pointers are to live data, `insn_count` instructions and a string that ends in a NUL.
    let fd = unsafe { bpf(BPF_PROG_LOAD, &mut load) }?;
    // SAFETY: the call returned a new file descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// bpf(2).
///
/// # Safety
///
/// `attr` must be laid out as `command` expects, without padding, and its pointers must be valid for what the command does.
unsafe fn bpf<T>(command: u32, attr: &mut T) -> io::Result<RawFd> {
    // SAFETY: `attr` is live and of the size given; the rest is the caller's promise.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), mem::size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
}
