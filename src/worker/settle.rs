//! Carries verdicts out. The only file that acknowledges: first the consequence is durable, then the message
//! is let go.

use std::{
    future::Future,
    time::{Duration, SystemTime},
};

use crate::{
    broker::{
        seam::{Ack, Broker, BrokerError},
        standby::{MOMENT, Standby},
    },
    message::{
        envelope::Envelope,
        header,
        names::{self, Names},
        record::Record,
        successor::{Message, TooLarge},
        timer::{Timer, due_after},
    },
    observe::{log, metrics::Metrics, trace::Fate},
    retry::judge::Cause,
    tasks::{error_backoff::ErrorBackoff, heavy},
    worker::{delivery::Delivery, lease::LeaseLost},
};
use async_nats::HeaderMap;
use tokio::time::timeout;

/// The pause before a broker that did not answer is asked again, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Why a delivery is not settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsettled {
    /// Its lease ended; the broker delivers it again.
    #[error(transparent)]
    LeaseLost(#[from] LeaseLost),
    /// What follows from it fits into no message.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

/// What followed from a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Successor {
    /// The last thing that ever does: only the acknowledgement was lost.
    Last,
    /// A dead letter, at this sequence. If the message is an invocation, its callback may be owed still.
    DeadLetter(u64),
}

/// What it takes to settle the deliveries of one queue.
#[derive(Debug, Clone)]
pub struct Settle<B> {
    /// The broker.
    pub broker: B,
    /// The queue's names.
    pub names: Names,
    /// What brings retries back.
    pub timer: Timer,
    /// Whether the confirmation of a completed call's acknowledgement is insisted on.
    pub confirm_acks: bool,
    /// `false`: what would be dead-lettered is dropped and counted.
    pub dead_letters: bool,
    /// Where things are counted.
    pub metrics: Metrics,
    /// What waits for the broker.
    pub standby: Standby,
}

impl<B: Broker> Settle<B> {
    /// Parks a clone with the past `next`, to be tried after `wait`. Returns when it is due.
    ///
    /// # Errors
    /// See [`Unsettled`].
    pub async fn park(
        &self,
        delivery: &Delivery<B>,
        next: &Envelope,
        wait: Duration,
    ) -> Result<SystemTime, Unsettled> {
        let now = self.broker.now();
        let due = due_after(now, wait);
        let (next, names, timer, most) =
            (next.clone(), self.names.clone(), self.timer, self.broker.max_payload());
        let record = self
            .made(delivery, move |message| message.clone_due(&next, &names, timer, due, now, most))
            .await?;
        self.store(delivery, &record).await?;
        Ok(due)
    }

    /// Stores the dead letter, or drops it where the operator asked for that. The function, where there is
    /// one, is named by the delivery's message.
    ///
    /// # Errors
    /// See [`Unsettled`].
    pub async fn bury(&self, delivery: &Delivery<B>, cause: Cause) -> Result<(), Unsettled> {
        let message = &delivery.message;
        if !self.dead_letters {
            delivery.trace.ends(Fate::Dead(cause));
            log::dropped(message.call_id.as_deref(), message.function_name.as_deref(), cause.as_str());
            self.metrics.dead_letter_dropped();
            return Ok(());
        }
        // A broker that died may give a message to a second worker before the first one's lease ends, and
        // that one may have parked a clone.
        if self.successor(delivery).await?.is_some() {
            return Err(LeaseLost.into());
        }
        let (names, now, most) = (self.names.clone(), self.broker.now(), self.broker.max_payload());
        let record =
            self.made(delivery, move |message| message.dead_letter(&names, cause, now, most)).await?;
        self.store(delivery, &record).await?;
        delivery.trace.ends(Fate::Dead(cause));
        let envelope = &message.envelope;
        let status = envelope.last_status.as_deref().unwrap_or_default();
        // A status that was answered is all there is to say, and what came before an interruption did not end
        // the call.
        let said = |error: &&str| {
            cause != Cause::Interrupted
                && (status.is_empty() || !error.ends_with(&format!(" answered {status}")))
        };
        log::dead_letter(
            message.call_id.as_deref().unwrap_or_default(),
            message.function_name.as_deref().unwrap_or_default(),
            envelope.attempts,
            cause.as_str(),
            status,
            envelope.last_error.as_deref().filter(said),
        );
        self.metrics.dead_lettered(message.function_name.as_deref(), cause.as_str());
        Ok(())
    }

