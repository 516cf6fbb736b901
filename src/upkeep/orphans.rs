//! Orphans: messages that are stored and that nobody will ever be given. Everything that lies in a work queue
//! is pending, waits for an acknowledgement, or is parked under a schedule; what is left over is covered by
//! no consumer's filter, was given up after a consumer's `max_deliver`, or was acknowledged and not deleted.
//!
//! Until NATS 2.10: the last of these happens when a server is killed.
//!
//! No one answer of the broker's has all these figures, so each look asks for the stream, its consumers, and
//! the stream again:
//!
//! ```text
//!   stored ≤ X ── consumers and scheduled messages ── stored ≤ X     X: the last sequence before
//! ```
//!
//! Messages that lie there at the end and are no newer than X were there all the time, also while the
//! consumers were counted: those that neither they nor the schedules know are orphans. How many of the
//! messages at the end are newer is not known, but that they are no more than arrived: so a look yields a
//! least and a most, which are the same where nothing arrived. The figure that is shown changes only when a
//! look contradicts it.
//!
//! In a stream with another retention settled messages stay, and nothing in it counts as an orphan.

mod tally;

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    broker::{
        consumer::Bound,
        jetstream::{ApiError, ConsumerInfo, JetStream, StreamInfo, call::Details},
    },
    message::names::Names,
};

use tally::{Reading, SETTLED, Tally};

/// Scheduled messages are counted by the broker one by one: so many times longer than that took it has rest.
const REST: u32 = 100;
/// Messages that the consumer is through with are fetched one by one, and no more than these.
const MOST: u64 = 20;
/// Behind all subjects that a stream can have: an answer from there on lists none, and says how many there
/// are.
const BEHIND_ALL: u64 = u32::MAX as u64;

/// The orphans of one queue.
#[derive(Debug, Default)]
pub(crate) struct Orphans {
    /// When it was looked for them first.
    began: Option<Instant>,
    queue: Tally,
    retries: Tally,
    looked: Option<Instant>,
    /// The floor of the queue's only consumer at the last reading.
    floor: u64,
    /// Whether something lies among the retries that no consumer knows.
    scheduled: bool,
    /// When the scheduled messages may be counted again.
    rested: Option<Instant>,
}

impl Orphans {
    /// How many there are in the queue and among its retries.
    ///
    /// # Errors
    /// Where the broker does not answer one of the questions.
    pub async fn count(
        &mut self,
        jetstream: &JetStream,
        names: &Names,
        fresh: &Bound,
    ) -> Result<u64, ApiError> {
        if self.looked.is_none_or(|at| at.elapsed() >= SETTLED) {
            if let Some(reading) = read_queue(jetstream, fresh, &mut self.floor).await? {
                let now = self.now();
                self.queue.add(&reading, now);
            }
            self.count_retries(jetstream, names).await?;
            self.looked = Some(Instant::now());
        }
        Ok(self.queue.shown + self.retries.shown)
    }

    fn now(&mut self) -> Duration {
        self.began.get_or_insert_with(Instant::now).elapsed()
    }

    async fn count_retries(&mut self, jetstream: &JetStream, names: &Names) -> Result<(), ApiError> {
        if !self.scheduled {
            let reading = read_retries(jetstream, names, None).await?;
            self.scheduled = reading.is_some_and(|reading| reading.least() > 0);
            if !self.scheduled {
                if let Some(reading) = reading {
                    let now = self.now();
                    self.retries.add(&reading, now);
                }
                return Ok(());
            }
        }
        let began = Instant::now();
        if self.rested.is_some_and(|rested| began < rested) {
            return Ok(());
        }
        let reading = read_retries(jetstream, names, Some(&names.scheduled_subjects())).await?;
        self.rested = Some(Instant::now() + began.elapsed() * REST);
        if let Some(reading) = reading {
            self.scheduled = reading.held > 0 || reading.least() > 0;
            let now = self.now();
            self.retries.add(&reading, now);
        }
        Ok(())
    }
}

/// A look at the stream of retries and all its consumers; `None` where not all of them can be counted just
/// now. Schedules hold what lies on the subjects `held`.
async fn read_retries(
    jetstream: &JetStream,
    names: &Names,
    held: Option<&str>,
) -> Result<Option<Reading>, ApiError> {
    let details = Details { subjects_filter: held, offset: held.map(|_| BEHIND_ALL), ..Details::default() };
    let before = jetstream.stream_with(&names.retries, &details).await?;
    if !before.config.is_work_queue() {
        return Ok(None);
    }
    let list = jetstream.consumers(&names.retries).await?;
    let after = jetstream.stream(&names.retries).await?;
    // Those whose own server did not answer in time are only named.
    let all = list.consumers.len() as u64 == after.state.consumer_count;
    Ok(all.then(|| Reading { held: before.total, ..compare(&before, &list.consumers, &after) }))
}

