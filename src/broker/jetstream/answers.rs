//! The answers of JetStream's API, with what this program reads of them. An absent figure is 0.

use std::{collections::BTreeMap, time::SystemTime};

use serde::{Deserialize, Deserializer};

use super::{Settings, error::Refusal};

/// A stream, as the broker knows it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct StreamInfo {
    /// Its settings.
    pub config: Settings,
    /// Its contents.
    pub state: StreamState,
    /// Where it lies.
    pub cluster: Cluster,
    /// How many subjects there are in all, where they were asked for page by page.
    pub(crate) total: u64,
    /// The broker's time.
    ///
    /// Until NATS 2.10: a server may tell none.
    #[serde(rename = "ts", deserialize_with = "time")]
    pub told: Option<SystemTime>,
    /// When it was made.
    #[serde(deserialize_with = "time")]
    pub(crate) created: Option<SystemTime>,
}

/// The contents of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct StreamState {
    /// How many messages.
    pub messages: u64,
    /// How many bytes.
    pub bytes: u64,
    /// The sequence of the first message.
    pub(crate) first_seq: u64,
    /// When that one was stored.
    #[serde(deserialize_with = "time")]
    pub(crate) first_ts: Option<SystemTime>,
    /// The sequence of the last message that was ever stored.
    pub(crate) last_seq: u64,
    /// When that one was stored, as far as the broker knows.
    #[serde(deserialize_with = "time")]
    pub(crate) last_ts: Option<SystemTime>,
    /// How many consumers the stream has.
    pub consumer_count: u64,
    /// How many messages are gone between the first and the last.
    pub(crate) num_deleted: u64,
    /// Their sequences, where they were asked for.
    #[serde(deserialize_with = "or_none")]
    pub deleted: Vec<u64>,
    /// How many messages lie on each subject, where that was asked for.
    #[serde(deserialize_with = "or_none")]
    pub subjects: BTreeMap<String, u64>,
}

/// The servers on which a stream lies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Cluster {
    /// The cluster's name, if the server is in one.
    pub name: Option<String>,
    /// The stream's leader, if it has one.
    pub leader: Option<String>,
    /// The other servers.
    #[serde(deserialize_with = "or_none")]
    pub replicas: Vec<Replica>,
}

/// A server that holds a copy of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Replica {
    /// Its name.
    pub name: String,
    /// Whether it has all that the leader has.
    pub current: bool,
    /// Whether it is away.
    pub(crate) offline: bool,
}

/// A consumer, as the broker knows it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ConsumerInfo {
    /// Its name.
    pub name: String,
    /// Its settings.
    pub config: Settings,
    /// Its last delivery.
    pub delivered: Position,
    /// All up to here is acknowledged.
    pub ack_floor: Position,
    /// How many deliveries wait for their acknowledgement.
    pub num_ack_pending: u64,
    /// How many messages it has still to deliver.
    pub num_pending: u64,
    /// How many requests wait for messages.
    pub num_waiting: u64,
    /// Where it lies.
    pub cluster: Cluster,
    /// Whether somebody paused it.
    pub paused: bool,
}

impl ConsumerInfo {
    /// How many of its messages are not acknowledged, delivered or not.
    pub fn unsettled(&self) -> u64 {
        self.num_pending.saturating_add(self.num_ack_pending)
    }
}

/// A place in what a consumer delivers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Position {
    /// The number of the delivery.
    pub(crate) consumer_seq: u64,
    /// The sequence of the message in the stream.
    pub stream_seq: u64,
    /// When that was. The broker keeps it in its memory only: one that has started since does not tell.
    #[serde(deserialize_with = "time")]
    pub(crate) last_active: Option<SystemTime>,
}

/// The consumers of a stream.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Consumers {
    /// Those of which the broker tells.
    #[serde(deserialize_with = "or_none")]
    pub consumers: Vec<ConsumerInfo>,
    /// The names of those whose own server did not answer in time.
    #[serde(deserialize_with = "or_none")]
    pub missing: Vec<String>,
}

