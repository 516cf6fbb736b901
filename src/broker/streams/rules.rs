//! What the streams and consumers of a queue have to be like, and what becomes of the promises where one is
//! not. Pure: the settings that were found go in, complaints come out. The worker logs them at its start, the
//! doctor prints them.

use std::{collections::BTreeSet, time::Duration};

use serde_json::Value;

use crate::{
    broker::{
        jetstream::nanoseconds,
        known_issues::Severity::{self, Fail, Note, Warn},
    },
    config::Config,
    message::names::covers,
    text::duration::shown,
};

/// A clone's id is remembered at least this long, so that a parent that is delivered again is recognised.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(600);
/// A shorter lease would end before it could be renewed.
pub const LEAST_ACK_WAIT: Duration = Duration::from_secs(1);
/// What the broker takes for a lease where nothing is set.
const ACK_WAIT: Duration = Duration::from_secs(30);

/// A setting of a stream or a consumer that is not as the promises want it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// How much it weighs.
    pub severity: Severity,
    /// The setting, as JetStream's API calls it.
    pub setting: &'static str,
    /// What it is.
    pub found: String,
    /// What follows, with the stream or the consumer as "it".
    pub text: &'static str,
}

/// Long enough that a message which is delivered again after `ack_wait` still finds its successor's id.
pub fn duplicate_window(ack_wait: Duration) -> Duration {
    DUPLICATE_WINDOW.max(ack_wait.saturating_mul(3))
}

/// The duplicate window that a stream can have: one longer than its messages' age is refused.
pub fn possible_window(window: Duration, max_age: Duration) -> Duration {
    if max_age.is_zero() { window } else { window.min(max_age) }
}

/// How many unacknowledged deliveries a consumer needs at least, so that no worker of this size starves the
/// others.
pub fn least_pending(max_inflight: usize) -> u64 {
    u64::try_from(max_inflight).unwrap_or(u64::MAX / 4).saturating_mul(4)
}

/// How soon a consumer delivers again: its back-off list takes the place of its `ack_wait`.
pub fn lease(consumer: &Value) -> Duration {
    let ack_wait = duration(consumer, "ack_wait");
    let ack_wait = if ack_wait.is_zero() { ACK_WAIT } else { ack_wait };
    let backoff = items(consumer, "backoff").filter_map(Value::as_u64).min();
    backoff.map_or(ack_wait, |least| ack_wait.min(Duration::from_nanos(least)))
}

