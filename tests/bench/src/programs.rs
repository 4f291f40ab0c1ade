//! The benches' BPF programs: loading, attaching, running, reading their counters.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, PerCpuArray, xdp::DevMap};
use aya::programs::{
    SchedClassifier, TcAttachType, TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode, tc,
};
use aya::{Ebpf, EbpfLoader, Pod};
use sluice_bench_ebpf::{BUCKETS, Expected, Position, Tally, Traffic, Wrong};
use sluice_tests::netns::Netns;

/// Frames that the kernel makes before it hands them on, where they are to be many.
const BATCH: u32 = 64;
/// The kernel's `struct xdp_md` with the device that a run's frames come from (include/uapi/linux/bpf.h).
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct XdpMd {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_ifindex: u32,
    rx_queue_index: u32,
    egress_ifindex: u32,
}

/// A set of the programs, with maps of its own.
pub struct Programs {
    ebpf: Ebpf,
    /// Frames that the kernel makes before it hands them on.
    batch: u32,
}

impl Programs {
    /// Loads them, with room for `flows` in those that remember flows; nothing is attached.
    ///
    /// # Errors
    /// If they have not been built, or the kernel refuses them.
    pub fn load(flows: u32) -> Result<Self> {
        let path = sluice_tests::objects::path("sluice-bench-traffic");
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("flow_table", flows)
            .map_max_entries("flow_lines", flows)
            .load_file(&path)
            .with_context(|| format!("loading {}: run `cargo xtask build-ebpf` first", path.display()))?;
        xdp(&mut ebpf, "generate")?.load().context("loading generate")?;
        Ok(Self { ebpf, batch: BATCH })
    }

    /// Lets an XDP program see what arrives at a device, natively.
    ///
    /// # Errors
    /// If the device cannot.
    pub fn attach_xdp(&mut self, name: &str, netns: &Netns, device: &str) -> Result<()> {
        let program = xdp(&mut self.ebpf, name)?;
        program.load().with_context(|| format!("loading {name}"))?;
        let what = || format!("attaching {name} to {device}");
        netns.run(|| program.attach(device, XdpMode::Driver).map(drop).with_context(what))
    }

