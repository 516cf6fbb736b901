//! The questions before a call, or a callback's POST, may start: whether it is paused, the interruptions
//! before it, its age, and the gate.

use std::{ops::ControlFlow, time::SystemTime};

use super::{CallContext, Worker};
use crate::{
    broker::seam::Broker,
    flow::gate::NotNow,
    message::posting::Posting,
    outbound::invoke::Gateway,
    retry::{
        disposition::Disposition,
        interruption::{self, Interrupted},
        judge::Cause,
    },
    worker::delivery::{Delivery, lease::LeaseLost, settle::Settled},
};

impl<B: Broker, G: Gateway> Worker<B, G> {
    /// Gives a delivery back whose call may start. `now` is the broker's.
    pub(super) async fn may_call(
        &self,
        mut delivery: Delivery<B>,
        context: &CallContext<'_>,
        mut now: SystemTime,
    ) -> Result<ControlFlow<Settled, Delivery<B>>, LeaseLost> {
        if context.begun.is_cancelled() || delivery.envelope().cancelled.is_some() {
            return Box::pin(self.cancelled(delivery, context)).await.map(ControlFlow::Break);
        }
        if self.0.paused.holds(&context.invocation.function) {
            if delivery.was_abandoned() {
                delivery.count_interruption();
            }
            return Box::pin(self.hold(delivery)).await.map(ControlFlow::Break);
        }
        if delivery.was_abandoned() {
            let interruptions = delivery.count_interruption();
            if interruption::judge(interruptions) == Interrupted::GiveUp {
                let ended = Box::pin(self.end(delivery, context, Some(Cause::Interrupted), None)).await;
                return ended.map(ControlFlow::Break);
            }
            tracing::warn!(
                callId = context.call_id,
                function = context.invocation.function.as_str(),
                interruptions,
                "Interrupted: the worker that had this call died or lost its lease; it is made again"
            );
            delivery = match Box::pin(self.0.settle.make_again(delivery)).await? {
                ControlFlow::Continue(delivery) => delivery,
                settled @ ControlFlow::Break(_) => return Ok(settled),
            };
            now = self.broker().now();
        }
        if context.policy.is_expired(delivery.age(now)) {
            let ended = Box::pin(self.end(delivery, context, Some(Cause::Expired), None)).await;
            return ended.map(ControlFlow::Break);
        }
        self.pass(delivery).await
    }

    /// Holds a delivery whose function is paused. Nothing is begun and nothing ends while that lasts: neither
    /// its age nor its interruptions give it up.
    pub(super) async fn hold(&self, delivery: Delivery<B>) -> Result<Settled, LeaseLost> {
        let held = self.terms(&delivery).hold();
        self.0.settle.settle(delivery, held).await
    }

    /// Gives a delivery back whose callback may be posted.
    pub(super) async fn may_post(
        &self,
        mut delivery: Delivery<B>,
        posting: &Posting,
    ) -> Result<ControlFlow<Settled, Delivery<B>>, LeaseLost> {
        if delivery.was_abandoned() {
            let interruptions = delivery.count_interruption();
            if interruption::judge(interruptions) == Interrupted::GiveUp {
                let error = "its workers died while they posted it";
                delivery.envelope_mut().last_error = Some(error.to_owned());
                self.0.metrics.callback("failed");
                let disposition = self.terms(&delivery).give_up(Cause::Callback);
                return self.0.settle.settle(delivery, disposition).await.map(ControlFlow::Break);
            }
            tracing::warn!(
                callId = posting.call_id,
                function = posting.function.as_str(),
                interruptions,
                "Interrupted: the worker that had this callback died or lost its lease; it is posted again"
            );
            delivery = match Box::pin(self.0.settle.make_again(delivery)).await? {
                ControlFlow::Continue(delivery) => delivery,
                settled @ ControlFlow::Break(_) => return Ok(settled),
            };
        }
        self.pass(delivery).await
    }

    /// Gives a delivery back that the gate lets pass.
    async fn pass(&self, delivery: Delivery<B>) -> Result<ControlFlow<Settled, Delivery<B>>, LeaseLost> {
        match self.0.gate.pass(delivery.is_suspect()).await {
            Ok(pass) => {
                delivery.seat().keep(pass);
                Ok(ControlFlow::Continue(delivery))
            }
            Err(NotNow(wait)) => {
                let handing_back = self.0.settle.settle(delivery, Disposition::hand_back(wait));
                Box::pin(handing_back).await.map(ControlFlow::Break)
            }
        }
    }
}