/// Why no call could keep its lease.
pub fn hasty(consumer: &Value) -> Option<String> {
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
pub fn changes(before: &Value, now: &Value) -> Vec<(String, String, String)> {
    let names = [before, now]
        .into_iter()
        .filter_map(Value::as_object)
        .flat_map(serde_json::Map::keys)
        .collect::<BTreeSet<_>>();
    // Servers write notes of their own into the metadata.
    let changed = names.into_iter().filter(|name| *name != "metadata" && before.get(name) != now.get(name));
    changed.map(|name| (name.clone(), value(before, name), value(now, name))).collect()
}

/// The stream of fresh invocations, which are published on `subject`.
pub fn queue(stream: &Value, subject: &str) -> Vec<Complaint> {
    let mut complaints = any(stream);
    let mut list = Complaints { found: stream, list: &mut complaints };
    let fed =
        list.found.get("mirror").is_some_and(Value::is_object) || items(stream, "sources").next().is_some();
    if !subjects(stream).any(|taken| covers(taken, subject)) {
        let severity = if fed { Note } else { Fail };
        list.add(severity, "subjects", "it does not take what is published on the queue's subject");
    }
    match text(stream, "retention") {
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
pub fn retries(stream: &Value) -> Vec<Complaint> {
    let mut complaints = any(stream);
    let mut list = Complaints { found: stream, list: &mut complaints };
    match text(stream, "retention") {
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
pub fn dead(stream: &Value) -> Vec<Complaint> {
    let mut complaints = any(stream);
    let mut list = Complaints { found: stream, list: &mut complaints };
    match text(stream, "retention") {
        "limits" => {}
        "interest" => list.add(Fail, "retention", "it drops dead letters that no consumer waits for"),
        _ => list.add(Warn, "retention", "reading a dead letter removes it"),
    }
    if text(stream, "discard") == "new" && LIMITS.iter().any(|limit| number(stream, limit) > 0) {
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
pub fn stranger(name: &str, stream: &Value, subjects: &str) -> Option<String> {
    let taken: Vec<_> = self::subjects(stream).collect();
    let reason = || {
        format!(
            "stream {name} takes {} and not {subjects}: it is another queue's; choose another queue_name",
            taken.join(", ")
        )
    };
    (!taken.contains(&subjects)).then(reason)
}

/// What no stream of ours may be.
fn any(stream: &Value) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let mut list = Complaints { found: stream, list: &mut complaints };
    if text(stream, "storage") == "memory" {
        list.add(Fail, "storage", "it lies in memory: what it holds is lost when its server stops");
    }
    if text(stream, "persist_mode") == "async" {
        list.add(
            Fail,
            "persist_mode",
            "it confirms messages before they are written: they are lost when its server is killed",
        );
    }
    if is(stream, "no_ack") {
        list.add(Fail, "no_ack", "it confirms nothing: nobody learns whether a message is stored");
    }
    if is(stream, "sealed") {
        list.add(Fail, "sealed", "it takes no messages any more");
    }
    complaints
}

/// Why a consumer cannot be pulled from at all.
pub fn unusable(consumer: &Value) -> Option<&'static str> {
    if !text(consumer, "deliver_subject").is_empty() || text(consumer, "ack_policy") != "explicit" {
        return Some("is no pull consumer with explicit acks");
    }
    // Without the payload a message cannot be read, and would end as one that never could.
    let groups = items(consumer, "priority_groups").next().is_some();
    (is(consumer, "headers_only") || groups).then_some("gives no payloads or wants priority groups")
}

/// A consumer that is to take `filter` of a stream that takes `subjects`.
pub fn consumer(consumer: &Value, filter: &str, stream: &Value) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let mut list = Complaints { found: consumer, list: &mut complaints };
    if items(consumer, "backoff").next().is_some() {
        list.add(Warn, "backoff", "its backoff list takes the place of ack_wait");
    }
    let found = text(consumer, "filter_subject");
    // A consumer of everything may say so by no filter at all.
    let everything = found.is_empty() && items(consumer, "filter_subjects").next().is_none();
    if found != filter && !(everything && subjects(stream).all(|taken| covers(filter, taken))) {
        let severity = if everything || covers(found, filter) { Warn } else { Fail };
        list.add(
            severity,
            "filter_subject",
            "it has another filter: what does not match it is called by nobody",
        );
    }
    if number(consumer, "max_deliver") > 0 {
        list.add(
            Fail,
            "max_deliver",
            "it gives a message up after so many deliveries, and nobody gets it then",
        );
    }
    if is(consumer, "mem_storage") {
        list.add(
            Note,
            "mem_storage",
            "it forgets what was acknowledged when its server stops: calls are made again",
        );
    }
    if number(consumer, "inactive_threshold") > 0 {
        list.add(Note, "inactive_threshold", "it is removed when no worker pulls for so long");
    }
    complaints
}

/// The settings of a consumer that the worker brings up to its own: how soon another takes over, and the room
/// for deliveries.
pub fn adaptations(consumer: &Value, config: &Config) -> Vec<(&'static str, u64)> {
    let mut wanted = Vec::new();
    if items(consumer, "backoff").next().is_none() && duration(consumer, "ack_wait") != config.ack_wait {
        wanted.push(("ack_wait", nanoseconds(config.ack_wait)));
    }
    let (room, least) = (number(consumer, "max_ack_pending"), least_pending(config.max_inflight));
    if room >= 0 && room.unsigned_abs() < least {
        wanted.push(("max_ack_pending", least));
    }
    wanted
}

/// The limits of a stream.
const LIMITS: [&str; 4] = ["max_age", "max_msgs", "max_bytes", "max_msgs_per_subject"];

struct Complaints<'a> {
    found: &'a Value,
    list: &'a mut Vec<Complaint>,
}

impl Complaints<'_> {
    fn add(&mut self, severity: Severity, setting: &'static str, text: &'static str) {
        self.list.push(Complaint { severity, setting, found: value(self.found, setting), text });
    }

    /// Which limits lose messages. What a stream does not take at all, its publisher hears of; but age knows
    /// no publisher, and a full subject makes room unless the stream is told otherwise.
    fn limits(&mut self) {
        let new = text(self.found, "discard") == "new";
        for limit in LIMITS {
            let refuses = match limit {
                "max_age" => false,
                "max_msgs_per_subject" => new && is(self.found, "discard_new_per_subject"),
                _ => new,
            };
            if number(self.found, limit) > 0 && !refuses {
                self.add(Fail, limit, "it has a limit: what exceeds it is lost");
            }
        }
    }

    /// What is parked has more headers than what it came from.
    fn small(&mut self) {
        if number(self.found, "max_msg_size") > 0 {
            self.add(
                Warn,
                "max_msg_size",
                "what is larger with its headers cannot be parked, and is called again and again",
            );
        }
    }
}

/// A value as people read it: durations in Go's notation.
pub fn value(found: &Value, setting: &str) -> String {
    match setting {
        "max_age" | "ack_wait" | "duplicate_window" | "inactive_threshold" => shown(duration(found, setting)),
        _ => match found.get(setting) {
            None | Some(Value::Null) => "none".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(items)) if items.iter().all(Value::is_string) => {
                items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
            }
            Some(other) => other.to_string(),
        },
    }
}

/// A duration among the settings; zero where there is none.
pub fn duration(found: &Value, setting: &str) -> Duration {
    Duration::from_nanos(found.get(setting).and_then(Value::as_u64).unwrap_or_default())
}

/// A text among the settings; empty where there is none.
pub fn text<'a>(found: &'a Value, setting: &str) -> &'a str {
    found.get(setting).and_then(Value::as_str).unwrap_or_default()
}

