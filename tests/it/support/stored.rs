//! Messages of the broker, looked at from outside.

use std::time::SystemTime;

use async_nats::{HeaderMap, Subscriber, jetstream::message::StreamMessage};
use bytes::Bytes;
use futures_util::StreamExt;

use super::patiently;

/// A message as it is stored, or as it passes.
#[derive(Clone, Debug)]
pub struct Stored {
    pub subject: String,
    /// 0 for one that passes.
    pub sequence: u64,
    pub headers: HeaderMap,
    pub payload: Bytes,
    /// When the broker stored it, or when it passed.
    pub time: SystemTime,
}

impl Stored {
    /// The only value of the header; panics when it has several.
    pub fn header(&self, name: &str) -> Option<&str> {
        let values: Vec<_> = self.headers.get_all(name).collect();
        assert!(values.len() < 2, "{name} stands there {} times: {self:?}", values.len());
        values.first().map(|value| value.as_str())
    }

    /// The only value of the header; panics when it has none, too.
    pub fn expect(&self, name: &str) -> &str {
        self.header(name).unwrap_or_else(|| panic!("no {name}: {self:?}"))
    }

    /// The header as a point in time.
    pub fn time_in(&self, name: &str) -> SystemTime {
        let text = self.expect(name);
        humantime::parse_rfc3339(text).unwrap_or_else(|error| panic!("{name}: {text}: {error}"))
    }

    /// The names of its `Nats-*` headers, sorted, but those that only guard a publish.
    pub fn nats_headers(&self) -> Vec<String> {
        let mut names = self.names_with("Nats-");
        names.retain(|name| !name.starts_with("Nats-Expected-"));
        names
    }

    /// The names of its headers that begin with the prefix, sorted.
    pub fn names_with(&self, prefix: &str) -> Vec<String> {
        let names = self.headers.iter().map(|(name, _)| name.to_string());
        let mut names: Vec<_> = names.filter(|name| name.starts_with(prefix)).collect();
        names.sort();
        names
    }
}

impl From<StreamMessage> for Stored {
    fn from(message: StreamMessage) -> Self {
        Self {
            subject: message.subject.to_string(),
            sequence: message.sequence,
            headers: message.headers,
            payload: message.payload,
            time: message.time.into(),
        }
    }
}

/// A view on messages that pass.
pub struct Watch {
    subject: String,
    /// What begins so is passed over.
    ignored: Option<String>,
    subscriber: Subscriber,
}

impl Watch {
    pub fn new(subject: &str, subscriber: Subscriber) -> Self {
        Self { subject: subject.to_owned(), ignored: None, subscriber }
    }

    /// The same view without the subjects that begin so.
    pub fn without(self, prefix: String) -> Self {
        Self { ignored: Some(prefix), ..self }
    }

    pub async fn next(&mut self) -> Stored {
        let what = format!("a message to {}", self.subject);
        let mut message = patiently(&what, self.subscriber.next()).await.unwrap();
        while self.ignored.as_ref().is_some_and(|prefix| message.subject.starts_with(prefix.as_str())) {
            message = patiently(&what, self.subscriber.next()).await.unwrap();
        }
        Stored {
            subject: message.subject.to_string(),
            sequence: 0,
            headers: message.headers.unwrap_or_default(),
            payload: message.payload,
            time: SystemTime::now(),
        }
    }

    pub async fn take(&mut self, n: usize) -> Vec<Stored> {
        let mut seen = Vec::new();
        while seen.len() < n {
            seen.push(self.next().await);
        }
        seen
    }
}

/// The number as the contract writes it in an id.
pub fn base36(mut number: u128) -> String {
    let mut digits = Vec::new();
    while number > 0 {
        digits.push(char::from_digit(u32::try_from(number % 36).unwrap(), 36).unwrap());
        number /= 36;
    }
    digits.into_iter().rev().collect()
}
