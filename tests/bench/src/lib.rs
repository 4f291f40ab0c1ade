//! What the data path can do, beside what others do with the same packets.
//!
//! Each contender has a network of its own (the tests' topology), so that all of them stand ready at once and take turns in
//! every round. The generator runs on one CPU, and so does whatever it sets off: rates are what one core can do, the generator's and the
//! sink's own work included.

pub mod contender;
pub mod cpu;
pub mod latencies;
pub mod programs;
pub mod report;
pub mod rig;
pub mod rounds;
pub mod tcp;
pub mod traffic;
