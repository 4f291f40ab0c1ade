//! What a gateway says is wrong is told to its Service.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, body::Incoming};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use sluice_apiserver_tests::world;
use sluice_controller::events::EventReason;
use sluice_gateway::config::Gateway;
use sluice_gateway::problem::Problem;
use tokio::net::TcpListener;

/// A played gateway's admin server, which reports what is put in here.
async fn gateway(pod: &Pod) -> Arc<Mutex<Vec<Problem>>> {
    let address: IpAddr = pod.status.as_ref().unwrap().pod_ip.as_ref().unwrap().parse().unwrap();
    let listener = TcpListener::bind(SocketAddr::new(address, Gateway::default().admin_port)).await.unwrap();
    let report = Arc::new(Mutex::new(Vec::new()));
    let told = report.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let told = told.clone();
            tokio::spawn(async move {
                let answer = service_fn(async |request: Request<Incoming>| {
                    let known = request.uri().path() == "/problems";
                    let status = if known { StatusCode::OK } else { StatusCode::NOT_FOUND };
                    let body = serde_json::to_string(&*told.lock().unwrap()).unwrap();
                    Response::builder().status(status).body(body)
                });
                let server = hyper::server::conn::http1::Builder::new();
                // A client that hangs up is none of this test's business.
                let _ = server.serve_connection(TokioIo::new(stream), answer).await;
            });
        }
    });
    report
}

#[test]
fn a_refused_file_and_a_table_that_fills_reach_the_service() {
    world::test(async |world| {
        let network = world.external_network().await;
        let mut controller = world.controller().await;
        controller.start().await;
        world.service("web").on(&network).port(80).create().await;
        world.published("web").await;
        let report = gateway(&world.gateway_pod("web").await).await;
        let problem = |reason: &str, message: &str, dropped| Problem {
            reason: reason.to_owned(),
            message: message.to_owned(),
            dropped,
        };

        let full = |dropped| problem("FlowTableFull", "the flow table is full", Some(dropped));
        let refused = problem("FileRefused", "line 3: port: 0 is no port", None);
        // What was dropped before anybody asked may be long ago.
        *report.lock().unwrap() = vec![refused.clone(), full(7)];
        let note = world.event("web", EventReason::GatewayProblem, &["line 3: port: 0 is no port"]).await;
        assert!(!note.contains("the flow table is full"), "{note}");
        *report.lock().unwrap() = vec![full(8)];
        let note = world.event("web", EventReason::GatewayProblem, &["the flow table is full"]).await;
        assert!(!note.contains("line 3"), "{note}");
        assert!(!world.vips("web").await.is_empty(), "a problem is no reason to withdraw");
    });
}
