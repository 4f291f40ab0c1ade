//! What `/proc/<pid>/fdinfo` says of BPF objects: the facts that aya does not pass on.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd as _},
};

/// The value of `key` for an open BPF object; `None` if the kernel does not print it.
pub(super) fn read(object: impl AsFd, key: &str) -> io::Result<Option<u64>> {
    // Threads share their descriptors, and `thread-self` also serves callers whose main thread has ended.
    let path = format!("/proc/thread-self/fdinfo/{}", object.as_fd().as_raw_fd());
    Ok(parse(&fs::read_to_string(path)?, key))
}

fn parse(text: &str, key: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    value.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made of the lines that kernel/bpf/syscall.c, tcx.c and net_namespace.c print.
    const TEXT: &str = "pos:\t0\nflags:\t02000002\nlink_type:\ttcx\nlink_id:\t9\nprog_id:\t77\nifindex:\t12\n\
                        attach_type:\t46 (tcx_ingress)\nmemlock:\t4096\n";

    #[test]
    fn a_key_is_matched_whole() {
        assert_eq!(parse(TEXT, "ifindex"), Some(12));
        assert_eq!(parse(TEXT, "attach_type"), Some(46));
        assert_eq!(parse(TEXT, "memlock"), Some(4096));
        assert_eq!(parse(TEXT, "prog"), None);
        assert_eq!(parse(TEXT, "id"), None);
        assert_eq!(parse(TEXT, "link_type"), None, "not a number");
    }
}
