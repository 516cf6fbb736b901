//! The queue's depth as the broker knows it: the same figures from every replica, as autoscalers want them.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;

use crate::{
    broker::{
        consumer::Bound,
        jetstream::{ApiError, ConsumerInfo, JetStream, StreamInfo, call::Details, if_stream},
        levels::list,
        pauses::Paused,
        seam::Broker,
        standby::Standby,
    },
    message::{
        form::Form,
        names::{DUE_CONSUMER, Names},
    },
    observe::metrics::{Backlogs, Depth, MOST_NAMES, Metrics},
    upkeep::orphans::Orphans,
};

/// How many pages of subjects are asked for at most; the broker puts 100,000 on one.
const PAGES: usize = 4;

/// The gauges of every queue that was made ready. Cheap to clone; the clones agree.
#[derive(Debug, Clone, Default)]
pub struct Gauges(Arc<Mutex<Vec<Gauge>>>);

/// Where the depth of one queue is read, and where it is shown.
#[derive(Debug, Clone)]
pub(crate) struct Gauge {
    /// The broker.
    pub jetstream: JetStream,
    /// The queue's names.
    pub names: Names,
    /// The form of its messages.
    pub form: Form,
    /// The consumer of fresh invocations.
    pub fresh: Bound,
    /// The filter of that consumer, if the wildcards in it stand for functions.
    pub functions: Option<String>,
    /// Whether there is a stream of dead letters.
    pub dead_letters: bool,
    /// The queue's metrics.
    pub metrics: Metrics,
    /// The settlements that wait for the broker.
    pub standby: Standby,
    /// What is paused of it, and how much is held.
    pub paused: Paused,
    /// The messages that nobody gets.
    pub orphans: Arc<tokio::sync::Mutex<Orphans>>,
    /// Whether there is an audit.
    pub audit: bool,
}

impl Gauges {
    /// Reads this queue from now on, in the place of what was read of it before.
    pub(crate) fn set(&self, gauge: Gauge) {
        let mut gauges = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        gauges.retain(|other| other.names.queue != gauge.names.queue);
        gauges.push(gauge);
    }

    /// Brings them all up to date. A queue whose figures cannot be had keeps its last ones, but for those
    /// that would say that all is well; and it holds up no other.
    pub(crate) async fn refresh(self) {
        let gauges = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        join_all(gauges.iter().map(Gauge::refresh)).await;
    }
}

impl Gauge {
    async fn refresh(&self) {
        self.metrics.set_unsettled_oldest(self.standby.oldest());
        // Whoever stops waiting for the answers shows none.
        self.metrics.set_oldest_pending(None);
        self.metrics.set_orphaned(None);
        self.metrics.set_audit_oldest(None);
        if let Err(error) = self.show().await {
            self.metrics.set_overdue(None);
            tracing::debug!(queue = self.names.queue, %error, "the queue's depth is not known");
        }
    }

    async fn show(&self) -> Result<(), ApiError> {
        let (depth, oldest) = self.read().await?;
        self.metrics.set_depth(depth);
        self.metrics.set_oldest_pending(Some(oldest));
        if self.audit {
            self.metrics.set_audit_oldest(self.audited().await?);
        }
        let orphans = self.orphans.lock().await.count(&self.jetstream, &self.names, &self.fresh).await?;
        self.metrics.set_orphaned(Some(orphans));
        Ok(())
    }

    /// How much there is, and the age of the oldest message that waits for a worker. Fails where the broker
    /// does not answer one of the questions.
    async fn read(&self) -> Result<(Depth, Duration), ApiError> {
        let names = &self.names;
        let consumer = self.jetstream.consumer(&self.fresh.stream, &self.fresh.consumer).await?;
        let queue = self.jetstream.stream(&names.stream).await?;
        // Only a work queue holds just what is not settled.
        let backlogs = match self.functions.as_ref().filter(|_| queue.config.is_work_queue()) {
            Some(filter) => Some(self.backlogs(filter, consumer.unsettled()).await?),
            None => None,
        };
        let due = self.jetstream.consumer(&names.retries, DUE_CONSUMER).await?;
        let oldest = self.age(&names.stream, &consumer).await?.max(self.age(&names.retries, &due).await?);
        let depth = Depth {
            pending: consumer.num_pending,
            backlogs,
            submitted: queue.state.last_seq,
            parked: self.parked(&due).await?,
            dead: if self.dead_letters {
                self.jetstream.stream(&names.dead).await?.state.messages
            } else {
                0
            },
        };
        Ok((depth, oldest))
    }

