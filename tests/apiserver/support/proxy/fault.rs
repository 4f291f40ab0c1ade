//! What the proxy does wrong on command.

use std::sync::Mutex;

use tokio::sync::{broadcast, oneshot, watch};

use super::{Exchange, Route};

/// What happens to all requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// They are let through.
    #[default]
    Pass,
    /// They wait. Answers to requests that were let through before still come.
    Hold,
    /// Connections are closed, old and new ones.
    Cut,
}

/// The faults in force.
#[derive(Debug)]
pub struct Faults {
    mode: watch::Sender<Mode>,
    expiry: broadcast::Sender<()>,
    cut: Mutex<Option<(usize, oneshot::Sender<Exchange>)>>,
    answers: Mutex<Vec<Answer>>,
}

#[derive(Debug)]
struct Answer {
    verb: String,
    resource: String,
    code: u16,
    times: usize,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            mode: watch::Sender::default(),
            expiry: broadcast::Sender::new(1),
            cut: Mutex::default(),
            answers: Mutex::default(),
        }
    }
}

impl Faults {
    /// Waits until requests go on.
    pub async fn passing(&self) {
        self.wait_for(|mode| *mode != Mode::Hold).await;
    }

    /// Waits until connections are to be closed.
    pub async fn cut_off(&self) {
        self.wait_for(|mode| *mode == Mode::Cut).await;
    }

    async fn wait_for(&self, wanted: impl FnMut(&Mode) -> bool) {
        // The sender is `self`, so that the wait cannot fail. The guard that it returns would block changes.
        drop(self.mode.subscribe().wait_for(wanted).await);
    }

    /// Changes the mode.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// See [`super::Proxy::cut_after_write`].
    pub fn cut_after_write(&self, n: usize) -> oneshot::Receiver<Exchange> {
        assert!(n > 0, "writes are counted from 1");
        let (sender, receiver) = oneshot::channel();
        *self.cut.lock().unwrap() = Some((n, sender));
        receiver
    }

    /// Takes note of a server's answer; true: it must not be passed on.
    pub fn answered(&self, exchange: &Exchange) -> bool {
        let mut cut = self.cut.lock().unwrap();
        if let Some((left, _)) = cut.as_mut()
            && exchange.is_accepted_write()
        {
            *left -= 1;
            if *left == 0
                && let Some((_, sender)) = cut.take()
            {
                self.set(Mode::Cut);
                let _nobody_waits = sender.send(exchange.clone());
            }
        }
        *self.mode.borrow() == Mode::Cut
    }

    /// See [`super::Proxy::answer`].
    pub fn answer(&self, verb: &str, resource: &str, code: u16, times: usize) {
        let answer = Answer { verb: verb.to_owned(), resource: resource.to_owned(), code, times };
        self.answers.lock().unwrap().push(answer);
    }

    /// The code to answer a request with in the server's place.
    pub fn replacement(&self, route: &Route) -> Option<u16> {
        let mut answers = self.answers.lock().unwrap();
        let answer = answers.iter_mut().find(|answer| {
            answer.times > 0 && answer.verb == route.verb && answer.resource == route.resource
        })?;
        answer.times -= 1;
        Some(answer.code)
    }

    /// See [`super::Proxy::expire_watches`].
    pub fn expire_watches(&self) {
        let _nobody_watches = self.expiry.send(());
    }

    /// Tells when watches expire.
    pub fn expiries(&self) -> broadcast::Receiver<()> {
        self.expiry.subscribe()
    }
}
