//! What is told about a call: to the audit, and to those who ask while it runs.

use super::Worker;
use crate::{
    broker::seam::Broker,
    message::audit::{COMPLETED, Call, Parked, Record},
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
        let outcome = cause.map_or(COMPLETED, Cause::as_str);
        let (queue, now) = (&self.0.settle.names.queue, self.broker().now());
        let ended = Call::of(delivery.message(), queue, outcome, &self.0.name, now);
        Some(Record::Call(Box::new(ended)))
    }

    /// Tells that a call is parked for the first time, so that it is found.
    pub(super) fn tell_parked(&self, delivery: &Delivery<B>) {
        let (message, envelope) = (delivery.message(), delivery.envelope());
        if envelope.delayed == 0 && self.0.audit.wants(true) {
            self.0.audit.note(Record::Parked(Parked {
                at: Some(self.broker().now()),
                function: message.function_name.as_deref().map(str::to_owned),
                call_id: message.call_id.as_deref().map(str::to_owned),
                original_id: envelope.original_id(),
            }));
        }
    }
}
