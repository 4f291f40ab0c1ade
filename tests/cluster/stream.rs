//! A stream of requests that goes on while something happens.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use sluice_cluster::Machine;

/// Between two requests.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks again and again, each time by a connection of its own.
pub struct Stream {
    shared: Arc<Shared>,
    asking: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    answered: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

/// What became of the requests.
#[derive(Debug)]
pub struct Outcome {
    /// How many were answered.
    pub answered: usize,
    /// Why the others were not.
    pub failures: Vec<String>,
}

impl Stream {
    /// Asks `host:port`, an HTTP server, from a machine.
    pub fn start(machine: &'static Machine, server: &str) -> Self {
        let shared = Arc::new(Shared::default());
        let (inside, url) = (Arc::clone(&shared), format!("http://{server}/hostname"));
        let asking = thread::spawn(move || {
            while !inside.stop.load(Ordering::Relaxed) {
                match machine.output("curl", &["-sS", "-m", "2", "-o", "/dev/null", &url]) {
                    Ok(_) => drop(inside.answered.fetch_add(1, Ordering::Relaxed)),
                    Err(error) => inside.failures.lock().unwrap().push(error.to_string()),
                }
                thread::sleep(PAUSE);
            }
        });
        Self { shared, asking }
    }

    /// Ends it.
    pub fn stop(self) -> Outcome {
        self.shared.stop.store(true, Ordering::Relaxed);
        let answered = Arc::clone(&self.shared);
        self.asking.join().unwrap();
        let failures = std::mem::take(&mut *answered.failures.lock().unwrap());
        Outcome { answered: answered.answered.load(Ordering::Relaxed), failures }
    }
}
