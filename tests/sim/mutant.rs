//! Bugs of our own making, between a worker and its world: the invariants have to find each of them.

use std::time::{Duration, SystemTime};

use async_nats::HeaderMap;
use queue_worker::{
    broker::{
        jetstream::ApiError,
        seam::{Ack, Broker, BrokerError},
    },
    message::{
        names::{self, Names},
        record::Record,
    },
    tasks::drain::Running,
    upkeep::janitor::{Known, Parked, Scheduled},
};
use rand::RngExt;

use crate::{client::Client, consumer::Role};

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
    /// All of a wait is left to chance, whatever is set.
    JittersTooFar,
    /// The wall clock that dates are compared with is an hour ahead.
    AheadOfWallTime,
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
    /// No first delivery is taken for one that a killed broker forgot.
    NeverDoubts,
    /// A killed broker is taken for the one before.
    KnowsOneBroker,
    /// What follows from messages is taken for older than they are.
    SeesNothingNewer,
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
    /// A promoter acknowledges what it did not bring to the due ones.
    MovesNothing,
    /// A promoter does not find that it moved a message already.
    ForgetsMoves,
    /// A level that fills gets no more room.
    MakesNoRoom,
    /// A promoter takes all that is parked for due.
    MovesTooEarly,
    /// A janitor deletes a scheduled message before it stores what was in it.
    DeletesFirst,
    /// A janitor moves what is not overdue.
    FiresTooEarly,
    /// A janitor moves a scheduled message that another has moved.
    FiresBlindly,
    /// A janitor looks and moves nothing.
    FiresNothing,
    /// What is dropped as the settings ask is not counted.
    DropsUncounted,
    /// What fits nowhere is acknowledged, and does not stay.
    DropsTooLarge,
    /// The broker is thought to take half of what it takes.
    ThinksSmall,
    /// What a stranger wrote into a header of ours is believed.
    BelievesStrangers,
    /// A header of the broker's goes along.
    CopiesBrokers,
    /// Calls of a paused function are made.
    KnowsNoPause,
    /// What was cancelled is not heard of.
    HearsNothing,
}

/// A connection with a bug, or without.
#[derive(Debug, Clone)]
pub struct Mutant {
    pub client: Client,
    pub bug: Option<Bug>,
    /// The process that it belongs to.
    pub running: Running,
}

impl Mutant {
    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Whether it is a promoter's delivery.
    fn is_movers(&self, reply: &str) -> bool {
        let (consumer, _) = reply.split_once(' ').unwrap();
        self.client.shared.state().server.consumers[consumer.parse::<usize>().unwrap()].role == Role::Level
    }
}

impl Broker for Mutant {
    async fn publish(&self, record: &Record) -> Result<(), BrokerError> {
        let mut record = record.clone();
        let is_clone = record.stream.ends_with("-retries");
        if self.has(Bug::NewIds) {
            record.id = self.client.shared.state().dice.random::<u64>().to_string();
        }
        if self.has(Bug::CountsNothing) {
            record.headers.insert(names::ATTEMPTS, "0");
        }
        if self.has(Bug::CopiesBrokers) {
            record.headers.insert("Nats-Rollup", "all");
        }
        if self.has(Bug::WaitsForNothing) && record.headers.get("Nats-Schedule").is_some() {
            record.headers.insert("Nats-Schedule", "@at 2020-01-01T00:00:00Z");
        }
        if is_clone
            && (self.has(Bug::LosesClones) || self.has(Bug::DropsAtCut) && self.running.cut.is_cancelled())
        {
            return Ok(());
        }
        if self.has(Bug::AcknowledgesTooEarly) {
            let client = self.client.clone();
            tokio::spawn(async move {
                client.pause(Duration::from_millis(50)).await;
                client.publish(&record).await
            });
            return Ok(());
        }
        self.client.publish(&record).await
    }

    async fn place(&self, record: &Record) -> Result<(), BrokerError> {
        if self.has(Bug::MovesNothing) { Ok(()) } else { self.client.place(record).await }
    }

