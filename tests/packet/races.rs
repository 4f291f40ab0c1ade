//! Real races: two CPUs run the same programs on the same maps at the same moment.
//!
//! A round prepares a batch of contests, lets two pinned threads meet at each of them, and then looks at the maps while
//! nothing runs: every flow holds its reservation, the counters balance, and what is aged and swept leaves nothing.

mod exhaustion;
mod flush;
mod syn;
mod takeover;

use std::{
    collections::HashMap,
    hint::spin_loop,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use sluice_gateway_ebpf::{
    conntrack::State,
    maps::{Activity, Flow, FlowKey, Owner, Reply as _, ReplyKey, SWEEP_EXPIRED, SWEEP_REPLIES},
};

use crate::{
    build::{Tcp, read, tcp, udp},
    rig::{Context, Net, Outcome, REDIRECT, Rig, SHOT, TARGET, TARGET_PORT, VIP_PORT, clock, sweep_request},
};

const TCP: u8 = 6;
const UDP: u8 = 17;
/// Sequence number of the target's SYN-ACKs.
const ANSWER_SEQUENCE: u32 = 7000;

/// How long each kind of contest is repeated.
const BUDGET: Duration = Duration::from_millis(400);

/// Longer than every timeout of [`sluice_gateway_ebpf::maps::Timeouts::DEFAULT`].
const FOREVER: u32 = 500_000;

/// Two CPUs that this process may use.
fn cpus() -> [usize; 2] {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let mut cpus = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap());
    [cpus.next(), cpus.next()].map(|cpu| cpu.expect("races need two CPUs"))
}

fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).unwrap();
}

/// Lets two CPUs meet `count` times: at each meeting both run their side with the same index. Who comes a little later,
/// and by how much, changes from one meeting to the next.
fn contest<A: Send, B: Send>(
    count: usize,
    left: impl Fn(usize) -> A + Sync,
    right: impl Fn(usize) -> B + Sync,
) -> Vec<(A, B)> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let arrived = AtomicUsize::new(0);
    let meet = |index: usize, late: bool| {
        arrived.fetch_add(1, Ordering::SeqCst);
        let mut spins = 0;
        while arrived.load(Ordering::SeqCst) < 2 * (index + 1) {
            spins += 1;
            // The other CPU may be busy with somebody else's work.
            if spins % 256 == 0 { thread::yield_now() } else { spin_loop() }
        }
        if late {
            (0..index * 7 % 40).for_each(|_| spin_loop());
        }
    };
    let [first, second] = cpus();
    thread::scope(|scope| {
        let left = scope.spawn(|| {
            pin(first);
            (0..count)
                .map(|index| {
                    meet(index, index % 2 == 0);
                    left(index)
                })
                .collect::<Vec<_>>()
        });
        let right = scope.spawn(|| {
            pin(second);
            (0..count)
                .map(|index| {
                    meet(index, index % 2 == 1);
                    right(index)
                })
                .collect::<Vec<_>>()
        });
        left.join().unwrap().into_iter().zip(right.join().unwrap()).collect()
    })
}

/// Calls `round` until [`BUDGET`] is spent, at least twice.
fn rounds(mut round: impl FnMut(u32)) {
    let start = Instant::now();
    let mut number = 0;
    while number < 2 || start.elapsed() < BUDGET {
        round(number);
        number += 1;
    }
}

/// A client's side of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Peer<N: Net> {
    address: N::Addr,
    port: u16,
    protocol: u8,
}

impl<N: Net> Peer<N> {
    fn slot(&self) -> u16 {
        if self.protocol == UDP { TARGET + 100 } else { TARGET }
    }

    fn owner(&self) -> Owner<N::Addr> {
        Owner { client: self.address, client_port: self.port, target: self.slot() }
    }

    fn flow_key(&self) -> FlowKey<N::Addr> {
        FlowKey {
            client: self.address,
            vip: N::VIP,
            client_port: self.port,
            vip_port: VIP_PORT,
            protocol: u32::from(self.protocol),
        }
    }

    /// Address and port as they stand in a packet.
    fn end(&self) -> (Vec<u8>, u16) {
        (bytemuck::bytes_of(&self.address).to_vec(), self.port)
    }

    /// The packet that opens a flow.
    fn first(&self) -> Vec<u8> {
        match self.protocol {
            UDP => udp::<N>(self.address, N::VIP, (self.port, VIP_PORT), b"x"),
            _ => self.segment("S", 0),
        }
    }

    fn segment(&self, flags: &str, acknowledgement: u32) -> Vec<u8> {
        let segment = Tcp { source_port: self.port, flags, acknowledgement, ..Tcp::default() };
        tcp::<N>(self.address, N::VIP, &segment)
    }
}

fn reply_key<N: Net>(protocol: u8, port: u16) -> ReplyKey<N::Addr> {
    ReplyKey {
        target: N::TARGET,
        snat: N::SNAT,
        target_port: TARGET_PORT,
        snat_port: port,
        protocol: u32::from(protocol),
    }
}

