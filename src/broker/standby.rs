//! Settlements that wait for the broker: a stream is full, its leader is gone, a right is missing, an answer
//! does not come.
//!
//! An outcome that is known stays known for as long as the lease is prolonged, and is asked for room again
//! and again. It must not keep others from being called meanwhile, so after a moment it gives its permit back
//! and stands by. Settlements that stand by take memory here and places among the consumer's unacknowledged
//! messages, so there is a bound: once it is reached the queue takes no more messages, and the worker is
//! not ready. The other queues of the process go on.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::{broker::seam::BrokerError, observe::metrics::Metrics};

/// A broker that is well answers within this time. Whoever waits longer stands by.
pub(crate) const MOMENT: Duration = Duration::from_secs(1);
/// So many may stand by in a queue: far below the 10,000 that a consumer may have unacknowledged, over all
/// workers.
const MOST: usize = 1_000;
/// And so many bytes in a process, an eighth of the memory that the chart gives it.
const MOST_BYTES: usize = 64 << 20;
/// Each pauses for so long times their number between two tries: all together they ask a hundred times a
/// second.
const APART: Duration = Duration::from_millis(10);
/// How often it is said why.
const AGAIN: Duration = Duration::from_secs(60);
/// The most different reasons that are said in that time.
const MOST_REASONS: usize = 16;

/// The settlements of one queue that stand by. Cheap to clone; the clones agree.
#[derive(Debug, Clone)]
pub struct Standby(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: String,
    metrics: Metrics,
    most: AtomicUsize,
    most_bytes: usize,
    waiting: Mutex<BTreeMap<u64, Waiting>>,
    /// Whether there is room for more.
    room: watch::Sender<bool>,
    said: Mutex<BTreeMap<String, Instant>>,
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    bytes: usize,
}

/// A settlement that stands by, until this is dropped.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    standby: &'a Standby,
    number: u64,
}

impl Standby {
    /// None stand by yet. The process has so many `queues`, which share its memory.
    pub fn new(queue: &str, metrics: Metrics, queues: usize) -> Self {
        Self(Arc::new(Shared {
            queue: queue.to_owned(),
            metrics,
            most: AtomicUsize::new(MOST),
            most_bytes: MOST_BYTES / queues.max(1),
            waiting: Mutex::default(),
            room: watch::Sender::new(true),
            said: Mutex::default(),
        }))
    }

    /// A consumer lets so many of its messages be unacknowledged. Those that stand by take half of them at
    /// most, so that the bound is met here, where it is seen, and not there.
    pub(crate) fn leave_room(&self, max_ack_pending: usize) {
        self.0.most.fetch_min((max_ack_pending / 2).max(1), Ordering::Relaxed);
    }

