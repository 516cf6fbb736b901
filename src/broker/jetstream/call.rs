//! The calls of JetStream's API: how each is named, and its question. Pure.

use std::time::Duration;

use serde::Serialize;

use super::Settings;

/// The beginning of all calls' subjects, in a domain if one is given.
pub(crate) fn prefix(domain: Option<&str>) -> String {
    domain.map_or_else(|| "$JS.API".to_owned(), |domain| format!("$JS.{domain}.API"))
}

/// The account.
pub(crate) const ACCOUNT: &str = "INFO";

/// A stream.
pub(crate) fn stream(stream: &str) -> String {
    format!("STREAM.INFO.{stream}")
}

/// Makes a stream.
pub(crate) fn make_stream(stream: &str) -> String {
    format!("STREAM.CREATE.{stream}")
}

/// Changes a stream.
pub(crate) fn update_stream(stream: &str) -> String {
    format!("STREAM.UPDATE.{stream}")
}

/// A message of a stream.
pub(crate) fn message(stream: &str) -> String {
    format!("STREAM.MSG.GET.{stream}")
}

/// Messages of a stream, from whichever server has them.
pub(crate) fn direct(stream: &str) -> String {
    format!("DIRECT.GET.{stream}")
}

/// Deletes a message of a stream.
pub(crate) fn delete_message(stream: &str) -> String {
    format!("STREAM.MSG.DELETE.{stream}")
}

/// A consumer.
pub(crate) fn consumer(stream: &str, consumer: &str) -> String {
    format!("CONSUMER.INFO.{stream}.{consumer}")
}

/// The consumers of a stream.
pub(crate) fn consumers(stream: &str) -> String {
    format!("CONSUMER.LIST.{stream}")
}

/// Makes or changes a consumer.
pub(crate) fn put_consumer(stream: &str, consumer: &str) -> String {
    format!("CONSUMER.DURABLE.CREATE.{stream}.{consumer}")
}

/// Removes a consumer.
pub(crate) fn delete_consumer(stream: &str, consumer: &str) -> String {
    format!("CONSUMER.DELETE.{stream}.{consumer}")
}

/// Makes a consumer that goes by itself.
pub(crate) fn make_ephemeral(stream: &str) -> String {
    format!("CONSUMER.CREATE.{stream}")
}

/// Messages of a consumer.
pub(crate) fn next(stream: &str, consumer: &str) -> String {
    format!("CONSUMER.MSG.NEXT.{stream}.{consumer}")
}

/// Where the acknowledgement of a delivery goes, as the server reads it. A delivery of number 0 moves no ack
/// floor.
pub(crate) fn acknowledgement(stream: &str, consumer: &str, sequence: u64, delivery: u64) -> String {
    format!("$JS.ACK.{stream}.{consumer}.1.{sequence}.{delivery}.0.0")
}

/// A question without any details.
#[derive(Debug, Serialize)]
pub(crate) struct Plain {}

/// Which details of a stream are wanted.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Details<'a> {
    /// The subjects of which the messages are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subjects_filter: Option<&'a str>,
    /// How many of these subjects are passed over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Whether the sequences of what is gone are listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deleted_details: Option<bool>,
}

/// A page of a list.
#[derive(Debug, Serialize)]
pub(crate) struct Page {
    /// How many are passed over.
    pub offset: u64,
}

/// Which message of a stream is wanted.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Which<'a> {
    /// The one of this sequence, or the next from there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The next on these subjects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_by_subj: Option<&'a str>,
    /// The last on these subjects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_by_subj: Option<&'a str>,
    /// How many of them, of a direct question.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) batch: Option<usize>,
}

/// A message to be deleted.
#[derive(Debug, Serialize)]
pub(crate) struct Deletion {
    /// Its sequence.
    pub seq: u64,
    /// Whether its bytes may stay on the disk for a while.
    pub(crate) no_erase: bool,
}

/// A consumer as it is to be.
#[derive(Debug, Serialize)]
pub(crate) struct PutConsumer<'a> {
    /// Its stream.
    pub stream_name: &'a str,
    /// Its settings.
    pub config: &'a Settings,
}

/// A request for messages of a consumer.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Request {
    /// How many.
    pub batch: usize,
    /// Whether it is answered at once, with what is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) no_wait: Option<bool>,
    /// How many nanoseconds it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
    /// How often the broker says meanwhile that it stands, in nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) idle_heartbeat: Option<u64>,
    /// The most bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<usize>,
}

/// How a delivery is handed back.
#[derive(Debug, Serialize)]
pub(crate) struct Nak {
    /// For how many nanoseconds it stays where it is.
    pub delay: u64,
}

/// A duration as JetStream's API writes it.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A question as it goes to the broker.
pub(crate) fn written(question: &impl Serialize) -> Vec<u8> {
    // Strings and numbers are all there is to write, and memory to write to does not fail.
    serde_json::to_vec(question).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(question: impl Serialize, expected: Value) {
        assert_eq!(serde_json::to_value(question).unwrap(), expected);
    }

    #[test]
    fn a_question_has_no_more_than_was_asked() {
        check(Plain {}, json!({}));
        check(Details::default(), json!({}));
        let page = Details { subjects_filter: Some(">"), offset: Some(0), ..Details::default() };
        check(page, json!({ "subjects_filter": ">", "offset": 0 }));
        let gaps = Details { deleted_details: Some(true), ..Details::default() };
        check(gaps, json!({ "deleted_details": true }));
        check(Which { seq: Some(7), ..Which::default() }, json!({ "seq": 7 }));
        let request = Request { batch: 1, no_wait: Some(true), ..Request::default() };
        check(request, json!({ "batch": 1, "no_wait": true }));
        check(Nak { delay: 5 }, json!({ "delay": 5 }));
    }
}
