//! The streams and consumers that are made where there are none, in the API's own words.

use std::time::Duration;

use serde_json::json;

use super::rules::{duplicate_window, least_pending, possible_window};
use crate::{
    broker::{
        jetstream::{Settings, nanoseconds},
        levels, timer_choice,
        version::Version,
    },
    config::{Config, Deliver, Queue},
    message::{
        decode::FunctionName,
        names::{DUE_CONSUMER, Names},
    },
};

/// How many deliveries of a consumer may be unacknowledged, over all workers.
const MAX_ACK_PENDING: u64 = 10_000;

/// The bytes that records of operations may take: many times what they do.
const OPERATIONS: u64 = 32 << 20;

/// The stream of fresh invocations.
pub fn queue(config: &Config, queue: &Queue) -> Settings {
    let wanted = json!({
        "name": queue.stream, "subjects": [queue.subject()], "retention": "workqueue", "storage": "file",
        "num_replicas": config.nats.stream_replicas,
    });
    sized(wanted.into(), config.nats.stream_max_bytes)
}

/// A stream with a size, if there is one: full, it refuses what is new, for what is old was accepted.
fn sized(mut wanted: Settings, max_bytes: u64) -> Settings {
    if max_bytes > 0 {
        wanted.set("max_bytes", max_bytes);
        wanted.set("discard", "new");
    }
    wanted
}

/// Whether a stream of retries is to have message schedules: see `timer_choice::wants_schedules`. One with
/// a size cannot.
///
/// # Errors
/// Where the operator asks for schedules and the server has none.
pub fn schedules(config: &Config, server: Version) -> Result<bool, String> {
    Ok(timer_choice::wants_schedules(config.retry_timer, server)? && config.retries_max_bytes == 0)
}

/// The stream of parked retries.
pub fn retries(config: &Config, names: &Names, schedules: bool) -> Settings {
    let wanted = json!({
        "name": names.retries, "subjects": [names.retries_subjects()], "retention": "workqueue",
        "storage": "file", "num_replicas": config.nats.stream_replicas, "allow_direct": true,
        "duplicate_window": nanoseconds(duplicate_window(config.ack_wait)),
    });
    let mut wanted = Settings::from(wanted);
    if schedules {
        wanted.set("allow_msg_schedules", true);
    }
    sized(wanted, config.retries_max_bytes)
}

/// The stream of dead letters.
pub fn dead(config: &Config, names: &Names) -> Settings {
    let letters = &config.dead_letters;
    let window = possible_window(duplicate_window(config.ack_wait), letters.max_age);
    json!({
        "name": names.dead, "subjects": [names.dead_subjects()], "retention": "limits", "storage": "file",
        "num_replicas": config.nats.stream_replicas, "allow_direct": true,
        "duplicate_window": nanoseconds(window), "max_age": nanoseconds(letters.max_age),
        "max_bytes": if letters.max_bytes == 0 { json!(-1) } else { json!(letters.max_bytes) },
    })
    .into()
}

/// The stream of operations: the latest word about each. None goes by itself: one that waits for somebody to
/// go on with it is silent for long.
pub fn operations(config: &Config, names: &Names) -> Settings {
    json!({
        "name": names.operations, "subjects": [names.operations_subjects()], "retention": "limits",
        "storage": "file", "num_replicas": config.nats.stream_replicas, "allow_direct": true,
        "max_msgs_per_subject": 1, "max_bytes": OPERATIONS, "discard": "new",
    })
    .into()
}

/// How long it is remembered that a call was cancelled, and how many bytes that may take. Full, it refuses
/// more: none is forgotten before its time.
const CANCELS: (Duration, u64) = (Duration::from_secs(168 * 3600), 8 << 20);

/// The stream of what was cancelled.
pub fn cancels(config: &Config, names: &Names) -> Settings {
    let (max_age, max_bytes) = CANCELS;
    json!({
        "name": names.cancels(), "subjects": [names.cancels_subjects()], "retention": "limits",
        "storage": "file", "num_replicas": config.nats.stream_replicas, "allow_direct": true,
        "max_age": nanoseconds(max_age), "max_bytes": max_bytes, "discard": "new",
    })
    .into()
}

/// The stream of the audit: full, it drops what is oldest.
pub fn audit(config: &Config, names: &Names) -> Settings {
    let audit = &config.audit;
    json!({
        "name": names.audit, "subjects": [names.audit_subjects()], "retention": "limits",
        "storage": "file", "num_replicas": config.nats.stream_replicas, "allow_direct": true,
        "max_age": nanoseconds(audit.max_age), "discard": "old",
        "max_bytes": if audit.max_bytes == 0 { json!(-1) } else { json!(audit.max_bytes) },
        // Nothing is published with an id. A server that bounds the window by the age wants it short, too.
        "duplicate_window": nanoseconds(possible_window(Duration::from_secs(1), audit.max_age)),
    })
    .into()
}

/// A consumer as it is to be.
#[derive(Debug, Clone)]
pub struct Consumer {
    /// Its stream.
    pub stream: String,
    /// Its name.
    pub name: String,
    /// The subjects that it takes.
    pub filter: String,
    /// Where it starts; `None` where that cannot be known.
    pub deliver: Option<&'static str>,
}

impl Consumer {
    /// The consumer of fresh invocations, of a stream with these settings.
    pub fn fresh(queue: &Queue, stream: &Settings) -> Self {
        let told = queue.deliver.map(|deliver| match deliver {
            Deliver::New => "new",
            Deliver::All => "all",
        });
        let deliver = if stream.is_work_queue() { Some("all") } else { told };
        Self {
            stream: queue.stream.clone(),
            name: queue.durable.clone(),
            filter: queue.filter_subject.clone(),
            deliver,
        }
    }

    /// The consumer of due retries.
    pub fn due(names: &Names) -> Self {
        Self {
            stream: names.retries.clone(),
            name: DUE_CONSUMER.to_owned(),
            filter: names.due_subjects(),
            deliver: Some("all"),
        }
    }

    /// The consumer of what is held of a paused function.
    pub(crate) fn held(names: &Names, function: &FunctionName) -> Self {
        Self {
            stream: names.retries.clone(),
            name: Names::held_consumer(function),
            filter: names.held_subjects(function),
            deliver: Some("all"),
        }
    }

    /// Its settings, if it is known where it starts.
    pub fn settings(&self, config: &Config) -> Option<Settings> {
        let settings = json!({
            "durable_name": self.name, "filter_subject": self.filter, "deliver_policy": self.deliver?,
            "ack_policy": "explicit", "replay_policy": "instant", "max_deliver": -1,
            "ack_wait": nanoseconds(config.ack_wait),
            "max_ack_pending": least_pending(config.max_inflight).max(MAX_ACK_PENDING),
        });
        Some(settings.into())
    }
}

/// The consumer of level `k`.
pub fn level(names: &Names, k: u32) -> Settings {
    json!({
        "durable_name": Names::level_consumer(k), "filter_subject": names.level_subjects(k),
        "deliver_policy": "all", "ack_policy": "explicit", "replay_policy": "instant", "max_deliver": -1,
        "ack_wait": nanoseconds(levels::ACK_WAIT), "max_ack_pending": MAX_ACK_PENDING,
    })
    .into()
}
