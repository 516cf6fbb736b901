//! The time for which a delivery is this worker's alone.
//!
//! The broker delivers a message again when it has heard nothing of it for `ack_wait`. Its clock started no
//! earlier than this process asked for the message, and starts again no earlier than an in-progress ack that
//! it confirmed was sent; so the lease is counted from those two moments, on the local monotonic clock. It is
//! given up a margin before its end: by then the call's connection is closed and nothing more is sent,
//! because a late heartbeat would prolong the next holder's lease.

use std::{
    future::Future,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::broker::{
    pulled::AckWait,
    seam::{Ack, Broker},
};

/// The lease has ended, or is about to: another worker may hold the message now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the lease ended")]
pub struct LeaseLost;

/// A delivery's lease.
#[derive(Debug)]
pub struct Lease<B> {
    broker: B,
    /// The subject of the delivery's acknowledgement.
    pub(super) reply: String,
    ack_wait: AckWait,
    /// When the broker's ack clock started at the earliest.
    since: Mutex<Instant>,
}

impl<B: Broker> Lease<B> {
    /// The lease of what was just delivered, and was `asked` for then.
    pub fn new(broker: &B, reply: String, ack_wait: AckWait, asked: Instant) -> Self {
        Self { broker: broker.clone(), reply, ack_wait, since: Mutex::new(asked) }
    }

    /// A tenth of `ack_wait`, but a second where that leaves three quarters of it.
    fn margin(&self) -> Duration {
        let ack_wait = self.ack_wait.now();
        (ack_wait / 10).max(Duration::from_secs(1).min(ack_wait / 4))
    }

    fn since(&self) -> Instant {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When this worker lets go, unless it can prolong the lease before.
    pub fn end(&self) -> Instant {
        self.since() + self.ack_wait.now() - self.margin()
    }

    /// Whether the delivery is still this worker's alone. Asked before each thing that is written about it.
    pub fn holds(&self) -> bool {
        Instant::now() < self.end()
    }

    /// Returns once the broker has confirmed the lease so lately that the next heartbeat is not due: before
    /// that a heartbeat was not answered, and a call that begins may be over without anybody who hears of it.
    /// For `work` of [`keep`](Self::keep), which ends it.
    pub async fn fresh(&self) {
        while Instant::now() >= self.since() + self.ack_wait.now() / 3 {
            if !self.prolong().await {
                sleep(self.pause()).await;
            }
        }
    }

    /// Does `work` under the lease, and prolongs the lease meanwhile.
    ///
    /// # Errors
    /// [`LeaseLost`] as soon as it cannot be prolonged; `work` is dropped then.
    pub async fn keep<T>(&self, work: impl Future<Output = T>) -> Result<T, LeaseLost> {
        let mut work = std::pin::pin!(work);
        let mut heartbeats = std::pin::pin!(self.heartbeats());
        tokio::select! {
            biased;
            () = &mut heartbeats => Err(LeaseLost),
            done = &mut work => Ok(done),
        }
    }

    /// Prolongs the lease each third of `ack_wait`, and returns when it is over. One that becomes shorter
    /// meanwhile is prolonged at once, if it still holds.
    async fn heartbeats(&self) {
        let mut ack_wait = self.ack_wait.clone();
        let mut next = self.since() + ack_wait.now() / 3;
        loop {
            tokio::select! {
                biased;
                () = sleep_until(next.min(self.end())) => {}
                () = ack_wait.changed() => {
                    next = next.min(self.since() + ack_wait.now() / 3);
                    continue;
                }
            }
            if !self.holds() {
                return;
            }
            next = if self.prolong().await {
                self.since() + ack_wait.now() / 3
            } else {
                Instant::now() + self.pause()
            };
        }
    }

    /// Whether the broker confirms a heartbeat before the lease ends.
    async fn prolong(&self) -> bool {
        let sent = Instant::now();
        let answer =
            timeout_at(self.end(), self.broker.acknowledge(&self.reply, Ack::InProgress, true, &|| ())).await;
        let confirmed = matches!(answer, Ok(Ok(())));
        if confirmed {
            let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
            *since = sent.max(*since);
        }
        confirmed
    }

    /// How long to wait after a heartbeat that was not confirmed.
    fn pause(&self) -> Duration {
        (self.ack_wait.now() / 30).min(Duration::from_millis(500))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::SystemTime,
    };

    use async_nats::HeaderMap;

    use super::*;
    use crate::{broker::seam::BrokerError, message::record::Record};

    /// A broker that confirms so many heartbeats and then falls silent.
    #[derive(Debug, Clone)]
    struct Confirms(Arc<AtomicUsize>);

    impl Broker for Confirms {
        async fn publish(&self, _: &Record) -> Result<(), BrokerError> {
            Ok(())
        }

        async fn place(&self, _: &Record) -> Result<(), BrokerError> {
            Ok(())
        }

        async fn acknowledge(
            &self,
            _: &str,
            ack: Ack,
            confirmed: bool,
            _: &(dyn Fn() + Sync),
        ) -> Result<(), BrokerError> {
            assert_eq!((ack, confirmed), (Ack::InProgress, true));
            let left = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            left.map(|_| ()).map_err(|_| BrokerError::Unavailable("silent".into()))
        }

        async fn last(&self, _: &str, _: &str) -> Result<Option<String>, BrokerError> {
            Ok(None)
        }

        async fn taken_as(&self, _: &str, _: &str, _: &[String]) -> Result<Vec<Option<u64>>, BrokerError> {
            Ok(Vec::new())
        }

        async fn newest(&self, _: &str) -> Result<Option<SystemTime>, BrokerError> {
            Ok(None)
        }

        async fn headers(&self, _: &str, _: u64) -> Result<Option<HeaderMap>, BrokerError> {
            Ok(None)
        }

        fn now(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH
        }

        fn now_at_least(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH
        }

        fn max_payload(&self) -> usize {
            0
        }
    }

    fn lease(heartbeats: usize, ack_wait: Duration) -> Lease<Confirms> {
        let confirms = Confirms(Arc::new(AtomicUsize::new(heartbeats)));
        Lease::new(&confirms, String::new(), ack_wait.into(), Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_prolonged_outlasts_ack_wait() {
        let lease = lease(usize::MAX, Duration::from_secs(6));
        assert_eq!(lease.keep(sleep(Duration::from_secs(60))).await, Ok(()));
        assert!(lease.holds());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_not_prolonged_is_given_up_before_the_broker_does() {
        let began = Instant::now();
        let lease = lease(1, Duration::from_secs(6));
        // The one heartbeat goes out after two seconds; the margin is one second.
        assert_eq!(lease.keep(std::future::pending::<()>()).await, Err(LeaseLost));
        assert_eq!(began.elapsed().as_secs_f64().round(), 7.0);
        assert!(!lease.holds());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_fresh_while_its_heartbeats_are_confirmed_and_not_without() {
        let seconds = Duration::from_secs;
        for (heartbeats, waited, starts) in [(0, 1, true), (0, 3, false), (1, 3, true), (1, 5, false)] {
            let lease = lease(heartbeats, seconds(6));
            let began = async {
                sleep(seconds(waited)).await;
                lease.fresh().await;
            };
            assert_eq!(lease.keep(began).await.is_ok(), starts, "{heartbeats} heartbeats, {waited} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_follows_the_ack_wait_that_its_consumer_gets_meanwhile() {
        let (seconds, confirms) = (Duration::from_secs, Confirms(Arc::new(AtomicUsize::new(1))));
        for (after, ack_wait, ends) in
            [(10, 12, 10 + 11), (10, 5, 10), (10, 600, 20 + 540), (30, 12, 20 + 11)]
        {
            confirms.0.store(1, Ordering::Relaxed);
            let changed = tokio::sync::watch::Sender::new(seconds(60));
            let began = Instant::now();
            let lease = Lease::new(&confirms, String::new(), (&changed).into(), began);
            let change = async {
                sleep(seconds(after)).await;
                changed.send_replace(seconds(ack_wait));
                std::future::pending::<()>().await
            };
            // One heartbeat is confirmed: the one that follows from the change, or the one after 20 s.
            assert_eq!(lease.keep(change).await, Err(LeaseLost));
            assert_eq!(began.elapsed().as_secs_f64().round() as u64, ends, "{ack_wait} s after {after} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_margin_is_a_tenth_but_a_second_where_there_is_room() {
        for (ack_wait, margin) in [(60_000, 6_000), (5_000, 1_000), (2_000, 500), (1_000, 250)] {
            let lease = lease(0, Duration::from_millis(ack_wait));
            assert_eq!(lease.end() - Instant::now(), Duration::from_millis(ack_wait - margin));
        }
    }
}
