//! The packet rung: golden packets through the real programs by BPF_PROG_TEST_RUN.
//!
//! After each run every checksum is recomputed by a parser that shares no code with the programs, and the maps are looked
//! at. Each test loads programs and maps of its own, so that tests run side by side.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test panics")]

/// Runs generic tests for both families.
macro_rules! both_families {
    ($($name:ident),+ $(,)?) => { $(
        mod $name {
            #[test]
            fn v4() { super::$name::<sluice_gateway_ebpf::family::V4>(); }
            #[test]
            fn v6() { super::$name::<sluice_gateway_ebpf::family::V6>(); }
        }
    )+ };
}

/// As `both_families`, and once more with the XDP program before the forward program.
macro_rules! both_hooks {
    ($($name:ident),+ $(,)?) => { $(
        mod $name {
            #[test]
            fn v4() { super::$name::<sluice_gateway_ebpf::family::V4>(); }
            #[test]
            fn v6() { super::$name::<sluice_gateway_ebpf::family::V6>(); }
            #[test]
            fn xdp_v4() { crate::rig::by_xdp(super::$name::<sluice_gateway_ebpf::family::V4>); }
            #[test]
            fn xdp_v6() { crate::rig::by_xdp(super::$name::<sluice_gateway_ebpf::family::V6>); }
        }
    )+ };
}

mod build;
mod rig;

mod cost;
mod errors;
mod fragments;
mod handover;
mod headers;
mod hot;
mod memory;
mod paths;
mod races;
mod reservations;
mod services;
mod tcp;
mod test_run;
mod udp;
mod xdp;
