//! How the cluster is reached.

use std::time::Duration;

use anyhow::Context as _;
use kube::Config;

use crate::operator::WATCH_TIMEOUT;

/// How long the API server may be silent. It ends its own requests after a minute by default, and watches after [`WATCH_TIMEOUT`].
const SILENCE: Duration = Duration::from_secs(60);
const _: () = assert!(SILENCE.as_secs() > WATCH_TIMEOUT as u64 + 10);

/// The cluster of `$KUBECONFIG`, of `~/.kube/config`, or the one that this pod runs in.
///
/// # Errors
/// There is none of them.
pub(super) async fn config() -> anyhow::Result<Config> {
    let mut config = Config::infer().await.context("finding the cluster: set KUBECONFIG, or run in a pod")?;
    // A write is sent once: the lease is asked before it, and may be over when it would be repeated. What fails is tried again by a later pass.
    config.default_retry = false;
    // Without it, a request whose answer got lost would hold its Service up for ever.
    config.read_timeout = Some(SILENCE);
    config.reset_reader_on_write = true;
    Ok(config)
}
