//! Takes up a message that comes again: one that was settled before is let go, with its callback parked where
//! that is owed.

use std::{ops::ControlFlow, time::Duration};

use super::{Worker, post::posting};
use crate::{
    broker::seam::Broker,
    message::{
        decode::Invocation,
        posting::{Ending, status_of},
    },
    outbound::invoke::Gateway,
    retry::callback,
    worker::delivery::{
        Content, Delivery,
        lease::LeaseLost,
        settle::{Durable, Settled},
    },
};

impl<B: Broker, G: Gateway> Worker<B, G> {
    /// Gives a delivery back unless what follows from it is stored: then it lacks its callback and its
    /// acknowledgement at most, and gets them.
    pub(super) async fn unless_settled(
        &self,
        delivery: Delivery<B>,
        content: Option<&Content>,
    ) -> Result<ControlFlow<Settled, Delivery<B>>, LeaseLost> {
        let settle = &self.0.settle;
        if !delivery.may_be_settled() {
            return Ok(ControlFlow::Continue(delivery));
        }
        let Some(successor) = Box::pin(settle.settled(&delivery)).await? else {
            return Ok(ControlFlow::Continue(delivery));
        };
        let letter = callback::may_owe(successor.letter(), delivery.message().has_callback);
        let durable = settle.settled_before(delivery, successor);
        let settled = match (letter, content) {
            (Some(letter), Some(Content::Invocation(invocation))) => {
                Box::pin(self.owed_callback(durable, invocation, letter)).await?
            }
            _ => Box::pin(settle.let_go(durable)).await?,
        };
        Ok(ControlFlow::Break(settled))
    }

    /// Parks the callback that an invocation's dead letter owes, to be posted from a message of its own, once
    /// more if need be. The answer is gone; how the call ended stands in the letter.
    async fn owed_callback(
        &self,
        durable: Durable<B>,
        invocation: &Invocation,
        letter: u64,
    ) -> Result<Settled, LeaseLost> {
        let parts = &*self.0;
        let (past, cause) = parts.settle.dead_letter(durable.delivery(), letter).await?;
        if !callback::is_owed(cause) {
            return parts.settle.let_go(durable).await;
        }
        let call_id = durable.delivery().message().call_id.clone().unwrap_or_default();
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
        let Some(posting) = posting(ending) else { return parts.settle.let_go(durable).await };
        let abandoned = durable.delivery().was_abandoned();
        let mut delivery = durable.into_callback();
        if let Some(successor) = parts.settle.successor(&delivery).await? {
            return parts.settle.let_go(parts.settle.settled_before(delivery, successor)).await;
        }
        delivery.envelope_mut().interruptions = u32::from(abandoned);
        let disposition = self.terms(&delivery).hand_back(Duration::ZERO);
        delivery.fill(posting, self.broker().max_payload()).await;
        parts.settle.settle(delivery, disposition).await
    }
}
