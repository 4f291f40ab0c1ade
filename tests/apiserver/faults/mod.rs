//! Everything that goes wrong: processes that die, servers that are away, others who write, watches that forget.

mod history;
mod kills;
