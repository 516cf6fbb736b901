//! What becomes of a delivery, from its arrival to its end, on one screen: `Worker::path`.

mod attempt;
mod callback;
mod news;

use std::{future::Future, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use attempt::Tried;
pub use news::News;

use crate::{
    broker::{seam::Broker, standby::Standby},
    flow::{
        gate::{self, Gate, NotNow},
        memory::Share,
        shortage::Shortage,
    },
    message::{
        answer::Answer,
        decode::{Invocation, Undecodable},
        posting::{Ending, status_of},
    },
    observe::{
        log,
        metrics::Metrics,
        trace::{Fate, Tracer},
    },
    outbound::{
        callback::Callbacks,
        invoke::{Gateway, NotCalled},
        lookup::{Annotations, Lookup},
    },
    retry::{backoff::Backoff, judge::Cause, policy::RetryPolicy},
    tasks::heavy,
    worker::{
        delivery::{Content, Delivery},
        lease::{Lease, LeaseLost},
        settle::{Settle, Successor, Unsettled},
    },
};

/// So many calls in a row that were cut off with their worker end an invocation: it may be what kills the
/// workers.
const INTERRUPTIONS: u32 = 5;
/// The least that the pause before what fits nowhere is tried again may be set to, at first and at most.
const REFUSED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The worker of one queue. Cheap to clone.
#[derive(Debug)]
pub struct Worker<B, G>(Arc<Parts<B, G>>);

/// What a worker is made of.
#[derive(Debug)]
pub struct Parts<B, G> {
    /// Carries verdicts out.
    pub settle: Settle<B>,
    /// Where functions answer.
    pub gateway: G,
    /// How invocations are retried unless they say otherwise.
    pub policy: RetryPolicy,
    /// Finds what a function says about that where its messages do not.
    pub lookup: Lookup,
    /// Posts callbacks.
    pub callbacks: Callbacks,
    /// Says "not now".
    pub gate: Gate,
    /// Where things are counted.
    pub metrics: Metrics,
    /// Tells which failures are news.
    pub news: News,
    /// Makes traces.
    pub tracer: Tracer,
    /// This worker's name in histories.
    pub name: String,
    /// Cuts running calls off, at the end of a drain's grace.
    pub cut: CancellationToken,
}

impl<B, G> Clone for Worker<B, G> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// An invocation on its way through the worker.
struct Case<'a> {
    invocation: &'a Invocation,
    call_id: &'a str,
    annotations: &'a Annotations,
    policy: RetryPolicy,
}

impl<B: Broker, G: Gateway> Worker<B, G> {
    /// A worker of these parts.
    pub fn new(parts: Parts<B, G>) -> Self {
        Self(Arc::new(parts))
    }

    /// The broker.
    pub fn broker(&self) -> &B {
        &self.0.settle.broker
    }

    /// What waits for the broker.
    pub fn standby(&self) -> &Standby {
        &self.0.settle.standby
    }

    /// Processes a delivery under its lease.
    ///
    /// # Errors
    /// Where it was given up: the broker delivers it again.
    pub async fn process(&self, mut delivery: Delivery<B>) -> Result<(), Unsettled> {
        let _held = self.0.gate.hold(delivery.is_suspect());
        let (read, _room) = match self.read(&mut delivery, true).await {
            Ok(read) => read,
            Err(lost) => {
                self.expired(delivery);
                return Err(lost.into());
            }
        };
        let opened = self.begin(&mut delivery, read);
        let (lease, whose) = (delivery.lease.clone(), Whose::of(&delivery));
        self.under_lease(&lease, &whose, self.path(delivery, opened)).await
    }

    /// Hands a delivery back that was not begun.
    pub async fn release(&self, mut delivery: Delivery<B>) {
        let _held = self.0.gate.hold(delivery.is_suspect());
        // What cannot be read is handed back under the name of nobody, and read again by whoever gets it.
        let Ok((read, _)) = self.read(&mut delivery, false).await else { return self.expired(delivery) };
        // Of a callback only its names are wanted.
        let opened =
            self.begin(&mut delivery, read).ok().filter(|content| matches!(content, Content::Invocation(_)));
        let (lease, whose) = (delivery.lease.clone(), Whose::of(&delivery));
        let wait =
            if self.0.cut.is_cancelled() || !delivery.is_suspect() { Duration::ZERO } else { gate::PATIENCE };
        let work = async {
            // A clone of what has ended would be called.
            match self.unless_settled(delivery, opened.as_ref()).await? {
                Some(delivery) => self.0.settle.release(delivery, wait).await,
                None => Ok(()),
            }
        };
        // It was not begun.
        let _ = self.under_lease(&lease, &whose, work).await;
    }

