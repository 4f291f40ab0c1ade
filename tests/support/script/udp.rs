//! UDP: headers, sizes, fragments, refusals, and routes traced.

use std::time::{Duration, Instant};

use anyhow::Result;
use sha2::{Digest, Sha256};

use super::{DEAF_UDP, LOST, Run, TCP, UDP, UNSERVED};
use crate::addresses::Family;
use crate::packet;
use crate::peers::{Client, IcmpListener, PacketSender, UdpClient, UdpOutcome};

/// How long a datagram of which nothing is seen anywhere may be on its way on a loaded machine. One that comes later is taken for the
/// next case's.
const UNSEEN: Duration = Duration::from_secs(3);

impl Run<'_> {
    fn udp(&mut self, port: u16) -> Result<UdpClient> {
        let source = self.source();
        UdpClient::connect(self.netns(), source, self.vip(port))
    }

    fn note_seen_by_backends(&mut self) {
        let seen = self.take_seen_by_backends();
        self.note("at the backend", seen);
    }

    pub(super) fn udp_headers(&mut self) -> Result<()> {
        self.note_seen_by_backends();
        for tos in [0, 0x28, 0x2, 0xb8] {
            self.begin(&format!("udp/tos {tos}"));
            let mut client = self.udp(UDP)?;
            client.set_tos(tos)?;
            let (outcome, errors) = client.exchange(b"type of service", LOST)?;
            self.note_exchange(&outcome, &errors, b"type of service");
            self.note_seen_by_backends();
        }
        self.begin("udp/empty");
        let (outcome, errors) = self.udp(UDP)?.exchange(b"", LOST)?;
        self.note_exchange(&outcome, &errors, b"");
        self.note_seen_by_backends();
        Ok(())
    }

    pub(super) fn udp_refusals(&mut self) -> Result<()> {
        for (case, port) in [("udp/deaf backend", DEAF_UDP), ("udp/unserved port", UNSERVED)] {
            for size in [0, 1, 7, 8, 100, 501, 1301] {
                self.begin(&format!("{case}/{size}"));
                let data = vec![7; size];
                let (outcome, errors) = self.udp(port)?.exchange(&data, LOST)?;
                self.note_exchange(&outcome, &errors, &data);
            }
        }
        Ok(())
    }

    pub(super) fn udp_sizes(&mut self) -> Result<()> {
        let [first, second] = &self.topology.backends;
        let mut listeners = [IcmpListener::new(first, self.family)?, IcmpListener::new(second, self.family)?];
        for dont_fragment in [false, true] {
            for (_, server) in self.servers.udp.iter().filter(|(family, _)| *family == self.family) {
                server.set_dont_fragment(dont_fragment)?;
            }
            for size in sizes(self.family) {
                let case = format!("udp/{}/{size}", if dont_fragment { "df" } else { "no df" });
                let mut client = self.udp(UDP)?;
                client.set_dont_fragment(dont_fragment)?;
                let data: Vec<u8> = (0..size).map(|index| (index % 253) as u8).collect();
                let outcome = self.sized_exchange(&case, &mut client, &data, &mut listeners)?;
                if matches!(outcome, UdpOutcome::Error | UdpOutcome::Nothing) {
                    // An end has now learned the path's MTU.
                    self.sized_exchange(&format!("{case} again"), &mut client, &data, &mut listeners)?;
                    let mtu = client.path_mtu();
                    self.note("path MTU", mtu.map_err(|error| error.kind()));
                    self.forget_path_mtus()?;
                }
            }
        }
        for (_, server) in self.servers.udp.iter().filter(|(family, _)| *family == self.family) {
            server.set_dont_fragment(false)?;
        }
        Ok(())
    }

    /// What a client learns from a datagram that does not fit into the cluster's network.
    pub(super) fn path_mtu(&mut self) -> Result<()> {
        self.begin("path MTU");
        let mut client = self.udp(UDP)?;
        client.set_dont_fragment(true)?;
        let data = vec![1; 1450 - self.family.header()];
        let (outcome, errors) = client.exchange(&data, LOST)?;
        self.note_exchange(&outcome, &errors, &data);
        let mtu = client.path_mtu();
        self.note("path MTU", mtu.map_err(|error| error.kind()));
        self.forget_path_mtus()
    }

    fn sized_exchange(
        &mut self,
        case: &str,
        client: &mut UdpClient,
        data: &[u8],
        listeners: &mut [IcmpListener],
    ) -> Result<UdpOutcome> {
        self.begin(case);
        let (mut outcome, mut errors) = client.exchange(data, Duration::ZERO)?;
        let (mut seen, mut errors_at_backends) = (Vec::new(), Vec::new());
        let end = Instant::now() + UNSEEN;
        while outcome == UdpOutcome::Nothing && Instant::now() < end {
            seen.extend(self.take_seen_by_backends());
            for listener in &mut *listeners {
                errors_at_backends.extend(listener.drain()?);
            }
            if !errors_at_backends.is_empty() || seen.iter().any(|datagram| !datagram.answered) {
                // The answer will not come.
                break;
            }
            (outcome, errors) = client.wait(Duration::from_millis(5))?;
        }
        self.note_exchange(&outcome, &errors, data);
        seen.extend(self.take_seen_by_backends());
        self.note("at the backend", seen);
        if !errors_at_backends.is_empty() {
            self.begin(&format!("{case} at the backend"));
            self.note_errors(&errors_at_backends);
        }
        Ok(outcome)
    }

    /// Each size up to 9000, as ranges of sizes with the same outcome.
    pub(super) fn udp_every_size(&mut self) -> Result<()> {
        let data: Vec<u8> = (0..=LARGEST).map(|index| (index % 241) as u8).collect();
        for (case, probing) in [("udp/every size", false), ("udp/every size, df", true)] {
            let mut client = self.udp(UDP)?;
            if probing {
                client.set_probing()?;
            } else {
                client.set_dont_fragment(false)?;
                // IPv6 clients fragment only once they know the path's MTU.
                client.exchange(&data, LOST)?;
            }
            let mut ranges: Vec<(&'static str, usize, usize)> = Vec::new();
            for size in 1..=LARGEST {
                let (outcome, errors) = client.exchange(&data[..size], LOST)?;
                let name = match (outcome, &errors[..]) {
                    (UdpOutcome::Reply(reply), []) if reply.hash == *Sha256::digest(&data[..size]) => {
                        "echoed"
                    }
                    (UdpOutcome::Reply(_), _) => "changed",
                    (UdpOutcome::TooLarge, []) => "not sent",
                    (UdpOutcome::Error, [error]) if error.from == self.family.plan().vip => {
                        "ICMP error from the VIP"
                    }
                    (UdpOutcome::Nothing, _) => "lost",
                    _ => "something else",
                };
                match ranges.last_mut() {
                    Some((last, _, to)) if *last == name => *to = size,
                    _ => ranges.push((name, size, size)),
                }
            }
            self.begin(case);
            self.note("outcomes", ranges);
            let seen = self.take_seen_by_backends();
            self.note("datagrams at the backend", seen.len());
            self.forget_path_mtus()?;
        }
        Ok(())
    }

    pub(super) fn fragments(&mut self) -> Result<()> {
        let plan = self.family.plan();
        let sender = PacketSender::new(self.netns(), self.family)?;
        for (round, (case, order)) in FRAGMENT_ORDERS.into_iter().enumerate() {
            self.begin(&format!("fragments/{case}"));
            let (source, to) = (self.source(), self.vip(UDP));
            let mut client = UdpClient::connect(self.netns(), source, to)?;
            let data: Vec<u8> = (0..FRAGMENTED).map(|index| (index % 249) as u8).collect();
            let transport = packet::udp(source, to, &data);
            let id = 0x5100 + round as u16;
            let parts = packet::fragments(source.ip(), to.ip(), 17, id, &transport, FRAGMENT_SIZE);
            for index in order {
                sender.send(&parts[*index], plan.vip)?;
            }
            let (outcome, errors) = client.wait(LOST)?;
            self.note_exchange(&outcome, &errors, &data);
            self.note_seen_by_backends();
        }
        Ok(())
    }

    pub(super) fn traceroute(&mut self) -> Result<()> {
        for ttl in 1..=5 {
            self.begin(&format!("traceroute/udp/{ttl}"));
            let mut client = self.udp(UDP)?;
            client.set_ttl(ttl)?;
            let (outcome, errors) = client.exchange(b"where does it end?", LOST)?;
            self.note_exchange(&outcome, &errors, b"where does it end?");
            self.note_seen_by_backends();
            self.begin(&format!("traceroute/tcp/{ttl}"));
            let mut icmp = IcmpListener::new(self.netns(), self.family)?;
            let source = self.source();
            let connected = Client::connect_with_ttl(self.netns(), source, self.vip(TCP), ttl, LOST);
            self.note("connect", connected.map(drop).map_err(|error| error.kind()));
            let mut errors = icmp.drain()?;
            // A SYN is repeated after a second or not, depending on the machine's load.
            errors.truncate(1);
            self.note_errors(&errors);
        }
        Ok(())
    }
}

