//! The stream of retries, as the janitor sees it.

use std::{
    future::Future,
    time::{Duration, SystemTime},
};

use async_nats::HeaderMap;
use bytes::Bytes;

use crate::{
    broker::{
        jetstream::{ApiError, JetStream, Stored},
        seam::Broker,
    },
    message::{
        header, header_block, kept_block,
        names::{self, Names},
    },
    upkeep::levels,
};

/// How much of a header block that cannot be read is kept: headers are carried on up to a bound.
const KEPT: usize = 3 << 10;

/// The stream, as the broker knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// How many messages lie in it.
    pub messages: u64,
    /// Whether the broker wakes scheduled messages by itself.
    pub schedules: bool,
}

/// A parked retry that waits for its schedule, as it is stored.
#[derive(Clone)]
pub struct Scheduled {
    /// The subject it lies on.
    pub subject: String,
    /// Its sequence.
    pub sequence: u64,
    /// Its headers, less the broker's own.
    pub headers: HeaderMap,
    /// Its payload.
    pub payload: Bytes,
    /// Whether the broker is to wake it.
    pub scheduled: bool,
    /// When, as the schedule says it.
    pub wakes: Option<SystemTime>,
    /// Whether no client could read its headers.
    pub unreadable: bool,
}

/// The janitor's questions and orders to the broker.
pub trait Parked: Broker {
    /// The number of the connection; another one may lead to another server.
    fn connection(&self) -> u64;

    /// The stream, as the broker knows it. The clock learns from the answer.
    fn known(&self, names: &Names) -> impl Future<Output = Result<Known, ApiError>> + Send;

    /// How many retries in the levels are overdue by more than `grace`, up to a bound.
    fn overdue_in_levels(
        &self,
        names: &Names,
        grace: Duration,
    ) -> impl Future<Output = Result<u64, ApiError>> + Send;

    /// The first scheduled message at `from` or behind, if there is one.
    fn scheduled(
        &self,
        names: &Names,
        from: u64,
    ) -> impl Future<Output = Result<Option<Scheduled>, ApiError>> + Send;

    /// Moves a scheduled message to `target` in one step, unless the scheduled message is gone or another
    /// took its place; says whether it did. Only for a broker with schedules.
    fn fire(
        &self,
        names: &Names,
        message: &Scheduled,
        target: &str,
    ) -> impl Future<Output = Result<bool, ApiError>> + Send;

    /// Deletes a scheduled message, if it is still there.
    fn delete(&self, names: &Names, sequence: u64) -> impl Future<Output = Result<(), ApiError>> + Send;
}

impl Scheduled {
    /// As it is stored.
    pub(crate) fn of(stored: Stored) -> Self {
        let mut headers = stored.headers();
        let Stored { subject, sequence, block, payload, .. } = stored;
        let schedule = header_block::as_servers_find(&block, names::SCHEDULE);
        let (scheduled, wakes) = (schedule.is_some(), schedule.as_deref().and_then(wakes));
        let unreadable = !block.is_empty() && header_block::read(&block).is_err();
        if unreadable {
            // Moved as something that everybody can read, and that no version takes for a call.
            let kept = kept_block::ways(&block)
                .into_iter()
                .find(|way| way.iter().all(|(_, value)| value.len() <= KEPT));
            for (name, value) in
                kept.into_iter().flatten().chain([(names::KIND, names::UNREADABLE.to_owned())])
            {
                header::put(&mut headers, name, &value);
            }
        }
        Self { subject, sequence, headers, payload, scheduled, wakes, unreadable }
    }
}

impl Parked for JetStream {
    fn connection(&self) -> u64 {
        self.link().borrow().made
    }

    async fn known(&self, names: &Names) -> Result<Known, ApiError> {
        let stream = self.stream(&names.retries).await?;
        Ok(Known { messages: stream.state.messages, schedules: stream.config.allows_schedules() })
    }

    async fn overdue_in_levels(&self, names: &Names, grace: Duration) -> Result<u64, ApiError> {
        levels::overdue(self, names, grace).await
    }

    async fn scheduled(&self, names: &Names, from: u64) -> Result<Option<Scheduled>, ApiError> {
        Ok(self.next_stored(&names.retries, &names.scheduled_subjects(), from).await?.map(Scheduled::of))
    }

    async fn fire(&self, names: &Names, message: &Scheduled, target: &str) -> Result<bool, ApiError> {
        let Scheduled { subject, sequence, headers, payload, .. } = message;
        Ok(JetStream::fire(
            self,
            &names.retries,
            subject,
            target,
            *sequence,
            headers.clone(),
            payload.clone(),
        )
        .await?)
    }

    async fn delete(&self, names: &Names, sequence: u64) -> Result<(), ApiError> {
        JetStream::delete(self, &names.retries, sequence).await
    }
}

/// The time of a schedule that fires once.
fn wakes(schedule: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339(schedule.strip_prefix("@at ")?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheduled_message_knows_from_its_schedule_when_it_is_to_wake() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        for (schedule, scheduled, expected) in [
            ("Nats-Schedule: @at 1970-01-01T00:01:40.000000000Z\r\n", true, Some(time)),
            ("Nats-Schedule:@at 1970-01-01T00:01:40Z\r\n", true, Some(time)),
            ("Nats-Schedule: @every 5m\r\n", true, None),
            ("Nats-Schedule: @at soon\r\n", true, None),
            ("X: @at 1970-01-01T00:01:40Z\r\n", false, None),
        ] {
            let block = format!("NATS/1.0\r\n{schedule}Queue-Worker-Hop: 1\r\n\r\n").into();
            let subject = "q-retries.at.f.7-10.1".to_owned();
            let message = Scheduled::of(Stored { subject, sequence: 1, time, block, payload: Bytes::new() });
            assert_eq!((message.scheduled, message.wakes), (scheduled, expected), "{schedule}");
        }
    }
}