    /// Gives up a delivery that was not begun: its lease ended while it waited.
    pub fn expired(&self, mut delivery: Delivery<B>) {
        // Only its names are wanted.
        let read = delivery.open();
        let _ = self.begin(&mut delivery, read);
        self.lost(&Whose::of(&delivery));
    }

    /// Reads what is in a delivery. What is large when it is unpacked waits for room, if it is to stay, and
    /// is read beside the loop, under its lease.
    async fn read(
        &self,
        delivery: &mut Delivery<B>,
        stays: bool,
    ) -> Result<(Result<Content, Undecodable>, Share), LeaseLost> {
        let (lease, bytes) = (delivery.lease.clone(), delivery.message.unpacked());
        let mut share = self.0.callbacks.room.share();
        if bytes <= heavy::LARGE {
            return Ok((delivery.open(), share));
        }
        let reading = async {
            if stays {
                // Where there is none for long it goes on all the same: a message cannot be read in part.
                share.grow(bytes).await;
            }
            delivery.open_beside().await
        };
        let read = lease.keep(reading).await?;
        Ok((read, share))
    }

    /// Gives a delivery that was read a call id if it has none, and begins its part of the trace.
    fn begin(
        &self,
        delivery: &mut Delivery<B>,
        opened: Result<Content, Undecodable>,
    ) -> Result<Content, Undecodable> {
        let invocation = match &opened {
            Ok(Content::Invocation(invocation)) => Some(&**invocation),
            _ => None,
        };
        let parts = &*self.0;
        delivery.trace = parts.tracer.begin(
            &parts.settle.names.queue,
            &mut delivery.message,
            invocation,
            self.broker().now(),
        );
        if let Some(invocation) = invocation {
            identify(delivery, invocation);
        }
        opened
    }

    /// Gives a delivery back unless what follows from it is stored: then it lacks its callback and its
    /// acknowledgement at most, and gets them.
    async fn unless_settled(
        &self,
        delivery: Delivery<B>,
        content: Option<&Content>,
    ) -> Result<Option<Delivery<B>>, Unsettled> {
        if !delivery.may_be_settled() {
            return Ok(Some(delivery));
        }
        let successor = self.0.settle.successor(&delivery).await?;
        if successor.is_some() {
            delivery.trace.ends(Fate::Settled);
        }
        match (successor, content) {
            (None, _) => return Ok(Some(delivery)),
            (Some(Successor::DeadLetter(letter)), Some(Content::Invocation(invocation))) => {
                self.owed_callback(delivery, invocation, letter).await?;
            }
            (Some(_), _) => self.0.settle.acknowledge(delivery).await?,
        }
        Ok(None)
    }

    async fn under_lease(
        &self,
        lease: &Lease<B>,
        whose: &Whose,
        work: impl Future<Output = Result<(), Unsettled>>,
    ) -> Result<(), Unsettled> {
        let done = lease.keep(work).await.map_err(Unsettled::from).and_then(|done| done);
        done.inspect_err(|_| self.lost(whose))
    }

    /// Notes that a delivery is no longer this worker's.
    fn lost(&self, Whose { call_id, function }: &Whose) {
        log::lease_lost(call_id.as_deref(), function.as_deref());
        self.0.metrics.lease_lost();
    }

