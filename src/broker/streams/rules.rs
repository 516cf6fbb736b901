//! Rules for the streams and consumers of a queue, and the promises that do not hold where one of them is
//! broken. Pure: the settings that were found go in, complaints come out. The worker logs them at its
//! start, the doctor prints them.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    broker::{
        jetstream::{Settings, nanoseconds},
        known_issues::Severity::{self, Fail, Note, Warn},
    },
    config::Config,
    message::names::covers,
};

/// A clone's id is remembered at least this long, so that a parent that is delivered again is recognised.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(600);
/// A shorter lease would end before it could be renewed.
pub(crate) const LEAST_ACK_WAIT: Duration = Duration::from_secs(1);
/// The lease where none is set.
const ACK_WAIT: Duration = Duration::from_secs(30);

/// A setting of a stream or a consumer that is not as the promises want it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Complaint {
    /// How much it weighs.
    pub severity: Severity,
    /// The setting, as JetStream's API calls it.
    pub setting: &'static str,
    /// Its value.
    pub found: String,
    /// The consequence, with the stream or the consumer as "it".
    pub text: &'static str,
}

/// Long enough that a message which is delivered again after `ack_wait` still finds its successor's id.
pub fn duplicate_window(ack_wait: Duration) -> Duration {
    DUPLICATE_WINDOW.max(ack_wait.saturating_mul(3))
}

/// The duplicate window that a stream can have: one longer than its messages' age is refused.
pub(crate) fn possible_window(window: Duration, max_age: Duration) -> Duration {
    if max_age.is_zero() { window } else { window.min(max_age) }
}

/// How many unacknowledged deliveries a consumer needs at least, so that no worker of this size starves the
/// others.
pub(crate) fn least_pending(max_inflight: usize) -> u64 {
    u64::try_from(max_inflight).unwrap_or(u64::MAX / 4).saturating_mul(4)
}

/// How soon a consumer delivers again: its back-off list takes the place of its `ack_wait`.
pub fn lease(consumer: &Settings) -> Duration {
    let ack_wait = consumer.duration("ack_wait");
    let ack_wait = if ack_wait.is_zero() { ACK_WAIT } else { ack_wait };
    let backoff = consumer.list("backoff").filter_map(serde_json::Value::as_u64).min();
    backoff.map_or(ack_wait, |least| ack_wait.min(Duration::from_nanos(least)))
}

/// Why no call could keep its lease.
pub fn hasty(consumer: &Settings) -> Option<String> {
    let lease = lease(consumer);
    let text = || {
        format!(
            "delivers again after {lease:?}: no call could keep its lease; at least {LEAST_ACK_WAIT:?} is \
                needed"
        )
    };
    (lease < LEAST_ACK_WAIT).then(text)
}

/// The settings that differ: name, value before, value now.
pub(crate) fn changes(before: &Settings, now: &Settings) -> Vec<(String, String, String)> {
    let names: BTreeSet<_> = before.names().chain(now.names()).collect();
    // Servers write notes of their own into the metadata.
    let changed = names.into_iter().filter(|name| *name != "metadata" && before.get(name) != now.get(name));
    changed.map(|name| (name.clone(), before.shown(name), now.shown(name))).collect()
}

/// The stream of fresh invocations, which are published on `subject`.
pub(crate) fn queue(stream: &Settings, subject: &str) -> Vec<Complaint> {
    let mut complaints = any(stream);
    let mut list = Complaints { found: stream, list: &mut complaints };
    let fed = stream.get("mirror").is_some_and(serde_json::Value::is_object)
        || stream.list("sources").next().is_some();
    if !stream.subjects().any(|taken| covers(taken, subject)) {
        let severity = if fed { Note } else { Fail };
        list.add(severity, "subjects", "it does not take what is published on the queue's subject");
    }
    match stream.text("retention") {
        "workqueue" => {}
        "interest" => list.add(Warn, "retention", "what arrives while it has no consumer is dropped"),
        _ => list.add(
            Note,
            "retention",
            "it keeps what is settled until a limit removes it, and a limit removes the rest as well",
        ),
    }
    list.limits();
    complaints
}

/// The stream of parked retries.
pub(crate) fn retries(stream: &Settings) -> Vec<Complaint> {
    let mut complaints = any(stream);
    let mut list = Complaints { found: stream, list: &mut complaints };
    match stream.text("retention") {
        "workqueue" => {}
        "interest" => list.add(
            Fail,
            "retention",
            "it drops what no consumer waits for, and none waits for a parked retry",
        ),
        _ => list.add(Warn, "retention", "it keeps what is settled, and grows"),
    }
    list.limits();
    list.small();
    complaints
}

/// The stream of dead letters, whose age and size an operator may limit.
pub(crate) fn dead(stream: &Settings) -> Vec<Complaint> {
    let mut complaints = any(stream);
    let mut list = Complaints { found: stream, list: &mut complaints };
    match stream.text("retention") {
        "limits" => {}
        "interest" => list.add(Fail, "retention", "it drops dead letters that no consumer waits for"),
        _ => list.add(Warn, "retention", "reading a dead letter removes it"),
    }
    if stream.refuses_new() && LIMITS.iter().any(|limit| stream.number(limit) > 0) {
        list.add(
            Warn,
            "discard",
            "once it is full, what should become a dead letter waits in its worker \
            until there is room; with 1,000 waiting the worker takes no more",
        );
    }
    list.small();
    complaints
}

