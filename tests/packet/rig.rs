//! Programs and maps of one test, and one way to run a packet through them.

use std::{
    cell::Cell,
    fmt::Debug,
    marker::PhantomData,
    sync::atomic::{AtomicUsize, Ordering},
};

use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{Array, HashMap, LpmTrie, MapData, PerCpuArray, lpm_trie},
    programs::ProgramFd,
};
use sluice_gateway::bpf::Objects;
use sluice_gateway_ebpf::{
    conntrack::State,
    family::{Address as _, Family, V4, V6},
    maps::{
        Activity, Config, Flow, FlowKey, Hop, Owner, RangeKey, Reply, ReplyKey, SWEEP_ETHERTYPE,
        SWEEP_MAX_KEYS, Service, ServiceKey, ServiceStats, TARGET_ACTIVE, Target, Timeouts, clock_seconds,
        flow_check,
    },
    ports,
    verdict::Drop,
};

use crate::build::{Tcp, tcp};
pub use crate::test_run::{Context, Outcome, test_run};
use crate::test_run::{load_all, program, test_run_xdp};

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

/// A family with the addresses that tests use.
pub trait Net: Family<Addr: Pod + Send + Sync, Reply: Pod> + Debug + Send + Sync {
    /// Suffix of programs and maps.
    const SUFFIX: &'static str;
    /// The embedded object.
    fn object() -> &'static [u8];
    /// A client inside the VIP's subnet.
    const CLIENT: Self::Addr;
    /// A client behind the external gateway.
    const FAR_CLIENT: Self::Addr;
    /// The VIP.
    const VIP: Self::Addr;
    /// The netmask of the VIP's subnet.
    const MASK: Self::Addr;
    /// The external gateway.
    const GATEWAY: Self::Addr;
    /// The target.
    const TARGET: Self::Addr;
    /// Another target.
    const TARGET_2: Self::Addr;
    /// The address that the target sees.
    const SNAT: Self::Addr;
    /// Next hop to the target.
    const NEXT_HOP: Self::Addr;
    /// A router on the way.
    const ROUTER: Self::Addr;
}

impl Net for V4 {
    const SUFFIX: &'static str = "v4";
    fn object() -> &'static [u8] {
        Objects::EMBEDDED.v4
    }
    const CLIENT: [u8; 4] = [172, 18, 0, 100];
    const FAR_CLIENT: [u8; 4] = [192, 0, 2, 77];
    const VIP: [u8; 4] = [172, 18, 0, 18];
    const MASK: [u8; 4] = [255, 255, 0, 0];
    const GATEWAY: [u8; 4] = [172, 18, 0, 1];
    const TARGET: [u8; 4] = [10, 109, 201, 193];
    const TARGET_2: [u8; 4] = [10, 109, 201, 194];
    const SNAT: [u8; 4] = [10, 16, 0, 2];
    const NEXT_HOP: [u8; 4] = [10, 16, 0, 1];
    const ROUTER: [u8; 4] = [198, 51, 100, 9];
}

/// An IPv6 address of the documentation prefix (RFC 3849).
const fn v6(subnet: u8, host: u8) -> [u8; 16] {
    [0x20, 0x01, 0x0d, 0xb8, 0, subnet, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, host]
}