/// A look at the queue's own stream. Where others take from it as well, it is a look at what this consumer
/// should get: the others' cannot be listed without a right that the worker does not need otherwise.
async fn read_queue(
    jetstream: &JetStream,
    fresh: &Bound,
    floor: &mut u64,
) -> Result<Option<Reading>, ApiError> {
    let before = jetstream.stream(&fresh.stream).await?;
    if !before.config.is_work_queue() {
        return Ok(None);
    }
    if before.state.consumer_count > 1 {
        return read_share(jetstream, fresh, &before).await;
    }
    let consumer = jetstream.consumer(&fresh.stream, &fresh.consumer).await?;
    let after = jetstream.stream(&fresh.stream).await?;
    if after.state.consumer_count != 1 {
        return Ok(None);
    }
    // Until NATS 2.10: 2.9.10 says that all there can be is acknowledged, once it could not read its notes
    // about a consumer.
    let reached = consumer.ack_floor.stream_seq;
    let reached = if reached > after.state.last_seq { 0 } else { reached };
    // One that was made anew begins anew.
    let through = std::mem::replace(floor, reached).min(reached);
    let first = after.state.first_seq;
    let passed = if (1..=through).contains(&first) {
        stored_up_to(jetstream, &fresh.stream, first, through).await?
    } else {
        0
    };
    Ok(Some(Reading { passed, ..compare(&before, std::slice::from_ref(&consumer), &after) }))
}

/// How many messages are stored from one sequence to another, up to [`MOST`].
async fn stored_up_to(jetstream: &JetStream, stream: &str, first: u64, last: u64) -> Result<u64, ApiError> {
    let mut next = first;
    for found in 0..MOST {
        let Some(stored) = jetstream.next_stored(stream, ">", next).await? else { return Ok(found) };
        next = stored.sequence.saturating_add(1);
        if next > last.saturating_add(1) {
            return Ok(found);
        }
    }
    Ok(MOST)
}

/// Subjects are counted within the two looks at the stream, so that nothing that they count and that is new
/// is overlooked.
async fn read_share(
    jetstream: &JetStream,
    fresh: &Bound,
    before: &StreamInfo,
) -> Result<Option<Reading>, ApiError> {
    let consumer = jetstream.consumer(&fresh.stream, &fresh.consumer).await?;
    let filters = consumer.config.filters();
    let Some(stored) = stored(jetstream, &fresh.stream, &filters).await? else { return Ok(None) };
    let consumer = jetstream.consumer(&fresh.stream, &fresh.consumer).await?;
    let Some(still_stored) = self::stored(jetstream, &fresh.stream, &filters).await? else { return Ok(None) };
    let after = jetstream.stream(&fresh.stream).await?;
    let reading = compare(before, std::slice::from_ref(&consumer), &after);
    Ok(Some(Reading { before: stored, after: still_stored, ..reading }))
}

/// How many messages lie on these subjects; `None` where they are more than the broker puts on a page.
async fn stored(jetstream: &JetStream, stream: &str, filters: &[&str]) -> Result<Option<u64>, ApiError> {
    let mut messages = 0;
    for filter in filters {
        let details = Details { subjects_filter: Some(filter), ..Details::default() };
        let page = jetstream.stream_with(stream, &details).await?;
        if page.total > page.state.subjects.len() as u64 {
            return Ok(None);
        }
        messages += page.state.subjects.values().sum::<u64>();
    }
    Ok(Some(messages))
}

fn compare(before: &StreamInfo, consumers: &[ConsumerInfo], after: &StreamInfo) -> Reading {
    let sum = |figure: fn(&ConsumerInfo) -> u64| consumers.iter().map(figure).fold(0, u64::saturating_add);
    let last = after.state.last_seq;
    Reading {
        before: before.state.messages,
        after: after.state.messages,
        arrived: last.saturating_sub(before.state.last_seq),
        known: sum(ConsumerInfo::unsettled),
        held: 0,
        moved: last.saturating_add(sum(|consumer| consumer.delivered.consumer_seq)),
        passed: 0,
    }
}
