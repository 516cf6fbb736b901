//! What the janitor asks of the broker in memory.

use std::time::Duration;

use queue_worker::{
    broker::jetstream::ApiError,
    message::{names::Names, record::Record},
    upkeep::janitor::{Known, Parked, Scheduled},
};
use tokio::time::Instant;

use crate::{client::Client, shared::State, stored::Stored};

impl Parked for Client {
    fn connection(&self) -> u64 {
        self.shared.state().outages
    }

    async fn known(&self, names: &Names) -> Result<Known, ApiError> {
        let (asked, stream) = (Instant::now(), names.retries.clone());
        let effect = move |state: &mut State| {
            let known = Known { messages: state.server.messages(&stream), schedules: state.server.schedules };
            (known, state.server.wall(Instant::now()))
        };
        let (known, told) = self.request("look at the stream", effect).await?;
        self.clock.learn(told, asked);
        Ok(known)
    }

    /// Only shown as a figure.
    async fn overdue_in_levels(&self, _names: &Names, _grace: Duration) -> Result<u64, ApiError> {
        Ok(0)
    }

    async fn scheduled(&self, names: &Names, from: u64) -> Result<Option<Scheduled>, ApiError> {
        let (stream, filter) = (names.retries.clone(), names.scheduled_subjects());
        let found = self
            .request("look for a scheduled message", move |state| state.server.next(&stream, &filter, from))
            .await?;
        Ok(found.map(|(sequence, stored)| message(sequence, stored)))
    }

    async fn fire(&self, names: &Names, message: &Scheduled, target: &str) -> Result<bool, ApiError> {
        let (from, sequence) = (message.subject.clone(), message.sequence);
        let mut headers = message.headers.clone();
        // What the worker sends along, as far as it takes room.
        for (name, value) in [
            ("Nats-Scheduler", from.as_str()),
            ("Nats-Schedule-Next", "purge"),
            ("Nats-Expected-Last-Subject-Sequence", "00000000"),
            ("Nats-Expected-Last-Subject-Sequence-Subject", &from),
        ] {
            headers.insert(name, value);
        }
        let (stream, subject, payload) = (names.retries.clone(), target.to_owned(), message.payload.clone());
        let record = Record { stream, subject, id: String::new(), headers, payload };
        self.note_clock(&record);
        Ok(self.request("fire", move |state| state.fire(&record, &from, sequence)).await??)
    }

    async fn delete(&self, names: &Names, sequence: u64) -> Result<(), ApiError> {
        let (stream, emptied) = (names.retries.clone(), self.shared.emptied.clone());
        let effect = move |state: &mut State| {
            if let Some(message) = state.server.delete(&stream, sequence) {
                state.ledger.deleted(&message);
            }
            if state.server.is_empty() {
                emptied.notify_waiters();
            }
        };
        Ok(self.request("delete", effect).await?)
    }
}

fn message(sequence: u64, stored: Stored) -> Scheduled {
    let schedule = stored.header("Nats-Schedule");
    let wakes = schedule.and_then(|at| humantime::parse_rfc3339(at.strip_prefix("@at ")?).ok());
    let scheduled = schedule.is_some();
    let headers = stored.own_headers();
    Scheduled {
        subject: stored.record.subject,
        sequence,
        headers,
        payload: stored.record.payload,
        scheduled,
        wakes,
        unreadable: false,
    }
}