    /// One more stands by.
    pub(crate) fn enter(&self, bytes: usize) -> Place<'_> {
        let mut waiting = self.waiting();
        let number = waiting.last_key_value().map_or(0, |(last, _)| last + 1);
        waiting.insert(number, Waiting { since: Instant::now(), bytes });
        self.count(&waiting);
        Place { standby: self, number }
    }

    /// Waits until there is room for what may come of another message.
    pub(crate) async fn room(&self) {
        // The sender is in here.
        let _ = self.0.room.subscribe().wait_for(|room| *room).await;
    }

    /// Whether there is room, and else why the queue takes no more messages.
    ///
    /// # Errors
    /// The reason, which everybody may read.
    pub fn ready(&self) -> Result<(), String> {
        if *self.0.room.borrow() {
            return Ok(());
        }
        let messages = self.waiting().len();
        Err(format!(
            "queue {}: NATS does not store what follows from {messages} messages, and no more are taken \
                meanwhile",
            self.0.queue
        ))
    }

    /// How long the oldest has waited, with the moment before it was counted.
    pub(crate) fn oldest(&self) -> Duration {
        self.waiting().first_key_value().map(|(_, first)| first.since.elapsed() + MOMENT).unwrap_or_default()
    }

    /// What those that stand by pause for besides.
    pub(crate) async fn stand_apart(&self) {
        let messages = u32::try_from(self.waiting().len()).unwrap_or(u32::MAX);
        sleep(APART.saturating_mul(messages)).await;
    }

    /// The broker did not do it, for this reason. It is said at once, and each minute for as long as it
    /// lasts.
    pub(crate) fn refused(&self, reason: &BrokerError) {
        let reason = reason.to_string();
        let now = Instant::now();
        let mut said = self.0.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.retain(|_, at| now.duration_since(*at) < AGAIN);
        if said.contains_key(&reason) || said.len() >= MOST_REASONS {
            return;
        }
        let oldest = self.oldest().as_secs_f64();
        let unsettled = self.waiting().len();
        tracing::warn!(
            queue = self.0.queue,
            reason,
            unsettled,
            oldest,
            "the broker does not take what follows from messages; it is asked again, and none of them is \
                called again meanwhile"
        );
        said.insert(reason, now);
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<u64, Waiting>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, waiting: &BTreeMap<u64, Waiting>) {
        let bytes: usize = waiting.values().map(|waiting| waiting.bytes).sum();
        let room = waiting.len() < self.0.most.load(Ordering::Relaxed) && bytes < self.0.most_bytes;
        self.0.room.send_if_modified(|before| std::mem::replace(before, room) != room);
        self.0.metrics.set_unsettled(waiting.len());
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = self.standby.waiting();
        waiting.remove(&self.number);
        self.standby.count(&waiting);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::time::advance;

    use super::*;
    use crate::observe::metrics::Registry;

    fn standby(queues: usize) -> (Registry, Standby) {
        let registry = Registry::new("openfaas-fn").unwrap();
        let metrics = registry.queue("q").unwrap();
        (registry, Standby::new("q", metrics, queues))
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_stand_by_are_counted_and_the_oldest_is_known() {
        let (registry, standby) = standby(1);
        let shows =
            |n| registry.render().contains(&format!("\nqueue_worker_unsettled{{queue_name=\"q\"}} {n}\n"));
        assert!(shows(0) && standby.oldest().is_zero());
        let first = standby.enter(1);
        advance(Duration::from_secs(9)).await;
        let second = standby.enter(1);
        assert!(shows(2));
        assert_eq!(standby.oldest(), Duration::from_secs(10));
        drop(first);
        assert_eq!((shows(1), standby.oldest()), (true, MOMENT));
        drop(second);
        assert!(shows(0) && standby.oldest().is_zero());
    }

    #[tokio::test]
    async fn there_is_an_end_to_their_number_and_then_the_queue_is_not_ready() {
        let (_, standby) = standby(1);
        let mut places: Vec<_> = (1..MOST).map(|_| standby.enter(1)).collect();
        assert!(standby.ready().is_ok());
        assert!(standby.room().now_or_never().is_some());
        places.push(standby.enter(1));
        assert!(
            standby
                .ready()
                .unwrap_err()
                .starts_with("queue q: NATS does not store what follows from 1000 messages")
        );
        let mut room = Box::pin(standby.room());
        assert!((&mut room).now_or_never().is_none());
        places.pop();
        assert!(room.now_or_never().is_some());
        assert!(standby.ready().is_ok());
    }

    #[tokio::test]
    async fn there_is_an_end_to_their_bytes_which_the_queues_of_a_process_share() {
        for (queues, most) in [(1, MOST_BYTES), (4, MOST_BYTES / 4)] {
            let (_, standby) = standby(queues);
            let _first = standby.enter(most - 1);
            assert!(standby.ready().is_ok());
            let _second = standby.enter(1);
            assert!(standby.ready().is_err());
        }
    }

    #[tokio::test]
    async fn half_of_what_the_consumer_lets_be_unacknowledged_is_left_to_calls() {
        let (_, standby) = standby(1);
        standby.leave_room(usize::MAX);
        standby.leave_room(8);
        standby.leave_room(1_000);
        let _places: Vec<_> = (0..3).map(|_| standby.enter(1)).collect();
        assert!(standby.ready().is_ok());
        let _fourth = standby.enter(1);
        assert!(standby.ready().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reason_is_said_once_a_minute_and_there_is_an_end_to_the_reasons() {
        let (_, standby) = standby(1);
        let _place = standby.enter(1);
        let said = |standby: &Standby| standby.0.said.lock().unwrap().values().copied().collect::<Vec<_>>();
        let refused = |reason: String| standby.refused(&BrokerError::Refused(reason));
        let began = Instant::now();
        refused("full".to_owned());
        advance(AGAIN / 2).await;
        refused("full".to_owned());
        assert_eq!(said(&standby), [began]);
        advance(AGAIN / 2).await;
        refused("full".to_owned());
        assert_eq!(said(&standby), [began + AGAIN]);
        (0..2 * MOST_REASONS).for_each(|n| refused(n.to_string()));
        assert_eq!(said(&standby).len(), MOST_REASONS);
    }

    #[tokio::test(start_paused = true)]
    async fn the_more_there_are_the_longer_each_pauses() {
        let (_, standby) = standby(1);
        let places: Vec<_> = (0..200).map(|_| standby.enter(1)).collect();
        let began = Instant::now();
        standby.stand_apart().await;
        assert_eq!(began.elapsed(), Duration::from_secs(2));
        drop(places);
    }
}
