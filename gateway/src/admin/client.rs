//! Asking a running daemon over its unix socket.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use axum::body::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// How long a daemon may take to answer. Probes of the kubelet give up after a second by themselves.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the daemon said.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Whether the status code was a success.
    pub success: bool,
    /// The body.
    pub body: Bytes,
}

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

async fn ask(socket: &Path, path: &str) -> Result<Answer> {
    let stream = UnixStream::connect(socket)
        .await
        .with_context(|| format!("no daemon listens on {}", socket.display()))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .context("speaking HTTP to the daemon")?;
    let connection = tokio::spawn(connection);
    let request = Request::get(path)
        .header(header::HOST, "localhost")
        .body(Empty::<Bytes>::new())
        .with_context(|| format!("asking for {path}"))?;
    let response = sender.send_request(request).await.context("sending the request to the daemon")?;
    let status: StatusCode = response.status();
    let body = response.into_body().collect().await.context("reading the daemon's answer")?.to_bytes();
    connection.abort();
    Ok(Answer { success: status.is_success(), body })
}
