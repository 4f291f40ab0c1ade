//! What a controller's process has used, and what its metrics say.

use std::fs;
use std::time::Duration;

use sluice_apiserver_tests::controller::Controller;

/// Histogram of the passes over Services.
const PASSES: &str = "sluice_controller_reconcile_duration_seconds";
/// `USER_HZ`: the same on every architecture that Kubernetes runs on.
const TICKS_PER_SECOND: u64 = 100;

/// The most memory that it has had in RAM, MiB.
pub fn peak_memory(controller: &Controller) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", controller.id().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

/// The time that CPUs have spent on it.
pub fn cpu_time(controller: &Controller) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", controller.id().unwrap())).unwrap();
    // The second field is the program's name in parentheses, and may have spaces; `utime` and `stime` are the 14th and 15th.
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    let ticks: u64 = rest.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}

/// Passes that have ended.
pub async fn passes(controller: &Controller) -> f64 {
    controller.metric(&format!("{PASSES}_count")).await.unwrap_or_default()
}

/// The time within which this part of the passes ended, milliseconds: the upper bound of the histogram's bucket.
pub async fn pass_time(controller: &Controller, part: f64) -> f64 {
    let (_, metrics) = controller.ask("/metrics").await.unwrap();
    quantile(&metrics, part) * 1000.0
}

/// Seconds.
fn quantile(metrics: &str, part: f64) -> f64 {
    let prefix = format!("{PASSES}_bucket{{le=\"");
    let buckets = metrics.lines().filter_map(|line| {
        let (bound, count) = line.strip_prefix(&prefix)?.split_once("\"} ")?;
        Some((bound.replace("+Inf", "inf").parse::<f64>().ok()?, count.parse::<f64>().ok()?))
    });
    let buckets: Vec<(f64, f64)> = buckets.collect();
    let all = buckets.last().unwrap().1;
    buckets.iter().find(|(_, count)| *count >= all * part).unwrap().0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_passes_is_the_bucket_that_reaches_it() {
        let text = |counts: [u32; 3]| {
            let lines = ["0.001", "0.5", "+Inf"].iter().zip(counts);
            lines.map(|(le, count)| format!("{PASSES}_bucket{{le=\"{le}\"}} {count}\n")).collect::<String>()
        };
        assert_eq!(quantile(&text([99, 100, 100]), 0.99), 0.001);
        assert_eq!(quantile(&text([98, 100, 100]), 0.99), 0.5);
        assert_eq!(quantile(&text([0, 0, 1]), 0.5), f64::INFINITY);
    }
}