    async fn acknowledge(
        &self,
        reply: &str,
        ack: Ack,
        confirmed: bool,
        sent: &(dyn Fn() + Sync),
    ) -> Result<(), BrokerError> {
        let swallowed = self.has(Bug::NoHeartbeats) && ack == Ack::InProgress
            || self.has(Bug::NeverAcknowledges) && ack == Ack::Done;
        if swallowed {
            return Ok(());
        }
        let refused = matches!(ack, Ack::Later(_)) && !self.is_movers(reply);
        let ack = if self.has(Bug::DropsTooLarge) && refused { Ack::Done } else { ack };
        if self.has(Bug::AcknowledgesAnother) && ack == Ack::Done {
            let (consumer, sequence) = reply.split_once(' ').unwrap();
            let next = sequence.parse::<u64>().unwrap() + 1;
            let _ = self.client.acknowledge(&format!("{consumer} {next}"), ack, confirmed, &|| ()).await;
        }
        self.client.acknowledge(reply, ack, confirmed, sent).await
    }

    async fn last(&self, stream: &str, filter: &str) -> Result<Option<String>, BrokerError> {
        if self.has(Bug::LooksForNothing) { Ok(None) } else { self.client.last(stream, filter).await }
    }

    async fn taken_as(
        &self,
        stream: &str,
        subject: &str,
        ids: &[String],
    ) -> Result<Vec<Option<u64>>, BrokerError> {
        let forgets =
            if ids.iter().all(|id| id.ends_with(".due")) { Bug::ForgetsMoves } else { Bug::LooksForNothing };
        if self.has(forgets) {
            Ok(vec![None; ids.len()])
        } else {
            self.client.taken_as(stream, subject, ids).await
        }
    }

    async fn newest(&self, stream: &str) -> Result<Option<SystemTime>, BrokerError> {
        if self.has(Bug::SeesNothingNewer) { Ok(None) } else { self.client.newest(stream).await }
    }

    async fn headers(&self, stream: &str, sequence: u64) -> Result<Option<HeaderMap>, BrokerError> {
        self.client.headers(stream, sequence).await
    }

    fn now(&self) -> SystemTime {
        self.client.now()
    }

    fn now_at_least(&self) -> SystemTime {
        self.client.now_at_least() + Duration::from_secs(if self.has(Bug::MovesTooEarly) { 3_600 } else { 0 })
    }

    fn max_payload(&self) -> usize {
        self.client.max_payload() / if self.has(Bug::ThinksSmall) { 2 } else { 1 }
    }
}

impl Parked for Mutant {
    fn connection(&self) -> u64 {
        self.client.connection()
    }

    async fn known(&self, names: &Names) -> Result<Known, ApiError> {
        self.client.known(names).await
    }

    async fn overdue_in_levels(&self, names: &Names, grace: Duration) -> Result<u64, ApiError> {
        self.client.overdue_in_levels(names, grace).await
    }

    async fn scheduled(&self, names: &Names, from: u64) -> Result<Option<Scheduled>, ApiError> {
        let mut message = self.client.scheduled(names, from).await?;
        if let Some(message) = &mut message {
            if self.has(Bug::FiresTooEarly) {
                message.headers.insert(names::DUE, "2020-01-01T00:00:00Z");
            }
            if self.has(Bug::DeletesFirst) {
                self.client.delete(names, message.sequence).await?;
            }
        }
        Ok(message)
    }

    async fn fire(&self, names: &Names, message: &Scheduled, target: &str) -> Result<bool, ApiError> {
        if self.has(Bug::FiresNothing) {
            return Ok(true);
        }
        if self.has(Bug::FiresBlindly) {
            let (stream, subject) = (names.retries.clone(), target.to_owned());
            let (headers, payload) = (message.headers.clone(), message.payload.clone());
            self.client.publish(&Record { stream, subject, id: String::new(), headers, payload }).await?;
            return self.client.delete(names, message.sequence).await.map(|()| true);
        }
        self.client.fire(names, message, target).await
    }

    async fn delete(&self, names: &Names, sequence: u64) -> Result<(), ApiError> {
        self.client.delete(names, sequence).await
    }
}