    /// Lets a tc program see what arrives at a device.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn attach_tc(&mut self, name: &str, netns: &Netns, device: &str) -> Result<()> {
        let program = self.ebpf.program_mut(name).with_context(|| format!("no program {name}"))?;
        let program: &mut SchedClassifier = program.try_into().with_context(|| format!("program {name}"))?;
        program.load().with_context(|| format!("loading {name}"))?;
        let what = || format!("attaching {name} to {device}");
        netns.run(|| {
            // The kernel before 6.6 wants it, a later one does without.
            let _ = tc::qdisc_add_clsact(device);
            program.attach(device, TcAttachType::Ingress).map(drop).with_context(what)
        })
    }

    /// Where the redirects send to: a device of `netns`. `neighbour`: for the one that lets the kernel write its address into the
    /// frame.
    ///
    /// # Errors
    /// If there is no such device, or the kernel refuses to write a map.
    pub fn redirect_to(&mut self, netns: &Netns, device: &str, neighbour: Ipv4Addr) -> Result<()> {
        let device = ifindex(netns, device)?;
        let map = self.ebpf.map_mut("egress_device").context("no map egress_device")?;
        let mut map: DevMap<_> = map.try_into().context("egress_device")?;
        netns.run(|| map.set(0, device, None, 0).context("writing the device"))?;
        self.array::<u32>("egress")?.set(0, device, 0).context("writing where to redirect")?;
        let neighbour = u32::from(neighbour).to_be();
        self.array::<u32>("next_hop")?.set(0, neighbour, 0).context("writing the neighbour")
    }

    /// Sets what is made and what must arrive, and forgets what has arrived.
    ///
    /// # Errors
    /// If the kernel refuses to write a map.
    pub fn prepare(&mut self, traffic: Traffic, expected: Expected) -> Result<()> {
        self.array::<Traffic>("traffic")?.set(0, traffic, 0).context("writing the traffic")?;
        self.array::<Expected>("expected")?.set(0, expected, 0).context("writing what is expected")?;
        self.array::<Position>("position")?.set(0, Position::default(), 0).context("starting anew")?;
        self.forget()
    }

    /// Sets the time from one packet to the next, nanoseconds; 0: as fast as it goes.
    ///
    /// # Errors
    /// If the kernel refuses to read or write a map.
    pub fn pace(&mut self, interval: u64) -> Result<()> {
        let mut map = self.array::<Position>("position")?;
        let position = map.get(&0, 0).context("asking where the generator is")?;
        map.set(0, Position { interval, due: 0, ..position }, 0).context("setting the pace")?;
        self.batch = if interval == 0 { BATCH } else { 1 };
        Ok(())
    }

    /// Forgets what has arrived.
    ///
    /// # Errors
    /// If the kernel refuses to write a map.
    pub fn forget(&mut self) -> Result<()> {
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| error).context("counting the CPUs")?;
        let map = self.ebpf.map_mut("tally").context("no map tally")?;
        let mut map: PerCpuArray<_, Tally> = map.try_into().context("tally")?;
        let zero = aya::maps::PerCpuValues::try_from(vec![Tally::default(); cpus]).context("zeros")?;
        map.set(0, zero, 0).context("forgetting what has arrived")
    }

    /// Makes `count` packets of up to `largest` bytes as if they came from `device` of `netns`.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn generate(&mut self, netns: &Netns, device: u32, largest: usize, count: u32) -> Result<Duration> {
        let frame = vec![0_u8; largest];
        let context = XdpMd {
            data: 0,
            data_end: u32::try_from(largest).context("a frame's length")?,
            data_meta: 0,
            ingress_ifindex: device,
            rx_queue_index: 0,
            egress_ifindex: 0,
        };
        let program = xdp(&mut self.ebpf, "generate")?;
        netns.run(|| {
            let started = Instant::now();
            let options = TestRunOptions {
                data_in: Some(&frame),
                ctx_in: Some(bytemuck::bytes_of(&context)),
                repeat: count,
                attrs: TestRunAttrs::new().xdp_live_frames(self.batch),
                ..TestRunOptions::default()
            };
            program.test_run(options).context("running the generator")?;
            Ok(started.elapsed())
        })
    }

    /// What has arrived, of all CPUs.
    ///
    /// # Errors
    /// If the kernel refuses to read a map.
    pub fn tally(&self) -> Result<Tally> {
        let map = self.ebpf.map("tally").context("no map tally")?;
        let map: PerCpuArray<_, Tally> = map.try_into().context("tally")?;
        let mut sum = Tally::default();
        for cpu in map.get(&0, 0).context("reading what has arrived")?.iter() {
            sum.packets += cpu.packets;
            sum.bytes += cpu.bytes;
            sum.checked += cpu.checked;
            for (sum, wrong) in sum.wrong.iter_mut().zip(cpu.wrong) {
                *sum += wrong;
            }
        }
        Ok(sum)
    }

    /// Packets by bucket of latency, of all CPUs.
    ///
    /// # Errors
    /// If the kernel refuses to read a map.
    pub fn latencies(&self) -> Result<Vec<u64>> {
        let map = self.ebpf.map("latencies").context("no map latencies")?;
        let map: PerCpuArray<_, u64> = map.try_into().context("latencies")?;
        (0..BUCKETS)
            .map(|bucket| Ok(map.get(&bucket, 0).context("reading the latencies")?.iter().sum()))
            .collect()
    }

    fn array<V: Pod>(&mut self, name: &str) -> Result<Array<&mut aya::maps::MapData, V>> {
        let map = self.ebpf.map_mut(name).with_context(|| format!("no map {name}"))?;
        map.try_into().with_context(|| format!("map {name}"))
    }
}

/// Fails if something arrived that is not what it should be.
///
/// # Errors
/// Says what is wrong with how many packets.
pub fn judge(tally: &Tally) -> Result<()> {
    let wrong = Wrong::ALL.into_iter().zip(tally.wrong).filter(|(_, count)| *count > 0);
    let wrong: Vec<String> = wrong.map(|(fault, count)| format!("{fault:?} of {count}")).collect();
    ensure!(wrong.is_empty(), "of {} packets that were checked, wrong: {}", tally.checked, wrong.join(", "));
    Ok(())
}

/// The index of a device.
///
/// # Errors
/// If there is none of this name.
pub fn ifindex(netns: &Netns, device: &str) -> Result<u32> {
    netns.run(|| nix::net::if_::if_nametoindex(device).with_context(|| format!("looking for {device}")))
}

fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = ebpf.program_mut(name).with_context(|| format!("no program {name}"))?;
    program.try_into().with_context(|| format!("program {name}"))
}
