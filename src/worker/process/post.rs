//! The POST of a callback: the first in place, when its invocation ends, and those after it from a message of
//! its own. Whatever comes of it, the delivery is settled.

use std::time::Duration;

use tokio::time::Instant;

use super::Worker;
use crate::{
    broker::seam::Broker,
    message::posting::{Ending, Posting},
    observe::log,
    outbound::{callback::NotPosted, invoke::Gateway},
    retry::{
        callback::{Refused, Verdict, judge},
        disposition::{Disposition, Terms},
        judge::{Cause, Outcome},
    },
    worker::delivery::{Delivery, lease::LeaseLost, settle::Settled},
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
    /// Posts a callback, and settles its delivery as the answer has it.
    pub(super) async fn post(
        &self,
        mut delivery: Delivery<B>,
        mut posting: Posting,
    ) -> Result<Settled, LeaseLost> {
        let parts = &*self.0;
        // Where the workers are told to end meanwhile, it is handed back below.
        delivery.seat().begin_unless(&parts.cut).await;
        let url = log::loggable_text(&posting.url);
        let span = delivery.trace().callback(delivery.envelope().attempts.saturating_add(1), &url);
        span.inject(&mut posting.headers);
        let (began, id) = (Instant::now(), webhook_id(&delivery));
        let posted = parts.cut.run_until_cancelled(parts.callbacks.post.post(&posting, &id)).await;
        let terms = self.terms(&delivery);
        let disposition = match posted {
            Some(Ok(outcome)) => {
                span.ends(&outcome);
                let is_news = parts.news.of_post(posting.function.as_str(), &outcome);
                log::posted_result(&posting.call_id, posting.function.as_str(), &url, &outcome, is_news);
                self.judged(&mut delivery, &posting, outcome, began.elapsed(), terms)
            }
            Some(Err(NotPosted::Refused(refused @ Refused(reason)))) => {
                span.refused(&refused);
                log::callback_refused(&posting.call_id, posting.function.as_str(), &url, reason);
                parts.metrics.callback("refused");
                delivery.envelope_mut().last_error = Some(reason.to_owned());
                terms.give_up(Cause::Callback)
            }
            Some(Err(NotPosted::Short(short))) => {
                parts.metrics.callback("handed_back");
                // Those to the gateway may hold all that is wanted here.
                parts.gateway.close_idle();
                terms.hand_back(parts.gate.short(short))
            }
            None => {
                tracing::warn!(
                    callId = posting.call_id,
                    function = posting.function.as_str(),
                    "Cut off: the callback is handed back and will be posted again"
                );
                terms.hand_back(Duration::ZERO)
            }
        };
        if disposition.stores() {
            delivery.fill(posting, self.broker().max_payload()).await;
        }
        parts.settle.settle(delivery, disposition).await
    }

    /// Writes a POST into the past of its message, and judges it.
    fn judged(
        &self,
        delivery: &mut Delivery<B>,
        posting: &Posting,
        outcome: Outcome,
        took: Duration,
        terms: Terms,
    ) -> Disposition {
        let parts = &*self.0;
        let envelope = delivery.envelope_mut();
        envelope.record(outcome.status(), &outcome.history(), error(&outcome), took, &parts.name);
        let (policy, _) = parts.policy.for_annotations(&posting.annotations);
        let (attempts, most) = (envelope.attempts, parts.callbacks.attempts);
        match judge(&outcome, &policy, attempts, most, (parts.chance.now)(), (parts.chance.draw)()) {
            Verdict::Delivered => {
                parts.metrics.callback("delivered");
                Disposition::Delivered
            }
            Verdict::GiveUp => {
                parts.metrics.callback("failed");
                terms.give_up(Cause::Callback)
            }
            Verdict::Again(wait) => {
                envelope.delayed = attempts;
                Disposition::PostAgain(terms.again(wait, outcome, most))
            }
        }
    }
}

/// The name by which a receiver knows a callback: the invocation, and how often an operator sent it round
/// again.
fn webhook_id<B: Broker>(delivery: &Delivery<B>) -> String {
    let envelope = delivery.envelope();
    let id = envelope.original_id();
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