/// Why a stream is not the one that takes `subjects`: another queue's streams may have the same names, `a.b`
/// and `a_b` make the same.
pub fn stranger(name: &str, stream: &Settings, subjects: &str) -> Option<String> {
    let taken: Vec<_> = stream.subjects().collect();
    let reason = || {
        format!(
            "stream {name} takes {} and not {subjects}: it is another queue's; choose another queue_name",
            taken.join(", ")
        )
    };
    (!taken.contains(&subjects)).then(reason)
}

/// Complaints about any stream of ours.
fn any(stream: &Settings) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let mut list = Complaints { found: stream, list: &mut complaints };
    if stream.text("storage") == "memory" {
        list.add(Fail, "storage", "it lies in memory: what it holds is lost when its server stops");
    }
    if stream.text("persist_mode") == "async" {
        list.add(
            Fail,
            "persist_mode",
            "it confirms messages before they are written: they are lost when its server is killed",
        );
    }
    if stream.is("no_ack") {
        list.add(Fail, "no_ack", "it confirms nothing: nobody learns whether a message is stored");
    }
    if stream.is("sealed") {
        list.add(Fail, "sealed", "it takes no messages any more");
    }
    complaints
}

/// Why a consumer cannot be pulled from at all.
pub(crate) fn unusable(consumer: &Settings) -> Option<&'static str> {
    if !consumer.text("deliver_subject").is_empty() || consumer.text("ack_policy") != "explicit" {
        return Some("is no pull consumer with explicit acks");
    }
    // Without the payload a message cannot be read, and would end as one that never could.
    let groups = consumer.list("priority_groups").next().is_some();
    (consumer.is("headers_only") || groups).then_some("gives no payloads or wants priority groups")
}

/// A consumer that is to take `filter` of a stream that takes `subjects`.
pub(crate) fn consumer(consumer: &Settings, filter: &str, stream: &Settings) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let mut list = Complaints { found: consumer, list: &mut complaints };
    if consumer.list("backoff").next().is_some() {
        list.add(Warn, "backoff", "its backoff list takes the place of ack_wait");
    }
    let found = consumer.text("filter_subject");
    // A consumer of everything may say so by no filter at all.
    let everything = found.is_empty() && consumer.list("filter_subjects").next().is_none();
    if found != filter && !(everything && stream.subjects().all(|taken| covers(filter, taken))) {
        let severity = if everything || covers(found, filter) { Warn } else { Fail };
        list.add(
            severity,
            "filter_subject",
            "it has another filter: what does not match it is called by nobody",
        );
    }
    if consumer.number("max_deliver") > 0 {
        list.add(
            Fail,
            "max_deliver",
            "it gives a message up after so many deliveries, and nobody gets it then",
        );
    }
    if consumer.is("mem_storage") {
        list.add(
            Note,
            "mem_storage",
            "it forgets what was acknowledged when its server stops: calls are made again",
        );
    }
    if consumer.number("inactive_threshold") > 0 {
        list.add(Note, "inactive_threshold", "it is removed when no worker pulls for so long");
    }
    complaints
}

/// The settings of a consumer that the worker brings up to its own: how soon another takes over, and the room
/// for deliveries.
pub(crate) fn adaptations(consumer: &Settings, config: &Config) -> Vec<(&'static str, u64)> {
    let mut wanted = Vec::new();
    if consumer.list("backoff").next().is_none() && consumer.duration("ack_wait") != config.ack_wait {
        wanted.push(("ack_wait", nanoseconds(config.ack_wait)));
    }
    let (room, least) = (consumer.number("max_ack_pending"), least_pending(config.max_inflight));
    if room >= 0 && room.unsigned_abs() < least {
        wanted.push(("max_ack_pending", least));
    }
    wanted
}

/// The limits of a stream.
const LIMITS: [&str; 4] = ["max_age", "max_msgs", "max_bytes", "max_msgs_per_subject"];

struct Complaints<'a> {
    found: &'a Settings,
    list: &'a mut Vec<Complaint>,
}

impl Complaints<'_> {
    fn add(&mut self, severity: Severity, setting: &'static str, text: &'static str) {
        self.list.push(Complaint { severity, setting, found: self.found.shown(setting), text });
    }

    /// Which limits lose messages. The publisher hears of a message that the stream does not take at all;
    /// but age knows no publisher, and a full subject makes room unless the stream is told otherwise.
    fn limits(&mut self) {
        let new = self.found.refuses_new();
        for limit in LIMITS {
            let refuses = match limit {
                "max_age" => false,
                "max_msgs_per_subject" => new && self.found.is("discard_new_per_subject"),
                _ => new,
            };
            if self.found.number(limit) > 0 && !refuses {
                self.add(Fail, limit, "it has a limit: what exceeds it is lost");
            }
        }
    }

    /// A parked message has more headers than the one it came from.
    fn small(&mut self) {
        if self.found.number("max_msg_size") > 0 {
            self.add(
                Warn,
                "max_msg_size",
                "what is larger with its headers cannot be parked, and is called again and again",
            );
        }
    }
}

#[cfg(test)]
mod tests;
