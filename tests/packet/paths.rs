//! The hot path, at tc and at XDP, and the general path do the same: random packets of established flows through all three, the last
//! rig's flows and reservations put into states that the hot path declines.

use sluice_gateway_ebpf::{
    conntrack::State,
    maps::{Activity, Reply as _},
};

use crate::{
    build::{Ip, Tcp, ip, tcp_bytes, udp_bytes},
    rig::{Context, Net, Rig, TARGET_PORT, VIP_PORT, clock},
};

both_families!(hot_xdp_and_general_agree);

/// SplitMix64 (public domain).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as usize % end
    }
    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// Puts every flow into `state` and lets every reservation have been used `age` seconds ago.
fn prepare<N: Net>(rig: &mut Rig<N>, tcp: State, udp: State, age: u32) {
    let now = clock();
    for (key, mut flow) in rig.flows() {
        flow.state = if key.protocol == 6 { tcp } else { udp } as u8;
        flow.activity = Activity::new(now, 77).0;
        rig.put_flow(key, flow);
    }
    for (key, reply) in rig.replies() {
        rig.put_reply(key, N::Reply::new(&reply.owner(), Activity::new(now.wrapping_sub(age), 77)));
    }
}

fn frame<N: Net>(random: &mut Random, forward: bool) -> (Vec<u8>, Context) {
    let (source, destination) = if forward { (N::CLIENT, N::VIP) } else { (N::TARGET, N::SNAT) };
    let ports = if forward { (40000, VIP_PORT) } else { (TARGET_PORT, 40000) };
    let size =
        random.pick(&[0, 1, 2, 7, 100, 1320, 1332, 1340, 1352, 1360, 1372, 1380, 1440, 1460, 1480, 2500]);
    let payload: Vec<u8> = (0..size).map(|_| random.below(256) as u8).collect();
    let header = Ip { ttl: random.pick(&[0, 1, 2, 3, 64, 255]), dont_fragment: random.below(4) != 0 };
    let is_tcp = random.below(2) == 0;
    let mut segment = if is_tcp {
        let timestamps = [1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8];
        let tcp = Tcp {
            source_port: ports.0,
            destination_port: ports.1,
            flags: random.pick(&["A", "AP", "A", "P", ""]),
            sequence: random.below(1 << 32) as u32,
            acknowledgement: random.below(1 << 32) as u32,
            options: if random.below(2) == 0 { &[] } else { &timestamps },
            payload: &payload,
        };
        tcp_bytes::<N>(source, destination, &tcp)
    } else {
        udp_bytes::<N>(source, destination, ports, &payload)
    };
    match random.below(12) {
        // A data offset, or UDP length, that does not fit; no UDP checksum; a checksum that is wrong.
        0 if is_tcp => segment[12] = (random.below(16) as u8) << 4,
        0 => segment[4..6].copy_from_slice(&(random.below(1600) as u16).to_be_bytes()),
        1 if !is_tcp => segment[6..8].fill(0),
        2 => segment[if is_tcp { 16 } else { 6 }] ^= 0x55,
        _ => {}
    }
    let mut frame = ip::<N>(source, destination, if is_tcp { 6 } else { 17 }, &segment, header);
    match random.below(8) {
        0 => frame.extend(vec![0xaa; random.below(40)]),
        1 => frame.truncate(frame.len() - random.below(30).min(frame.len().saturating_sub(54))),
        2 if !N::IS_V4 => frame[14..18].copy_from_slice(&[0x6a, 0xbc, 0xde, 0xf0]),
        _ => {}
    }
    let gso_size = if random.below(4) == 0 {
        random.pick(&[500, 1328, 1340, 1348, 1360, 1372, 1440, 1448, 1460])
    } else {
        0
    };
    let context = Context {
        gso_size,
        gso_segs: if gso_size == 0 { 0 } else { 3 },
        // A test run takes the sum of a packet that an error was made of for wrong, though the kernel has given it up.
        checksum_complete: header.ttl > 1 && size <= 1320 && gso_size == 0 && random.below(2) == 0,
        ..Context::default()
    };
    (frame, context)
}

fn hot_xdp_and_general_agree<N: Net>() {
    let [mut hot, mut xdp, mut general] = [(); 3].map(|()| Rig::<N>::new());
    xdp.use_xdp();
    for rig in [&mut hot, &mut xdp, &mut general] {
        // Errors are limited by the second, which need not end at the same packet in all three.
        rig.configure(|config| config.icmp_rate = u32::MAX);
        rig.establish(40000);
        let question = udp_bytes::<N>(N::CLIENT, N::VIP, (40000, VIP_PORT), b"?");
        rig.forward(&ip::<N>(N::CLIENT, N::VIP, 17, &question, Ip::default()));
    }
    let mut random = Random(1);
    let mut redirected = 0;
    for number in 0..4000 {
        prepare(&mut hot, State::Established, State::UdpStream, 0);
        prepare(&mut xdp, State::Established, State::UdpStream, 0);
        prepare(&mut general, State::SynReceived, State::UdpReplied, 5);
        let forward = random.below(2) == 0;
        let (frame, context) = frame::<N>(&mut random, forward);
        let program = if forward { "forward" } else { "reverse" };
        let [a, x, b] = [&hot, &xdp, &general].map(|rig| rig.run(program, &frame, context));
        redirected += usize::from(a.verdict == crate::rig::REDIRECT);
        for (hook, other) in [("xdp", x), ("general", b)] {
            assert_eq!(
                (a.verdict, a.mark, &a.frame),
                (other.verdict, other.mark, &other.frame),
                "packet {number}, {hook}, {program}, {context:?}: {frame:02x?}"
            );
        }
        let bytes = |rig: &Rig<N>| {
            let replies = rig.replies().into_iter().map(|(_, reply)| reply.activity().bytes()).sum::<u64>();
            (replies, rig.stats(), rig.drops())
        };
        assert_eq!(bytes(&hot), bytes(&general), "packet {number}, {program}");
        assert_eq!(bytes(&hot), bytes(&xdp), "packet {number}, {program}, xdp");
    }
    assert!(redirected > 1000, "{redirected}");
    assert!(xdp.redirected_by_xdp() > 400, "{}", xdp.redirected_by_xdp());
}
