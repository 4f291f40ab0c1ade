//! Everything that goes wrong: processes that die, servers that are away, others who write, watches that forget.

mod crowd;
mod history;
mod kills;
mod leaders;
mod memory;
mod outage;
mod watches;
mod writers;
