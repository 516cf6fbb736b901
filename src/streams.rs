//! The streams and consumers of a queue. The queue's own stream is created when it is missing and never reshaped; of the
//! others only what a promise needs is changed; nothing is deleted and made again.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    config::{Config, Deliver, Queue, RetryTimer},
    jetstream::{ApiError, JetStream, nanoseconds},
    names::{Names, covers},
    timer::Timer,
};

/// A clone's id is remembered at least this long, so that a parent that is delivered again is recognised.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(600);
/// How many deliveries of a consumer may be unacknowledged, over all workers.
const MAX_ACK_PENDING: u64 = 10_000;

/// A shorter lease would end before it could be renewed.
const LEAST_ACK_WAIT: Duration = Duration::from_secs(1);

mod code {
    pub const STREAM_NOT_FOUND: u64 = 10059;
    pub const CONSUMER_NOT_FOUND: u64 = 10014;
    pub const NO_JETSTREAM_FOR_ACCOUNT: u64 = 10039;
}

/// Why the queue cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The broker did not answer; it may later.
    #[error("{0}")]
    NotNow(String),
    /// It cannot work like this.
    #[error("{0}")]
    Never(String),
}

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
}

/// What stands ready.
#[derive(Debug, Clone)]
pub struct Ready {
    /// The consumer of fresh invocations.
    pub fresh: Bound,
    /// The consumer of due retries.
    pub due: Bound,
    /// What brings retries back.
    pub timer: Timer,
}

