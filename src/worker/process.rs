//! The way of a delivery, from its arrival to its end, on one screen: `Worker::path`. The calls go down, to
//! the files in this one's folder and to `settle`, and none comes back up.

mod attempt;
mod audit;
mod chance;
mod end;
mod news;
mod open;
mod parts;
mod post;
mod resume;
mod start;

use std::{
    future::Future,
    ops::ControlFlow,
    pin::{Pin, pin},
    time::Duration,
};

use self::{attempt::AttemptResult, open::Whose, parts::CallContext};
pub use self::{
    chance::Chance,
    news::News,
    parts::{Parts, Worker},
};
use crate::{
    broker::seam::Broker,
    flow::{gate::Gate, shortage::Shortage},
    message::{
        call::{InHand, written},
        decode::{Invocation, Undecodable},
        posting::Posting,
    },
    observe::log,
    outbound::invoke::{Gateway, NotCalled},
    retry::{disposition::Disposition, judge::Cause},
    worker::delivery::{
        Content, Delivery,
        lease::{Lease, LeaseLost},
        settle::Settled,
    },
};

impl<B: Broker, G: Gateway> Worker<B, G> {
    /// Processes a delivery under its lease.
    ///
    /// # Errors
    /// Where it was given up: the broker delivers it again.
    pub async fn process(&self, mut delivery: Delivery<B>) -> Result<Settled, LeaseLost> {
        let _held = self.0.gate.hold(delivery.is_suspect());
        let (read, _room) = match self.read(&mut delivery, true).await {
            Ok(read) => read,
            Err(lost) => {
                self.expired(delivery);
                return Err(lost);
            }
        };
        let opened = self.begin(&mut delivery, read);
        let (lease, whose) = (delivery.lease(), Whose::of(&delivery));
        let path = pin!(self.path(delivery, opened));
        self.under_lease(&lease, &whose, path).await
    }

    /// The whole path of a delivery that was opened: settled before? may it start? call, judge, settle.
    ///
    /// A future has room for the largest that it waits for, and is copied as it is handed on: what few
    /// deliveries come to is therefore in boxes, here and below.
    async fn path(
        &self,
        delivery: Delivery<B>,
        opened: Result<Content, Undecodable>,
    ) -> Result<Settled, LeaseLost> {
        let delivery = match self.unless_settled(delivery, opened.as_ref().ok()).await? {
            ControlFlow::Continue(delivery) => delivery,
            ControlFlow::Break(settled) => return Ok(settled),
        };
        match opened {
            Ok(Content::Invocation(invocation)) => self.invocation(delivery, &invocation).await,
            Ok(Content::Callback(posting)) => Box::pin(self.callback(delivery, *posting)).await,
            Err(undecodable) => Box::pin(self.undecodable(delivery, &undecodable)).await,
        }
    }

    /// The path of a callback that waited.
    async fn callback(&self, delivery: Delivery<B>, posting: Posting) -> Result<Settled, LeaseLost> {
        match self.may_post(delivery, &posting).await? {
            ControlFlow::Continue(delivery) => self.post(delivery, posting).await,
            ControlFlow::Break(settled) => Ok(settled),
        }
    }

    /// The path of an invocation.
    async fn invocation(&self, delivery: Delivery<B>, invocation: &Invocation) -> Result<Settled, LeaseLost> {
        let parts = &*self.0;
        let call_id = delivery.message().call_id.clone().unwrap_or_default();
        let annotations = parts.lookup.annotations(invocation).await;
        let (policy, invalid) = parts.policy.for_annotations(&annotations);
        if delivery.envelope().attempts == 0 {
            for annotation in invalid {
                tracing::warn!(callId = &*call_id, function = invocation.function.as_str(), %annotation, "an \
                    annotation is not used; the worker's setting is");
            }
        }
        // Until its end is durable, or it is parked.
        let now = self.broker().now();
        let in_hand = InHand::new(delivery.message(), now);
        let arrived = delivery.envelope().arrived();
        let begun = &parts.calls.begin(call_id.clone(), &written(&call_id), arrived, in_hand);
        let context = CallContext { invocation, call_id: &call_id, annotations: &annotations, policy, begun };
        let mut delivery = match self.may_call(delivery, &context, now).await? {
            ControlFlow::Continue(delivery) => delivery,
            ControlFlow::Break(settled) => return Ok(settled),
        };
        match self.attempt(&mut delivery, &context).await {
            AttemptResult::Completed(answer) => self.end(delivery, &context, None, Some(&answer)).await,
            AttemptResult::Dead(cause, answer) => {
                self.end(delivery, &context, Some(cause), Some(&answer)).await
            }
            AttemptResult::NotCalled(NotCalled::Unsendable(reason)) => {
                delivery.envelope_mut().last_error = Some(reason);
                self.end(delivery, &context, Some(Cause::Refused), None).await
            }
            AttemptResult::Retry { wait, reason, answer } => {
                let again = self.terms(&delivery).again(wait, answer.outcome, context.policy.max_attempts);
                self.tell_parked(&delivery);
                let envelope = delivery.envelope_mut();
                envelope.delayed = envelope.delayed.saturating_add(1);
                parts.settle.settle(delivery, Disposition::CallAgain(again, reason)).await
            }
            AttemptResult::Paused => Box::pin(self.hold(delivery)).await,
            AttemptResult::Cancelled => Box::pin(self.cancelled(delivery, &context)).await,
            AttemptResult::NotCalled(NotCalled::Short(short)) => {
                Box::pin(self.short(delivery, &context, short)).await
            }
            AttemptResult::CutOff => Box::pin(self.cut_off(delivery, &context)).await,
        }
    }