    /// The whole path of a delivery.
    async fn path(
        &self,
        delivery: Delivery<B>,
        opened: Result<Content, Undecodable>,
    ) -> Result<(), Unsettled> {
        let parts = &*self.0;
        let Some(mut delivery) = self.unless_settled(delivery, opened.as_ref().ok()).await? else {
            return Ok(());
        };
        let invocation = match opened {
            Ok(Content::Invocation(invocation)) => invocation,
            Ok(Content::Callback(posting)) => return self.parked_callback(delivery, *posting).await,
            Err(undecodable) => return self.undecodable(delivery, &undecodable).await,
        };
        let call_id = delivery.message.call_id.clone().unwrap_or_default();
        let annotations = parts.lookup.annotations(&invocation).await;
        let (policy, invalid) = parts.policy.for_annotations(&annotations);
        if delivery.message.envelope.attempts == 0 {
            for annotation in invalid {
                tracing::warn!(callId = call_id, function = invocation.function.as_str(), %annotation, "an \
                    annotation is not used; the worker's setting is");
            }
        }
        let case = Case { invocation: &invocation, call_id: &call_id, annotations: &annotations, policy };
        if delivery.was_abandoned() {
            delivery = match self.interrupted(delivery, &case).await? {
                Some(delivery) => delivery,
                None => return Ok(()),
            };
        }
        if case.policy.max_message_age.is_some_and(|most| self.age(&delivery) > most) {
            return self.end(delivery, &case, Some(Cause::Expired), None).await;
        }
        match parts.gate.pass(delivery.is_suspect()).await {
            Ok(pass) => delivery.seat.keep(pass),
            Err(NotNow(wait)) => return parts.settle.release(delivery, wait).await,
        }
        match self.attempt(&mut delivery, &case).await {
            Tried::Completed(answer) => self.end(delivery, &case, None, Some(&answer)).await,
            Tried::Dead(cause, answer) => self.end(delivery, &case, Some(cause), Some(&answer)).await,
            Tried::Retry { wait, reason, answer } => self.retry(delivery, &case, wait, reason, &answer).await,
            Tried::CutOff => {
                tracing::warn!(
                    callId = case.call_id,
                    function = invocation.function.as_str(),
                    "Cut off: the call is handed back and will be made again"
                );
                parts.settle.release(delivery, Duration::ZERO).await
            }
            Tried::NotCalled(NotCalled::Short(short)) => self.short(delivery, &case, short).await,
            Tried::NotCalled(NotCalled::Unsendable(reason)) => {
                delivery.message.envelope.last_error = Some(reason);
                self.end(delivery, &case, Some(Cause::Refused), None).await
            }
        }
    }

    /// Hands a call back that this machine was short of something for: that is nobody's failure, and does not
    /// count.
    async fn short(&self, delivery: Delivery<B>, case: &Case<'_>, short: Shortage) -> Result<(), Unsettled> {
        let parts = &*self.0;
        parts.metrics.not_made(case.invocation.function.as_str(), short.label());
        let wait = parts.gate.short(short);
        parts.settle.release(delivery, wait).await
    }

    /// Parks the next attempt.
    async fn retry(
        &self,
        delivery: Delivery<B>,
        case: &Case<'_>,
        wait: Duration,
        reason: &'static str,
        answer: &Answer,
    ) -> Result<(), Unsettled> {
        let parts = &*self.0;
        let function = case.invocation.function.as_str();
        let mut next = delivery.message.envelope.clone();
        next.delayed = next.delayed.saturating_add(1);
        match parts.settle.park(&delivery, &next, wait).await {
            Ok(due) => {
                delivery.trace.ends(Fate::Parked);
                let at = humantime::format_rfc3339_millis(due).to_string();
                let (made, most) = (next.attempts, case.policy.max_attempts);
                let said =
                    log::Next { delivery: made, max_attempts: most, wait, at: &at, outcome: &answer.outcome };
                log::retry_scheduled(case.call_id, function, &said);
                parts.metrics.retried(function, reason);
                parts.settle.acknowledge(delivery).await
            }
            Err(Unsettled::TooLarge(_)) => self.refuse(delivery).await,
            Err(lost) => Err(lost),
        }
    }

    /// A call that was cut off with its worker is made again, from a clone that counts how often that
    /// happened. Gives the delivery back where it is to be called as it is.
    async fn interrupted(
        &self,
        mut delivery: Delivery<B>,
        case: &Case<'_>,
    ) -> Result<Option<Delivery<B>>, Unsettled> {
        let envelope = &mut delivery.message.envelope;
        envelope.interruptions = envelope.interruptions.saturating_add(1);
        if envelope.interruptions >= INTERRUPTIONS {
            self.end(delivery, case, Some(Cause::Interrupted), None).await?;
            return Ok(None);
        }
        tracing::warn!(
            callId = case.call_id,
            function = case.invocation.function.as_str(),
            interruptions = envelope.interruptions,
            "Interrupted: the worker that had this call died or lost its lease; it is made again"
        );
        self.again(delivery).await
    }

