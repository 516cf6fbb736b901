//! The end of an invocation: dead letter, callback, acknowledgement, in this order.

use std::ops::ControlFlow;

use super::{CallContext, Worker, post::posting};
use crate::{
    broker::seam::Broker,
    message::{
        answer::Answer,
        decode::Undecodable,
        posting::{Ending, status_of},
    },
    outbound::invoke::Gateway,
    retry::judge::Cause,
    worker::delivery::{Delivery, lease::LeaseLost, settle::Settled},
};

impl<B: Broker, G: Gateway> Worker<B, G> {
    /// Ends an invocation: with success, or for this cause.
    pub(super) async fn end(
        &self,
        delivery: Delivery<B>,
        context: &CallContext<'_>,
        cause: Option<Cause>,
        answer: Option<&Answer>,
    ) -> Result<Settled, LeaseLost> {
        let parts = &*self.0;
        let disposition = self.terms(&delivery).end(cause);
        let durable = match parts.settle.make_durable(delivery, disposition).await? {
            ControlFlow::Continue(durable) => durable,
            ControlFlow::Break(unstorable) => return Ok(unstorable),
        };
        let age = self.age(durable.delivery());
        let mut record = self.told(durable.delivery(), cause);
        if cause.is_some() {
            // It is dead, whatever becomes of its callback and its acknowledgement.
            record.take().into_iter().for_each(|record| parts.audit.note(record));
        }
        let envelope = durable.delivery().envelope();
        let ending = Ending {
            invocation: context.invocation,
            call_id: context.call_id,
            annotations: context.annotations,
            answer,
            status: answer
                .map_or_else(|| status_of(cause, envelope), |answer| answer.outcome.callback_status()),
            took: answer.map(|answer| answer.took).unwrap_or_default(),
            answer_lost: false,
            retry: envelope.attempts.saturating_sub(1),
            retry_max: context.policy.max_attempts.saturating_sub(1),
        };
        let settled = match posting(ending) {
            Some(posting) => Box::pin(self.post(durable.into_callback(), posting)).await?,
            None => parts.settle.let_go(durable).await?,
        };
        record.into_iter().for_each(|record| parts.audit.note(record));
        parts.metrics.ended(age);
        parts.metrics.settled();
        Ok(settled)
    }

    /// Ends an invocation that somebody cancelled.
    pub(super) async fn cancelled(
        &self,
        mut delivery: Delivery<B>,
        context: &CallContext<'_>,
    ) -> Result<Settled, LeaseLost> {
        let envelope = delivery.envelope_mut();
        // It is over with this: the dead letter may be sent round again.
        envelope.last_error = envelope.cancelled.take().or_else(|| context.begun.why());
        self.end(delivery, context, Some(Cause::Cancelled), None).await
    }

    /// Keeps a message that is no invocation whole, for people to look at.
    pub(super) async fn undecodable(
        &self,
        mut delivery: Delivery<B>,
        why: &Undecodable,
    ) -> Result<Settled, LeaseLost> {
        let parts = &*self.0;
        delivery.envelope_mut().last_error = Some(why.reason.clone());
        let disposition = self.terms(&delivery).give_up(Cause::Undecodable);
        let durable = match parts.settle.make_durable(delivery, disposition).await? {
            ControlFlow::Continue(durable) => durable,
            ControlFlow::Break(unstorable) => return Ok(unstorable),
        };
        let record = self.told(durable.delivery(), Some(Cause::Undecodable));
        record.into_iter().for_each(|record| parts.audit.note(record));
        let settled = parts.settle.let_go(durable).await?;
        parts.metrics.settled();
        Ok(settled)
    }
}
