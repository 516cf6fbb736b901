//! The call itself, as often as it is tried within one delivery.

use std::time::{Duration, SystemTime};

use super::{Case, Worker};
use crate::{
    broker::seam::Broker,
    message::{answer::Answer, envelope::NotFound},
    observe::log,
    outbound::invoke::{Call, Gateway, NotCalled},
    retry::judge::{Cause, Progress, Verdict, judge},
    worker::delivery::Delivery,
};

/// How the tries of one delivery came out.
pub(super) enum Tried {
    Completed(Answer),
    Retry {
        wait: Duration,
        reason: &'static str,
        answer: Answer,
    },
    Dead(Cause, Answer),
    NotCalled(NotCalled),
    /// The drain's grace ended first.
    CutOff,
}

impl<B: Broker, G: Gateway> Worker<B, G> {
    /// Tries the call, and again at once as often as the policy says.
    pub(super) async fn attempt(&self, delivery: &mut Delivery<B>, case: &Case<'_>) -> Tried {
        let parts = &*self.0;
        let function = case.invocation.function.as_str();
        if parts.cut.run_until_cancelled(delivery.seat.begin()).await.is_none() {
            return Tried::CutOff;
        }
        let target = parts.gateway.target(case.invocation);
        self.note_waits(delivery);
        let mut immediate = 0;
        loop {
            let envelope = &mut delivery.message.envelope;
            let attempt = envelope.attempts.saturating_add(1);
            log::invoke(case.call_id, function, attempt, case.invocation.body.len(), &target);
            let span = delivery.trace.call(function, attempt, &target);
            let call = Call {
                invocation: case.invocation,
                call_id: case.call_id,
                retry: envelope.attempts,
                retry_max: case.policy.max_attempts.saturating_sub(1),
                keep: if case.invocation.callback.is_some() { parts.callbacks.max_body } else { 0 },
                span: &span,
            };
            let running = parts.metrics.call_started(function);
            let answer = match parts.cut.run_until_cancelled(parts.gateway.call(call)).await {
                None => return Tried::CutOff,
                Some(Err(why)) => return Tried::NotCalled(why),
                Some(Ok(answer)) => answer,
            };
            drop(running);
            let outcome = &answer.outcome;
            delivery.bytes += answer.body.len();
            span.ends(outcome);
            parts.metrics.attempt(function, outcome.label(), answer.took);
            log::invoked(
                case.call_id,
                function,
                attempt,
                outcome,
                answer.took,
                parts.news.of_call(function, outcome),
            );
            envelope.record(outcome.status(), &outcome.history(), outcome.error(), answer.took, &parts.name);
            let now = self.broker().now();
            envelope.note_found(!outcome.is_gateway_not_found(), now);
            let lasting = |row: NotFound| (row.attempts, now.duration_since(row.since).unwrap_or_default());
            let progress = Progress {
                attempts: envelope.attempts,
                delayed: envelope.delayed,
                immediate,
                not_found: envelope.not_found.map(lasting).unwrap_or_default(),
                age: self.age(delivery),
            };
            match judge(outcome, &case.policy, &progress, SystemTime::now(), rand::random()) {
                Verdict::Complete => return Tried::Completed(answer),
                Verdict::DeadLetter(cause) => return Tried::Dead(cause, answer),
                Verdict::RetryAfter { wait, reason } => {
                    return Tried::Retry { wait, reason: reason.as_str(), answer };
                }
                Verdict::RetryNow(reason) => {
                    parts.metrics.retried(function, reason.as_str());
                    immediate += 1;
                }
            }
        }
    }

    fn note_waits(&self, delivery: &Delivery<B>) {
        let envelope = &delivery.message.envelope;
        if let Some(due) = envelope.due.filter(|_| envelope.attempts > 0) {
            self.0.metrics.retry_lateness(self.broker().now().duration_since(due).unwrap_or_default());
        } else if envelope.attempts == 0 && envelope.interruptions == 0 {
            self.0.metrics.waited(self.age(delivery));
        }
    }
}
