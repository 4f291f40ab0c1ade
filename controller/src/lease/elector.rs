//! The task that gets the Lease, keeps it, and gives it up at the end.

use std::future::Future;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::candidate::Candidate;
use super::{Gate, Timing};
use crate::admin::{Health, Number};
use crate::operator::writer::FIELD_MANAGER;

/// What the health calls it.
const TASK: &str = "leader election";
/// How far apart those who wait look at the Lease, at random, in retry periods: so they do not all write at once.
const SPREAD: std::ops::Range<f64> = 1.0..2.2;

/// The process no longer leads, and must end: what it has in memory may be out of date.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// The Lease names another.
    #[error("the lease {lease} was taken by {holder}")]
    Taken {
        /// Namespace and name of the Lease.
        lease: String,
        /// Who has it.
        holder: String,
    },
    /// It could not be renewed in time.
    #[error("the lease {lease} could not be renewed within {deadline:?}: {last}")]
    NotRenewed {
        /// Namespace and name of the Lease.
        lease: String,
        /// The renew deadline.
        deadline: Duration,
        /// Why the last attempt failed.
        last: String,
    },
}

/// Stands for election.
#[derive(Debug)]
pub struct Elector {
    api: Api<Lease>,
    /// Namespace and name, for people.
    lease: String,
    name: String,
    candidate: Candidate,
    timing: Timing,
    gate: watch::Sender<Option<Instant>>,
}

/// Why an attempt to hold the Lease failed.
#[derive(Debug, thiserror::Error)]
enum Missed {
    #[error("{0} holds it")]
    Held(String),
    #[error("somebody else wrote at the same time")]
    Raced,
    #[error("{0}")]
    Api(kube::Error),
    #[error("the API server did not answer in time")]
    Late,
}

impl Elector {
    /// Stands for the Lease `namespace`/`name` as `identity`, which must be no other process's, dead ones included. The gate is
    /// open while the Lease is held, once [`Self::run`] runs.
    pub fn new(
        client: Client,
        namespace: &str,
        name: &str,
        identity: String,
        timing: Timing,
    ) -> (Self, Gate) {
        let (sender, gate) = Gate::new();
        let elector = Self {
            api: Api::namespaced(client, namespace),
            lease: format!("{namespace}/{name}"),
            name: name.to_owned(),
            candidate: Candidate::new(identity, timing),
            timing,
            gate: sender,
        };
        (elector, gate)
    }

    /// Waits for the Lease, then renews it until `end`, then gives it up. Whatever writes must be over before `end` is. It shows
    /// `health` that it lives, and `leader` whether it leads.
    ///
    /// # Errors
    /// The Lease was held and is lost.
    pub async fn run(
        mut self,
        health: &Health,
        leader: &Number,
        end: impl Future<Output = ()>,
    ) -> Result<(), Lost> {
        let lost = tokio::select! {
            lost = self.lead(health, leader) => lost,
            () = end => {
                self.release().await;
                health.ended(TASK);
                leader.set(0);
                return Ok(());
            }
        };
        self.gate.send_replace(None);
        Err(lost)
    }