/// The first part of the queue that is gone, in words.
///
/// # Errors
/// See [`ApiError`]: where the broker does not say.
pub async fn missing(jetstream: &JetStream, ready: &Ready, dead: Option<&str>) -> Result<Option<String>, ApiError> {
    let consumers = [&ready.fresh, &ready.due].map(|bound| {
        (format!("consumer {} of stream {}", bound.consumer, bound.stream), format!("CONSUMER.INFO.{}.{}", bound.stream, bound.consumer))
    });
    let dead = dead.map(|stream| (format!("stream {stream}"), format!("STREAM.INFO.{stream}")));
    for (what, call) in consumers.into_iter().chain(dead) {
        match jetstream.api(&call, &json!({})).await {
            Ok(_) => {}
            Err(ApiError::Refused { code: code::STREAM_NOT_FOUND | code::CONSUMER_NOT_FOUND, .. }) => return Ok(Some(what)),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Brings about, or with `nats_manage=false` only looks for, everything the queue needs.
///
/// # Errors
/// See [`SetupError`].
pub async fn ensure(jetstream: &JetStream, config: &Config, settings: &Queue, names: &Names) -> Result<Ready, SetupError> {
    let setup = Setup { jetstream, config, settings, names };
    let timer = setup.timer()?;
    let queue = setup.queue_stream().await?;
    setup.retries_stream().await?;
    if config.dead_letters.enabled {
        setup.dead_stream().await?;
    }
    let fresh = setup.consumer(&names.stream, &settings.durable, &settings.filter_subject, setup.deliver(&queue)).await?;
    let due = setup.consumer(&names.retries, "due", &names.due_subjects(), Some("all")).await?;
    Ok(Ready { fresh, due, timer })
}

struct Setup<'a> {
    jetstream: &'a JetStream,
    config: &'a Config,
    settings: &'a Queue,
    names: &'a Names,
}

impl Setup<'_> {
    fn timer(&self) -> Result<Timer, SetupError> {
        let client = self.jetstream.client();
        let (needed, schedules) = match self.config.retry_timer {
            RetryTimer::Auto => ("2.14.0", client.is_server_compatible(2, 14, 0)),
            RetryTimer::Schedules => ("2.12.9", client.is_server_compatible(2, 12, 9)),
        };
        if schedules {
            return Ok(Timer::Schedules);
        }
        Err(SetupError::Never(format!(
            "NATS {} cannot schedule messages: NATS {needed} or newer is needed to park retries",
            client.server_info().version
        )))
    }

    async fn queue_stream(&self) -> Result<Value, SetupError> {
        let subject = self.settings.subject();
        let replicas = self.config.nats.stream_replicas;
        let wanted = json!({
            "name": self.names.stream, "subjects": [subject], "retention": "workqueue", "storage": "file", "num_replicas": replicas,
        });
        let found = self.stream(&self.names.stream, wanted).await?;
        if found
            .get("subjects")
            .and_then(Value::as_array)
            .is_some_and(|subjects| !subjects.iter().filter_map(Value::as_str).any(|taken| covers(taken, subject)))
        {
            tracing::warn!(stream = self.names.stream, subject, "the stream does not take what is published on the queue's subject");
        }
        // What a stream with a limit does not take at all, its publisher hears of.
        if found.get("discard").and_then(Value::as_str) != Some("new") {
            warn_of_limits(&self.names.stream, &found);
        }
        Ok(found)
    }

    async fn retries_stream(&self) -> Result<(), SetupError> {
        let stream = &self.names.retries;
        let window = self.duplicate_window();
        let wanted = json!({
            "name": stream, "subjects": [self.names.retries_subjects()], "retention": "workqueue", "storage": "file",
            "num_replicas": self.config.nats.stream_replicas, "duplicate_window": window, "allow_direct": true, "allow_msg_schedules": true,
        });
        let found = self.stream(stream, wanted).await?;
        belongs(stream, &found, &self.names.retries_subjects())?;
        warn_of_limits(stream, &found);
        let found = self.amend(stream, found, &[("duplicate_window", window)], true).await?;
        if found.get("allow_msg_schedules").and_then(Value::as_bool) == Some(true) {
            return Ok(());
        }
        Err(SetupError::Never(format!(
            "stream {stream} does not allow message schedules (NATS {}): NATS 2.14 or newer is needed, and allow_msg_schedules in the stream's configuration",
            self.jetstream.client().server_info().version
        )))
    }

    async fn dead_stream(&self) -> Result<(), SetupError> {
        let letters = &self.config.dead_letters;
        let window = self.duplicate_window();
        let max_age = nanoseconds(letters.max_age);
        let wanted = json!({
            "name": self.names.dead, "subjects": [self.names.dead_subjects()], "retention": "limits", "storage": "file",
            "num_replicas": self.config.nats.stream_replicas, "allow_direct": true,
            // A window longer than the messages' age is refused.
            "duplicate_window": if max_age > 0 { window.min(max_age) } else { window }, "max_age": max_age,
            "max_bytes": if letters.max_bytes == 0 { json!(-1) } else { json!(letters.max_bytes) },
        });
        let found = self.stream(&self.names.dead, wanted).await?;
        belongs(&self.names.dead, &found, &self.names.dead_subjects())?;
        let max_age = found.get("max_age").and_then(Value::as_u64).unwrap_or_default();
        let window = if max_age > 0 { window.min(max_age) } else { window };
        self.amend(&self.names.dead, found, &[("duplicate_window", window)], false).await.map(|_| ())
    }

    /// Long enough that a message which is delivered again after `ack_wait` still finds its successor's id.
    fn duplicate_window(&self) -> u64 {
        nanoseconds(DUPLICATE_WINDOW.max(self.config.ack_wait.saturating_mul(3)))
    }

    /// The stream's configuration; made as `wanted` if there is none.
    async fn stream(&self, stream: &str, wanted: Value) -> Result<Value, SetupError> {
        let found = match self.jetstream.api(&format!("STREAM.INFO.{stream}"), &json!({})).await {
            Err(ApiError::Refused { code: code::STREAM_NOT_FOUND, .. }) if !self.config.nats.manage => {
                return Err(SetupError::Never(format!("there is no stream {stream}, and nats_manage=false: create it as {wanted}")));
            }
            Err(ApiError::Refused { code: code::STREAM_NOT_FOUND, .. }) => {
                let made = self.jetstream.api(&format!("STREAM.CREATE.{stream}"), &wanted).await;
                let made = made.map_err(|error| explain(&error, &format!("stream {stream} cannot be created")))?;
                tracing::info!(stream, "created the stream");
                made
            }
            other => other.map_err(|error| explain(&error, &format!("stream {stream}")))?,
        };
        found.get("config").cloned().ok_or_else(|| SetupError::NotNow(format!("stream {stream}: an answer without its configuration")))
    }

    /// Raises what is lower than `least`, and with `schedules` turns schedules on. All else stays as it was found.
    async fn amend(&self, stream: &str, found: Value, least: &[(&str, u64)], schedules: bool) -> Result<Value, SetupError> {
        let mut wanted = found.clone();
        if let Some(settings) = wanted.as_object_mut() {
            for (name, value) in least {
                if settings.get(*name).and_then(Value::as_u64).unwrap_or_default() < *value {
                    settings.insert((*name).to_owned(), json!(value));
                }
            }
            if schedules {
                settings.insert("allow_msg_schedules".to_owned(), json!(true));
            }
        }
        if wanted == found {
            return Ok(found);
        }
        if !self.config.nats.manage {
            tracing::warn!(stream, "the stream lacks settings that the promises rest on, and nats_manage=false keeps them so");
            return Ok(found);
        }
        let updated = self.jetstream.api(&format!("STREAM.UPDATE.{stream}"), &wanted).await;
        let updated = updated.map_err(|error| explain(&error, &format!("stream {stream} cannot be updated")))?;
        tracing::info!(stream, "updated the stream");
        Ok(updated.get("config").cloned().unwrap_or(found))
    }

    /// Where a new durable starts on the queue's stream; `None` where it cannot be known.
    fn deliver(&self, queue: &Value) -> Option<&'static str> {
        if queue.get("retention").and_then(Value::as_str) == Some("workqueue") {
            return Some("all");
        }
        self.settings.deliver.map(|deliver| match deliver {
            Deliver::New => "new",
            Deliver::All => "all",
        })
    }

    async fn consumer(&self, stream: &str, consumer: &str, filter: &str, deliver: Option<&str>) -> Result<Bound, SetupError> {
        let least_pending = u64::try_from(self.config.max_inflight).unwrap_or(u64::MAX / 4).saturating_mul(4);
        let found = match self.jetstream.api(&format!("CONSUMER.INFO.{stream}.{consumer}"), &json!({})).await {
            Err(ApiError::Refused { code: code::CONSUMER_NOT_FOUND, .. }) => {
                let Some(deliver) = deliver else {
                    return Err(SetupError::Never(format!(
                        "stream {stream} is no work queue and has no consumer {consumer} yet: set nats_deliver to new (only what arrives from now on) or all (everything stored)"
                    )));
                };
                let wanted = json!({
                    "durable_name": consumer, "filter_subject": filter, "deliver_policy": deliver, "ack_policy": "explicit", "replay_policy": "instant",
                    "ack_wait": nanoseconds(self.config.ack_wait), "max_deliver": -1, "max_ack_pending": least_pending.max(MAX_ACK_PENDING),
                });
                if !self.config.nats.manage {
                    return Err(SetupError::Never(format!(
                        "stream {stream} has no consumer {consumer}, and nats_manage=false: create it as {wanted}"
                    )));
                }
                self.write_consumer(stream, consumer, wanted).await?
            }
            other => other.map_err(|error| explain(&error, &format!("consumer {consumer} of stream {stream}")))?,
        };
        let settings = found.get("config").cloned().unwrap_or_default();
        let settings = self.adapt(stream, consumer, settings, filter, least_pending).await?;
        let ack_wait = Duration::from_nanos(settings.get("ack_wait").and_then(Value::as_u64).unwrap_or(30_000_000_000));
        // A consumer's back-off list takes the place of its ack_wait.
        let backoff = settings.get("backoff").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_u64).min();
        let ack_wait = backoff.map_or(ack_wait, |least| ack_wait.min(Duration::from_nanos(least)));
        if ack_wait < LEAST_ACK_WAIT {
            return Err(SetupError::Never(format!(
                "consumer {consumer} of stream {stream} delivers again after {ack_wait:?}: no call could keep its lease; at least {LEAST_ACK_WAIT:?} is needed"
            )));
        }
        let most = |name: &str| settings.get(name).and_then(Value::as_u64).filter(|most| *most > 0).unwrap_or(u64::MAX);
        Ok(Bound {
            stream: stream.to_owned(),
            consumer: consumer.to_owned(),
            ack_wait,
            max_batch: usize::try_from(most("max_batch")).unwrap_or(usize::MAX),
            max_expires: Duration::from_nanos(most("max_expires")),
        })
    }

    /// Brings an existing consumer's `ack_wait` and `max_ack_pending` up to what is needed, and warns of the rest.
    async fn adapt(&self, stream: &str, consumer: &str, found: Value, filter: &str, least_pending: u64) -> Result<Value, SetupError> {
        let text = |name: &str| found.get(name).and_then(Value::as_str).unwrap_or_default();
        let number = |name: &str| found.get(name).and_then(Value::as_i64).unwrap_or_default();
        if !text("deliver_subject").is_empty() || text("ack_policy") != "explicit" {
            return Err(SetupError::Never(format!(
                "consumer {consumer} of stream {stream} is no pull consumer with explicit acks; set nats_durable to another name"
            )));
        }
        let list = |name: &str| found.get(name).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
        // Without the payload a message cannot be read, and would end as one that never could.
        if found.get("headers_only").and_then(Value::as_bool) == Some(true) || list("priority_groups") {
            return Err(SetupError::Never(format!(
                "consumer {consumer} of stream {stream} gives no payloads or wants priority groups; set nats_durable to another name"
            )));
        }
        if list("backoff") {
            tracing::warn!(stream, consumer, "the consumer has a backoff list, which takes the place of ack_wait; it is used as found");
        }
        if text("filter_subject") != filter {
            tracing::warn!(
                stream,
                consumer,
                found = text("filter_subject"),
                wanted = filter,
                "the consumer has another filter; it is used as found"
            );
        }
        if number("max_deliver") > 0 {
            tracing::warn!(
                stream,
                consumer,
                max_deliver = number("max_deliver"),
                "the consumer gives a message up after so many deliveries; it is used as found"
            );
        }
        let mut wanted = found.clone();
        if let Some(settings) = wanted.as_object_mut() {
            if !list("backoff") {
                settings.insert("ack_wait".to_owned(), json!(nanoseconds(self.config.ack_wait)));
            }
            if number("max_ack_pending") >= 0 && number("max_ack_pending").unsigned_abs() < least_pending {
                settings.insert("max_ack_pending".to_owned(), json!(least_pending));
            }
        }
        if wanted == found {
            return Ok(found);
        }
        if !self.config.nats.manage {
            tracing::warn!(stream, consumer, "the consumer's ack_wait or max_ack_pending differ from the settings; it is used as found");
            return Ok(found);
        }
        let updated = self.write_consumer(stream, consumer, wanted).await?;
        tracing::info!(stream, consumer, "updated the consumer's ack_wait or max_ack_pending");
        Ok(updated.get("config").cloned().unwrap_or(found))
    }

    async fn write_consumer(&self, stream: &str, consumer: &str, config: Value) -> Result<Value, SetupError> {
        let question = json!({ "stream_name": stream, "config": config });
        let answer = self.jetstream.api(&format!("CONSUMER.DURABLE.CREATE.{stream}.{consumer}"), &question).await;
        answer.map_err(|error| explain(&error, &format!("consumer {consumer} of stream {stream} cannot be written")))
    }
}

