//! The gateway's network on a real kernel: what `ip` prints, what survives, what comes back, what is left.

mod announce;
mod edits;
mod foreign;
mod pod;
mod privilege;
mod repair;
mod views;