    /// Hands a call back that this machine was short of something for: that is nobody's failure, and does not
    /// count.
    async fn short(
        &self,
        delivery: Delivery<B>,
        context: &CallContext<'_>,
        short: Shortage,
    ) -> Result<Settled, LeaseLost> {
        let parts = &*self.0;
        parts.metrics.not_made(context.invocation.function.as_str(), short.label());
        // Those to the receivers of callbacks may hold all that calls and pages want.
        parts.callbacks.post.close_idle();
        parts.settle.settle(delivery, Disposition::hand_back(parts.gate.short(short))).await
    }

    /// Hands a call back at the end of a drain's grace.
    async fn cut_off(&self, delivery: Delivery<B>, context: &CallContext<'_>) -> Result<Settled, LeaseLost> {
        tracing::warn!(
            callId = context.call_id,
            function = context.invocation.function.as_str(),
            "Cut off: the call is handed back and will be made again"
        );
        self.0.settle.settle(delivery, Disposition::hand_back(Duration::ZERO)).await
    }

    /// Hands a delivery back that was not begun.
    pub async fn release(&self, mut delivery: Delivery<B>) {
        let parts = &*self.0;
        let _held = parts.gate.hold(delivery.is_suspect());
        // A message that cannot be read is handed back under the name of nobody, and read again by whoever
        // gets it.
        let Ok((read, _)) = self.read(&mut delivery, false).await else { return self.expired(delivery) };
        // Of a callback only its names are wanted.
        let opened =
            self.begin(&mut delivery, read).ok().filter(|content| matches!(content, Content::Invocation(_)));
        let (lease, whose) = (delivery.lease(), Whose::of(&delivery));
        let wait = Gate::not_begun(delivery.is_suspect(), parts.cut.is_cancelled());
        let work = pin!(async {
            // A clone of what has ended would be called.
            match self.unless_settled(delivery, opened.as_ref()).await? {
                ControlFlow::Continue(delivery) => {
                    parts.settle.settle(delivery, Disposition::hand_back(wait)).await
                }
                ControlFlow::Break(settled) => Ok(settled),
            }
        });
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

    /// Does `work` under its lease. It is large, and therefore pinned where it was made.
    async fn under_lease(
        &self,
        lease: &Lease<B>,
        whose: &Whose,
        work: Pin<&mut impl Future<Output = Result<Settled, LeaseLost>>>,
    ) -> Result<Settled, LeaseLost> {
        let done = lease.keep(work).await.and_then(|done| done);
        done.inspect_err(|_| self.lost(whose))
    }

    /// Notes that a delivery is no longer this worker's.
    fn lost(&self, Whose { call_id, function }: &Whose) {
        log::lease_lost(call_id.as_deref(), function.as_deref());
        self.0.metrics.lease_lost();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{broker::jetstream::JetStream, outbound::invoke::HttpGateway};

    fn size<'w, F, R>(_: F) -> usize
    where
        F: FnOnce(&'w Worker<JetStream, HttpGateway>, Delivery<JetStream>) -> R,
    {
        size_of::<R>()
    }

    #[test]
    fn what_stands_in_memory_for_each_call_is_small() {
        let bytes = size(Worker::process);
        assert!(bytes <= 4 << 10, "{bytes} bytes");
    }
}
