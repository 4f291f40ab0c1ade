//! Latencies as the sink counts them. Pure.

use sluice_bench_ebpf::latency;

/// Packets by bucket.
#[derive(Clone, Debug, Default)]
pub struct Latencies(pub Vec<u64>);

impl Latencies {
    /// What has come since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self(self.0.iter().zip(&before.0).map(|(now, before)| now - before).collect())
    }

    /// The latency that this part of the packets does not exceed, microseconds.
    pub fn quantile(&self, part: f64) -> f64 {
        let wanted = self.0.iter().sum::<u64>() as f64 * part;
        let mut seen = 0;
        let found = self.0.iter().position(|packets| {
            seen += packets;
            seen as f64 >= wanted
        });
        found.map_or(f64::NAN, |bucket| latency(bucket as u32) / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use sluice_bench_ebpf::{BUCKETS, bucket};

    use super::*;

    #[test]
    fn a_part_of_the_packets_is_as_fast() {
        let mut now = Latencies(vec![0; BUCKETS as usize]);
        let before = now.clone();
        for (microseconds, packets) in [(10_u64, 98), (200, 1), (3000, 1)] {
            now.0[bucket(microseconds * 1000) as usize] += packets;
        }
        let found = now.since(&before);
        for (part, microseconds) in [(0.5, 10.0), (0.99, 200.0), (0.999, 3000.0)] {
            let quantile = found.quantile(part);
            assert!((quantile / microseconds - 1.0).abs() < 0.02, "{part}: {quantile}");
        }
    }
}
