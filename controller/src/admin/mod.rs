//! Probes and metrics of the controller: `/livez`, `/readyz`, `/metrics`.

mod health;
mod metrics;

pub use health::Health;
pub use metrics::{Metrics, Number, ServiceState};

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

/// The form of [`Metrics`].
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the server answers from.
struct Told {
    health: Health,
    metrics: Metrics,
    registry: Registry,
}

/// Listens on `address`. Where there is no IPv6, every address (`[::]`) means every IPv4 address.
///
/// # Errors
/// The address is not ours, or in use.
pub async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    }
}

/// Answers on `listener` for as long as it is polled.
///
/// # Errors
/// The listener failed.
pub async fn serve(listener: TcpListener, health: Health, metrics: Metrics) -> io::Result<()> {
    axum::serve(listener, routes(health, metrics)).await
}

fn routes(health: Health, metrics: Metrics) -> Router {
    let registry = metrics.registry();
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .with_state(Arc::new(Told { health, metrics, registry }))
}

async fn livez(State(told): State<Arc<Told>>) -> Response {
    match told.health.live(Instant::now()) {
        Ok(()) => "ok\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why + "\n").into_response(),
    }
}

async fn readyz(State(told): State<Arc<Told>>) -> Response {
    let reasons = told.health.not_ready();
    if reasons.is_empty() {
        "ok\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n").into_response()
    }
}

async fn metrics_text(State(told): State<Arc<Told>>) -> Response {
    match told.metrics.render(&told.registry) {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn the_server_tells_what_the_parts_say() {
        let listener = listen((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (health, metrics) = (Health::default(), Metrics::default());
        let server = tokio::spawn(serve(listener, health.clone(), metrics.clone()));
        let unready = ask(address, "/readyz").await;
        assert!(unready.starts_with("HTTP/1.1 503") && unready.contains("starting"), "{unready}");
        health.started();
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        assert!(ask(address, "/livez").await.starts_with("HTTP/1.1 200"));
        metrics.leader.set(1);
        let text = ask(address, "/metrics").await;
        assert!(text.contains("application/openmetrics-text") && text.contains("sluice_controller_leader 1"));
        server.abort();
    }
}