    /// The age of the oldest record of the audit, if there is one.
    async fn audited(&self) -> Result<Option<Duration>, ApiError> {
        let Some(info) = if_stream(self.jetstream.stream(&self.names.audit).await)? else { return Ok(None) };
        let first = info.state.first_ts.filter(|_| info.state.messages > 0);
        Ok(first.map(|first| self.jetstream.now().duration_since(first).unwrap_or_default()))
    }

    /// How many retries wait for their due time.
    async fn parked(&self, due: &ConsumerInfo) -> Result<u64, ApiError> {
        let retries = self.jetstream.stream(&self.names.retries).await?;
        if retries.config.allows_schedules() {
            // Nobody counts the scheduled messages; they are what is neither due nor held.
            let others = due.unsettled().saturating_add(self.paused.held());
            return Ok(retries.state.messages.saturating_sub(others));
        }
        // Until NATS 2.10: servers keep acknowledged messages after a crash, and only the consumers know
        // what is not settled.
        Ok(list(&self.jetstream, &self.names).await?.iter().map(|level| level.held).sum())
    }

    /// How much is stored of each function, page by page; what lies behind the last page that is asked for
    /// counts as what has no name. The broker does not tell a consumer's pending messages by subject.
    async fn backlogs(&self, filter: &str, all: u64) -> Result<Backlogs, ApiError> {
        let (mut backlogs, mut offset) = (Backlogs::new(), 0);
        for _ in 0..PAGES {
            let details =
                Details { subjects_filter: Some(filter), offset: Some(offset), ..Details::default() };
            let page = self.jetstream.stream_with(&self.names.stream, &details).await?;
            let read = add(&mut backlogs, &self.form, filter, &page);
            offset += read;
            if read == 0 || offset >= page.total {
                return Ok(backlogs);
            }
        }
        let named: u64 = backlogs.values().sum();
        *backlogs.entry(None).or_default() += all.saturating_sub(named);
        Ok(backlogs)
    }

    /// The age of the first message that a consumer has not delivered yet; 0 where there is none.
    async fn age(&self, stream: &str, consumer: &ConsumerInfo) -> Result<Duration, ApiError> {
        if consumer.num_pending == 0 {
            return Ok(Duration::ZERO);
        }
        // Until NATS 2.10: 2.9.10 says that it has delivered everything there can be, once it could not
        // read its notes about a consumer.
        let next = consumer.delivered.stream_seq.saturating_add(1);
        let mut oldest = Duration::ZERO;
        for filter in consumer.config.filters() {
            // A worker may have just taken the message.
            let Some(stored) = self.jetstream.next_stored(stream, filter, next).await? else { continue };
            let age = self.jetstream.now().duration_since(stored.time);
            oldest = oldest.max(age.unwrap_or_default());
        }
        Ok(oldest)
    }
}

/// Adds the subjects of a page to the backlogs, and says how many there were. Subjects are other people's
/// words: what names no function, and more functions than get a label, count together.
fn add(backlogs: &mut Backlogs, form: &Form, filter: &str, page: &StreamInfo) -> u64 {
    let subjects = &page.state.subjects;
    for (subject, messages) in subjects {
        let function = form
            .function(filter, subject)
            .filter(|function| backlogs.len() < MOST_NAMES || backlogs.contains_key(&Some(function.clone())));
        *backlogs.entry(function).or_default() += messages;
    }
    subjects.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_an_end_to_the_names_in_subjects() {
        let page = |subjects: Vec<(String, u64)>| {
            let mut page = StreamInfo::default();
            page.state.subjects = subjects.into_iter().collect();
            page
        };
        let mut backlogs = Backlogs::new();
        let many = page((0..MOST_NAMES + 5).map(|n| (format!("q.f{n:04}"), 2)).collect());
        assert_eq!(add(&mut backlogs, &Form::OpenFaas, "q.*", &many), MOST_NAMES as u64 + 5);
        assert_eq!((backlogs.len(), backlogs.get(&None)), (MOST_NAMES + 1, Some(&10)));
        let two = page(vec![("q.f0000".to_owned(), 3), ("q.new".to_owned(), 1)]);
        assert_eq!(add(&mut backlogs, &Form::OpenFaas, "q.*", &two), 2);
        assert_eq!((backlogs.get(&"f0000".parse().ok()), backlogs.get(&None)), (Some(&5), Some(&11)));
        assert_eq!(add(&mut backlogs, &Form::OpenFaas, "q.*", &StreamInfo::default()), 0);
    }
}
