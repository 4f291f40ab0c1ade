//! The server as a whole, on real sockets of the machine's loopback and of a temporary folder.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use super::*;
use crate::status::sample;

struct Fake {
    status: Mutex<Status>,
    metrics: Metrics,
}

impl Source for Fake {
    fn live(&self) -> Result<(), String> {
        Ok(())
    }
    fn not_ready(&self) -> Vec<String> {
        self.status.lock().unwrap().not_ready.clone()
    }
    fn status(&self) -> Status {
        self.status.lock().unwrap().clone()
    }
    fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

fn fake() -> Arc<Fake> {
    Arc::new(Fake { status: Mutex::new(sample()), metrics: Metrics::default() })
}

#[test]
fn status_survives_json() {
    let status = sample();
    let json = serde_json::to_string(&status).unwrap();
    assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), status);
    assert!(json.contains("1970-01-01T00:00:00Z"), "{json}");
}

#[test]
fn metrics_carry_prefix_unit_and_labels() {
    let text = render(&sample(), &Metrics::default()).unwrap();
    for line in [
        r#"sluice_gateway_build_info{version="1.2.3"} 1"#,
        r#"sluice_gateway_ready 1"#,
        r#"sluice_gateway_attached{program="forward_v4",interface="net1",hook="ingress",mode="tcx"} 1"#,
        r#"sluice_gateway_bytes_total{service="default/test",protocol="tcp",port="80",direction="reverse"} 2200"#,
        r#"sluice_gateway_flows_active{service="default/test",protocol="tcp",port="80"} 2"#,
        r#"sluice_gateway_drops_total{reason="no_flow"} 3"#,
        r#"sluice_gateway_flow_table_capacity{family="ipv4"} 8"#,
    ] {
        assert!(text.lines().any(|have| have == line), "missing {line} in\n{text}");
    }
}

#[test]
fn every_metric_is_documented() {
    let documentation = include_str!("../../../docs/metrics.md");
    let text = render(&sample(), &Metrics::default()).unwrap();
    for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
        let mentioned = ["", "_total"].iter().any(|end| documentation.contains(&format!("`{name}{end}`")));
        assert!(mentioned, "docs/metrics.md does not mention {name}");
    }
}

#[tokio::test]
async fn the_socket_answers_the_client_and_vanishes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.sock");
    std::fs::write(&path, "left behind").unwrap();
    let source = fake();
    let server = tokio::spawn(LocalSocket::bind(&path).unwrap().serve(local_routes(source.clone())));

    let ask = |what: &'static str| {
        let path = path.clone();
        tokio::task::spawn_blocking(move || get(&path, what))
    };
    let answer = ask("/status").await.unwrap().unwrap();
    assert!(answer.success);
    assert_eq!(serde_json::from_slice::<Status>(&answer.body).unwrap(), sample());

    source.status.lock().unwrap().not_ready = vec!["net1 is missing".into()];
    let answer = ask("/readyz").await.unwrap().unwrap();
    assert!(!answer.success);
    assert_eq!(answer.body.as_ref(), b"net1 is missing\n");
    assert!(ask("/livez").await.unwrap().unwrap().success);

    server.abort();
    let _ = server.await;
    assert!(!path.exists());
    let error = ask("/status").await.unwrap().unwrap_err();
    assert!(error.to_string().contains("no daemon listens on"), "{error:#}");
}

#[tokio::test]
async fn listeners_follow_what_is_wanted_and_tell_no_status() {
    let port = free_port();
    let bind = Bind { address: ([127, 0, 0, 1], port).into(), ifindex: NonZeroU32::MIN };
    let (wanted, receiver) = watch::channel(vec![]);
    let listeners = tokio::spawn(Listeners::new(cluster_routes(fake()), receiver).run());

    assert!(http(bind.address, "/livez").await.is_err());
    wanted.send(vec![bind]).unwrap();
    eventually(async || {
        http(bind.address, "/livez").await.is_ok_and(|text| text.starts_with("HTTP/1.1 200"))
    })
    .await;
    let status = http(bind.address, "/status").await.unwrap();
    assert!(status.starts_with("HTTP/1.1 404"), "{status}");
    let problems = http(bind.address, "/problems").await.unwrap();
    let (_, body) = problems.split_once("\r\n\r\n").unwrap();
    let told: Vec<crate::problem::Problem> = serde_json::from_str(body).unwrap();
    assert_eq!(told.len(), 1, "{problems}");
    let metrics = http(bind.address, "/metrics").await.unwrap();
    assert!(metrics.contains("application/openmetrics-text") && metrics.ends_with("# EOF\n"), "{metrics}");

    wanted.send(vec![]).unwrap();
    eventually(async || http(bind.address, "/livez").await.is_err()).await;
    drop(wanted);
    listeners.await.unwrap();
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn http(address: std::net::SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
        .await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

async fn eventually(condition: impl AsyncFn() -> bool) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(5);
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "not within 5 s");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
