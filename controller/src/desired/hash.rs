//! Short hashes, for annotations that are compared and never read.

use sha2::{Digest as _, Sha256};

/// The first `bytes` bytes of the SHA-256 of `data`, in hexadecimal digits.
pub(crate) fn hex(data: &[u8], bytes: usize) -> String {
    Sha256::digest(data).iter().take(bytes).map(|byte| format!("{byte:02x}")).collect()
}

/// Long enough that two contents of one object never meet.
pub(super) fn of_content(data: &[u8]) -> String {
    hex(data, 16)
}
