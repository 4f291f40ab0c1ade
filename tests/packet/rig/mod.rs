//! Programs and maps of one test, and one way to run a packet through them.

mod flows;
mod net;
mod tables;

use std::{
    cell::Cell,
    marker::PhantomData,
    sync::atomic::{AtomicUsize, Ordering},
};

use aya::{Ebpf, EbpfLoader, programs::ProgramFd};
use sluice_gateway_ebpf::maps::clock_seconds;

use crate::build::{Tcp, tcp};
pub use crate::test_run::{Context, Outcome, test_run};
use crate::test_run::{load_all, program, test_run_xdp};
pub use flows::sweep_request;
pub use net::{Net, client};

/// `TC_ACT_UNSPEC` as the program's return value: the packet is not ours.
pub const PASS: i32 = -1;
/// `TC_ACT_SHOT`
pub const SHOT: i32 = 2;
/// `TC_ACT_REDIRECT`
pub const REDIRECT: i32 = 7;

/// `XDP_PASS`
const XDP_PASS: i32 = 2;
/// `XDP_REDIRECT`
const XDP_REDIRECT: i32 = 4;
/// Ethernet addresses of the next hop on the cluster link, and of that link.
pub const CLUSTER_ETHERNET: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];

thread_local! {
    static BY_XDP: Cell<bool> = const { Cell::new(false) };
}

/// Runs a test on rigs whose forward program has the XDP program before it.
pub fn by_xdp(test: fn()) {
    BY_XDP.set(true);
    test();
}

/// A device that there is in every network namespace; nothing is sent by it.
const LOOPBACK: u32 = 1;
/// MTU of the external link in these tests.
pub const EXTERNAL_MTU: u32 = 1500;
/// MTU of the cluster link in these tests.
pub const CLUSTER_MTU: u32 = 1400;
/// The service that tests use unless they make their own.
pub const SERVICE: u32 = 1;
/// Its target.
pub const TARGET: u16 = 1;
/// Port of the VIP.
pub const VIP_PORT: u16 = 80;
/// Port of the target; another one, so that a mix-up shows.
pub const TARGET_PORT: u16 = 8080;

/// Programs and maps.
pub struct Rig<N: Net> {
    ebpf: Ebpf,
    /// The XDP program stands before the forward program.
    by_xdp: bool,
    redirected_by_xdp: AtomicUsize,
    family: PhantomData<N>,
}

impl<N: Net> Rig<N> {
    /// Loads the programs with one service and one target.
    pub fn new() -> Self {
        Self::with_flows(1024)
    }

    /// As [`Rig::new`], with room for `flows` flows.
    pub fn with_flows(flows: u32) -> Self {
        assert!(!N::object().is_empty(), "built without BPF programs: run `cargo xtask build-ebpf` first");
        let (flow_map, reply_map) = (format!("flows_{}", N::SUFFIX), format!("replies_{}", N::SUFFIX));
        let mut ebpf = EbpfLoader::new()
            .map_max_entries(&flow_map, flows)
            .map_max_entries(&reply_map, flows)
            .load(N::object())
            .expect("load the object");
        load_all(&mut ebpf);
        let mut rig =
            Self { ebpf, by_xdp: BY_XDP.get(), redirected_by_xdp: AtomicUsize::new(0), family: PhantomData };
        rig.set_hop(|_| {});
        rig.set_xdp_device(LOOPBACK);
        rig.configure(|_| {});
        rig.set_target(TARGET, |_| {});
        rig.set_service(VIP_PORT, 6, |_| {});
        rig.set_service(VIP_PORT, 17, |_| {});
        rig
    }

    /// Puts the XDP program before the forward program from now on.
    pub fn use_xdp(&mut self) {
        self.by_xdp = true;
    }

    /// Packets that the XDP program has redirected.
    pub fn redirected_by_xdp(&self) -> usize {
        self.redirected_by_xdp.load(Ordering::Relaxed)
    }

    /// Takes a connection of [`Net::CLIENT`] through its handshake.
    pub fn establish(&self, port: u16) {
        let segment =
            |flags, acknowledgement| Tcp { source_port: port, flags, acknowledgement, ..Tcp::default() };
        let answer = Tcp { source_port: TARGET_PORT, destination_port: port, flags: "SA", ..Tcp::default() };
        assert_eq!(self.forward(&tcp::<N>(N::CLIENT, N::VIP, &segment("S", 0))).verdict, REDIRECT);
        assert_eq!(self.reverse(&tcp::<N>(N::TARGET, N::SNAT, &answer)).verdict, REDIRECT);
        let last = tcp::<N>(N::CLIENT, N::VIP, &segment("A", answer.sequence + 1));
        assert_eq!(self.forward(&last).verdict, REDIRECT);
    }

    /// A frame from outside.
    pub fn forward(&self, frame: &[u8]) -> Outcome {
        self.run("forward", frame, Context::default())
    }

    /// A frame from the cluster.
    pub fn reverse(&self, frame: &[u8]) -> Outcome {
        self.run("reverse", frame, Context::default())
    }

    /// Runs `program` on a frame.
    pub fn run(&self, program: &str, frame: &[u8], context: Context) -> Outcome {
        // A super-packet comes to be only behind XDP.
        if self.by_xdp && program == "forward" && context.gso_size == 0 {
            let outcome = self.xdp(frame, 1);
            if outcome.verdict == XDP_REDIRECT {
                return self.as_by_tc(outcome, frame, context);
            }
            assert_eq!(
                (outcome.verdict, &outcome.frame[..]),
                (XDP_PASS, frame),
                "what XDP declines is unchanged"
            );
        }
        test_run(self.program(program), frame, context, 1)
    }

    /// Runs the XDP program on a frame, each run on what the one before left.
    pub fn xdp(&self, frame: &[u8], repeat: u32) -> Outcome {
        test_run_xdp(self.program("xdp"), frame, repeat)
    }

    /// What the forward program would have said: it leaves the Ethernet header to the kernel.
    fn as_by_tc(&self, mut outcome: Outcome, frame: &[u8], context: Context) -> Outcome {
        self.redirected_by_xdp.fetch_add(1, Ordering::Relaxed);
        assert_eq!(outcome.frame[..12], CLUSTER_ETHERNET.concat());
        outcome.frame[..12].copy_from_slice(&frame[..12]);
        Outcome { verdict: REDIRECT, mark: context.mark, ..outcome }
    }

    fn program(&self, stem: &str) -> &ProgramFd {
        program(&self.ebpf, &format!("{stem}_{}", N::SUFFIX))
    }

    /// Runs `program` `repeat` times on a frame, each run on what the one before left.
    pub fn repeat(&self, program: &str, frame: &[u8], repeat: u32) -> Outcome {
        test_run(self.program(program), frame, Context::default(), repeat)
    }
}

/// Seconds of the programs' clock.
pub fn clock() -> u32 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("a clock");
    clock_seconds(now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
}
