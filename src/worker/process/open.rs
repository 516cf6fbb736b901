//! Opens a delivery: reads what is in it, under its lease, and gives it its names.

use std::sync::Arc;

use super::Worker;
use crate::{
    broker::seam::Broker,
    flow::memory::Share,
    message::decode::Undecodable,
    outbound::invoke::Gateway,
    tasks::heavy,
    worker::delivery::{Content, Delivery, lease::LeaseLost},
};

/// Whose delivery it is, as far as that is known, for the line that says what became of it.
pub(super) struct Whose {
    pub(super) call_id: Option<Arc<str>>,
    pub(super) function: Option<Arc<str>>,
}

impl Whose {
    pub(super) fn of<B: Broker>(delivery: &Delivery<B>) -> Self {
        let message = delivery.message();
        Self { call_id: message.call_id.clone(), function: message.function_name.clone() }
    }
}

impl<B: Broker, G: Gateway> Worker<B, G> {
    /// Reads what is in a delivery. A message that is large when it is unpacked waits for room, if it
    /// `stays`, and is read beside the loop.
    pub(super) async fn read(
        &self,
        delivery: &mut Delivery<B>,
        stays: bool,
    ) -> Result<(Result<Content, Undecodable>, Share), LeaseLost> {
        let (lease, bytes) = (delivery.lease(), delivery.message().unpacked());
        let mut share = self.0.callbacks.room.share();
        if bytes <= heavy::LARGE {
            return Ok((delivery.open(), share));
        }
        let reading = async {
            if stays {
                // Where there is none for long it goes on all the same: a message cannot be read in part.
                share.grow(bytes).await;
            }
            delivery.open_beside().await
        };
        let read = Box::pin(lease.keep(reading)).await?;
        Ok((read, share))
    }

    /// Gives a delivery that was read a call id if it has none, and begins its part of the trace.
    pub(super) fn begin(
        &self,
        delivery: &mut Delivery<B>,
        opened: Result<Content, Undecodable>,
    ) -> Result<Content, Undecodable> {
        let invocation = match &opened {
            Ok(Content::Invocation(invocation)) => Some(&**invocation),
            _ => None,
        };
        let queue = &self.0.settle.names.queue;
        delivery.trace_begins(&self.0.tracer, queue, invocation, || self.broker().now());
        if invocation.is_some() {
            delivery.identify();
        }
        opened
    }
}
