//! The consumers of a queue: made when they are missing; of one that is there only its lease and its room are set.

use std::time::Duration;

use futures_util::{TryStreamExt, stream::FuturesUnordered};
use serde_json::{Value, json};

use super::{Setup, SetupError, code, explain};
use crate::{
    consumer::Bound,
    jetstream::{ApiError, nanoseconds},
    levels,
    names::Names,
};

/// How many deliveries of a consumer may be unacknowledged, over all workers.
const MAX_ACK_PENDING: u64 = 10_000;
/// A shorter lease would end before it could be renewed.
const LEAST_ACK_WAIT: Duration = Duration::from_secs(1);

impl Setup<'_> {
    pub(super) async fn consumer(&self, stream: &str, consumer: &str, filter: &str, deliver: Option<&str>) -> Result<Bound, SetupError> {
        let least_pending = u64::try_from(self.config.max_inflight).unwrap_or(u64::MAX / 4).saturating_mul(4);
        let found = match self.jetstream.consumer(stream, consumer).await {
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
                    return Err(no_consumer(stream, consumer, &wanted));
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

    /// The consumers of the levels: one look, and only what is missing is made.
    pub(super) async fn levels(&self) -> Result<(), SetupError> {
        let stream = &self.names.retries;
        let found = levels::look(self.jetstream, self.names).await;
        let found = found.map_err(|error| explain(&error, &format!("the consumers of stream {stream}")))?;
        let mut wanted = levels::absent(&found).map(|k| {
            let consumer = Names::level_consumer(k);
            let settings = json!({
                "durable_name": consumer, "filter_subject": self.names.level_subjects(k), "deliver_policy": "all", "ack_policy": "explicit",
                "replay_policy": "instant", "ack_wait": nanoseconds(levels::ACK_WAIT), "max_deliver": -1, "max_ack_pending": MAX_ACK_PENDING,
            });
            (consumer, settings)
        });
        if !self.config.nats.manage {
            return wanted.next().map_or(Ok(()), |(consumer, settings)| Err(no_consumer(stream, &consumer, &settings)));
        }
        let made = wanted.map(|(consumer, settings)| async move { self.write_consumer(stream, &consumer, settings).await.map(|_| ()) });
        made.collect::<FuturesUnordered<_>>().try_collect().await
    }
}

fn no_consumer(stream: &str, consumer: &str, wanted: &Value) -> SetupError {
    SetupError::Never(format!("stream {stream} has no consumer {consumer}, and nats_manage=false: create it as {wanted}"))
}
