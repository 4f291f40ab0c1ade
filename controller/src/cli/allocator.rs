//! How the C library's allocator keeps memory.

/// Makes all threads allocate from one arena. By default each has its own, and what one of them needs once, such as for the first list of a
/// kind, stays with it and is of no use to the others. To be called before there is a second thread.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn use_one_arena() {
    // SAFETY: `mallopt` takes two numbers, and no other thread is allocating yet. That an unknown number is refused does no harm.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// Other C libraries have no arenas.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn use_one_arena() {}
