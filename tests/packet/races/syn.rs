//! One first packet, received by two CPUs at once.

use super::{Peer, TCP, UDP, audit, contest, drain, rounds, settle, translated};
use crate::rig::{Net, Rig, client};

both_families!(two_cpus_race_one_first_packet);

const BATCH: u32 = 48;

fn two_cpus_race_one_first_packet<N: Net>() {
    let mut rig = Rig::<N>::new();
    rounds(|round| {
        let protocol = if round % 2 == 0 { TCP } else { UDP };
        // All have the same port, so that only one can keep it.
        let peers: Vec<_> = (0..BATCH)
            .map(|number| Peer::<N> { address: client::<N>(round * BATCH + number), port: 40000, protocol })
            .collect();
        let frames: Vec<_> = peers.iter().map(Peer::first).collect();
        let before = rig.stats();
        let outcomes = contest(frames.len(), |i| rig.forward(&frames[i]), |i| rig.forward(&frames[i]));
        for (left, right) in &outcomes {
            let ports = [left, right].map(translated::<N>);
            assert!(ports[0].is_some() && ports[0] == ports[1], "{ports:?}, {:?}", rig.drops());
        }
        assert_eq!((rig.flows().len(), rig.reserved().len()), (peers.len(), peers.len()));
        assert_eq!(rig.stats().flows_opened - before.flows_opened, u64::from(BATCH));
        assert!(rig.drops().is_empty(), "{:?}", rig.drops());
        audit(&mut rig);
        settle(&rig, &peers);
        drain(&mut rig);
    });
}
