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
const BPF_PROG_TEST_RUN: u32 = 10;
const BPF_PROG_QUERY: u32 = 16;
const BPF_LINK_CREATE: u32 = 28;
const BPF_LINK_UPDATE: u32 = 29;
const BPF_LINK_DETACH: u32 = 34;

const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_PROG_TYPE_SK_LOOKUP: u32 = 30;
const BPF_SK_LOOKUP: u32 = 36;
const BPF_XDP: u32 = 37;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;

/// Attach by the driver, or not at all.
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
/// What an XDP test run decides is carried out.
const BPF_F_TEST_XDP_LIVE_FRAMES: u32 = 1 << 1;

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
    // r0 = 1 (SK_PASS); exit
    let pass = [[0xb7, 0, 0, 0, 1, 0, 0, 0], EXIT];
    let program = load(BPF_PROG_TYPE_SK_LOOKUP, BPF_SK_LOOKUP, *b"sluice_liveness\0", &pass)?;
    create_link(&program, netns.as_fd().as_raw_fd(), BPF_SK_LOOKUP, 0)
}

/// A link that holds an XDP program on the device `ifindex` in this thread's network namespace.
///
/// # Errors
///
/// `EOPNOTSUPP` if its driver has no XDP, `EBUSY` if it has a program of another's, `ERANGE` if the MTU of a veth's other end is too large.
pub(super) fn link_to_xdp(program: impl AsFd, ifindex: u32) -> io::Result<OwnedFd> {
    let ifindex = RawFd::try_from(ifindex).map_err(io::Error::other)?;
    create_link(program, ifindex, BPF_XDP, XDP_FLAGS_DRV_MODE)
}

/// `target`: a file descriptor or an interface index, as the attach type asks for.
fn create_link(program: impl AsFd, target: i32, attach_type: u32, flags: u32) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct LinkCreate {
        program: RawFd,
        target: i32,
        attach_type: u32,
        flags: u32,
    }
    let mut create = LinkCreate { program: program.as_fd().as_raw_fd(), target, attach_type, flags };
    // SAFETY: no pointers; the file descriptors are open.
    let fd = unsafe { bpf(BPF_LINK_CREATE, &mut create) }?;
    // SAFETY: the call returned a new file descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts `program` in the place of the one that the link holds: a packet meets the one or the other.
pub(super) fn update_link(link: impl AsFd, program: impl AsFd) -> io::Result<()> {
    #[repr(C)]
    struct LinkUpdate {
        link: RawFd,
        program: RawFd,
        flags: u32,
        old_program: RawFd,
    }
    let mut update = LinkUpdate {
        link: link.as_fd().as_raw_fd(),
        program: program.as_fd().as_raw_fd(),
        flags: 0,
        old_program: 0,
    };
    // SAFETY: no pointers; both file descriptors are open.
    unsafe { bpf(BPF_LINK_UPDATE, &mut update) }.map(drop)
}

/// Sends `frame` `times` times out of the device `ifindex` in this thread's network namespace, as an XDP program does that redirects
/// there (a test run with live frames, Linux 5.18). That nothing failed does not say that anything was sent.
pub fn redirect_by_xdp(ifindex: u32, frame: &[u8], times: u32) -> io::Result<()> {
    #[repr(C)]
    struct TestRun {
        program: RawFd,
        return_value: u32,
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
    let [a, b, c, d] = ifindex.to_le_bytes();
    // r1 = ifindex; r2 = 0; call bpf_redirect; exit
    let redirect =
        [[0xb7, 1, 0, 0, a, b, c, d], [0xb7, 2, 0, 0, 0, 0, 0, 0], [0x85, 0, 0, 0, 23, 0, 0, 0], EXIT];
    let program = load(BPF_PROG_TYPE_XDP, BPF_XDP, *b"sluice_probe\0\0\0\0", &redirect)?;
    let mut run = TestRun {
        program: program.as_raw_fd(),
        return_value: 0,
        data_size_in: u32::try_from(frame.len()).map_err(io::Error::other)?,
        data_size_out: 0,
        data_in: frame.as_ptr() as u64,
        data_out: 0,
        repeat: times,
        duration: 0,
        ctx_size_in: 0,
        ctx_size_out: 0,
        ctx_in: 0,
        ctx_out: 0,
        flags: BPF_F_TEST_XDP_LIVE_FRAMES,
        cpu: 0,
        batch_size: 0,
        pad: 0,
    };
    // SAFETY: `data_in` points at as many bytes as `data_size_in` says; the other pointers are unset.
    unsafe { bpf(BPF_PROG_TEST_RUN, &mut run) }.map(drop)
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

/// The instruction that every program ends with.
const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];

/// Loads a program of a few instructions, written down as bytes.
fn load(prog_type: u32, attach_type: u32, prog_name: [u8; 16], insns: &[[u8; 8]]) -> io::Result<OwnedFd> {
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
    let mut load = ProgLoad {
        prog_type,
        insn_count: insns.len() as u32,
        insns: insns.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
        prog_name,
        prog_ifindex: 0,
        expected_attach_type: attach_type,
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
