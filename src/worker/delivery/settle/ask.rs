//! Asks the broker: under the lease, and until it answers.

use std::{future::Future, time::Duration};

use tokio::time::timeout;

use super::Settle;
use crate::{
    broker::{
        seam::{Broker, BrokerError},
        standby::MOMENT,
    },
    tasks::error_backoff::ErrorBackoff,
    worker::delivery::{Delivery, lease::LeaseLost},
};

/// The pause before a broker that did not answer is asked again, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

impl<B: Broker> Settle<B> {
    /// Asks until there is an answer: a known outcome is what has to become durable, and until then the
    /// function is not called again. A delivery that gets no answer in a moment gives its permit back and
    /// waits on.
    pub(super) async fn ask<T, F>(
        &self,
        delivery: &Delivery<B>,
        question: impl FnMut() -> F,
    ) -> Result<T, LeaseLost>
    where
        F: Future<Output = Result<T, BrokerError>>,
    {
        let mut answered = std::pin::pin!(self.answered(delivery, question));
        if let Ok(answer) = timeout(MOMENT, &mut answered).await {
            return answer;
        }
        let _place = self.standby.enter(delivery.bytes);
        delivery.seat.leave();
        answered.await
    }

    /// The answer, however often it takes to ask. The lease is looked at before each try, so that a stale
    /// holder writes nothing.
    async fn answered<T, F>(
        &self,
        delivery: &Delivery<B>,
        mut question: impl FnMut() -> F,
    ) -> Result<T, LeaseLost>
    where
        F: Future<Output = Result<T, BrokerError>>,
    {
        let mut pause = ErrorBackoff::new(PAUSE);
        loop {
            if !delivery.lease.holds() {
                return Err(LeaseLost);
            }
            match question().await {
                Ok(answer) => return Ok(answer),
                Err(error) => self.standby.refused(&error),
            }
            pause.rest().await;
            self.standby.stand_apart().await;
        }
    }
}
