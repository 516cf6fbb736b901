//! The way of a callback. A delivery whose invocation has ended becomes its callback: same identity, same
//! generation, so that what is parked or buried from now on is what whoever gets the message again will find.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::{INTERRUPTIONS, Worker};
use crate::{
    broker::seam::Broker,
    flow::gate::NotNow,
    message::{
        decode::Invocation,
        posting::{Ending, Posting, status_of},
    },
    observe::{log, trace::Fate},
    outbound::{callback::NotPosted, invoke::Gateway},
    retry::{
        callback::{Next, Refused, judge},
        judge::{Cause, Outcome},
    },
    tasks::heavy,
    worker::{delivery::Delivery, settle::Unsettled},
};

/// The callback of an invocation that ended so; `None` if nobody asked for one.
pub(super) fn posting(ending: Ending<'_>) -> Option<Posting> {
    let (posting, flaw) = Posting::of(ending)?;
    if let Some(reason) = flaw {
        tracing::warn!(
            callId = ending.call_id,
            function = ending.invocation.function.as_str(),
            reason,
            "the callback URL cannot be used"
        );
    }
    Some(posting)
}

impl<B: Broker, G: Gateway> Worker<B, G> {
    /// The first POST, in place. Whatever comes of it, the delivery is settled.
    pub(super) async fn first_callback(
        &self,
        mut delivery: Delivery<B>,
        posting: Posting,
    ) -> Result<(), Unsettled> {
        self.become_callback(&mut delivery);
        self.post(delivery, posting).await
    }

    /// From here on the delivery is its callback, and in the same trace.
    fn become_callback(&self, delivery: &mut Delivery<B>) {
        delivery.message = delivery.message.callback();
        delivery.trace.carry(&mut delivery.message.envelope.carried);
    }

    /// A callback that was parked has come due.
    pub(super) async fn parked_callback(
        &self,
        mut delivery: Delivery<B>,
        posting: Posting,
    ) -> Result<(), Unsettled> {
        let parts = &*self.0;
        if delivery.was_abandoned() {
            delivery = match self.interrupted_callback(delivery, &posting).await? {
                Some(delivery) => delivery,
                None => return Ok(()),
            };
        }
        match parts.gate.pass(delivery.is_suspect()).await {
            Ok(pass) => delivery.seat.keep(pass),
            Err(NotNow(wait)) => return parts.settle.release(delivery, wait).await,
        }
        self.post(delivery, posting).await
    }

    /// As with calls: it is posted again from a clone that counts how often that happened, and from the
    /// delivery itself where no clone can be made.
    async fn interrupted_callback(
        &self,
        mut delivery: Delivery<B>,
        posting: &Posting,
    ) -> Result<Option<Delivery<B>>, Unsettled> {
        let parts = &*self.0;
        let envelope = &mut delivery.message.envelope;
        envelope.interruptions = envelope.interruptions.saturating_add(1);
        if envelope.interruptions >= INTERRUPTIONS {
            envelope.last_error = Some("its workers died while they posted it".to_owned());
            parts.metrics.callback("failed");
            let buried = parts.settle.bury(&delivery, Cause::Callback).await;
            return self.let_go(delivery, buried, true).await.map(|_| None);
        }
        tracing::warn!(
            callId = posting.call_id,
            function = posting.function.as_str(),
            interruptions = envelope.interruptions,
            "Interrupted: the worker that had this callback died or lost its lease; it is posted again"
        );
        self.again(delivery).await
    }

