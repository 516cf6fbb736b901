//! Stores a delivery's successor: its clone, or its dead letter.

use std::time::{Duration, SystemTime};

use super::Settle;
use crate::{
    broker::seam::{Broker, BrokerError},
    message::{
        record::Record,
        successor::{Message, TooLarge},
        timer::due_after,
    },
    observe::{log, trace::Fate},
    retry::{
        disposition::Again,
        judge::{Cause, Reason},
    },
    tasks::heavy,
    worker::delivery::{Delivery, lease::LeaseLost},
};

/// The reason why a successor is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotStored {
    /// The lease ended.
    #[error(transparent)]
    LeaseLost(#[from] LeaseLost),
    /// It fits into no message.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

impl<B: Broker> Settle<B> {
    /// Parks a clone, to be tried after `wait`. Returns when it is due.
    pub(super) async fn park(&self, delivery: &Delivery<B>, wait: Duration) -> Result<SystemTime, NotStored> {
        let now = self.broker.now();
        let due = due_after(now, wait);
        let (names, timer, most) = (self.names.clone(), self.timer, self.broker.max_payload());
        let record = self
            .made(delivery, move |message| {
                message.clone_due(&message.envelope, &names, timer, due, now, most)
            })
            .await?;
        self.store(delivery, &record).await?;
        Ok(due)
    }

    /// Stores a clone where the messages of paused functions are held.
    pub(super) async fn put_aside(&self, delivery: &Delivery<B>) -> Result<(), NotStored> {
        let (names, now, most) = (self.names.clone(), self.broker.now(), self.broker.max_payload());
        let record = self.made(delivery, move |message| message.clone_held(&names, now, most)).await?;
        self.store(delivery, &record).await
    }

    /// Parks the next attempt of a call.
    pub(super) async fn call_again(
        &self,
        delivery: &Delivery<B>,
        again: &Again,
        reason: Reason,
    ) -> Result<(), NotStored> {
        let due = self.park(delivery, again.wait).await?;
        delivery.trace.ends(Fate::Parked);
        said(again, delivery.message.envelope.attempts, due, |next| {
            log::retry_scheduled(call_id(delivery), function(delivery), next)
        });
        self.metrics.retried(function(delivery), reason.as_str());
        Ok(())
    }

    /// Drops a message that is given up, where there are no dead letters.
    pub(super) fn drop(&self, delivery: &Delivery<B>, cause: Cause) {
        let message = &delivery.message;
        delivery.trace.ends(Fate::Dead(cause));
        log::dropped(message.call_id.as_deref(), message.function_name.as_deref(), cause.as_str());
        self.metrics.dead_letter_dropped();
    }

    /// Stores the dead letter. The function, where there is one, is named by the delivery's message.
    pub(super) async fn bury(&self, delivery: &Delivery<B>, cause: Cause) -> Result<(), NotStored> {
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
        let envelope = &delivery.message.envelope;
        let status = envelope.last_status.as_deref().unwrap_or_default();
        // A status that was answered is all there is to say, and what came before an interruption did not end
        // the call.
        let said = |error: &&str| {
            cause != Cause::Interrupted
                && (status.is_empty() || !error.ends_with(&format!(" answered {status}")))
        };
        log::dead_letter(
            call_id(delivery),
            function(delivery),
            envelope.attempts,
            cause.as_str(),
            status,
            envelope.last_error.as_deref().filter(said),
            delivery.message.event.as_deref(),
        );
        self.metrics.dead_lettered(delivery.message.function_name.as_deref(), cause.as_str());
        Ok(())
    }

    /// Makes a message of a delivery's; beside the loop where it has to be packed for that and is large.
    async fn made<F>(&self, delivery: &Delivery<B>, make: F) -> Result<Record, NotStored>
    where
        F: FnOnce(&Message) -> Result<Record, TooLarge> + Send + 'static,
    {
        let message = delivery.message.clone();
        let made = heavy::done(message.to_pack(self.broker.max_payload()), move || make(&message)).await;
        // A message that makes it panic does so again: it stays where it is, as one that fits nowhere.
        Ok(made.unwrap_or(Err(TooLarge))?)
    }

    async fn store(&self, delivery: &Delivery<B>, record: &Record) -> Result<(), NotStored> {
        let publish = || async {
            match self.broker.publish(record).await {
                Ok(()) => Ok(Ok(())),
                Err(BrokerError::TooLarge) => Ok(Err(TooLarge)),
                Err(error) => Err(error),
            }
        };
        Ok(self.ask(delivery, publish).await??)
    }
}

pub(super) fn call_id<B>(delivery: &Delivery<B>) -> &str {
    delivery.message.call_id.as_deref().unwrap_or_default()
}

pub(super) fn function<B>(delivery: &Delivery<B>) -> &str {
    delivery.message.function_name.as_deref().unwrap_or_default()
}

/// Says that another try follows, due then.
pub(super) fn said(again: &Again, attempts: u32, due: SystemTime, say: impl FnOnce(&log::Next<'_>)) {
    let at = humantime::format_rfc3339_millis(due).to_string();
    let Again { wait, outcome, max_attempts, .. } = again;
    say(&log::Next { delivery: attempts, max_attempts: *max_attempts, wait: *wait, at: &at, outcome });
}
