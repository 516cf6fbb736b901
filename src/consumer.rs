//! One durable pull consumer, asked request by request. The client's own streams prefetch and stall on small batches;
//! a worker wants just what it has permits for.

mod doubt;

use std::{task::Poll, time::Duration};

use async_nats::{Message, StatusCode, Subscriber, jetstream};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout_at},
};

pub use doubt::Doubt;

use crate::{
    broker::{Arrival, Ask, BrokerError, Source},
    connect::Link,
    jetstream::{JetStream, nanoseconds},
    poison::{Burial, Search},
};

/// A request waits at most this long at the broker.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How often the broker says that a waiting request stands. Its silence is the only sign that it dropped one.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// A request for what is there now is answered by then.
const NOW: Duration = Duration::from_secs(3);

/// A consumer that is ready to be pulled from.
#[derive(Debug, Clone)]
pub struct Bound {
    /// Its stream.
    pub stream: String,
    /// Its name.
    pub consumer: String,
    /// How long the broker waits for an acknowledgement.
    pub ack_wait: Duration,
    /// How many messages one request may ask for.
    pub max_batch: usize,
    /// How long one request may wait.
    pub max_expires: Duration,
    /// How many of its messages may be unacknowledged, over all workers.
    pub max_ack_pending: usize,
}

/// A consumer of the broker's.
#[derive(Debug)]
pub struct Consumer {
    jetstream: JetStream,
    /// Reads ack subjects. Made once: making one starts a task.
    context: jetstream::Context,
    bound: Bound,
    link: watch::Receiver<Link>,
    doubt: Doubt,
    search: Search,
    inbox: Option<Inbox>,
    /// Inboxes of requests that were given up. What was on its way to them is still taken: a delivery that is dropped
    /// looks to the next worker like a call whose worker died.
    retired: Vec<Inbox>,
    /// Messages of the request that are still to come.
    outstanding: usize,
    /// Without a sign by then the request counts as dropped.
    deadline: Instant,
    silence: Duration,
}

#[derive(Debug)]
struct Inbox {
    subject: String,
    messages: Subscriber,
    /// When its last request was sent.
    asked: Instant,
}

impl Consumer {
    /// The consumer `bound`. What cannot be read of it is buried.
    pub fn new(broker: &JetStream, bound: Bound, burial: Burial) -> Self {
        let link = broker.link();
        let now = Instant::now();
        Self {
            context: jetstream::new(broker.client()),
            search: Search::new(broker, &bound, burial),
            jetstream: broker.clone(),
            bound,
            link,
            doubt: Doubt::default(),
            inbox: None,
            retired: Vec::new(),
            outstanding: 0,
            deadline: now,
            silence: NOW,
        }
    }

    async fn inbox(&mut self) -> Result<String, BrokerError> {
        if self.link.has_changed().unwrap_or(false) {
            self.retire();
        }
        let link =
            *self.link.wait_for(|link| link.up).await.map_err(|_| BrokerError::Unavailable("the connection is closed".to_owned()))?;
        self.doubt.connected(link.made);
        self.search.connected(&link);
        if let Some(inbox) = &self.inbox {
            return Ok(inbox.subject.clone());
        }
        let client = self.jetstream.client();
        let subject = client.new_inbox();
        let messages = client.subscribe(subject.clone()).await.map_err(|error| BrokerError::Unavailable(error.to_string()))?;
        self.inbox = Some(Inbox { subject: subject.clone(), messages, asked: Instant::now() });
        Ok(subject)
    }

    /// Gives the request up.
    fn retire(&mut self) {
        self.retired.extend(self.inbox.take());
        self.retired.retain(|inbox| inbox.asked.elapsed() < self.bound.ack_wait);
    }

    fn arrival(&mut self, message: Message, asked: Instant) -> Option<Arrival> {
        let message = jetstream::Message { message, context: self.context.clone() };
        let info = message.info().ok()?;
        let (stream, sequence, pending) = (info.stream.to_owned(), info.stream_sequence, info.pending);
        let delivered = u64::try_from(info.delivered).unwrap_or(1);
        let stored = info.published.into();
        let message = message.message;
        self.search.passed(sequence);
        Some(Arrival {
            subject: message.subject.to_string(),
            headers: message.headers.unwrap_or_default(),
            payload: message.payload,
            stream,
            sequence,
            stored,
            delivered,
            pending,
            reply: message.reply?.to_string(),
            asked,
            ack_wait: self.bound.ack_wait,
            doubtful: self.doubt.delivered(delivered),
        })
    }

    /// What a status without a message says about the request: whether it is over.
    fn status(&mut self, message: &Message, status: StatusCode) -> Result<bool, BrokerError> {
        match status {
            StatusCode::IDLE_HEARTBEAT => Ok(false),
            StatusCode::NOT_FOUND | StatusCode::TIMEOUT => Ok(true),
            other => {
                self.retire();
                Err(BrokerError::Unavailable(format!("{} {}", other.as_u16(), message.description.as_deref().unwrap_or_default())))
            }
        }
    }
}

