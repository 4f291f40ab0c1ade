//! An HTTP proxy between a controller and the API server: it counts what is asked, and fails on command.
//!
//! Controllers reach it by plain HTTP; requests go on by TLS with the token that they brought.

mod body;
mod exchange;
mod fault;
mod route;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HOST};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use kube::Client;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::servers::Servers;
use crate::wait;
use body::{Body, Ending};
pub use exchange::Exchange;
use exchange::Journal;
use fault::Faults;
pub use fault::Mode;
pub use route::Route;

/// The proxy. It ends when this value is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
    listener: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    journal: Journal,
    faults: Faults,
    held: AtomicUsize,
}

/// The connection is closed instead of an answer.
#[derive(Debug)]
struct NoAnswer;

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection is cut")
    }
}

impl std::error::Error for NoAnswer {}

impl Proxy {
    /// Starts one before `servers`.
    pub async fn start(servers: &Servers) -> Self {
        let upstream = servers.anonymous().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<State>::default();
        let listener = tokio::spawn(listen(listener, upstream, Arc::clone(&state)));
        Self { address, state, listener }
    }

    /// What controllers take for the API server.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything that was asked and answered so far, in the order of the answers.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.state.journal.all()
    }

    /// The writes among them that the server accepted, except Leases, Events and Subnets' status.
    pub fn writes(&self) -> Vec<Exchange> {
        self.exchanges().into_iter().filter(Exchange::is_accepted_write).collect()
    }

    /// How often this verb and resource (`services/status`) were answered.
    pub fn count(&self, verb: &str, resource: &str) -> usize {
        let is_it = |exchange: &Exchange| exchange.route.verb == verb && exchange.route.resource == resource;
        self.exchanges().iter().filter(|exchange| is_it(exchange)).count()
    }

    /// How many requests wait in [`Mode::Hold`].
    pub fn held(&self) -> usize {
        self.state.held.load(Ordering::Relaxed)
    }

    /// Forgets what was asked so far.
    pub fn clear(&self) {
        self.state.journal.clear();
    }

    /// Lets requests through, holds them, or cuts all connections.
    pub fn set(&self, mode: Mode) {
        self.state.faults.set(mode);
    }

    /// From the server's answer to the `n`th write on (1: the next; counted as by [`Self::writes`]), nothing is let through, that answer
    /// included: as if the controller had died at that moment. Resolves when that has come. [`Self::set`] to [`Mode::Pass`] ends it.
    pub fn cut_after_write(&self, n: usize) -> oneshot::Receiver<Exchange> {
        self.state.faults.cut_after_write(n)
    }

    /// Answers the next `times` requests of this verb and resource with an error of this code, without asking the server.
    pub fn answer(&self, verb: &str, resource: &str, code: u16, times: usize) {
        self.state.faults.answer(verb, resource, code, times);
    }

    /// Ends all watches with "410 Gone": what the watcher has seen is too old to go on from.
    pub fn expire_watches(&self) {
        self.state.faults.expire_watches();
    }

    /// Waits until there has been no write for `time`.
    pub async fn quiet(&self, time: Duration) {
        let started = Instant::now();
        wait::eventually("the controller stops writing", async || {
            let last = self.state.journal.last_write().unwrap_or(started).max(started);
            (last.elapsed() >= time).then_some(())
        })
        .await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listener.abort();
        self.set(Mode::Cut);
    }
}

async fn listen(listener: TcpListener, upstream: Client, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(connection(stream, upstream.clone(), Arc::clone(&state)));
    }
}

async fn connection(stream: TcpStream, upstream: Client, state: Arc<State>) {
    let service = service_fn(|request| forward(request, upstream.clone(), Arc::clone(&state)));
    let serve = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // How the peer ends its connection is not the proxy's business.
        _ = serve => {}
        () = state.faults.cut_off() => {}
    }
}

async fn forward(
    request: Request<Incoming>,
    upstream: Client,
    state: Arc<State>,
) -> Result<Response<Body>, NoAnswer> {
    let route = Route::of(request.method(), request.uri());
    state.held.fetch_add(1, Ordering::Relaxed);
    state.faults.passing().await;
    state.held.fetch_sub(1, Ordering::Relaxed);
    if let Some(code) = state.faults.replacement(&route) {
        state.journal.note(Exchange { route, code, by_proxy: true });
        let code = StatusCode::from_u16(code).unwrap();
        return Ok(Response::builder().status(code).body(body::status(code)).unwrap());
    }
    let (mut head, incoming) = request.into_parts();
    let content = incoming.collect().await.map_err(|_| NoAnswer)?.to_bytes();
    head.headers.remove(HOST);
    head.headers.remove(CONNECTION);
    let answer = upstream.send(Request::from_parts(head, content.into())).await.map_err(|_| NoAnswer)?;

    let exchange = Exchange { route, code: answer.status().as_u16(), by_proxy: false };
    state.journal.note(exchange.clone());
    if state.faults.answered(&exchange) {
        return Err(NoAnswer);
    }
    let ending = if exchange.route.verb == "watch" {
        Ending::OnExpiry(state.faults.expiries())
    } else {
        Ending::ByServer
    };
    Ok(answer.map(|content| body::passing(content, ending)))
}