/// A number among the settings, -1 being none; 0 where there is none.
pub fn number(found: &Value, setting: &str) -> i64 {
    found.get(setting).and_then(Value::as_i64).unwrap_or_default()
}

/// What a stream takes.
pub fn subjects(stream: &Value) -> impl Iterator<Item = &str> {
    items(stream, "subjects").filter_map(Value::as_str)
}

fn items<'a>(found: &'a Value, setting: &str) -> impl Iterator<Item = &'a Value> {
    found.get(setting).and_then(Value::as_array).into_iter().flatten()
}

fn is(found: &Value, setting: &str) -> bool {
    found.get(setting).and_then(Value::as_bool) == Some(true)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A setting that was found besides those that are as they should be, and what is complained of.
    fn check(
        rule: impl Fn(&Value) -> Vec<Complaint>,
        well: &Value,
        found: Value,
        expected: &[(&str, Severity)],
    ) {
        let mut settings = well.clone();
        settings.as_object_mut().unwrap().extend(found.as_object().unwrap().clone());
        let complaints = rule(&settings);
        let seen: Vec<_> =
            complaints.iter().map(|complaint| (complaint.setting, complaint.severity)).collect();
        assert_eq!(seen, expected, "{found}");
    }

    #[test]
    fn a_queue_s_stream_keeps_what_it_took() {
        let well = json!({ "subjects": ["q"], "retention": "workqueue", "storage": "file", "discard": "old", "max_age": 0, "max_msgs": -1 });
        let rule = |found: &Value| queue(found, "q");
        for (found, expected) in [
            (json!({}), [].as_slice()),
            (json!({ "subjects": [">"] }), &[]),
            (json!({ "subjects": ["other"] }), &[("subjects", Fail)]),
            (json!({ "subjects": null, "sources": [{ "name": "origin" }] }), &[("subjects", Note)]),
            (json!({ "subjects": null, "mirror": { "name": "origin" } }), &[("subjects", Note)]),
            (json!({ "storage": "memory" }), &[("storage", Fail)]),
            (json!({ "persist_mode": "async" }), &[("persist_mode", Fail)]),
            (json!({ "no_ack": true, "sealed": true }), &[("no_ack", Fail), ("sealed", Fail)]),
            (json!({ "retention": "limits" }), &[("retention", Note)]),
            (json!({ "retention": "interest" }), &[("retention", Warn)]),
            (
                json!({ "max_age": 1, "max_msgs": 1, "max_bytes": 1 }),
                &[("max_age", Fail), ("max_msgs", Fail), ("max_bytes", Fail)],
            ),
            (json!({ "max_age": 1, "max_msgs": 1, "max_bytes": 1, "discard": "new" }), &[("max_age", Fail)]),
            (json!({ "max_msgs_per_subject": 1, "discard": "new" }), &[("max_msgs_per_subject", Fail)]),
            (json!({ "max_msgs_per_subject": 1, "discard": "new", "discard_new_per_subject": true }), &[]),
            (json!({ "max_msg_size": 1 }), &[]),
        ] {
            check(rule, &well, found, expected);
        }
    }

    #[test]
    fn retries_have_no_limits_and_dead_letters_may() {
        let well = json!({ "retention": "workqueue", "storage": "file", "discard": "old", "max_age": 0, "max_msg_size": -1 });
        for (found, expected) in [
            (json!({}), [].as_slice()),
            (json!({ "retention": "interest" }), &[("retention", Fail)]),
            (json!({ "retention": "limits" }), &[("retention", Warn)]),
            (json!({ "max_age": 1 }), &[("max_age", Fail)]),
            (json!({ "max_msg_size": 9 }), &[("max_msg_size", Warn)]),
        ] {
            check(retries, &well, found, expected);
        }
        let well = json!({ "retention": "limits", "storage": "file", "discard": "old", "max_age": 1, "max_bytes": 1 });
        for (found, expected) in [
            (json!({}), [].as_slice()),
            (json!({ "storage": "memory" }), &[("storage", Fail)]),
            (json!({ "retention": "workqueue" }), &[("retention", Warn)]),
            (json!({ "retention": "interest" }), &[("retention", Fail)]),
            (json!({ "discard": "new" }), &[("discard", Warn)]),
            (json!({ "discard": "new", "max_age": 0, "max_bytes": -1 }), &[]),
        ] {
            check(dead, &well, found, expected);
        }
    }

    #[test]
    fn a_consumer_gives_everything_until_it_is_acknowledged() {
        let stream = json!({ "subjects": ["q", "other"] });
        let well = json!({ "filter_subject": "q", "ack_policy": "explicit", "max_deliver": -1 });
        let rule = |found: &Value| consumer(found, "q", &stream);
        for (found, expected) in [
            (json!({}), [].as_slice()),
            (json!({ "filter_subject": "" }), &[("filter_subject", Warn)]),
            (json!({ "filter_subject": ">" }), &[("filter_subject", Warn)]),
            (json!({ "filter_subject": "other" }), &[("filter_subject", Fail)]),
            (json!({ "max_deliver": 7, "backoff": [1] }), &[("backoff", Warn), ("max_deliver", Fail)]),
            (
                json!({ "mem_storage": true, "inactive_threshold": 1 }),
                &[("mem_storage", Note), ("inactive_threshold", Note)],
            ),
        ] {
            check(rule, &well, found, expected);
        }
        let everything = json!({ "subjects": ["q"] });
        check(|found| consumer(found, "q", &everything), &well, json!({ "filter_subject": "" }), &[]);
    }

    #[test]
    fn what_cannot_be_pulled_from_is_told() {
        for (found, can) in [
            (json!({ "ack_policy": "explicit" }), true),
            (json!({ "ack_policy": "explicit", "deliver_subject": "x" }), false),
            (json!({ "ack_policy": "none" }), false),
            (json!({ "ack_policy": "explicit", "headers_only": true }), false),
            (json!({ "ack_policy": "explicit", "priority_groups": ["a"] }), false),
        ] {
            assert_eq!(unusable(&found).is_none(), can, "{found}");
        }
    }

    #[test]
    fn a_lease_is_what_the_consumer_makes_of_it() {
        for (found, seconds) in [
            (json!({}), 30),
            (json!({ "ack_wait": 60_000_000_000_u64 }), 60),
            (json!({ "ack_wait": 60_000_000_000_u64, "backoff": [90_000_000_000_u64, 2_000_000_000] }), 2),
        ] {
            assert_eq!(lease(&found), Duration::from_secs(seconds), "{found}");
        }
        assert_eq!(duplicate_window(Duration::from_secs(60)), Duration::from_secs(600));
        assert_eq!(duplicate_window(Duration::from_secs(600)), Duration::from_secs(1800));
        assert_eq!(possible_window(DUPLICATE_WINDOW, Duration::from_secs(60)), Duration::from_secs(60));
    }
}