fn explain(error: &ApiError, what: &str) -> SetupError {
    match error {
        ApiError::Silent(error) => SetupError::NotNow(format!("{what}: {error}")),
        ApiError::NoJetStream => SetupError::NotNow(format!("{what}: {error}")),
        ApiError::Refused { code: code::NO_JETSTREAM_FOR_ACCOUNT, .. } => SetupError::Never(format!("JetStream is not enabled: {error}")),
        // 10008 and its like: the cluster has no leader yet.
        ApiError::Refused { description, .. } if description.contains("temporarily unavailable") => {
            SetupError::NotNow(format!("{what}: {error}"))
        }
        ApiError::Refused { .. } => SetupError::Never(format!("{what}: {error}")),
    }
}

/// Says which limits of a stream may lose messages.
fn warn_of_limits(stream: &str, found: &Value) {
    for limit in ["max_age", "max_msgs", "max_bytes", "max_msgs_per_subject"] {
        if found.get(limit).and_then(Value::as_i64).unwrap_or_default() > 0 {
            tracing::warn!(stream, limit, "the stream has a limit: what exceeds it is lost");
        }
    }
}

/// Another queue's streams may have the same names: `a.b` and `a_b` make the same.
fn belongs(stream: &str, found: &Value, subjects: &str) -> Result<(), SetupError> {
    let taken = found.get("subjects").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let taken: Vec<_> = taken.collect();
    if taken.contains(&subjects) {
        return Ok(());
    }
    Err(SetupError::Never(format!(
        "stream {stream} takes {} and not {subjects}: it is another queue's; choose another queue_name",
        taken.join(", ")
    )))
}