    /// Gets the Lease and keeps it for as long as it can.
    async fn lead(&mut self, health: &Health, leader: &Number) -> Lost {
        let mut until = self.acquire(health).await;
        leader.set(1);
        info!(lease = self.lease, identity = self.candidate.identity(), "leading");
        let mut last = "the process was stopped".to_owned();
        loop {
            health.beat(TASK);
            tokio::time::sleep(self.timing.retry()).await;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let (lease, deadline) = (self.lease.clone(), self.timing.renew_deadline());
                return Lost::NotRenewed { lease, deadline, last };
            }
            match self.attempt(left).await {
                Ok(renewed) => until = renewed,
                Err(Missed::Held(holder)) => return Lost::Taken { lease: self.lease.clone(), holder },
                Err(missed) => {
                    last = missed.to_string();
                    warn!(lease = self.lease, error = last, "the lease is not renewed yet");
                }
            }
        }
    }

    /// Tries until the Lease is ours; returns until when a leader may write.
    async fn acquire(&mut self, health: &Health) -> Instant {
        let mut told = String::new();
        loop {
            health.beat(TASK);
            match self.attempt(self.timing.renew_deadline()).await {
                Ok(until) => return until,
                Err(missed) => {
                    let missed = missed.to_string();
                    if missed == told {
                        debug!(lease = self.lease, reason = missed, "not leading");
                    } else {
                        info!(lease = self.lease, reason = missed, "not leading; standing by");
                    }
                    told = missed;
                }
            }
            tokio::time::sleep(self.timing.retry().mul_f64(spread(fastrand::f64()))).await;
        }
    }

    /// Looks at the Lease and writes it if that may be; returns until when a leader may write, for which the gate is open then.
    async fn attempt(&mut self, patience: Duration) -> Result<Instant, Missed> {
        let sent = match timeout(patience, self.look_and_write()).await {
            Ok(sent) => sent?,
            Err(_elapsed) => return Err(Missed::Late),
        };
        let until = sent + self.timing.renew_deadline();
        self.gate.send_replace(Some(until));
        Ok(until)
    }

    /// One round: read, judge, write. Returns when the write was sent: the others cannot have seen it earlier.
    async fn look_and_write(&mut self) -> Result<Instant, Missed> {
        let live = self.api.get_opt(&self.name).await.map_err(Missed::Api)?;
        if let Some(spec) = live.as_ref().and_then(|lease| lease.spec.as_ref()) {
            self.candidate.see(spec, Instant::now());
        }
        let Some(spec) = self.candidate.claim(live.is_some(), Instant::now(), Timestamp::now()) else {
            return Err(Missed::Held(self.candidate.holder().unwrap_or_default().to_owned()));
        };
        let sent = Instant::now();
        self.write(live, spec).await?;
        Ok(sent)
    }

    /// Writes `spec` if the Lease is still `live`, by its resource version.
    async fn write(&mut self, live: Option<Lease>, spec: LeaseSpec) -> Result<(), Missed> {
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let written = match live {
            Some(live) => {
                let lease = Lease { spec: Some(spec), ..live };
                self.api.replace(&self.name, &params, &lease).await
            }
            None => {
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                self.api.create(&params, &Lease { metadata, spec: Some(spec) }).await
            }
        };
        match written {
            Ok(lease) => {
                self.candidate.see(&lease.spec.unwrap_or_default(), Instant::now());
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Err(Missed::Raced),
            Err(error) => Err(Missed::Api(error)),
        }
    }

    /// Gives the Lease up, so that another need not wait for its end. What fails here only costs that wait.
    async fn release(&mut self) {
        self.gate.send_replace(None);
        if !self.candidate.leads() {
            return;
        }
        match timeout(self.timing.retry(), self.give_up()).await {
            Ok(Ok(())) => info!(lease = self.lease, "the lease is given up"),
            Ok(Err(error)) => warn!(lease = self.lease, %error, "the lease could not be given up"),
            Err(_elapsed) => warn!(lease = self.lease, "the lease could not be given up in time"),
        }
    }

    async fn give_up(&mut self) -> Result<(), Missed> {
        let Some(live) = self.api.get_opt(&self.name).await.map_err(Missed::Api)? else { return Ok(()) };
        self.candidate.see(&live.spec.clone().unwrap_or_default(), Instant::now());
        match self.candidate.release(Timestamp::now()) {
            Some(spec) => self.write(Some(live), spec).await,
            None => Ok(()),
        }
    }
}

/// Where in [`SPREAD`] a number from 0 to 1 lies.
fn spread(random: f64) -> f64 {
    SPREAD.start + random * (SPREAD.end - SPREAD.start)
}
