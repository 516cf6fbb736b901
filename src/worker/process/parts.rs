//! The parts of a worker.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{Chance, News};
use crate::{
    broker::{audit::writer::Audit, pauses::Paused, seam::Broker, standby::Standby},
    flow::{
        calls::{Begun, Calls},
        gate::Gate,
    },
    message::{call::InHand, decode::Invocation, form::Form},
    observe::{metrics::Metrics, trace::Tracer},
    outbound::{
        callback::Callbacks,
        lookup::{Annotations, Lookup},
    },
    retry::{disposition::Terms, policy::RetryPolicy},
    worker::delivery::{Delivery, settle::Settle},
};

/// The worker of one queue. Cheap to clone.
#[derive(Debug)]
pub struct Worker<B, G>(pub(super) Arc<Parts<B, G>>);

/// The parts of a worker.
#[derive(Debug)]
pub struct Parts<B, G> {
    /// Carries dispositions out.
    pub settle: Settle<B>,
    /// The form of the queue's messages.
    pub form: Form,
    /// Where functions answer.
    pub gateway: G,
    /// How invocations are retried unless they say otherwise.
    pub policy: RetryPolicy,
    /// Finds what a function says about that where its messages do not.
    pub lookup: Lookup,
    /// Posts callbacks.
    pub callbacks: Callbacks,
    /// What is paused.
    pub paused: Paused,
    /// Says "not now".
    pub gate: Gate,
    /// Where things are counted.
    pub metrics: Metrics,
    /// Tells which failures are news.
    pub news: News,
    /// Makes traces.
    pub tracer: Tracer,
    /// The wall clock and the dice.
    pub chance: Chance,
    /// This worker's name in histories.
    pub name: String,
    /// Where it is told what became of calls.
    pub audit: Audit,
    /// The calls that run.
    pub calls: Calls<InHand>,
    /// Cuts running calls off, at the end of a drain's grace.
    pub cut: CancellationToken,
}

/// The facts about a call, beside its delivery.
pub(super) struct CallContext<'a> {
    pub(super) invocation: &'a Invocation,
    pub(super) call_id: &'a str,
    pub(super) annotations: &'a Annotations,
    pub(super) policy: RetryPolicy,
    /// Its place among the calls that run.
    pub(super) begun: &'a Begun<InHand>,
}

impl<B, G> Clone for Worker<B, G> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B: Broker, G> Worker<B, G> {
    /// A worker of these parts.
    pub fn new(parts: Parts<B, G>) -> Self {
        Self(Arc::new(parts))
    }

    /// The broker.
    pub fn broker(&self) -> &B {
        &self.0.settle.broker
    }

    /// The form of the queue's messages.
    pub fn form(&self) -> &Form {
        &self.0.form
    }

    /// The settlements that wait for the broker.
    pub fn standby(&self) -> &Standby {
        &self.0.settle.standby
    }

    /// The terms on which a delivery is disposed of.
    pub(super) fn terms(&self, delivery: &Delivery<B>) -> Terms {
        let Parts { settle, policy, .. } = &*self.0;
        if delivery.is_stored() {
            Terms::stored(settle.dead_letters, delivery.delivered(), &policy.backoff)
        } else {
            Terms::not_stored(settle.dead_letters)
        }
    }

    /// The time since a delivery's invocation first arrived.
    pub(super) fn age(&self, delivery: &Delivery<B>) -> Duration {
        delivery.age(self.broker().now())
    }
}
