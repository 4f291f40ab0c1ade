//! Printing what a debug build of the programs says of each packet.

use std::{os::fd::AsFd as _, thread};

use aya::Ebpf;
use aya_log::EbpfLogger;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::{debug, warn};

/// The ring buffer that `aya-log-ebpf` adds to an object; an ordinary build has none.
const RING: &str = "AYA_LOGS";

/// Prints the programs' lines for as long as this process lives, if they write any. They pass through the `log` crate at level
/// debug, so that `RUST_LOG` decides.
pub(super) fn follow(programs: &mut Ebpf) {
    if programs.map(RING).is_none() {
        return;
    }
    let mut logger = match EbpfLogger::init(programs) {
        Ok(logger) => logger,
        Err(error) => return warn!(%error, "the programs' own log cannot be read"),
    };
    thread::spawn(move || {
        loop {
            let mut ready = [PollFd::new(logger.as_fd(), PollFlags::POLLIN)];
            if let Err(error) = poll(&mut ready, PollTimeout::NONE)
                && error != nix::errno::Errno::EINTR
            {
                debug!(%error, "the programs' own log has ended");
                return;
            }
            logger.flush();
        }
    });
}
