//! A question to a daemon's admin server, over whatever stream leads there.

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// What the daemon said.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Whether the status code was a success.
    pub success: bool,
    /// The body.
    pub body: Bytes,
}

/// `GET path` over `stream`. The caller limits the time.
///
/// # Errors
/// It is not a server that speaks HTTP, or its answer has more than `most` bytes.
pub async fn get<S>(stream: S, path: &str, most: usize) -> Result<Answer>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .context("speaking HTTP to the daemon")?;
    let request = Request::get(path)
        .header(header::HOST, "localhost")
        .body(Empty::<Bytes>::new())
        .with_context(|| format!("asking for {path}"))?;
    let exchange = async {
        let response = sender.send_request(request).await.context("sending the request to the daemon")?;
        let success = response.status().is_success();
        let body = Limited::new(response.into_body(), most).collect().await;
        let body = body.map_err(anyhow::Error::from_boxed).context("reading the daemon's answer")?;
        Ok(Answer { success, body: body.to_bytes() })
    };
    let mut connection = std::pin::pin!(connection);
    let mut exchange = std::pin::pin!(exchange);
    // The connection does the work; when it ends first, the answer is there, or the reason why not.
    tokio::select! {
        answer = &mut exchange => answer,
        _ = &mut connection => exchange.await,
    }
}
