//! The admin server: probes and metrics for the cluster, the whole status for the CLI.
//!
//! `/livez`, `/readyz`, `/metrics` and `/problems` are served on the cluster interface's addresses and on loopback, `/status` besides
//! them on a unix socket in the runtime folder. Nothing is reachable through the external interface: each TCP listener is
//! bound to one address *and* to that address' device, since Linux otherwise accepts a packet for any local address on
//! any interface.

mod client;
mod listeners;
mod metrics;
mod problems;
mod socket;

pub use client::{get, get_status};
pub use listeners::{Bind, Listeners};
pub use metrics::{Metrics, render};
pub use socket::LocalSocket;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get as on_get;
use serde::Serialize;

use crate::status::Status;

/// What the server tells. Methods may ask the kernel and are called off the runtime's own threads, save `live`.
pub trait Source: Send + Sync + 'static {
    /// Whether the process does its work; the error says what hangs. Must not block.
    fn live(&self) -> Result<(), String>;
    /// Reasons not to be ready; none: every VIP is served.
    fn not_ready(&self) -> Vec<String>;
    /// Everything.
    fn status(&self) -> Status;
    /// Numbers that only the process knows.
    fn metrics(&self) -> &Metrics;
}

type Shared = Arc<dyn Source>;

/// Probes, metrics and problems: what the cluster may see.
pub fn cluster_routes(source: Shared) -> Router {
    Router::new()
        .route("/livez", on_get(livez))
        .route("/readyz", on_get(readyz))
        .route("/metrics", on_get(metrics_text))
        .route("/problems", on_get(problems_json))
        .with_state(source)
}

/// Everything: what somebody in the pod may see.
pub fn local_routes(source: Shared) -> Router {
    Router::new().route("/status", on_get(status)).with_state(source.clone()).merge(cluster_routes(source))
}

async fn livez(State(source): State<Shared>) -> Response {
    match source.live() {
        Ok(()) => (StatusCode::OK, "ok\n").into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why + "\n").into_response(),
    }
}

async fn readyz(State(source): State<Shared>) -> Response {
    match blocking(move || source.not_ready()).await {
        Ok(reasons) if reasons.is_empty() => (StatusCode::OK, "ok\n").into_response(),
        Ok(reasons) => (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n").into_response(),
        Err(response) => response,
    }
}

async fn metrics_text(State(source): State<Shared>) -> Response {
    match blocking(move || render(&source.status(), source.metrics())).await {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Ok(Err(error)) => internal(error),
        Err(response) => response,
    }
}

async fn problems_json(State(source): State<Shared>) -> Response {
    json(move || problems::problems(&source.status())).await
}

async fn status(State(source): State<Shared>) -> Response {
    json(move || source.status()).await
}

async fn json<T: Serialize>(question: impl FnOnce() -> T + Send + 'static) -> Response {
    match blocking(move || serde_json::to_vec(&question())).await {
        Ok(Ok(json)) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Ok(Err(error)) => internal(error),
        Err(response) => response,
    }
}

/// Runs `question` on a thread that may block, so that a slow answer of the kernel stops no other request.
async fn blocking<T: Send + 'static>(question: impl FnOnce() -> T + Send + 'static) -> Result<T, Response> {
    tokio::task::spawn_blocking(question).await.map_err(internal)
}

fn internal(error: impl std::fmt::Display) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response()
}

#[cfg(test)]
mod tests;
