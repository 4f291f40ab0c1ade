//! TCP: handshakes, transfers, ends and refusals.

use std::time::Duration;

use anyhow::{Context, Result};

use super::{BULK, DEAF_TCP, LOST, Run, TCP, UNSERVED};
use crate::packet;
use crate::peers::{Client, PacketSender, Reset, SynListener, pattern_hash};
use crate::wait;

impl Run<'_> {
    pub(super) fn tcp_handshake(&mut self) -> Result<()> {
        self.begin("tcp/handshake");
        let [first, second] = &self.topology.backends;
        let mut backends = [SynListener::new(first, self.family)?, SynListener::new(second, self.family)?];
        let mut here = SynListener::new(self.netns(), self.family)?;
        let mut client = self.connect(TCP).context("connecting for the first time")?;
        let (number, peer) = client.who()?;
        self.note("peer", peer);
        let syn = backends[number].wait("the SYN at the backend")?;
        self.note("syn at the backend", (syn.from, syn.ttl, syn.tos, syn.ack, &syn.options));
        self.note("MSS at the backend", syn.mss);
        let syn_ack = here.wait("the SYN-ACK at the client")?;
        self.note(
            "syn-ack at the client",
            (syn_ack.from, syn_ack.ttl, syn_ack.tos, syn_ack.ack, &syn_ack.options),
        );
        self.note("MSS at the client", syn_ack.mss);
        Ok(())
    }

    pub(super) fn tcp_transfers(&mut self) -> Result<()> {
        self.begin("tcp/echo");
        let mut client = self.connect(TCP)?;
        for size in [1, 2, 3, 1359, 1360, 1361, 1459, 1460, 1461, 65_535, 1_000_003] {
            client.echo(&vec![0xa5; size]).with_context(|| format!("echo of {size} bytes"))?;
        }
        self.note("echo", "same");
        client.half_close(&vec![0x5a; 300_001])?;
        self.note("half close", "same");
        let right = pattern_hash(BULK);
        self.begin("tcp/bulk");
        let mut client = self.connect(TCP)?;
        let up = client.upload(BULK)?;
        self.note("up", up == right);
        let down = client.download(BULK)?;
        self.note("down", down == right);
        Ok(())
    }

    pub(super) fn tcp_endings(&mut self) -> Result<()> {
        self.begin("tcp/end");
        self.connect(TCP)?.close_by_server()?;
        self.note("closed by the server", ());
        self.connect(TCP)?.reset(Reset::ByServer)?;
        self.note("reset by the server", ());
        let source = self.source();
        for round in 0..3 {
            let mut client =
                Client::connect_from(self.netns(), Some(source), self.vip(TCP), Duration::from_secs(3))
                    .with_context(|| format!("the same source port again after a reset, round {round}"))?;
            client.echo(b"again")?;
            client.reset(Reset::ByClient)?;
        }
        self.note("source port reused after resets", ());
        for _ in 0..3 {
            Client::connect_from(self.netns(), Some(source), self.vip(TCP), Duration::from_secs(3))
                .context("the same source port again after the server closed")?
                .close_by_server()?;
        }
        self.note("source port reused after the server closed", ());
        Ok(())
    }

    pub(super) fn tcp_refusals(&mut self) -> Result<()> {
        for (case, port) in [("tcp/deaf backend", DEAF_TCP), ("tcp/unserved port", UNSERVED)] {
            self.begin(case);
            let refused = self.connect(port).map(drop).map_err(|error| error.kind());
            self.note("connect", refused);
        }
        Ok(())
    }

    /// A segment in the middle of a connection that nobody knows.
    pub(super) fn tcp_unknown(&mut self) -> Result<()> {
        self.begin("tcp/unknown connection");
        let (source, to) = (self.source(), self.vip(TCP));
        let mut answers = SynListener::new(self.netns(), self.family)?;
        let segment = packet::tcp(source, to, packet::ACK, 1000, 2000);
        let packet = packet::whole(source.ip(), to.ip(), 6, &segment);
        PacketSender::new(self.netns(), self.family)?.send(&packet, to.ip())?;
        let answer = wait::until("an answer", LOST, || Ok(answers.drain()?.into_iter().next()));
        self.note(
            "answer",
            answer.map(|answer| (answer.from, answer.reset)).map_err(|error| error.to_string()),
        );
        Ok(())
    }
}