/// What the target sends to `port` first.
fn answer<N: Net>(protocol: u8, port: u16) -> Vec<u8> {
    match protocol {
        UDP => udp::<N>(N::TARGET, N::SNAT, (TARGET_PORT, port), b"y"),
        _ => {
            let segment = Tcp {
                source_port: TARGET_PORT,
                destination_port: port,
                flags: "SA",
                sequence: ANSWER_SEQUENCE,
                ..Tcp::default()
            };
            tcp::<N>(N::TARGET, N::SNAT, &segment)
        }
    }
}

/// The reserved port in a translated packet; `None` if the packet was dropped.
fn translated<N: Net>(outcome: &Outcome) -> Option<u16> {
    match outcome.verdict {
        REDIRECT => {
            let packet = read(&outcome.frame);
            assert_eq!(packet.source, bytemuck::bytes_of(&N::SNAT));
            assert_eq!(packet.destination, bytemuck::bytes_of(&N::TARGET));
            assert_eq!(packet.destination_port, TARGET_PORT);
            Some(packet.source_port)
        }
        SHOT => None,
        other => panic!("verdict {other}"),
    }
}

/// Who a target's packet was translated for; `None` if it was not.
fn receiver<N: Net>(outcome: &Outcome) -> Option<(Vec<u8>, u16)> {
    (outcome.verdict == REDIRECT).then(|| {
        let packet = read(&outcome.frame);
        assert_eq!((packet.source.as_slice(), packet.source_port), (bytemuck::bytes_of(&N::VIP), VIP_PORT));
        (packet.destination, packet.destination_port)
    })
}

/// Owners of the reservations by port.
fn owners<N: Net>(rig: &Rig<N>) -> HashMap<(u32, u16), Owner<N::Addr>> {
    rig.replies().into_iter().map(|(key, reply)| ((key.protocol, key.snat_port), reply.owner())).collect()
}

/// Deletes flows that a program has marked deleted, and whose entries are still there. A map may refuse to delete where a CPU does not get a
/// bucket's lock in time (Linux 6.15, or 6.2 and before), which is the sweep's to mend after two seconds. A machine that is taken away for so long is
/// rare, so that more than one at a time is a fault of ours.
fn finish_refused<N: Net>(rig: &mut Rig<N>) {
    let refused: Vec<_> =
        rig.flows().into_iter().filter(|(_, flow)| flow.state == State::Deleted as u8).collect();
    assert!(refused.len() <= 1, "half deleted: {refused:?}");
    for (key, flow) in refused {
        eprintln!("half deleted: {key:?}");
        // As the sweep marks what it has seen so.
        let activity = Activity::new(clock().wrapping_sub(3), Activity::MAX_BYTES).0;
        rig.put_flow(key, Flow { activity, ..flow });
        assert_eq!(rig.run("sweep", &sweep_request(SWEEP_EXPIRED, &[key]), Context::default()).verdict, 1);
    }
}

/// What must hold whenever nothing runs: no flow is half deleted but what the sweep mends, each holds the reservation that it names (so that no two
/// name the same), and as many are counted as there are. Nothing was dropped but what lost a race, or its flow.
fn audit<N: Net>(rig: &mut Rig<N>) {
    finish_refused(rig);
    let owners = owners(rig);
    let flows = rig.flows();
    for (key, flow) in &flows {
        let expected = Owner { client: key.client, client_port: key.client_port, target: flow.target };
        let owner = owners.get(&(key.protocol, flow.snat_port));
        assert_eq!(owner, Some(&expected), "another owns the port of {key:?}: {flow:?}");
    }
    let stats = rig.stats();
    assert_eq!(stats.flows_opened - stats.flows_closed, flows.len() as u64, "{stats:?}");
    let drops = rig.drops();
    assert!(drops.iter().all(|(reason, _)| ["busy", "no_flow"].contains(reason)), "{drops:?}");
}

/// The next packet of each peer goes through, under a port of its own that leads back to it.
fn settle<N: Net>(rig: &Rig<N>, peers: &[Peer<N>]) {
    let ports: Vec<_> = peers
        .iter()
        .map(|peer| {
            let outcome = rig.forward(&peer.first());
            translated::<N>(&outcome).unwrap_or_else(|| panic!("{peer:?} is stuck: {:?}", rig.drops()))
        })
        .collect();
    let owners = owners(rig);
    for (peer, port) in peers.iter().zip(ports) {
        let owner = owners.get(&(u32::from(peer.protocol), port));
        assert_eq!(owner, Some(&peer.owner()), "{peer:?} has another's {port}");
        let back = receiver::<N>(&rig.reverse(&answer::<N>(peer.protocol, port)));
        assert_eq!(back, Some(peer.end()), "{port}");
    }
}

/// Ages and sweeps everything: nothing is left, and every flow that was opened is counted as closed.
fn drain<N: Net>(rig: &mut Rig<N>) {
    rig.age(FOREVER);
    rig.sweep_flows(SWEEP_EXPIRED);
    assert!(rig.flows().is_empty(), "{:?}", rig.flows());
    rig.age(FOREVER);
    rig.sweep_replies(SWEEP_REPLIES);
    assert!(rig.replies().is_empty(), "{:?}", owners(rig));
    let stats = rig.stats();
    assert_eq!(stats.flows_opened, stats.flows_closed);
}
