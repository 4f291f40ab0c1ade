//! Flows that are flushed while packets of the same flows arrive.

use sluice_gateway_ebpf::maps::SWEEP_FLUSH;

use super::{Peer, TCP, UDP, audit, contest, drain, rounds, settle, translated};
use crate::rig::{Context, Net, Rig, client, sweep_request};

both_families!(flush_meets_a_packet, flush_and_packet_meet_a_packet);

const BATCH: u32 = 32;

/// Runs contests between a packet of a flow and the flushing of that flow. `open`: the flow is there before; `twice`: the CPU
/// that flushes has received the same packet just before.
fn run<N: Net>(protocol: u8, open: bool, twice: bool) {
    let mut rig = Rig::<N>::new();
    let (mut kept, mut flushed) = (0, 0);
    rounds(|_| {
        let peers: Vec<_> = (0..BATCH)
            .map(|number| Peer::<N> { address: client::<N>(number), port: 40000, protocol })
            .collect();
        let frames: Vec<_> = peers.iter().map(Peer::first).collect();
        let requests: Vec<_> =
            peers.iter().map(|peer| sweep_request(SWEEP_FLUSH, &[peer.flow_key()])).collect();
        if open {
            frames.iter().for_each(|frame| assert!(translated::<N>(&rig.forward(frame)).is_some()));
        }
        let outcomes = contest(
            frames.len(),
            |i| rig.forward(&frames[i]),
            |i| {
                if twice {
                    rig.forward(&frames[i]);
                }
                rig.run("sweep", &requests[i], Context::default()).verdict
            },
        );
        for (packet, deleted) in &outcomes {
            translated::<N>(packet);
            assert!((0..=1).contains(deleted));
            flushed += deleted;
        }
        kept += rig.flows().len();
        audit(&mut rig);
        settle(&rig, &peers);
        audit(&mut rig);
        drain(&mut rig);
    });
    assert!(kept > 0 && flushed > 0, "one side always came first: kept {kept}, flushed {flushed}");
}

fn flush_meets_a_packet<N: Net>() {
    for protocol in [TCP, UDP] {
        run::<N>(protocol, true, false);
        run::<N>(protocol, false, false);
    }
}

fn flush_and_packet_meet_a_packet<N: Net>() {
    for protocol in [TCP, UDP] {
        run::<N>(protocol, true, true);
        run::<N>(protocol, false, true);
    }
}
