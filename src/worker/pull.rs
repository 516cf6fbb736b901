//! One lane: a consumer, and the permits for what comes out of it.
//!
//! ```text
//!            nothing known to wait                      more known to wait
//!   ask for one, with no permit in hand         take the permits that are free, ask for so many
//!                │                                                │
//!                ▼ a message: wait for a permit under its lease   ▼ each message has its permit
//!                └───────────────▶ spawn ◀────────────────────────┘
//! ```
//!
//! So a lane always listens, no lane hoards permits while it has nothing to do, and at most one delivery a
//! lane waits. While more is known to wait than was asked for, it asks again as soon as many permits are
//! free, and does not wait for what it asked for before.

mod unbegun;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    broker::{
        pulled::Pulled,
        seam::{Ask, Broker, BrokerError, Source},
    },
    flow::permits::{Lane, Permit, Seat},
    outbound::invoke::Gateway,
    tasks::error_backoff::ErrorBackoff,
    worker::{delivery::Delivery, process::Worker},
};

pub use unbegun::Unbegun;

/// The pause after a request that failed, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// The most messages that are asked for at once.
const BATCH: usize = 128;

/// A lane of a worker.
#[derive(Debug)]
pub struct Pull<B, G, S> {
    /// The worker that processes deliveries.
    pub worker: Worker<B, G>,
    /// The permits.
    pub lane: Lane,
    /// The consumer.
    pub source: S,
    /// Whether it is the stream of retries, where only workers write.
    pub parked: bool,
    /// The tasks in which calls run.
    pub tasks: TaskTracker,
    /// Ends the pulling.
    pub stop: CancellationToken,
    /// The redeliveries that were never begun.
    pub unbegun: Arc<Mutex<Unbegun>>,
}

impl<B: Broker, G: Gateway, S: Source> Pull<B, G, S> {
    /// Pulls until told to stop, then hands back what was delivered and not begun.
    pub async fn run(mut self) {
        let mut pause = ErrorBackoff::new(PAUSE);
        let mut hungry = false;
        let stop = self.stop.clone();
        while !stop.is_cancelled() {
            match self.round(hungry).await {
                Ok(more) => {
                    hungry = more;
                    pause.reset();
                }
                Err(error) => {
                    hungry = false;
                    tracing::debug!(parked = self.parked, %error, "pulling again");
                    let _ = stop.run_until_cancelled(pause.rest()).await;
                }
            }
            self.lane.set_hungry(hungry);
        }
        for pulled in self.source.close().await {
            let delivery = self.delivery(pulled);
            self.release(delivery);
        }
    }

    /// One request and what comes of it; returns whether more is known to wait.
    async fn round(&mut self, hungry: bool) -> Result<bool, BrokerError> {
        let stop = self.stop.clone();
        if self.worker.standby().ready().is_err() {
            // It leaves the permits to others meanwhile.
            self.lane.set_hungry(false);
            let _ = stop.run_until_cancelled(self.worker.standby().room()).await;
        }
        let mut permits = Vec::new();
        if hungry {
            let Some(first) = stop.run_until_cancelled(self.lane.acquire()).await else { return Ok(false) };
            permits = self.lane.take_free(BATCH - 1);
            permits.push(first);
        }
        let ask = if permits.is_empty() { Ask::One } else { Ask::UpTo(permits.len()) };
        match stop.run_until_cancelled(self.source.ask(ask)).await {
            None => return Ok(false),
            Some(asked) => drop(asked?),
        }
        self.receive(permits).await
    }

    /// Receives the answers of requests, and asks for more meanwhile; returns whether more is known to wait.
    async fn receive(&mut self, mut permits: Vec<Permit>) -> Result<bool, BrokerError> {
        let (stop, hungry) = (self.stop.clone(), !permits.is_empty());
        let mut more = false;
        loop {
            let has_room = self.source.has_room();
            let next = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(false),
                next = self.source.next() => next?,
                first = self.lane.acquire_of_many(),
                    if hungry && more && has_room && self.worker.standby().ready().is_ok() =>
                {
                    permits.push(first);
                    permits.extend(self.lane.take_free(BATCH - 1));
                    let wanted = permits.len().saturating_sub(self.source.to_come());
                    let asked = stop.run_until_cancelled(self.source.ask(Ask::UpTo(wanted))).await;
                    asked.transpose()?;
                    permits.truncate(self.source.to_come());
                    continue;
                }
            };
            let Some(pulled) = next else { return Ok(more) };
            let to_come = self.source.to_come();
            more = pulled.pending > u64::try_from(to_come).unwrap_or(u64::MAX);
            let delivery = self.delivery(pulled);
            match permits.pop() {
                Some(permit) => self.start(delivery, permit),
                None => self.wait(delivery).await,
            }
            // Of what a request did not bring.
            permits.truncate(to_come);
        }
    }

    /// Holds a delivery under its lease until a permit is free. A suspect is not held: should the worker die
    /// now, nobody could tell that its call had not begun.
    async fn wait(&mut self, delivery: Delivery<B>) {
        if let Some(permit) = self.lane.take_free(1).pop() {
            return self.start(delivery, permit);
        }
        if delivery.is_suspect() {
            return self.release(delivery);
        }
        self.lane.set_hungry(true);
        let lease = delivery.lease();
        let permit = lease.keep(async {
            let permit = self.lane.acquire().await;
            lease.fresh().await;
            permit
        });
        match self.stop.run_until_cancelled(permit).await {
            Some(Ok(permit)) => self.start(delivery, permit),
            Some(Err(_lost)) => {
                self.unbegun().gave_up(delivery.sequence(), delivery.delivered(), delivery.was_abandoned());
                self.worker.expired(delivery);
            }
            None => self.release(delivery),
        }
    }

    fn delivery(&mut self, pulled: Pulled) -> Delivery<B> {
        let (lost, now, ack_wait) = (self.source.lost(), Instant::now(), pulled.ack_wait.now());
        let mut unbegun = self.unbegun();
        unbegun.lost(lost, now, ack_wait);
        let not_begun = unbegun.holds(pulled.arrival.sequence, pulled.delivered, now);
        drop(unbegun);
        Delivery::new(self.worker.broker(), self.worker.form(), pulled, self.parked, not_begun)
    }

    fn start(&self, mut delivery: Delivery<B>, mut permit: Permit) {
        permit.carry(delivery.size());
        let (worker, unbegun) = (self.worker.clone(), self.unbegun.clone());
        let seat = Arc::new(Seat::new(permit));
        delivery.sit(seat.clone());
        let (sequence, delivered, abandoned) =
            (delivery.sequence(), delivery.delivered(), delivery.was_abandoned());
        // In a box: it is large, and is handed on several times until it is a task.
        self.tasks.spawn(Box::pin(async move {
            if worker.process(delivery).await.is_err() {
                locked(&unbegun).gave_up(sequence, delivered, abandoned || seat.has_begun());
            }
        }));
    }

    fn unbegun(&self) -> MutexGuard<'_, Unbegun> {
        locked(&self.unbegun)
    }

    fn release(&self, delivery: Delivery<B>) {
        let worker = self.worker.clone();
        self.tasks.spawn(async move { worker.release(delivery).await });
    }
}

fn locked(unbegun: &Mutex<Unbegun>) -> MutexGuard<'_, Unbegun> {
    unbegun.lock().unwrap_or_else(PoisonError::into_inner)
}