    /// Parks a clone that is due at once in the place of what was interrupted. Gives the delivery back where
    /// no clone can be made of it.
    async fn again(&self, delivery: Delivery<B>) -> Result<Option<Delivery<B>>, Unsettled> {
        let settle = &self.0.settle;
        delivery.trace.ends(Fate::Interrupted);
        match settle.park(&delivery, &delivery.message.envelope, Duration::ZERO).await {
            Ok(_) => settle.acknowledge(delivery).await.map(|()| None),
            Err(Unsettled::TooLarge(_)) => Ok(Some(delivery)),
            Err(lost) => Err(lost),
        }
    }

    /// The end of an invocation: dead letter, callback, acknowledgement, in this order.
    async fn end(
        &self,
        delivery: Delivery<B>,
        case: &Case<'_>,
        cause: Option<Cause>,
        answer: Option<&Answer>,
    ) -> Result<(), Unsettled> {
        let parts = &*self.0;
        match cause {
            None => delivery.trace.ends(Fate::Completed),
            Some(cause) => match parts.settle.bury(&delivery, cause).await {
                Err(Unsettled::TooLarge(_)) => return self.refuse(delivery).await,
                other => other?,
            },
        }
        let age = self.age(&delivery);
        let envelope = &delivery.message.envelope;
        let ending = Ending {
            invocation: case.invocation,
            call_id: case.call_id,
            annotations: case.annotations,
            answer,
            status: answer
                .map_or_else(|| status_of(cause, envelope), |answer| answer.outcome.callback_status()),
            took: answer.map(|answer| answer.took).unwrap_or_default(),
            answer_lost: false,
            retry: envelope.attempts.saturating_sub(1),
            retry_max: case.policy.max_attempts.saturating_sub(1),
        };
        match (callback::posting(ending), cause) {
            (Some(posting), _) => self.first_callback(delivery, posting).await?,
            (None, None) => parts.settle.complete(delivery).await?,
            (None, Some(_)) => parts.settle.acknowledge(delivery).await?,
        }
        parts.metrics.ended(age);
        parts.metrics.settled();
        Ok(())
    }

    /// What is no invocation is kept whole, for people to look at.
    async fn undecodable(&self, mut delivery: Delivery<B>, why: &Undecodable) -> Result<(), Unsettled> {
        let parts = &*self.0;
        delivery.message.envelope.last_error = Some(why.reason.clone());
        match parts.settle.bury(&delivery, Cause::Undecodable).await {
            Err(Unsettled::TooLarge(_)) => return self.refuse(delivery).await,
            other => other?,
        }
        parts.settle.acknowledge(delivery).await?;
        parts.metrics.settled();
        Ok(())
    }

    /// Hands back what cannot even be stored, with a back-off by the broker's count: there is no other. No
    /// setting makes it less than a second at first, for no count of attempts ever ends this.
    async fn refuse(&self, delivery: Delivery<B>) -> Result<(), Unsettled> {
        let before = u32::try_from(delivery.delivered.saturating_sub(1)).unwrap_or(u32::MAX);
        let backoff = &self.0.policy.backoff;
        let (initial, max) = (backoff.initial.max(REFUSED.0), backoff.max.max(REFUSED.1));
        let wait = Backoff { initial, max, jitter: backoff.jitter }.wait(before, 1.0);
        self.0.settle.refuse(delivery, wait).await
    }

    fn age(&self, delivery: &Delivery<B>) -> Duration {
        self.broker().now().duration_since(delivery.message.envelope.first_seen).unwrap_or_default()
    }
}

/// Whose delivery it is, as far as that is known, for the line that says what became of it.
struct Whose {
    call_id: Option<String>,
    function: Option<String>,
}

impl Whose {
    fn of<B>(delivery: &Delivery<B>) -> Self {
        Self { call_id: delivery.message.call_id.clone(), function: delivery.message.function_name.clone() }
    }
}

/// Notes the invocation's call id, or one made of its identity: the same over all retries.
fn identify<B>(delivery: &mut Delivery<B>, invocation: &Invocation) {
    let envelope = &delivery.message.envelope;
    let call_id = invocation.call_id().map_or_else(
        || {
            Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{}:{}", envelope.origin, envelope.id).as_bytes())
                .to_string()
        },
        str::to_owned,
    );
    delivery.trace.call_id(&call_id);
    delivery.message.call_id = Some(call_id);
}
