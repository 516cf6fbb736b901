//! Questions to the broker: the worker's own, none of which changes anything, each bounded.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::StreamExt;
use serde::{
    Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use tokio::time::{Instant, timeout_at};

use super::facts::{Seen, Unseen};
use crate::{
    broker::{
        clock,
        connect::{Connection, Denials},
        jetstream::{
            Account, ConsumerInfo, Consumers, JetStream, StreamInfo,
            call::{self, Details, Page, Plain, Which},
        },
        levels::{self, Level},
        pauses::Record,
        seam::Broker,
    },
    message::{names::Names, pause::Pauses},
    stan,
};

/// How long the answers of NATS Streaming servers are collected.
const COLLECT: Duration = Duration::from_millis(500);
/// A sequence that no stream gets to.
const NEVER: u64 = i64::MAX as u64;
/// The reason when the time for all questions is over.
const OVER: &str = "no time was left to ask";

/// Who asks.
pub struct Ask {
    jetstream: JetStream,
    denied: Denials,
    /// When the last answer is waited for.
    until: Instant,
}

impl Ask {
    /// Asks over this connection.
    pub fn new(connection: Connection, domain: Option<&str>, until: Instant) -> Self {
        let Connection { client, link, denied, .. } = connection;
        Self { jetstream: JetStream::new(client, domain, link), denied, until }
    }

    /// The connection.
    pub fn client(&self) -> async_nats::Client {
        self.jetstream.client()
    }

    /// A stream, and how far the clocks are apart, if it tells the time.
    pub(crate) async fn timed(&self, stream: &str) -> (Seen<Option<StreamInfo>>, Option<Duration>) {
        let asked = Instant::now();
        let answer = self.stream(stream).await;
        let journey = asked.elapsed();
        let told = answer.as_ref().ok().and_then(|found| found.as_ref()?.told);
        (answer, told.map(|told| clock::skew(told, SystemTime::now(), journey)))
    }

    /// A stream, if it is there.
    pub async fn stream(&self, stream: &str) -> Seen<Option<StreamInfo>> {
        self.optional(&call::stream(stream), &Details::default()).await
    }

    /// A consumer, if it is there.
    pub async fn consumer(&self, stream: &str, consumer: &str) -> Seen<Option<ConsumerInfo>> {
        self.optional(&call::consumer(stream, consumer), &Plain {}).await
    }

    /// The names of a stream's consumers.
    pub async fn consumers(&self, stream: &str) -> Seen<Vec<String>> {
        Ok(self.list(stream).await?.consumers.into_iter().map(|consumer| consumer.name).collect())
    }

    /// The consumers of the levels.
    pub async fn levels(&self, names: &Names) -> Seen<Vec<Level>> {
        Ok(levels::levels(self.list(&names.retries).await?))
    }

    async fn list(&self, stream: &str) -> Seen<Consumers> {
        Ok(self.optional(&call::consumers(stream), &Page { offset: 0 }).await?.unwrap_or_default())
    }

    /// Whether a message lies on one of these subjects.
    pub async fn any(&self, stream: &str, subjects: &str) -> Seen<bool> {
        let question = Which { last_by_subj: Some(subjects), ..Which::default() };
        Ok(self.optional::<IgnoredAny>(&call::message(stream), &question).await?.is_some())
    }

    /// Whether there is a stream of operations, and whether whoever asks may carry out some: it asks for what
    /// cannot be done, a deletion of what was never there and a word with a condition that never holds.
    pub async fn operations(&self, names: &Names) -> Seen<bool> {
        let deletion = self.jetstream.api_subject(&call::delete_message(&names.dead));
        let _ = self.bounded(&deletion, self.jetstream.delete(&names.dead, NEVER)).await?;
        if self.stream(&names.operations).await?.is_none() {
            return Ok(false);
        }
        self.may_write(&names.operations, &names.operation("_probe")).await?;
        Ok(true)
    }

    /// Whether there is an audit, and whether whoever asks may write into it.
    pub async fn audit(&self, names: &Names) -> Seen<bool> {
        if self.stream(&names.audit).await?.is_none() {
            return Ok(false);
        }
        self.may_write(&names.audit, &names.audit_actions()).await?;
        Ok(true)
    }

    /// Asks with a word whose condition never holds.
    async fn may_write(&self, stream: &str, subject: &str) -> Seen<()> {
        let ids = ["doctor".to_owned()];
        self.bounded(subject, self.jetstream.taken_as(stream, subject, &ids)).await.map(|_| ())
    }

    /// What is paused.
    pub async fn paused(&self, names: &Names) -> Seen<Pauses> {
        let subject = self.jetstream.api_subject(&call::message(&names.operations));
        let read = Record::new(&self.jetstream, names);
        let answer = self.bounded(&subject, read.read()).await?;
        answer.map(|(pauses, _)| pauses).map_err(|error| Unseen::Silent(error.to_string()))
    }

    /// The account: what it holds and what it may.
    pub async fn account(&self) -> Seen<Account> {
        self.optional(call::ACCOUNT, &Plain {}).await.map(Option::unwrap_or_default)
    }

    async fn optional<A: DeserializeOwned>(&self, call: &str, question: &impl Serialize) -> Seen<Option<A>> {
        let subject = self.jetstream.api_subject(call);
        match self.bounded(&subject, self.jetstream.api(call, question)).await? {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.is_absence() => Ok(None),
            Err(error) => Err(Unseen::Silent(error.to_string())),
        }
    }

    /// The answer, unless the broker denies the right to ask or the time is over.
    async fn bounded<T>(&self, subject: &str, answer: impl Future<Output = T>) -> Seen<T> {
        // Without the right to hear answers none ever comes.
        let about_this = |text: &str| text.contains(subject) || text.contains("Subscription");
        tokio::select! {
            answer = timeout_at(self.until, answer) => answer.map_err(|_| Unseen::Silent(OVER.to_owned())),
            text = self.denied.first(about_this) => Err(Unseen::Right(if text.contains("Subscription") {
                format!("subscribe to {}", inbox(&text))
            } else {
                format!("publish to {subject}")
            })),
        }
    }

    /// Whether a NATS Streaming server answers where the bridge does. It is asked with a request that such a
    /// server refuses and that the bridge, which keeps no sessions, forgets.
    pub(crate) async fn streaming(&self, cluster: &str) -> Seen<bool> {
        let (subject, client) = (stan::discovery(cluster), self.client());
        let inbox = client.new_inbox();
        let gone = |error: &dyn std::error::Error| Unseen::Silent(error.to_string());
        let mut answers = client.subscribe(inbox.clone()).await.map_err(|error| gone(&error))?;
        client
            .publish_with_reply(subject.clone(), inbox, Bytes::from(stan::greeting()))
            .await
            .map_err(|error| gone(&error))?;
        let until = self.until.min(Instant::now() + COLLECT);
        let heard = async {
            while let Ok(Some(answer)) = timeout_at(until, answers.next()).await {
                if answer.status.is_none() && !stan::is_bridge(&answer.payload) {
                    return true;
                }
            }
            false
        };
        self.bounded(&subject, heard).await
    }
}

/// The subject in the broker's complaint, less what is random in it.
fn inbox(complaint: &str) -> String {
    let subject = complaint.split('"').nth(1).unwrap_or("_INBOX");
    format!("{}.>", subject.split('.').next().unwrap_or_default())
}
