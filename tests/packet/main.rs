//! The packet rung: golden packets through the real programs by BPF_PROG_TEST_RUN.
//!
//! After each run every checksum is recomputed by a parser that shares no code with the programs, and the maps are looked
//! at. Each test loads programs and maps of its own, so that tests run side by side.

mod build;
mod rig;

mod cost;
mod tcp;