impl Source for Consumer {
    async fn ask(&mut self, ask: Ask) -> Result<(), BrokerError> {
        let inbox = self.inbox().await?;
        self.search.round().await;
        let waiting = |batch: usize, wait: Duration| {
            let (batch, wait) = (batch.min(self.bound.max_batch), wait.min(self.bound.max_expires));
            let heartbeat = HEARTBEAT.min(wait / 3);
            let question = json!({ "batch": batch, "expires": nanoseconds(wait), "idle_heartbeat": nanoseconds(heartbeat) });
            (batch, question, heartbeat * 2 + Duration::from_secs(1))
        };
        let (batch, question, silence) = match ask {
            Ask::UpTo(batch) => {
                let batch = batch.min(self.bound.max_batch);
                (batch, json!({ "batch": batch, "no_wait": true }), NOW)
            }
            // Short enough that most of the lease is left when a message comes at the end of the wait.
            Ask::One => waiting(1, LONGEST_WAIT.min(self.bound.ack_wait / 4)),
            Ask::AsTheyCome(batch) => waiting(batch, LONGEST_WAIT),
        };
        let subject = self.jetstream.api_subject(&format!("CONSUMER.MSG.NEXT.{}.{}", self.bound.stream, self.bound.consumer));
        let asked = Instant::now();
        if let Some(inbox) = &mut self.inbox {
            inbox.asked = asked;
        }
        let sent = self.jetstream.client().publish_with_reply(subject, inbox, question.to_string().into()).await;
        sent.map_err(|error| BrokerError::Unavailable(error.to_string()))?;
        self.outstanding = batch;
        self.silence = silence;
        self.deadline = asked + silence;
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Arrival>, BrokerError> {
        while self.outstanding > 0 {
            let Some(inbox) = &mut self.inbox else { return Ok(None) };
            let asked = inbox.asked;
            let message = tokio::select! {
                biased;
                message = inbox.messages.next() => message,
                (message, asked) = late(&mut self.retired) => match self.arrival(message, asked) {
                    Some(arrival) => return Ok(Some(arrival)),
                    None => continue,
                },
                _ = self.link.changed() => None,
                () = sleep_until(self.deadline) => None,
            };
            let Some(message) = message else {
                self.retire();
                return Err(BrokerError::Unavailable("the request was lost".to_owned()));
            };
            self.deadline = Instant::now() + self.silence;
            if let Some(status) = message.status.filter(|_| message.reply.is_none()) {
                if self.status(&message, status)? {
                    self.outstanding = 0;
                }
            } else if let Some(arrival) = self.arrival(message, asked) {
                self.outstanding -= 1;
                return Ok(Some(arrival));
            }
        }
        Ok(None)
    }

    async fn close(&mut self) -> Vec<Arrival> {
        self.retire();
        let mut arrivals = Vec::new();
        let end = Instant::now() + NOW;
        for mut inbox in std::mem::take(&mut self.retired) {
            if inbox.messages.drain().await.is_err() {
                continue;
            }
            while let Ok(Some(message)) = timeout_at(end, inbox.messages.next()).await {
                arrivals.extend(self.arrival(message, inbox.asked));
            }
        }
        arrivals
    }
}

/// What a consumer takes, by what the broker knows of it.
pub fn filters(consumer: &Value) -> Vec<&str> {
    let one = consumer.pointer("/config/filter_subject").and_then(Value::as_str).filter(|filter| !filter.is_empty());
    let several = consumer.pointer("/config/filter_subjects").and_then(Value::as_array).into_iter().flatten();
    let filters: Vec<_> = several.filter_map(Value::as_str).chain(one).collect();
    if filters.is_empty() { vec![">"] } else { filters }
}

/// The next message in one of the retired inboxes, and when it was asked for.
async fn late(retired: &mut [Inbox]) -> (Message, Instant) {
    std::future::poll_fn(|context| {
        for inbox in retired.iter_mut() {
            while let Poll::Ready(Some(message)) = inbox.messages.poll_next_unpin(context) {
                if message.reply.is_some() {
                    return Poll::Ready((message, inbox.asked));
                }
            }
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_without_filters_takes_all() {
        for (config, expected) in [
            (json!({}), vec![">"]),
            (json!({ "filter_subject": "" }), vec![">"]),
            (json!({ "filter_subject": "q" }), vec!["q"]),
            (json!({ "filter_subjects": ["q", "r.>"] }), vec!["q", "r.>"]),
        ] {
            assert_eq!(filters(&json!({ "config": config })), expected);
        }
    }
}
