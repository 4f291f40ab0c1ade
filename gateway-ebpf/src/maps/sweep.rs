//! Requests to the sweep programs.

/// EtherType of a request to the sweep programs (IEEE 802.1, local experiments): a frame with zero addresses, one byte of
/// operation, one of count, then as many keys.
pub const SWEEP_ETHERTYPE: u16 = 0x88b5;
/// Most keys in one request.
pub const SWEEP_MAX_KEYS: u32 = 64;
/// Operation: delete the named flows that are dead.
pub const SWEEP_EXPIRED: u8 = 1;
/// Operation: delete the named flows.
pub const SWEEP_FLUSH: u8 = 2;
/// Operation: delete the named reservations that are free or orphaned, for two seconds or longer.
pub const SWEEP_REPLIES: u8 = 3;
