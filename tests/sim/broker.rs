//! What a worker asks of the broker in memory.

use std::time::SystemTime;

use async_nats::HeaderMap;
use queue_worker::{
    broker::seam::{Ack, Broker, BrokerError},
    message::record::Record,
};
use tokio::time::Instant;

use crate::{client::Client, shared::State};

impl Broker for Client {
    async fn publish(&self, record: &Record) -> Result<(), BrokerError> {
        let record = record.clone();
        self.note_clock(&record);
        self.request("publish", move |state| state.publish(&record)).await?
    }

    async fn place(&self, record: &Record) -> Result<(), BrokerError> {
        let record = record.clone();
        self.note_clock(&record);
        self.request("place", move |state| state.place(&record)).await?
    }

    async fn acknowledge(
        &self,
        reply: &str,
        ack: Ack,
        confirmed: bool,
        sent: &(dyn Fn() + Sync),
    ) -> Result<(), BrokerError> {
        let (consumer, sequence) = reply.split_once(' ').unwrap();
        let (consumer, sequence) = (consumer.parse().unwrap(), sequence.parse().unwrap());
        let emptied = self.shared.emptied.clone();
        let effect = move |state: &mut State| {
            if let Ack::Later(_) = ack {
                state.refused(consumer, sequence);
            }
            if let Some(message) = state.server.acknowledge(consumer, sequence, ack, Instant::now()) {
                let role = state.server.consumers[consumer].role;
                state.ledger.acknowledged(&message, role);
            }
            if ack == Ack::Done && state.server.is_empty() {
                emptied.notify_waiters();
            }
        };
        let what = match ack {
            Ack::Done => "acknowledge",
            Ack::InProgress => "heartbeat",
            Ack::Later(_) => "hand back",
        };
        if ack == Ack::Done && self.shared.state().up {
            self.shared.state().server.consumers[consumer].settles(sequence, self.worker);
            sent();
        }
        if confirmed { self.request(what, effect).await } else { self.send(what, effect).await }
    }

    async fn last(&self, stream: &str, filter: &str) -> Result<Option<String>, BrokerError> {
        let (stream, filter) = (stream.to_owned(), filter.to_owned());
        self.request("look for the last", move |state| state.server.last(&stream, &filter)).await
    }

    async fn taken_as(
        &self,
        stream: &str,
        _subject: &str,
        ids: &[String],
    ) -> Result<Vec<Option<u64>>, BrokerError> {
        let (stream, ids, asked) = (stream.to_owned(), ids.to_vec(), Instant::now());
        let effect = move |state: &mut State| {
            let taken = state.look(&stream, &ids);
            (taken, state.server.wall(Instant::now()))
        };
        let (taken, told) = self.request("look for ids", effect).await?;
        self.clock.learn(told, asked);
        Ok(taken)
    }

    async fn newest(&self, stream: &str) -> Result<Option<SystemTime>, BrokerError> {
        let (stream, asked) = (stream.to_owned(), Instant::now());
        let effect =
            move |state: &mut State| (state.server.newest(&stream), state.server.wall(Instant::now()));
        let (newest, told) = self.request("look for the newest", effect).await?;
        self.clock.learn(told, asked);
        Ok(newest)
    }

    async fn headers(&self, stream: &str, sequence: u64) -> Result<Option<HeaderMap>, BrokerError> {
        let stream = stream.to_owned();
        self.request("read headers", move |state| state.server.headers(&stream, sequence)).await
    }

    fn now(&self) -> SystemTime {
        self.clock.now()
    }

    fn now_at_least(&self) -> SystemTime {
        self.clock.now_at_least()
    }

    fn max_payload(&self) -> usize {
        self.shared.state().server.max_payload
    }
}

impl Client {
    /// A due time is only as good as the clock that it was made with, and one that has come as the clock that
    /// says so. What a worker does that crashed comes to nothing.
    pub fn note_clock(&self, record: &Record) {
        if self.crashed.is_cancelled() {
            return;
        }
        let state = &mut *self.shared.state();
        let wall = state.server.wall(Instant::now());
        let behind = wall.duration_since(self.clock.now()).unwrap_or_default();
        let ahead = self.clock.now_at_least().duration_since(wall).unwrap_or_default();
        state.ledger.clock_is_off(self.worker, record, behind, ahead);
    }
}