    /// Lets go of a delivery whose consequence is durable.
    ///
    /// # Errors
    /// [`Unsettled::LeaseLost`]; the broker delivers it again, and its successor is found then.
    pub async fn acknowledge(&self, delivery: Delivery<B>) -> Result<(), Unsettled> {
        self.insist(&delivery, || self.broker.acknowledge(&delivery.reply, Ack::Done, true)).await
    }

    /// Lets go of a delivery whose call completed. Nothing else was written about it.
    ///
    /// # Errors
    /// [`Unsettled::LeaseLost`]: the call will run again.
    pub async fn complete(&self, delivery: Delivery<B>) -> Result<(), Unsettled> {
        self.insist(&delivery, || self.broker.acknowledge(&delivery.reply, Ack::Done, self.confirm_acks))
            .await
    }

    /// Hands a delivery back untouched, to be tried after `wait`. Not by a negative ack: to the next worker
    /// that looks like a call whose worker died. A clone with the same past says what it is.
    ///
    /// # Errors
    /// See [`Unsettled`].
    pub async fn release(&self, delivery: Delivery<B>, wait: Duration) -> Result<(), Unsettled> {
        let past = delivery.message.envelope.clone();
        delivery.trace.ends(Fate::HandedBack);
        match self.park(&delivery, &past, wait).await {
            Ok(_) => self.acknowledge(delivery).await,
            Err(Unsettled::TooLarge(_)) => self.refuse(delivery, wait).await,
            Err(lost) => Err(lost),
        }
    }

    /// Leaves in its stream what fits into no other, for `wait`.
    ///
    /// # Errors
    /// [`Unsettled::LeaseLost`].
    pub async fn refuse(&self, delivery: Delivery<B>, wait: Duration) -> Result<(), Unsettled> {
        let message = &delivery.message;
        tracing::error!(
            callId = message.call_id.as_deref().unwrap_or_default(),
            function = message.function_name.as_deref().unwrap_or_default(),
            maxPayload = self.broker.max_payload(),
            "Unstorable: what follows from this message exceeds the broker's max_payload; it stays in its \
                stream and is tried again"
        );
        self.metrics.unstorable();
        delivery.trace.ends(Fate::Unstorable);
        if !delivery.lease.holds() {
            return Err(LeaseLost.into());
        }
        // Said once: whoever holds the message after `wait` would lose it by the same word, said again. Where
        // it was not heard the message comes back when the lease ends.
        let said = self.broker.acknowledge(&delivery.reply, Ack::Later(wait), true).await;
        said.unwrap_or_else(
            |error| tracing::debug!(%error, "that a message stays in its stream is not confirmed"),
        );
        Ok(())
    }

    /// What follows from the delivery and is stored, or was lately: then another worker settled it, or began
    /// to.
    ///
    /// # Errors
    /// [`Unsettled::LeaseLost`].
    pub async fn successor(&self, delivery: &Delivery<B>) -> Result<Option<Successor>, Unsettled> {
        let message = &delivery.message;
        let envelope = &message.envelope;
        let clones = self.names.clones(message.function.as_deref().unwrap_or("_undecodable"), envelope.id);
        let last = self.insist(delivery, || self.broker.last(&self.names.retries, &clones)).await?;
        if last
            .as_deref()
            .and_then(Names::generation_of)
            .is_some_and(|generation| generation > envelope.generation)
        {
            return Ok(Some(Successor::Last));
        }
        // One that was parked, came due and was settled since left only its id, for as long as the broker
        // remembers it.
        let id = message.successor_id();
        if self
            .taken(delivery, &self.names.retries, &self.names.retries_probe(), std::slice::from_ref(&id))
            .await?
            .iter()
            .any(Option::is_some)
        {
            return Ok(Some(Successor::Last));
        }
        if !self.dead_letters {
            return Ok(None);
        }
        // A dead letter that was written by hand has the id that a clone would have had; and the callback of
        // a success may be all that died.
        let mut ids = vec![message.dead_letter_id(), id];
        ids.extend(message.has_callback.then(|| message.callback().dead_letter_id()));
        let taken = self.taken(delivery, &self.names.dead, &self.names.dead_probe(), &ids).await?;
        Ok(match taken.first() {
            Some(Some(letter)) => Some(Successor::DeadLetter(*letter)),
            _ => taken.iter().any(Option::is_some).then_some(Successor::Last),
        })
    }

