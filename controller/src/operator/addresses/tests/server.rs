//! A model of the API server: objects of one cluster-scoped kind, kept by name, and faults on command.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Method, Response, StatusCode, Uri};
use kube::Client;
use serde_json::{Value, json};

/// What befalls a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not done.
    Refused,
    /// It is done, and the answer is lost.
    AnswerLost,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, Value>,
    made: u64,
    /// What befalls the next writes; none: they succeed.
    faults: VecDeque<Option<Fault>>,
    writes: usize,
}

/// The server.
#[derive(Clone, Debug, Default)]
pub struct Server(Arc<Mutex<State>>);

impl Server {
    pub fn client(&self) -> Client {
        let server = self.clone();
        let answer = move |method: Method, uri: Uri, body: Bytes| {
            let server = server.clone();
            async move {
                // Requests that are made at once take turns, as they do over a network.
                tokio::task::yield_now().await;
                Ok::<_, Infallible>(server.answer(&method, &uri, &body))
            }
        };
        Client::new(Router::new().fallback(answer), "default")
    }

    pub fn objects(&self) -> Vec<Value> {
        self.0.lock().unwrap().objects.values().cloned().collect()
    }

    pub fn writes(&self) -> usize {
        self.0.lock().unwrap().writes
    }

    pub fn put(&self, object: Value) {
        self.0.lock().unwrap().create(object).unwrap();
    }

    pub fn remove(&self, name: &str) {
        self.0.lock().unwrap().objects.remove(name);
    }

    pub fn befall(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.0.lock().unwrap().faults.extend(faults);
    }

    /// Whether all faults have befallen.
    pub fn is_sound(&self) -> bool {
        self.0.lock().unwrap().faults.is_empty()
    }

    pub fn heal(&self) {
        self.0.lock().unwrap().faults.clear();
    }

    fn answer(&self, method: &Method, uri: &Uri, body: &[u8]) -> Response<Body> {
        let mut state = self.0.lock().unwrap();
        let Some((_, name)) = uri.path().split_once("/ipreservations") else {
            return failure(404, "NotFound", "there is no such kind");
        };
        let name = name.trim_start_matches('/').to_owned();
        let fault = if method == Method::GET { None } else { state.faults.pop_front().flatten() };
        if fault == Some(Fault::Refused) {
            return failure(500, "InternalError", "refused");
        }
        let result = match *method {
            Method::GET if name.is_empty() => Ok(json!({
                "kind": "IPReservationList", "apiVersion": "sluice.io/v1alpha1", "metadata": {},
                "items": state.objects.values().collect::<Vec<_>>(),
            })),
            Method::GET => state.objects.get(&name).cloned().ok_or((404, "NotFound")),
            Method::POST => state.create(serde_json::from_slice(body).unwrap()),
            Method::DELETE => state.delete(&name, &serde_json::from_slice(body).unwrap()),
            _ => panic!("{method} {uri}"),
        };
        match (result, fault) {
            (_, Some(_)) => failure(504, "Timeout", "the answer is lost"),
            (Ok(object), None) => Response::new(object.to_string().into()),
            (Err((code, reason)), None) => failure(code, reason, &name),
        }
    }
}

impl State {
    fn create(&mut self, mut object: Value) -> Result<Value, (u16, &'static str)> {
        self.writes += 1;
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        if self.objects.contains_key(&name) {
            return Err((409, "AlreadyExists"));
        }
        self.made += 1;
        object["metadata"]["uid"] = format!("object-{}", self.made).into();
        self.objects.insert(name, object.clone());
        Ok(object)
    }

    fn delete(&mut self, name: &str, options: &Value) -> Result<Value, (u16, &'static str)> {
        self.writes += 1;
        let found = self.objects.get(name).ok_or((404, "NotFound"))?;
        if found["metadata"]["uid"] != options["preconditions"]["uid"] {
            return Err((409, "Conflict"));
        }
        self.objects.remove(name).ok_or((404, "NotFound"))
    }
}

fn failure(code: u16, reason: &str, message: &str) -> Response<Body> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code, "reason": reason,
        "message": message,
    });
    let mut response = Response::new(status.to_string().into());
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}