    /// An invocation is delivered again whose dead letter is stored, and nothing else: its worker died before
    /// the callback was delivered or parked, or just after. It is posted from a message of its own, once more
    /// if need be. The answer is gone; how the call ended stands in the dead letter.
    pub(super) async fn owed_callback(
        &self,
        mut delivery: Delivery<B>,
        invocation: &Invocation,
        letter: u64,
    ) -> Result<(), Unsettled> {
        let parts = &*self.0;
        if invocation.callback.is_none() {
            return parts.settle.acknowledge(delivery).await;
        }
        let (past, cause) = parts.settle.dead_letter(&delivery, letter).await?;
        // Older versions buried so what can be read and not be sent, and told nobody of it.
        if cause == Some(Cause::Undecodable) {
            return parts.settle.acknowledge(delivery).await;
        }
        let call_id = delivery.message.call_id.clone().unwrap_or_default();
        let annotations = parts.lookup.annotations(invocation).await;
        let (policy, _) = parts.policy.for_annotations(&annotations);
        let ending = Ending {
            invocation,
            call_id: &call_id,
            annotations: &annotations,
            answer: None,
            status: status_of(cause, &past),
            took: Duration::from_millis(past.last_attempt().map(|(_, millis)| millis).unwrap_or_default()),
            answer_lost: past.last_status.is_some(),
            retry: past.attempts.saturating_sub(1),
            retry_max: policy.max_attempts.saturating_sub(1),
        };
        let Some(posting) = posting(ending) else { return parts.settle.acknowledge(delivery).await };
        let abandoned = delivery.was_abandoned();
        self.become_callback(&mut delivery);
        if parts.settle.successor(&delivery).await?.is_some() {
            return parts.settle.acknowledge(delivery).await;
        }
        delivery.message.envelope.interruptions = u32::from(abandoned);
        self.park_callback(delivery, posting, Duration::ZERO).await.map(|_| ())
    }

    /// Posts it, and parks it, buries it or lets it go, as the answer has it.
    async fn post(&self, mut delivery: Delivery<B>, mut posting: Posting) -> Result<(), Unsettled> {
        let parts = &*self.0;
        // Where the workers are told to end meanwhile, it is handed back below.
        parts.cut.run_until_cancelled(delivery.seat.begin()).await;
        let (call_id, function) = (posting.call_id.clone(), posting.function.as_str().to_owned());
        let url = log::loggable_text(&posting.url);
        let span = delivery.trace.callback(delivery.message.envelope.attempts.saturating_add(1), &url);
        span.inject(&mut posting.headers);
        let began = Instant::now();
        let id = webhook_id(&delivery);
        let Some(posted) = parts.cut.run_until_cancelled(parts.callbacks.post.post(&posting, &id)).await
        else {
            tracing::warn!(
                callId = call_id,
                function,
                "Cut off: the callback is handed back and will be posted again"
            );
            delivery.trace.ends(Fate::HandedBack);
            return self.park_callback(delivery, posting, Duration::ZERO).await.map(|_| ());
        };
        let envelope = &mut delivery.message.envelope;
        let outcome = match posted {
            Ok(outcome) => outcome,
            Err(NotPosted::Short(short)) => {
                parts.metrics.callback("handed_back");
                delivery.trace.ends(Fate::HandedBack);
                return self.park_callback(delivery, posting, parts.gate.short(short)).await.map(|_| ());
            }
            Err(NotPosted::Refused(refused @ Refused(reason))) => {
                span.refused(&refused);
                log::callback_refused(&call_id, &function, &url, reason);
                parts.metrics.callback("refused");
                envelope.last_error = Some(reason.to_owned());
                return self.bury_callback(delivery, posting).await;
            }
        };
        span.ends(&outcome);
        let status = outcome.history();
        log::posted_result(&call_id, &function, &url, &outcome, parts.news.of_post(&function, &outcome));
        envelope.record(outcome.status(), &status, error(&outcome), began.elapsed(), &parts.name);
        let (policy, _) = parts.policy.for_annotations(&posting.annotations);
        let (attempts, most) = (envelope.attempts, parts.callbacks.attempts);
        match judge(&outcome, &policy, attempts, most, SystemTime::now(), rand::random()) {
            Next::Delivered => {
                parts.metrics.callback("delivered");
                delivery.trace.ends(Fate::Delivered);
                parts.settle.acknowledge(delivery).await
            }
            Next::Dead => {
                parts.metrics.callback("failed");
                self.bury_callback(delivery, posting).await
            }
            Next::Again(wait) => {
                envelope.delayed = envelope.attempts;
                delivery.trace.ends(Fate::Parked);
                if let Some(due) = self.park_callback(delivery, posting, wait).await? {
                    let at = humantime::format_rfc3339_millis(due).to_string();
                    let next = log::Next {
                        delivery: attempts,
                        max_attempts: most,
                        wait,
                        at: &at,
                        outcome: &outcome,
                    };
                    log::callback_scheduled(&call_id, &function, &next);
                    parts.metrics.callback("retried");
                }
                Ok(())
            }
        }
    }

