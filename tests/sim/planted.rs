//! Bugs of our own making, between a worker and its broker: the invariants have to find each of them.

use std::time::{Duration, SystemTime};

use async_nats::HeaderMap;
use queue_worker::{
    broker::{Ack, Broker, BrokerError, Record},
    names,
};
use rand::RngExt;

use crate::broker::Line;

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Says that a record is durable before it is.
    AcknowledgesTooEarly,
    /// Every publish has an id of its own.
    NewIds,
    /// A clone does not tell of its last attempt.
    CountsNothing,
    /// A clone is due at once.
    WaitsForNothing,
    /// No heartbeat is sent.
    NoHeartbeats,
    /// The successor of a message that comes again is not looked for.
    LooksForNothing,
    /// A settled message is not acknowledged.
    NeverAcknowledges,
    /// A message is handed back by a negative acknowledgement only.
    LosesClones,
}

/// A connection with a bug, or without.
#[derive(Debug, Clone)]
pub struct Planted {
    pub line: Line,
    pub bug: Option<Bug>,
}

impl Planted {
    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }
}

impl Broker for Planted {
    async fn publish(&self, record: &Record) -> Result<(), BrokerError> {
        let mut record = record.clone();
        if self.has(Bug::NewIds) {
            record.id = self.line.shared.state().dice.random::<u64>().to_string();
        }
        if self.has(Bug::CountsNothing) {
            record.headers.insert(names::ATTEMPTS, "0");
        }
        if self.has(Bug::WaitsForNothing) && record.headers.get("Nats-Schedule").is_some() {
            record.headers.insert("Nats-Schedule", "@at 2020-01-01T00:00:00Z");
        }
        if self.has(Bug::LosesClones) && record.stream == self.line.shared.names.retries {
            return Ok(());
        }
        if self.has(Bug::AcknowledgesTooEarly) {
            let line = self.line.clone();
            tokio::spawn(async move {
                line.pause(Duration::from_millis(50)).await;
                line.publish(&record).await
            });
            return Ok(());
        }
        self.line.publish(&record).await
    }

    async fn acknowledge(&self, reply: &str, ack: Ack, confirmed: bool) -> Result<(), BrokerError> {
        let swallowed = self.has(Bug::NoHeartbeats) && ack == Ack::InProgress || self.has(Bug::NeverAcknowledges) && ack == Ack::Done;
        if swallowed { Ok(()) } else { self.line.acknowledge(reply, ack, confirmed).await }
    }

    async fn last(&self, stream: &str, filter: &str) -> Result<Option<String>, BrokerError> {
        if self.has(Bug::LooksForNothing) { Ok(None) } else { self.line.last(stream, filter).await }
    }

    async fn taken_as(&self, stream: &str, subject: &str, id: &str) -> Result<Option<u64>, BrokerError> {
        if self.has(Bug::LooksForNothing) { Ok(None) } else { self.line.taken_as(stream, subject, id).await }
    }

    async fn headers(&self, stream: &str, sequence: u64) -> Result<Option<HeaderMap>, BrokerError> {
        self.line.headers(stream, sequence).await
    }

    fn now(&self) -> SystemTime {
        self.line.now()
    }

    fn max_payload(&self) -> usize {
        self.line.max_payload()
    }
}
