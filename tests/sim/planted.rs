//! Bugs of our own making, between a worker and its world: the invariants have to find each of them.

use std::time::{Duration, SystemTime};

use async_nats::HeaderMap;
use queue_worker::{
    broker::{Ack, Broker, BrokerError, Record},
    drain::Running,
    names,
};
use rand::RngExt;

use crate::line::Line;

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
    /// The longest computed wait is a second longer than it is set.
    WaitsTooLong,
    /// The longest wait that is asked for is a second longer than it is set.
    HeedsTooLong,
    /// One attempt more than is set.
    OneAttemptTooMany,
    /// One call more at once than is set.
    OnePermitTooMany,
    /// A permit is never given back.
    LeaksPermit,
    /// No heartbeat is sent.
    NoHeartbeats,
    /// The successor of a message that comes again is not looked for.
    LooksForNothing,
    /// A settled message is not acknowledged.
    NeverAcknowledges,
    /// Another message is acknowledged.
    AcknowledgesAnother,
    /// A message is handed back by a negative acknowledgement only.
    LosesClones,
    /// What was delivered when the pulling ended is dropped.
    DropsAtDrain,
    /// What is cut off is acknowledged, and not handed back.
    DropsAtCut,
    /// A mover acknowledges what it did not bring to the due ones.
    MovesNothing,
    /// A mover does not find that it moved a message already.
    ForgetsMoves,
    /// A level that fills gets no more room.
    MakesNoRoom,
    /// A mover takes all that is parked for due.
    MovesTooEarly,
}

/// A connection with a bug, or without.
#[derive(Debug, Clone)]
pub struct Planted {
    pub line: Line,
    pub bug: Option<Bug>,
    /// The process that it belongs to.
    pub running: Running,
}

impl Planted {
    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }
}

impl Broker for Planted {
    async fn publish(&self, record: &Record) -> Result<(), BrokerError> {
        let mut record = record.clone();
        let is_clone = record.stream.ends_with("-retries");
        if self.has(Bug::NewIds) {
            record.id = self.line.shared.state().dice.random::<u64>().to_string();
        }
        if self.has(Bug::CountsNothing) {
            record.headers.insert(names::ATTEMPTS, "0");
        }
        if self.has(Bug::WaitsForNothing) && record.headers.get("Nats-Schedule").is_some() {
            record.headers.insert("Nats-Schedule", "@at 2020-01-01T00:00:00Z");
        }
        if is_clone && (self.has(Bug::LosesClones) || self.has(Bug::DropsAtCut) && self.running.cut.is_cancelled()) {
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

    async fn place(&self, record: &Record) -> Result<(), BrokerError> {
        if self.has(Bug::MovesNothing) { Ok(()) } else { self.line.place(record).await }
    }

    async fn acknowledge(&self, reply: &str, ack: Ack, confirmed: bool) -> Result<(), BrokerError> {
        let swallowed = self.has(Bug::NoHeartbeats) && ack == Ack::InProgress || self.has(Bug::NeverAcknowledges) && ack == Ack::Done;
        if swallowed {
            return Ok(());
        }
        if self.has(Bug::AcknowledgesAnother) && ack == Ack::Done {
            let (consumer, sequence) = reply.split_once(' ').unwrap();
            let next = sequence.parse::<u64>().unwrap() + 1;
            let _ = self.line.acknowledge(&format!("{consumer} {next}"), ack, confirmed).await;
        }
        self.line.acknowledge(reply, ack, confirmed).await
    }

    async fn last(&self, stream: &str, filter: &str) -> Result<Option<String>, BrokerError> {
        if self.has(Bug::LooksForNothing) { Ok(None) } else { self.line.last(stream, filter).await }
    }

    async fn taken_as(&self, stream: &str, subject: &str, ids: &[String]) -> Result<Vec<Option<u64>>, BrokerError> {
        let forgets = if ids.iter().all(|id| id.ends_with(".due")) { Bug::ForgetsMoves } else { Bug::LooksForNothing };
        if self.has(forgets) { Ok(vec![None; ids.len()]) } else { self.line.taken_as(stream, subject, ids).await }
    }

    async fn headers(&self, stream: &str, sequence: u64) -> Result<Option<HeaderMap>, BrokerError> {
        self.line.headers(stream, sequence).await
    }

    fn now(&self) -> SystemTime {
        self.line.now()
    }

    fn now_at_least(&self) -> SystemTime {
        self.line.now_at_least() + Duration::from_secs(if self.has(Bug::MovesTooEarly) { 3_600 } else { 0 })
    }

    fn max_payload(&self) -> usize {
        self.line.max_payload()
    }
}
