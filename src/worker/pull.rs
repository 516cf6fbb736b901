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
//! free, and does not wait for what it asked for before. Where calls end quickly it also asks ahead of the
//! permits (`ahead.rs`); what is still unread when calls have stopped to end is handed back.

mod ahead;
mod unbegun;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    task::yield_now,
    time::{Instant, timeout_at},
};
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

use ahead::Ahead;
pub use ahead::SPAN;
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
    /// What is called within so long may be asked for ahead: [`SPAN`], where nothing else is wanted.
    pub ahead: Duration,
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
        let mut ahead = Ahead::new(self.ahead, Instant::now());
        let stop = self.stop.clone();
        while !stop.is_cancelled() {
            match self.round(hungry, &mut ahead).await {
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
            self.lane.foresee(0);
            self.lane.set_hungry(hungry);
        }
        for pulled in self.source.close().await {
            let delivery = self.delivery(pulled);
            self.release(delivery);
        }
    }

    /// One request and what comes of it; returns whether more is known to wait.
    async fn round(&mut self, hungry: bool, ahead: &mut Ahead) -> Result<bool, BrokerError> {
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
        } else {
            // What came last goes on its way to the function before the broker is asked for more.
            yield_now().await;
        }
        let ask = if permits.is_empty() { Ask::One } else { Ask::UpTo(permits.len()) };
        match stop.run_until_cancelled(self.source.ask(ask)).await {
            None => return Ok(false),
            Some(asked) => drop(asked?),
        }
        self.receive(permits, ahead).await
    }

    /// Receives the answers of requests, and asks for more meanwhile; returns whether more is known to wait.
    async fn receive(&mut self, mut permits: Vec<Permit>, ahead: &mut Ahead) -> Result<bool, BrokerError> {
        let (stop, hungry) = (self.stop.clone(), !permits.is_empty());
        let mut more = false;
        loop {
            let may_ask = hungry && more && self.source.has_room() && self.worker.standby().ready().is_ok();
            if may_ask {
                let soon = ahead.messages(Instant::now(), || self.lane.limit());
                self.ask_more(permits.len(), soon).await?;
            }
            permits.truncate(self.source.to_come());
            let next = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(false),
                next = self.source.next() => next?,
                first = self.lane.acquire_of_many(), if may_ask => {
                    permits.push(first);
                    permits.extend(self.lane.take_free(BATCH - 1));
                    continue;
                }
            };
            let Some(pulled) = next else { return Ok(more) };
            let to_come = self.source.to_come();
            more = pulled.pending > u64::try_from(to_come).unwrap_or(u64::MAX);
            let asked = pulled.asked;
            let delivery = self.delivery(pulled);
            let permit = permits.pop();
            // Of what a request did not bring.
            permits.truncate(to_come);
            self.lane.foresee(to_come - permits.len());
            match permit {
                Some(permit) => self.start(delivery, permit),
                None if hungry && to_come > 0 => self.wait(delivery, Some((asked, &mut *ahead))).await,
                None => self.wait(delivery, None).await,
            }
            ahead.begins();
        }
    }

    /// Asks for what there are permits for and what is wanted ahead, unless a good part of it is to come
    /// already: a request costs the broker more than a message.
    async fn ask_more(&mut self, permits: usize, ahead: usize) -> Result<(), BrokerError> {
        let (to_come, many) = (self.source.to_come(), self.lane.many().max(ahead * 3 / 4));
        if permits + ahead < to_come + many {
            return Ok(());
        }
        let more = (permits + self.lane.foresee(ahead)).saturating_sub(to_come).min(BATCH);
        if more < self.lane.many() {
            return Ok(());
        }
        let stop = self.stop.clone();
        let asked = stop.run_until_cancelled(self.source.ask(Ask::UpTo(more))).await;
        self.lane.foresee(self.source.to_come().saturating_sub(permits));
        asked.transpose().map(drop)
    }

    /// Holds a delivery under its lease until a permit is free. A suspect is not held: should the worker die
    /// now, nobody could tell that its call had not begun. `ahead`, and when it was asked for: others were,
    /// too, and lie unread behind it.
    async fn wait(&mut self, delivery: Delivery<B>, ahead: Option<(Instant, &mut Ahead)>) {
        if let Some(permit) = self.lane.take_free(1).pop() {
            return self.start(delivery, permit);
        }
        if delivery.is_suspect() {
            return self.release(delivery);
        }
        self.lane.set_hungry(true);
        let (lease, stop) = (delivery.lease(), self.stop.clone());
        let permit = lease.keep(async {
            if let Some((asked, ahead)) = ahead {
                let patience = ahead.patience(asked, Instant::now());
                if let Ok(permit) = timeout_at(patience, self.lane.acquire()).await {
                    return permit;
                }
                self.leave_to_others(ahead).await;
            }
            let permit = self.lane.acquire().await;
            lease.fresh().await;
            permit
        });
        match stop.run_until_cancelled(permit).await {
            Some(Ok(permit)) => self.start(delivery, permit),
            Some(Err(_lost)) => {
                self.unbegun().gave_up(delivery.sequence(), delivery.delivered(), delivery.was_abandoned());
                self.worker.expired(delivery);
            }
            None => self.release(delivery),
        }
    }

    /// Hands back what was asked for ahead: no call ends any more.
    async fn leave_to_others(&mut self, ahead: &mut Ahead) {
        ahead.none(Instant::now());
        // What ends the requests otherwise is found again by whoever asks next.
        while let Ok(Some(pulled)) = self.source.next().await {
            let delivery = self.delivery(pulled);
            self.release(delivery);
        }
        self.lane.foresee(0);
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
