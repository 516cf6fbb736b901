//! What is told about a call: to the audit, and to those who ask while it runs.

use std::time::Duration;

use super::Worker;
use crate::{
    broker::seam::Broker,
    message::{
        audit::{COMPLETED, Call, Parked, Record},
        letter::Attempt,
    },
    outbound::invoke::Gateway,
    retry::judge::Cause,
    worker::delivery::Delivery,
};

impl<B: Broker, G: Gateway> Worker<B, G> {
    /// The record of an invocation that ended: with success, or for this cause. None where nobody wants it.
    pub(super) fn told(&self, delivery: &Delivery<B>, cause: Option<Cause>) -> Option<Record> {
        if !self.0.audit.wants(cause.is_some()) {
            return None;
        }
        let (message, envelope, now) = (delivery.message(), delivery.envelope(), self.broker().now());
        let attempts = Attempt::all(envelope);
        let first = attempts.first().filter(|attempt| attempt.n == 1).and_then(|attempt| attempt.at);
        Some(Record::Call(Box::new(Call {
            at: Some(now),
            queue: self.0.settle.names.queue.clone(),
            function: message.function_name.clone(),
            call_id: message.call_id.clone(),
            original_id: envelope.original_id(),
            outcome: cause.map_or(COMPLETED, Cause::as_str).to_owned(),
            attempts_made: envelope.attempts,
            first_seen: Some(envelope.first_seen),
            queue_wait_milliseconds: first
                .map(|first| milliseconds(first.duration_since(envelope.since()).unwrap_or_default())),
            milliseconds: milliseconds(delivery.age(now)),
            worker: self.0.name.clone(),
            redrives: envelope.redrives.clone(),
            attempts,
        })))
    }

    /// Tells that a call is parked for the first time, so that it is found.
    pub(super) fn tell_parked(&self, delivery: &Delivery<B>) {
        let (message, envelope) = (delivery.message(), delivery.envelope());
        if envelope.delayed == 0 && self.0.audit.wants(true) {
            self.0.audit.note(Record::Parked(Parked {
                at: Some(self.broker().now()),
                function: message.function_name.clone(),
                call_id: message.call_id.clone(),
                original_id: envelope.original_id(),
            }));
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
