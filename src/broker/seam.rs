//! The seam to the broker: what the worker asks of JetStream, and nothing more. `jetstream` carries it out;
//! the simulation does so in memory.

use std::{
    future::Future,
    time::{Duration, SystemTime},
};

use async_nats::HeaderMap;

use crate::{broker::pulled::Pulled, message::record::Record};

/// What to tell the broker about a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ack {
    /// It is settled.
    Done,
    /// It is being worked on: start the ack clock again.
    InProgress,
    /// Deliver it again, after this long.
    Later(Duration),
}

/// Why the broker did not do as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// No answer, or none can come now. Whether it was done is not known.
    #[error("the broker does not answer: {0}")]
    Unavailable(String),
    /// The message is larger than the broker takes.
    #[error("larger than the broker takes")]
    TooLarge,
    /// The broker said no.
    #[error("the broker refused: {0}")]
    Refused(String),
}

/// What the worker asks of the broker.
pub trait Broker: Clone + Send + Sync + 'static {
    /// Stores a record, unless its id is stored or was lately. `Ok` means that it is durable.
    fn publish(&self, record: &Record) -> impl Future<Output = Result<(), BrokerError>> + Send;

    /// Stores a record, unless its id is stored or was lately, or a message lies on its subject: the broker's
    /// memory of ids ends after a while, and a restart may shorten it.
    fn place(&self, record: &Record) -> impl Future<Output = Result<(), BrokerError>> + Send;

    /// Acknowledges a delivery, and waits a while for the broker to confirm it. With `confirmed`, `Ok` means
    /// that the confirmation came. `sent` is called as soon as the acknowledgement is on its way: whoever has
    /// heard that holds the delivery no more, as far as anybody can tell who is not the broker.
    fn acknowledge(
        &self,
        reply: &str,
        ack: Ack,
        confirmed: bool,
        sent: &(dyn Fn() + Sync),
    ) -> impl Future<Output = Result<(), BrokerError>> + Send;

    /// The subject of the last message in `stream` that `filter` covers, if there is one.
    fn last(
        &self,
        stream: &str,
        filter: &str,
    ) -> impl Future<Output = Result<Option<String>, BrokerError>> + Send;

    /// The sequences under which `stream` has taken messages with these ids within its duplicate window, for
    /// each id in turn, if it has. `subject` is one of the stream's.
    fn taken_as(
        &self,
        stream: &str,
        subject: &str,
        ids: &[String],
    ) -> impl Future<Output = Result<Vec<Option<u64>>, BrokerError>> + Send;

    /// When the last message was stored in `stream`, by the broker's clock; none if there never was one. It
    /// may be gone since. A broker that does not know says that it was just now.
    fn newest(&self, stream: &str) -> impl Future<Output = Result<Option<SystemTime>, BrokerError>> + Send;

    /// The headers of the message `sequence` of `stream`, less the broker's own, if it is still there.
    fn headers(
        &self,
        stream: &str,
        sequence: u64,
    ) -> impl Future<Output = Result<Option<HeaderMap>, BrokerError>> + Send;

    /// The broker's time. Never behind it by more than the clocks drift between two looks, so that nothing is
    /// early.
    fn now(&self) -> SystemTime;

    /// The broker's time now, or a little earlier: what is due by it is due.
    fn now_at_least(&self) -> SystemTime;

    /// The most bytes that headers and payload of one message may have.
    fn max_payload(&self) -> usize;
}

/// A request for deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Wait until one message is there.
    One,
    /// As many as are there now, at most this many.
    UpTo(usize),
    /// At most this many, each as soon as it is there.
    AsTheyCome(usize),
}

/// One consumer, as the worker pulls from it.
pub trait Source: Send + 'static {
    /// Sends a request. Others may be open that asked for what was there. Returns for how many messages it
    /// asks: it may be fewer than wanted.
    fn ask(&mut self, ask: Ask) -> impl Future<Output = Result<usize, BrokerError>> + Send;

    /// The next message of the requests, or `None` when they are answered. May be dropped and called again.
    fn next(&mut self) -> impl Future<Output = Result<Option<Pulled>, BrokerError>> + Send;

    /// How many messages the open requests may still bring.
    fn to_come(&self) -> usize;

    /// Whether another request may be sent while one is open: not where that one was cut down to what the
    /// connection can hold, and large messages are still to come.
    fn has_room(&self) -> bool;

    /// How many deliveries may have been lost on their way since this was last asked: what requests still
    /// asked for that were lost.
    fn lost(&mut self) -> usize;

    /// Takes the requests back and returns what was delivered all the same.
    fn close(&mut self) -> impl Future<Output = Vec<Pulled>> + Send;
}
