//! The streams and consumers of a queue. The queue's own stream is created when it is missing and never reshaped; of the
//! others only what a promise needs is changed; nothing is deleted and made again.

mod consumers;

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    advice::{Advice, Facts, advice, version},
    config::{Config, Deliver, Queue, RetryTimer},
    consumer::Bound,
    jetstream::{ApiError, JetStream, nanoseconds},
    levels,
    names::{Names, covers},
    timer::{self, Timer},
};

/// A clone's id is remembered at least this long, so that a parent that is delivered again is recognised.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(600);

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

/// What stands ready.
#[derive(Debug, Clone)]
pub struct Ready {
    /// The consumer of fresh invocations.
    pub fresh: Bound,
    /// The consumer of due retries.
    pub due: Bound,
    /// What brings retries back.
    pub timer: Timer,
    /// Why it is this timer.
    pub why: &'static str,
    /// What the operator should know.
    pub advice: Vec<Advice>,
}

impl Ready {
    /// Says what the operator should know.
    pub fn advise(&self, queue: &str) {
        for Advice { grave, text } in &self.advice {
            if *grave {
                tracing::warn!(queue, "{text}");
            } else {
                tracing::info!(queue, "{text}");
            }
        }
    }
}

/// The first part of the queue that is gone, in words.
///
/// # Errors
/// See [`ApiError`]: where the broker does not say.
pub async fn missing(jetstream: &JetStream, names: &Names, ready: &Ready, dead: Option<&str>) -> Result<Option<String>, ApiError> {
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
    if ready.timer == Timer::Schedules {
        return Ok(None);
    }
    let found = levels::look(jetstream, names).await?;
    Ok(levels::absent(&found).next().map(|k| format!("consumer {} of stream {}", Names::level_consumer(k), names.retries)))
}

/// Brings about, or with `nats_manage=false` only looks for, everything the queue needs.
///
/// # Errors
/// See [`SetupError`].
pub async fn ensure(jetstream: &JetStream, config: &Config, settings: &Queue, names: &Names) -> Result<Ready, SetupError> {
    let setup = Setup { jetstream, config, settings, names };
    let server = version(&jetstream.client().server_info().version);
    let schedules = timer::wants_schedules(config.retry_timer, server).map_err(SetupError::Never)?;
    let queue = setup.queue_stream().await?;
    let retries = setup.retries_stream(schedules).await?;
    if config.dead_letters.enabled {
        setup.dead_stream().await?;
    }
    let allowed = retries.get("allow_msg_schedules").and_then(Value::as_bool) == Some(true);
    let (timer, why) = timer::choose(config.retry_timer, server, allowed)
        .map_err(|reason| SetupError::Never(format!("stream {}: {reason}", names.retries)))?;
    let fresh = setup.consumer(&names.stream, &settings.durable, &settings.filter_subject, setup.deliver(&queue)).await?;
    let due = setup.consumer(&names.retries, "due", &names.due_subjects(), Some("all")).await?;
    if timer == Timer::Levels {
        setup.levels().await?;
    }
    let replicas = |stream: &Value| stream.get("num_replicas").and_then(Value::as_u64).unwrap_or(1);
    let facts = Facts {
        server,
        schedules: allowed,
        discard_new: retries.get("discard").and_then(Value::as_str) == Some("new"),
        replicas: replicas(&queue).min(replicas(&retries)),
    };
    Ok(Ready { fresh, due, timer, why, advice: advice(&facts) })
}

struct Setup<'a> {
    jetstream: &'a JetStream,
    config: &'a Config,
    settings: &'a Queue,
    names: &'a Names,
}

impl Setup<'_> {
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

    /// The stream of retries, with message schedules where they are wanted and can be had. One that has them keeps them: they
    /// cannot be turned off.
    async fn retries_stream(&self, schedules: bool) -> Result<Value, SetupError> {
        let stream = &self.names.retries;
        let window = self.duplicate_window();
        let mut wanted = json!({
            "name": stream, "subjects": [self.names.retries_subjects()], "retention": "workqueue", "storage": "file",
            "num_replicas": self.config.nats.stream_replicas, "duplicate_window": window, "allow_direct": true,
        });
        if let Some(settings) = wanted.as_object_mut().filter(|_| schedules) {
            settings.insert("allow_msg_schedules".to_owned(), json!(true));
        }
        let found = self.stream(stream, wanted).await?;
        belongs(stream, &found, &self.names.retries_subjects())?;
        warn_of_limits(stream, &found);
        let found = self.amend(stream, found, &[("duplicate_window", window)], false).await?;
        if !schedules {
            return Ok(found);
        }
        match self.amend(stream, found.clone(), &[], true).await {
            // A stream that cannot have them, because it discards what is new or mirrors another, still has levels.
            Err(SetupError::Never(reason)) if self.config.retry_timer == RetryTimer::Auto => {
                tracing::warn!(stream, reason, "the stream cannot have message schedules");
                Ok(found)
            }
            other => other,
        }
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
        let found = match self.jetstream.stream(stream).await {
            Err(ApiError::Refused { code: code::STREAM_NOT_FOUND, .. }) if !self.config.nats.manage => {
                return Err(SetupError::Never(format!("there is no stream {stream}, and nats_manage=false: create it as {wanted}")));
            }
            Err(ApiError::Refused { code: code::STREAM_NOT_FOUND, .. }) => self.make_stream(stream, &wanted).await?,
            other => other.map_err(|error| explain(&error, &format!("stream {stream}")))?,
        };
        found.get("config").cloned().ok_or_else(|| SetupError::NotNow(format!("stream {stream}: an answer without its configuration")))
    }

    /// Makes the stream, unless another worker is quicker. What a broker says then differs: that the name is in use, or that
    /// the subjects overlap with those of what the other has just made.
    async fn make_stream(&self, stream: &str, wanted: &Value) -> Result<Value, SetupError> {
        let refused = match self.jetstream.api(&format!("STREAM.CREATE.{stream}"), wanted).await {
            Ok(made) => {
                tracing::info!(stream, "created the stream");
                return Ok(made);
            }
            Err(refused) => refused,
        };
        self.jetstream.stream(stream).await.map_err(|error| match error {
            ApiError::Refused { code: code::STREAM_NOT_FOUND, .. } => explain(&refused, &format!("stream {stream} cannot be created")),
            error => explain(&error, &format!("stream {stream}")),
        })
    }

    /// Raises what is lower than `least`, and with `schedules` turns message schedules on. All else stays as it was found.
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