    /// Parks it, and lets go of the delivery. Returns when it is due, unless it fitted nowhere.
    async fn park_callback(
        &self,
        delivery: Delivery<B>,
        posting: Posting,
        wait: Duration,
    ) -> Result<Option<SystemTime>, Unsettled> {
        let is_stored = !delivery.message.is_hollow();
        let delivery = self.filled(delivery, posting).await;
        let past = delivery.message.envelope.clone();
        let parked = self.0.settle.park(&delivery, &past, wait).await;
        self.let_go(delivery, parked, is_stored).await
    }

    /// Buries it, and lets go of the delivery.
    async fn bury_callback(&self, delivery: Delivery<B>, posting: Posting) -> Result<(), Unsettled> {
        let is_stored = !delivery.message.is_hollow();
        let delivery = self.filled(delivery, posting).await;
        let buried = self.0.settle.bury(&delivery, Cause::Callback).await;
        self.let_go(delivery, buried, is_stored).await.map(|_| ())
    }

    /// Acknowledges a delivery whose callback is stored. One that fits nowhere stays where it is, if the
    /// delivery is its own (`is_stored`). If not, it is lost, and said to be: the delivery is an
    /// invocation's, and handed back it would be called again.
    async fn let_go<T>(
        &self,
        delivery: Delivery<B>,
        stored: Result<T, Unsettled>,
        is_stored: bool,
    ) -> Result<Option<T>, Unsettled> {
        let stored = match stored {
            Ok(stored) => Some(stored),
            Err(Unsettled::TooLarge(_)) if is_stored => return self.refuse(delivery).await.map(|()| None),
            Err(Unsettled::TooLarge(_)) => {
                tracing::error!(
                    callId = delivery.message.call_id.as_deref().unwrap_or_default(),
                    function = delivery.message.function_name.as_deref().unwrap_or_default(),
                    "Unstorable: the callback fits into no message of the broker's max_payload and is given \
                        up"
                );
                self.0.metrics.unstorable();
                None
            }
            Err(lost) => return Err(lost),
        };
        self.0.settle.acknowledge(delivery).await.map(|()| stored)
    }

    /// Gives a callback that was never stored its payload. Whatever happens to the packing of a large one, it
    /// has one.
    async fn filled(&self, mut delivery: Delivery<B>, posting: Posting) -> Delivery<B> {
        if delivery.message.is_hollow() {
            let max_payload = self.broker().max_payload();
            let (bytes, without) = (posting.body.len(), posting.without_body());
            let packed = heavy::done(bytes, move || posting.pack(max_payload)).await;
            let (stored, encoding) = packed.unwrap_or_else(|| without.pack(max_payload));
            delivery.message.fill(stored, encoding);
        }
        delivery
    }
}

/// What a receiver knows a callback by: the invocation, and how often an operator sent it round again.
fn webhook_id<B>(delivery: &Delivery<B>) -> String {
    let envelope = &delivery.message.envelope;
    let id = format!("{}:{}", envelope.origin, envelope.id);
    match &envelope.redrives {
        None => id,
        Some(redrives) => format!("{id}:{redrives}"),
    }
}

fn error(outcome: &Outcome) -> Option<String> {
    match outcome.status() {
        Some(200..=299) => None,
        Some(status) => Some(format!("the callback URL answered {status}")),
        None => outcome.error(),
    }
}