/// Bytes of the largest datagram.
const LARGEST: usize = 9000;
/// Payload of the fragmented datagrams: three fragments with their header.
const FRAGMENTED: usize = 3000;
const FRAGMENT_SIZE: usize = 1200;
const FRAGMENT_ORDERS: [(&str, &[usize]); 5] = [
    ("in order", &[0, 1, 2]),
    ("first, then backwards", &[0, 2, 1]),
    ("first repeated", &[0, 0, 1, 2]),
    ("a later one before the first", &[1, 0, 2]),
    ("backwards", &[2, 1, 0]),
];

/// Payload sizes around every edge: headers, both MTUs, each number of fragments, odd and even.
fn sizes(family: Family) -> Vec<usize> {
    let headers = family.header() + 8;
    let mut sizes = vec![1, 2, 3, 7, 8, 9, 63, 64, 511, 512, 1000, 1001];
    for mtu in [1300, 1400, 1500] {
        sizes.extend(mtu - headers - 2..=mtu - headers + 2);
        sizes.extend([mtu - 1, mtu, mtu + 1]);
    }
    // Where a later fragment begins to appear, at both MTUs.
    for mtu in [1300, 1400, 1500] {
        let per_fragment = (mtu - family.header()) / 8 * 8 - if family == Family::V6 { 8 } else { 0 };
        for count in 2..=6 {
            let full = per_fragment * count - 8;
            sizes.extend([full - 1, full, full + 1, full + 8]);
        }
    }
    sizes.extend([8191, 8192, 8972, 8999, 9000]);
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}
