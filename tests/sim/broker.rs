//! One worker's connection to the broker in memory: latency, faults, and its end when the worker crashes.

use std::{
    future::pending,
    time::{Duration, SystemTime},
};

use async_nats::HeaderMap;
use queue_worker::broker::{Ack, Broker, BrokerError, Record};
use rand::RngExt;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    plan::any,
    shared::{Shared, State},
};

/// How long a request waits for its answer.
const PATIENCE: Duration = Duration::from_secs(4);

/// The connection of a worker.
#[derive(Debug, Clone)]
pub struct Line {
    pub shared: Shared,
    pub worker: usize,
    /// A crashed worker does nothing any more: whatever it asks for is neither done nor answered.
    pub crashed: CancellationToken,
}

/// What becomes of a request.
enum Fate {
    Fine,
    Lost,
    Unanswered,
    Late,
}

pub fn unavailable() -> BrokerError {
    BrokerError::Unavailable("simulated".to_owned())
}

impl Line {
    /// Lets time pass, for ever after a crash.
    pub async fn pause(&self, time: Duration) {
        self.until(Instant::now() + time).await;
    }

    pub async fn until(&self, time: Instant) {
        let _ = self.crashed.run_until_cancelled(sleep_until(time)).await;
        self.alive().await;
    }

    /// Returns at once, or never after a crash.
    pub async fn alive(&self) {
        if self.crashed.is_cancelled() {
            pending().await
        }
    }

    fn fate(&self) -> (Duration, Fate) {
        let state = &mut *self.shared.state();
        let faults = state.faults;
        let latency = any(&mut state.dice, Duration::from_millis(3));
        let fate = match state.dice.random_range(0..1000) {
            n if n < faults.lost => Fate::Lost,
            n if n < faults.lost + faults.unanswered => Fate::Unanswered,
            n if n < faults.lost + faults.unanswered + faults.late => Fate::Late,
            _ => Fate::Fine,
        };
        if !matches!(fate, Fate::Fine) || !state.up {
            state.blemished.insert(self.worker);
        }
        (latency, fate)
    }

    /// Carries a request out, as its fate will have it.
    pub async fn request<T>(&self, effect: impl FnOnce(&mut State) -> T + Send + 'static) -> Result<T, BrokerError> {
        let (latency, fate) = self.fate();
        self.pause(latency).await;
        if !self.shared.state().up {
            return Err(unavailable());
        }
        if let Fate::Late = fate {
            let (shared, late) = (self.shared.clone(), any(&mut self.shared.state().dice, PATIENCE * 2));
            tokio::spawn(async move {
                sleep(late).await;
                if shared.state().up {
                    effect(&mut shared.state());
                }
            });
            self.pause(PATIENCE).await;
            return Err(unavailable());
        }
        if let Fate::Lost = fate {
            self.pause(PATIENCE).await;
            return Err(unavailable());
        }
        let outages = self.shared.state().outages;
        let answer = effect(&mut self.shared.state());
        self.pause(if let Fate::Unanswered = fate { PATIENCE } else { latency }).await;
        let cut = self.shared.state().outages != outages;
        if cut || matches!(fate, Fate::Unanswered) { Err(unavailable()) } else { Ok(answer) }
    }
}

impl Broker for Line {
    async fn publish(&self, record: &Record) -> Result<(), BrokerError> {
        let (record, shared) = (record.clone(), self.shared.clone());
        let effect = move |state: &mut State| {
            state.publish(&record);
            shared.stir();
        };
        self.request(effect).await
    }

    async fn acknowledge(&self, reply: &str, ack: Ack, confirmed: bool) -> Result<(), BrokerError> {
        let (consumer, sequence) = reply.split_once(' ').unwrap();
        let (consumer, sequence) = (consumer.parse().unwrap(), sequence.parse().unwrap());
        let shared = self.shared.clone();
        let effect = move |state: &mut State| {
            if let Some(message) = state.server.acknowledge(consumer, sequence, ack, Instant::now()) {
                state.ledger.acknowledged(&message, sequence);
            }
            if ack == Ack::Done && state.server.is_empty() {
                shared.stir();
            }
        };
        if confirmed {
            return self.request(effect).await;
        }
        // Sent and not waited for: it overtakes nothing, and nobody learns of its loss.
        self.alive().await;
        let (_, fate) = self.fate();
        if !self.shared.state().up {
            return Err(unavailable());
        }
        if matches!(fate, Fate::Fine | Fate::Unanswered) {
            effect(&mut self.shared.state());
        }
        Ok(())
    }

    async fn last(&self, stream: &str, filter: &str) -> Result<Option<String>, BrokerError> {
        let (stream, filter) = (stream.to_owned(), filter.to_owned());
        self.request(move |state| state.server.last(&stream, &filter)).await
    }

    async fn taken_as(&self, stream: &str, _subject: &str, id: &str) -> Result<Option<u64>, BrokerError> {
        let (stream, id) = (stream.to_owned(), id.to_owned());
        self.request(move |state| state.server.taken_as(&stream, &id, Instant::now())).await
    }

    async fn headers(&self, stream: &str, sequence: u64) -> Result<Option<HeaderMap>, BrokerError> {
        let stream = stream.to_owned();
        self.request(move |state| state.server.headers(&stream, sequence)).await
    }

    fn now(&self) -> SystemTime {
        self.shared.state().server.wall(Instant::now())
    }

    fn max_payload(&self) -> usize {
        1 << 20
    }
}
