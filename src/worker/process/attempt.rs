//! The call itself, as often as it is tried within one delivery.

use std::time::Duration;

use super::{CallContext, Worker};
use crate::{
    broker::seam::Broker,
    message::{answer::Answer, envelope::NotFound},
    observe::log,
    outbound::invoke::{Call, Gateway, NotCalled},
    retry::judge::{Cause, Progress, Reason, Verdict, judge},
    worker::delivery::Delivery,
};

/// How the tries of one delivery came out.
pub(super) enum AttemptResult {
    Completed(Answer),
    Retry {
        wait: Duration,
        reason: Reason,
        answer: Answer,
    },
    Dead(Cause, Answer),
    NotCalled(NotCalled),
    /// The drain's grace ended first.
    CutOff,
    /// Somebody cancelled it first.
    Cancelled,
    /// Its function was paused before the first try, or before the next one.
    Paused,
}

impl<B: Broker, G: Gateway> Worker<B, G> {
    /// Tries the call, and again at once as often as the policy says.
    pub(super) async fn attempt(
        &self,
        delivery: &mut Delivery<B>,
        context: &CallContext<'_>,
    ) -> AttemptResult {
        let parts = &*self.0;
        let function = context.invocation.function.as_str();
        if !delivery.seat().begin_unless(&parts.cut).await {
            return AttemptResult::CutOff;
        }
        let target = parts.gateway.target(context.invocation);
        self.note_waits(delivery);
        let mut immediate = 0;
        loop {
            // It may have waited for its seat since it was asked for last.
            if parts.paused.holds(&context.invocation.function) {
                return AttemptResult::Paused;
            }
            let retry = delivery.envelope().attempts;
            let attempt = retry.saturating_add(1);
            let (bytes, event) = (context.invocation.body.len(), context.invocation.event.as_deref());
            log::invoke(context.call_id, function, attempt, bytes, &target, event);
            let span = delivery.trace().call(function, attempt, &target);
            let call = Call {
                invocation: context.invocation,
                url: &target,
                call_id: context.call_id,
                retry,
                retry_max: context.policy.max_attempts.saturating_sub(1),
                keep: if context.invocation.callback.is_some() { parts.callbacks.max_body } else { 0 },
                span: &span,
            };
            let running = parts.metrics.call_started(function);
            let calling = Box::pin(parts.gateway.call(call));
            let called = tokio::select! {
                biased;
                () = context.begun.cancelled() => return AttemptResult::Cancelled,
                called = parts.cut.run_until_cancelled(calling) => called,
            };
            let answer = match called {
                None => return AttemptResult::CutOff,
                Some(Err(why)) => return AttemptResult::NotCalled(why),
                Some(Ok(answer)) => answer,
            };
            let outcome = &answer.outcome;
            delivery.grow(answer.body.len());
            span.ends(outcome);
            parts.metrics.attempt(running, outcome.label(), answer.took);
            let is_news = parts.news.of_call(function, outcome);
            log::invoked(context.call_id, function, attempt, outcome, answer.took, is_news);
            let cancelled = context.begun.is_cancelled();
            let progress = Progress { cancelled, ..self.record(delivery, &answer, immediate) };
            match judge(outcome, &context.policy, &progress, (parts.chance.now)(), (parts.chance.draw)()) {
                Verdict::Complete => return AttemptResult::Completed(answer),
                Verdict::DeadLetter(cause) => return AttemptResult::Dead(cause, answer),
                Verdict::RetryAfter { wait, reason } => return AttemptResult::Retry { wait, reason, answer },
                Verdict::RetryNow(reason) => {
                    parts.metrics.retried(function, reason.as_str());
                    immediate += 1;
                }
            }
        }
    }

    /// Writes an attempt into the past of its message, and says how far that has come.
    fn record(&self, delivery: &mut Delivery<B>, answer: &Answer, immediate: u32) -> Progress {
        let (outcome, now) = (&answer.outcome, self.broker().now());
        let envelope = delivery.envelope_mut();
        envelope.record(outcome.status(), &outcome.history(), outcome.error(), answer.took, &self.0.name);
        if self.0.audit.is_on() {
            envelope.note_begun(now, answer.took);
        }
        envelope.note_found(!outcome.is_gateway_not_found(), now);
        let lasting = |row: NotFound| (row.attempts, now.duration_since(row.since).unwrap_or_default());
        Progress {
            attempts: envelope.attempts,
            delayed: envelope.delayed,
            immediate,
            not_found: envelope.not_found.map(lasting).unwrap_or_default(),
            cancelled: false,
            age: delivery.age(now),
        }
    }

    fn note_waits(&self, delivery: &Delivery<B>) {
        let envelope = delivery.envelope();
        if let Some(due) = envelope.due.filter(|_| envelope.attempts > 0) {
            self.0.metrics.retry_lateness(self.broker().now().duration_since(due).unwrap_or_default());
        } else if envelope.attempts == 0 && envelope.interruptions == 0 {
            self.0.metrics.waited(self.age(delivery));
        }
    }
}
