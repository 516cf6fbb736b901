//! Does with one letter, or one parked call, what the operation says. Each step is asked for until the broker
//! answers, as long as the lease lasts.

use std::{
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Mutex, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    broker::{
        jetstream::{ApiError, JetStream, Stored},
        seam::{Broker, BrokerError},
    },
    message::{
        decode::FunctionName,
        envelope::VALUE,
        header,
        names::{self, Names},
        operation::Kind,
        record::Record,
        successor::Message,
    },
    tasks::error_backoff::ErrorBackoff,
    text::line::ascii,
    upkeep::janitor::{self, Scheduled},
};

/// The pause before the broker is asked again, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Why no more is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Halt {
    /// The operation may be somebody else's.
    Lost,
    /// The worker drains.
    Told,
}

/// What became of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is done.
    Done,
    /// It was not there.
    Gone,
    /// It cannot be done so, and stays.
    Unfit,
    /// Its message fits nowhere, and it stays.
    TooLarge,
}

/// A letter on its way: what is to be published, and what is to be deleted then.
pub(super) enum Step {
    Publish(Box<Record>, u64),
    Wake(Box<Scheduled>),
    Delete(u64),
    Over(Fate),
}

/// Whoever does it.
#[derive(Debug, Clone)]
pub(super) struct Hands {
    pub(super) jetstream: JetStream,
    pub(super) names: Names,
    pub(super) kind: Kind,
    /// The function that is called instead.
    pub(super) to: Option<FunctionName>,
    /// What is said about calls that are cancelled.
    pub(super) why: String,
    /// Whether the broker wakes parked calls.
    pub(super) schedules: bool,
    pub(super) lease: watch::Receiver<Instant>,
    pub(super) stop: CancellationToken,
    /// Why the broker did not do the last step that it did not do.
    pub(super) trouble: Arc<std::sync::Mutex<Option<String>>>,
    pub(super) pace: Arc<Pace>,
}

/// Lets so many pass in a second.
#[derive(Debug)]
pub(super) struct Pace {
    apart: Option<Duration>,
    next: Mutex<Instant>,
}

impl Pace {
    /// At most so many in a second.
    pub fn of(rate: Option<u32>) -> Self {
        Self {
            apart: rate.map(|rate| Duration::from_secs(1) / rate.max(1)),
            next: Mutex::new(Instant::now()),
        }
    }

    async fn turn(&self) {
        let Some(apart) = self.apart else { return };
        let mut next = self.next.lock().await;
        sleep_until(*next).await;
        // What was missed is not made up for.
        *next = (*next).max(Instant::now()) + apart;
    }
}

impl Hands {
    /// What is to be done with the letter of this sequence.
    pub async fn fetch(&self, sequence: u64) -> Result<Step, Halt> {
        let turn = self.stop.run_until_cancelled(self.pace.turn()).await;
        turn.ok_or(Halt::Told)?;
        let stream = if self.kind.is_of_retries() { &self.names.retries } else { &self.names.dead };
        let Some(stored) = self.ask(|| self.jetstream.stored(stream, sequence)).await? else {
            return Ok(Step::Over(Fate::Gone));
        };
        match self.kind {
            Kind::Redrive => {}
            Kind::Discard => return Ok(Step::Delete(sequence)),
            Kind::Cancel => {
                let mut parked = Scheduled::of(stored);
                header::put(&mut parked.headers, names::CANCELLED, &ascii(&self.why, VALUE));
                return Ok(Step::Wake(Box::new(parked)));
            }
        }
        let Some(message) = self.message(stored) else { return Ok(Step::Over(Fate::Unfit)) };
        let (now, most) = (self.jetstream.now(), self.jetstream.max_payload());
        Ok(match message.redriven(&self.names, sequence, now, most) {
            Ok(record) => Step::Publish(Box::new(record), sequence),
            Err(_) => Step::Over(Fate::TooLarge),
        })
    }

    /// The message of a letter, for the function that it goes to.
    pub fn message(&self, stored: Stored) -> Option<Message> {
        let message = Message::dead(&stored.arrival(&self.names.dead));
        match &self.to {
            None => Some(message),
            Some(function) => message.to_function(function),
        }
    }

    /// Publishes, if that is to be done.
    pub async fn publish(&self, step: Step) -> Result<Step, Halt> {
        let (record, sequence) = match step {
            Step::Publish(record, sequence) => (record, sequence),
            Step::Wake(parked) => return self.wake(*parked).await.map(Step::Over),
            Step::Delete(_) | Step::Over(_) => return Ok(step),
        };
        let publish = || async {
            match self.jetstream.publish(&record).await {
                Ok(()) => Ok(Step::Delete(sequence)),
                Err(BrokerError::TooLarge) => Ok(Step::Over(Fate::TooLarge)),
                Err(error) => Err(error.into()),
            }
        };
        self.ask(publish).await
    }

    /// Makes a parked call due that is not to be called any more: whichever worker takes it ends it.
    async fn wake(&self, parked: Scheduled) -> Result<Fate, Halt> {
        let tried = AtomicBool::new(false);
        let wake = || async {
            let again = tried.swap(true, Ordering::Relaxed);
            match janitor::wake(&self.jetstream, &self.names, parked.clone(), self.schedules).await {
                Ok(true) => Ok(Fate::Done),
                // The answer to the first try was lost.
                Ok(false) if again => Ok(Fate::Done),
                Ok(false) => Ok(Fate::Gone),
                Err(ApiError::Silent(BrokerError::TooLarge)) => Ok(Fate::TooLarge),
                Err(error) => Err(error),
            }
        };
        self.ask(wake).await
    }

    /// Deletes, if that is to be done.
    pub async fn delete(&self, step: Step) -> Result<Fate, Halt> {
        match step {
            Step::Over(fate) => Ok(fate),
            Step::Publish(..) | Step::Wake(_) => Err(Halt::Lost),
            Step::Delete(sequence) => {
                self.ask(|| self.jetstream.delete(&self.names.dead, sequence)).await?;
                Ok(Fate::Done)
            }
        }
    }

    fn tell(&self, error: &ApiError) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
    }

    /// Why a step is being tried again, if one was since this was last asked.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Asks until there is an answer.
    pub async fn ask<T, A>(&self, question: impl Fn() -> A) -> Result<T, Halt>
    where
        A: Future<Output = Result<T, ApiError>>,
    {
        let mut pause = ErrorBackoff::new(PAUSE);
        loop {
            if Instant::now() >= *self.lease.borrow() {
                return Err(Halt::Lost);
            }
            match question().await {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    self.tell(&error);
                    let rested = self.stop.run_until_cancelled(pause.rest()).await;
                    rested.ok_or(Halt::Told)?;
                }
            }
        }
    }
}
