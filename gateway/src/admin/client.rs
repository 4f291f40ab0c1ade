//! Asking a running daemon over its unix socket.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::UnixStream;

use crate::http::{self, Answer};
use crate::status::Status;

/// How long a daemon may take to answer. Probes of the kubelet give up after a second by themselves.
const PATIENCE: Duration = Duration::from_secs(5);
/// No answer is longer: the status of a gateway with the most ports that a file can have takes a part of it.
const LONGEST: usize = 64 << 20;

/// `GET path` from the daemon that listens on `socket`. An error means that no daemon answered in time.
pub fn get(socket: &Path, path: &str) -> Result<Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting a runtime to ask the daemon")?;
    runtime.block_on(async {
        match tokio::time::timeout(PATIENCE, ask(socket, path)).await {
            Ok(answer) => answer,
            Err(_elapsed) => {
                bail!("the daemon at {} did not answer within {} s", socket.display(), PATIENCE.as_secs())
            }
        }
    })
}

/// The status of the daemon that listens on `socket`.
pub fn get_status(socket: &Path) -> Result<Status> {
    let answer = get(socket, "/status")?;
    serde_json::from_slice(&answer.body).context("reading the daemon's status: is it of another version?")
}

async fn ask(socket: &Path, path: &str) -> Result<Answer> {
    let stream = UnixStream::connect(socket)
        .await
        .with_context(|| format!("no daemon listens on {}", socket.display()))?;
    http::get(stream, path, LONGEST).await
}