/// The holdings of an account, or of one of its tiers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Account {
    /// How many streams.
    pub streams: u64,
    /// How many consumers.
    pub consumers: u64,
    /// How many bytes on disk.
    pub storage: u64,
    /// How many bytes are set aside on disk.
    ///
    /// Until NATS 2.10: a server may not tell.
    pub(crate) reserved_storage: u64,
    /// Its limits.
    pub limits: Limits,
    /// Accounts with tiers have limits for each number of replicas.
    #[serde(deserialize_with = "or_none")]
    pub(crate) tiers: BTreeMap<String, Account>,
}

/// The limits of an account. No limit is -1, and 0 in some answers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Limits {
    max_storage: i64,
    max_streams: i64,
    max_consumers: i64,
    max_ack_pending: i64,
    storage_max_stream_bytes: i64,
    /// Whether each stream needs a size.
    pub max_bytes_required: bool,
}

impl Limits {
    /// The most bytes on disk.
    pub fn storage(&self) -> Option<u64> {
        limit(self.max_storage)
    }

    /// The most streams.
    pub fn streams(&self) -> Option<u64> {
        limit(self.max_streams)
    }

    /// The most consumers.
    pub fn consumers(&self) -> Option<u64> {
        limit(self.max_consumers)
    }

    /// The most unacknowledged deliveries of a consumer.
    pub(crate) fn ack_pending(&self) -> Option<u64> {
        limit(self.max_ack_pending)
    }

    /// The most bytes of a stream.
    pub(crate) fn stream_bytes(&self) -> Option<u64> {
        limit(self.storage_max_stream_bytes)
    }
}

fn limit(most: i64) -> Option<u64> {
    u64::try_from(most).ok().filter(|most| *most > 0)
}

/// A stream's answer to a message that was published.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PubAck {
    pub error: Option<Refusal>,
    pub stream: String,
    pub seq: u64,
    pub duplicate: bool,
}

/// A message as it lies in a stream; headers and payload are in base64.
#[derive(Debug, Deserialize)]
pub(super) struct MessageAnswer {
    pub message: StoredMessage,
}

#[derive(Debug, Deserialize)]
pub(super) struct StoredMessage {
    pub subject: String,
    pub seq: u64,
    #[serde(default)]
    pub(crate) hdrs: String,
    #[serde(default)]
    pub data: String,
    #[serde(default, deserialize_with = "time")]
    pub time: Option<SystemTime>,
}

/// A value, where Go may write null for an empty one.
fn or_none<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A time in RFC 3339, where it is one.
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SystemTime>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.and_then(|text| humantime::parse_rfc3339(&text).ok()))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    const UNIX_EPOCH: SystemTime = SystemTime::UNIX_EPOCH;
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_absent_or_null_is_nothing_and_what_is_unknown_is_passed_over() {
        let stream: StreamInfo = serde_json::from_str(
            r#"{"type":"io.nats","config":{"name":"q","of_tomorrow":1},"state":{"messages":3,"subjects":null,"lost":{}},"ts":"soon"}"#,
        )
        .unwrap();
        assert_eq!((stream.config.name(), stream.state.messages, stream.told), ("q", 3, None));
        assert_eq!(stream.config.number("of_tomorrow"), 1);
        let stream: StreamInfo = serde_json::from_str(
            r#"{"created":"1970-01-01T00:00:01Z","state":{"last_seq":0,"last_ts":"0001-01-01T00:00:00Z"}}"#,
        )
        .unwrap();
        assert_eq!((stream.created, stream.state.last_ts), (Some(UNIX_EPOCH + SECOND), None));
        let list: Consumers = serde_json::from_str(r#"{"total":0,"consumers":null}"#).unwrap();
        assert!(list.consumers.is_empty() && list.missing.is_empty());
        let account: Account =
            serde_json::from_str(r#"{"limits":{"max_storage":-1,"max_streams":0,"max_consumers":7}}"#)
                .unwrap();
        let Account { limits, .. } = account;
        assert_eq!((limits.storage(), limits.streams(), limits.consumers()), (None, None, Some(7)));
    }
}