    async fn taken(
        &self,
        delivery: &Delivery<B>,
        stream: &str,
        probe: &str,
        ids: &[String],
    ) -> Result<Vec<Option<u64>>, Unsettled> {
        self.insist(delivery, || self.broker.taken_as(stream, probe, ids)).await
    }

    /// What a dead letter tells of an invocation's past; where it is gone, what the delivery does.
    ///
    /// # Errors
    /// [`Unsettled::LeaseLost`].
    pub async fn dead_letter(
        &self,
        delivery: &Delivery<B>,
        sequence: u64,
    ) -> Result<(Envelope, Option<Cause>), Unsettled> {
        let past = &delivery.message.envelope;
        let headers = self.insist(delivery, || self.broker.headers(&self.names.dead, sequence)).await?;
        let cause =
            |headers: &HeaderMap| header::said(headers, names::CAUSE).and_then(|cause| cause.parse().ok());
        Ok(headers.map_or_else(|| (past.clone(), None), |headers| (past.as_told(&headers), cause(&headers))))
    }

    /// Makes a message of a delivery's; beside the loop where it has to be packed for that and is large.
    async fn made<F>(&self, delivery: &Delivery<B>, make: F) -> Result<Record, Unsettled>
    where
        F: FnOnce(&Message) -> Result<Record, TooLarge> + Send + 'static,
    {
        let message = delivery.message.clone();
        let made = heavy::done(message.to_pack(self.broker.max_payload()), move || make(&message)).await;
        // What makes it panic does so again: it stays where it is, as what fits nowhere.
        Ok(made.unwrap_or(Err(TooLarge))?)
    }

    async fn store(&self, delivery: &Delivery<B>, record: &Record) -> Result<(), Unsettled> {
        self.insist(delivery, || self.broker.publish(record)).await
    }

    /// Asks until there is an answer: a known outcome is what has to become durable, and until then the
    /// function is not called again. What is not answered in a moment gives its permit back and waits on.
    async fn insist<T, F>(&self, delivery: &Delivery<B>, ask: impl FnMut() -> F) -> Result<T, Unsettled>
    where
        F: Future<Output = Result<T, BrokerError>>,
    {
        let mut answered = std::pin::pin!(self.answered(delivery, ask));
        if let Ok(answer) = timeout(MOMENT, &mut answered).await {
            return answer;
        }
        let _place = self.standby.enter(delivery.bytes);
        delivery.seat.leave();
        answered.await
    }

    /// The answer, however often it takes to ask. The lease is looked at before each try, so that a stale
    /// holder writes nothing.
    async fn answered<T, F>(&self, delivery: &Delivery<B>, mut ask: impl FnMut() -> F) -> Result<T, Unsettled>
    where
        F: Future<Output = Result<T, BrokerError>>,
    {
        let mut pause = ErrorBackoff::new(PAUSE);
        loop {
            if !delivery.lease.holds() {
                return Err(LeaseLost.into());
            }
            match ask().await {
                Ok(answer) => return Ok(answer),
                Err(BrokerError::TooLarge) => return Err(TooLarge.into()),
                Err(error) => self.standby.refused(&error),
            }
            pause.rest().await;
            self.standby.stand_apart().await;
        }
    }
}
