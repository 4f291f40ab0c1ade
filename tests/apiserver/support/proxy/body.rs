//! Answers on their way back.

use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::StatusCode;
use hyper::body::{Bytes, Frame};
use serde_json::json;
use tokio::sync::broadcast;

/// What the proxy answers with.
pub type Body = UnsyncBoxBody<Bytes, kube::Error>;

/// When an answer ends.
pub enum Ending {
    /// When the server ends it.
    ByServer,
    /// Or when watches expire, with an event that says so.
    OnExpiry(broadcast::Receiver<()>),
}

/// The server's answer, passed on as it comes.
pub fn passing(content: kube::client::Body, ending: Ending) -> Body {
    match ending {
        Ending::ByServer => content.boxed_unsync(),
        Ending::OnExpiry(mut expiry) => {
            let expired = Box::pin(async move {
                // An error says that nobody can give the sign any more: the proxy is being dropped.
                let _ = expiry.recv().await;
            });
            let last = json!({ "type": "ERROR", "object": object(StatusCode::GONE) }).to_string() + "\n";
            let events = content.into_data_stream().take_until(expired);
            let events = events.chain(stream::once(async { Ok(Bytes::from(last)) }));
            StreamBody::new(events.map(|event| event.map(Frame::data))).boxed_unsync()
        }
    }
}

/// An error as the API server words it.
pub fn status(code: StatusCode) -> Body {
    Full::new(Bytes::from(object(code).to_string())).map_err(|never| match never {}).boxed_unsync()
}

fn object(code: StatusCode) -> serde_json::Value {
    let reason = match code {
        StatusCode::GONE => "Expired",
        StatusCode::CONFLICT => "Conflict",
        StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
        StatusCode::FORBIDDEN => "Forbidden",
        _ => "InternalError",
    };
    json!({
        "apiVersion": "v1",
        "kind": "Status",
        "metadata": {},
        "status": "Failure",
        "message": "the test's proxy answers in the server's place",
        "reason": reason,
        "code": code.as_u16(),
    })
}