impl Net for V6 {
    const SUFFIX: &'static str = "v6";
    fn object() -> &'static [u8] {
        Objects::EMBEDDED.v6
    }
    const CLIENT: [u8; 16] = v6(1, 100);
    const FAR_CLIENT: [u8; 16] = v6(2, 77);
    const VIP: [u8; 16] = v6(1, 18);
    const MASK: [u8; 16] = [255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0];
    const GATEWAY: [u8; 16] = v6(1, 1);
    const TARGET: [u8; 16] = v6(3, 193);
    const TARGET_2: [u8; 16] = v6(3, 194);
    const SNAT: [u8; 16] = v6(4, 2);
    const NEXT_HOP: [u8; 16] = v6(4, 1);
    const ROUTER: [u8; 16] = v6(5, 9);
}

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
        rig.configure(|_| {});
        rig.set_target(TARGET, |_| {});
        rig.set_service(VIP_PORT, 6, |_| {});
        rig.set_service(VIP_PORT, 17, |_| {});
        rig
    }

    /// Writes the settings, after `change`.
    pub fn configure(&mut self, change: impl FnOnce(&mut Config)) {
        let mut config = Config {
            external_ifindex: 101,
            cluster_ifindex: 102,
            external_mtu: EXTERNAL_MTU,
            cluster_mtu: CLUSTER_MTU,
            icmp_rate: 1000,
            pad: 0,
            timeouts: Timeouts::DEFAULT,
        };
        change(&mut config);
        let mut map: Array<_, Config> =
            self.ebpf.map_mut("config").expect("config").try_into().expect("array");
        map.set(0, config, 0).expect("write config");
    }

    /// Writes what the XDP program is told, after `change`.
    pub fn set_hop(&mut self, change: impl FnOnce(&mut Hop<N::Addr>)) {
        let [destination, source] = CLUSTER_ETHERNET;
        let until = clock().wrapping_add(1000);
        let mut hop = Hop { address: N::NEXT_HOP, until, destination, source, ..Hop::default() };
        change(&mut hop);
        let name = format!("hop_{}", N::SUFFIX);
        let mut map: Array<_, Hop<N::Addr>> =
            self.ebpf.map_mut(&name).expect("hop").try_into().expect("array");
        map.set(0, hop, 0).expect("write the hop");
    }

    /// Puts the XDP program before the forward program from now on.
    pub fn use_xdp(&mut self) {
        self.by_xdp = true;
    }

    /// Packets that the XDP program has redirected.
    pub fn redirected_by_xdp(&self) -> usize {
        self.redirected_by_xdp.load(Ordering::Relaxed)
    }

    /// Writes a TCP target, after `change`; also slot + 100 as the same for UDP.
    pub fn set_target(&mut self, slot: u16, change: impl Fn(&mut Target<N::Addr>)) {
        for (slot, protocol) in [(slot, 6), (slot + 100, 17)] {
            let mut target = Target {
                address: N::TARGET,
                snat: N::SNAT,
                vip: N::VIP,
                vip_mask: N::MASK,
                cluster_next_hop: N::NEXT_HOP,
                external_next_hop: N::GATEWAY,
                port: TARGET_PORT,
                vip_port: VIP_PORT,
                protocol,
                state: TARGET_ACTIVE,
                pad: 0,
                service: SERVICE,
                generation: 1,
            };
            change(&mut target);
            self.write_target(slot, target);
        }
    }

    /// Writes one slot of `targets`.
    pub fn write_target(&mut self, slot: u16, target: Target<N::Addr>) {
        let name = format!("targets_{}", N::SUFFIX);
        let mut map: Array<_, Target<N::Addr>> =
            self.ebpf.map_mut(&name).expect("targets").try_into().expect("array");
        map.set(slot.into(), target, 0).expect("write a target");
    }

    /// Writes a service port that leads to [`TARGET`], after `change`.
    pub fn set_service(&mut self, port: u16, protocol: u8, change: impl FnOnce(&mut Service)) {
        let first_target = if protocol == 17 { TARGET + 100 } else { TARGET };
        let mut service = Service { id: SERVICE, first_target, target_count: 1, flags: 0, generation: 1 };
        change(&mut service);
        let key = ServiceKey { vip: N::VIP, port, protocol, pad: 0 };
        self.services().insert(key, service, 0).expect("write a service");
    }

    /// Removes a service port.
    pub fn remove_service(&mut self, port: u16, protocol: u8) {
        let key = ServiceKey { vip: N::VIP, port, protocol, pad: 0 };
        self.services().remove(&key).expect("remove a service");
    }

    fn services(&mut self) -> HashMap<&mut MapData, ServiceKey<N::Addr>, Service> {
        let name = format!("services_{}", N::SUFFIX);
        self.ebpf.map_mut(&name).expect("services").try_into().expect("hash")
    }

    /// Lets a prefix of `bits` bits of `client` use [`SERVICE`].
    pub fn allow(&mut self, client: N::Addr, bits: u32) {
        let name = format!("ranges_{}", N::SUFFIX);
        let mut map: LpmTrie<_, RangeKey<N::Addr>, u32> =
            self.ebpf.map_mut(&name).expect("ranges").try_into().expect("trie");
        let key = lpm_trie::Key::new(32 + bits, RangeKey { service: SERVICE.to_be_bytes(), client });
        map.insert(&key, 1, 0).expect("write a range");
    }

    /// Every flow.
    pub fn flows(&self) -> Vec<(FlowKey<N::Addr>, Flow)> {
        let name = format!("flows_{}", N::SUFFIX);
        let map: HashMap<_, FlowKey<N::Addr>, Flow> =
            self.ebpf.map(&name).expect("flows").try_into().expect("hash");
        map.iter().map(|entry| entry.expect("read a flow")).collect()
    }

    /// The only flow.
    pub fn flow(&self) -> (FlowKey<N::Addr>, Flow) {
        let flows = self.flows();
        assert_eq!(flows.len(), 1, "{flows:?}");
        flows[0]
    }

    /// State of the only flow.
    pub fn state(&self) -> State {
        State::from_raw(self.flow().1.state)
    }

    /// Overwrites a flow, to let it age.
    pub fn put_flow(&mut self, key: FlowKey<N::Addr>, flow: Flow) {
        let name = format!("flows_{}", N::SUFFIX);
        let mut map: HashMap<_, FlowKey<N::Addr>, Flow> =
            self.ebpf.map_mut(&name).expect("flows").try_into().expect("hash");
        map.insert(key, flow, 0).expect("write a flow");
    }

    /// Overwrites a reservation, to let it age.
    pub fn put_reply(&mut self, key: ReplyKey<N::Addr>, reply: N::Reply) {
        let name = format!("replies_{}", N::SUFFIX);
        let mut map: HashMap<_, ReplyKey<N::Addr>, N::Reply> =
            self.ebpf.map_mut(&name).expect("replies").try_into().expect("hash");
        map.insert(key, reply, 0).expect("write a reply");
    }

    /// Every reservation.
    pub fn replies(&self) -> Vec<(ReplyKey<N::Addr>, N::Reply)> {
        let name = format!("replies_{}", N::SUFFIX);
        let map: HashMap<_, ReplyKey<N::Addr>, N::Reply> =
            self.ebpf.map(&name).expect("replies").try_into().expect("hash");
        map.iter().map(|entry| entry.expect("read a reply")).collect()
    }

    /// Reservations that belong to somebody.
    pub fn reserved(&self) -> Vec<ReplyKey<N::Addr>> {
        self.replies()
            .into_iter()
            .filter(|(_, reply)| reply.owner().target != 0)
            .map(|(key, _)| key)
            .collect()
    }

    /// Packets dropped for `reason`.
    pub fn dropped(&self, reason: Drop) -> u64 {
        let map: PerCpuArray<_, u64> = self.ebpf.map("drops").expect("drops").try_into().expect("array");
        map.get(&(reason as u32), 0).expect("read drops").iter().sum()
    }

    /// Every drop counter that is not zero.
    pub fn drops(&self) -> Vec<(&'static str, u64)> {
        Drop::ALL.iter().map(|r| (r.name(), self.dropped(*r))).filter(|(_, count)| *count != 0).collect()
    }

    /// Counters of [`SERVICE`], summed over the CPUs.
    pub fn stats(&self) -> ServiceStats {
        let map: PerCpuArray<_, ServiceStats> =
            self.ebpf.map("service_stats").expect("stats").try_into().expect("array");
        map.get(&SERVICE, 0).expect("read stats").iter().fold(ServiceStats::default(), |sum, cpu| {
            ServiceStats {
                forward_packets: sum.forward_packets + cpu.forward_packets,
                forward_bytes: sum.forward_bytes + cpu.forward_bytes,
                reverse_packets: sum.reverse_packets + cpu.reverse_packets,
                reverse_bytes: sum.reverse_bytes + cpu.reverse_bytes,
                flows_opened: sum.flows_opened + cpu.flows_opened,
                flows_closed: sum.flows_closed + cpu.flows_closed,
            }
        })
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

    /// Lets every flow and reservation be `seconds` older.
    pub fn age(&mut self, seconds: u32) {
        self.age_flows(seconds);
        for (key, reply) in self.replies() {
            let activity = older(reply.activity(), seconds);
            self.put_reply(key, N::Reply::new(&reply.owner(), activity));
        }
    }

    /// Lets every flow be `seconds` older, as its client is concerned.
    pub fn age_flows(&mut self, seconds: u32) {
        for (key, mut flow) in self.flows() {
            flow.activity = older(Activity(flow.activity), seconds).0;
            self.put_flow(key, flow);
        }
    }

    /// Reserves every port towards [`TARGET`] for a flow in `state`, each of a client of its own.
    pub fn fill_ports(&mut self, state: State) {
        let now = clock();
        let datagrams = matches!(state, State::UdpUnreplied | State::UdpReplied | State::UdpStream);
        let (protocol, slot) = if datagrams { (17, TARGET + 100) } else { (6, TARGET) };
        for number in 0..ports::COUNT {
            let port = ports::FIRST + number as u16;
            let owner = Owner { client: client::<N>(1000 + number), client_port: 1, target: slot };
            let key =
                FlowKey { client: owner.client, vip: N::VIP, client_port: 1, vip_port: VIP_PORT, protocol };
            let reply = ReplyKey {
                target: N::TARGET,
                snat: N::SNAT,
                target_port: TARGET_PORT,
                snat_port: port,
                protocol,
            };
            let activity = Activity::new(now, 1);
            let flow = Flow {
                snat_port: port,
                target: slot,
                check: flow_check(&key),
                state: state as u8,
                pad: 0,
                activity: activity.0,
            };
            self.put_reply(reply, N::Reply::new(&owner, activity));
            self.put_flow(key, flow);
        }
    }

    /// Names every flow to the sweep; returns how many it deleted.
    pub fn sweep_flows(&self, operation: u8) -> i32 {
        self.sweep(operation, &self.flows())
    }

    /// Names every reservation to the sweep; returns how many it deleted.
    pub fn sweep_replies(&self, operation: u8) -> i32 {
        self.sweep(operation, &self.replies())
    }

    fn sweep<K: Pod + bytemuck::Pod, V>(&self, operation: u8, entries: &[(K, V)]) -> i32 {
        let run = |entries: &[(K, V)]| {
            let keys: Vec<K> = entries.iter().map(|(key, _)| *key).collect();
            self.run("sweep", &sweep_request(operation, &keys), Context::default()).verdict
        };
        entries.chunks(SWEEP_MAX_KEYS as usize).map(run).sum()
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

/// What names `keys` to the sweep.
pub fn sweep_request<K: bytemuck::Pod>(operation: u8, keys: &[K]) -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend(SWEEP_ETHERTYPE.to_be_bytes());
    frame.extend([operation, keys.len() as u8]);
    frame.extend(bytemuck::cast_slice::<K, u8>(keys));
    frame
}

/// Seconds of the programs' clock.
pub fn clock() -> u32 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("a clock");
    clock_seconds(now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
}

/// The same activity, `seconds` longer ago.
fn older(activity: Activity, seconds: u32) -> Activity {
    let now = clock();
    Activity::new(now.wrapping_sub(activity.idle(now) + seconds), activity.bytes())
}

/// Host part of an address, for tests that need many clients.
pub fn client<N: Net>(number: u32) -> N::Addr {
    let mut words = N::CLIENT.words();
    let last = words.iter().rposition(|word| *word != 0).expect("not zero");
    words[last] = (u32::from_be(words[last]).wrapping_add(number)).to_be();
    <N::Addr as sluice_gateway_ebpf::family::Address>::from_words(words)
}
