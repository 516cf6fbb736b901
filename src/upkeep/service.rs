//! Answers `nats micro`: each worker says that it is there, and what it has done (NATS's ADR-32).

use std::{convert::Infallible, future::pending, time::SystemTime};

use async_nats::Message;
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::{
    broker::{connect::Denials, jetstream::JetStream},
    message::envelope::rfc3339,
    observe::metrics::{Made, Metrics},
    tasks::error_backoff::ErrorBackoff,
};

/// The name that all workers share.
const NAME: &str = "queue-worker";
/// Where services are asked. It has to be one right, and one complaint where that is missing.
const SUBJECTS: &str = "$SRV.>";
/// The pause before it is listened again, at first and at most.
const PAUSE: (std::time::Duration, std::time::Duration) =
    (std::time::Duration::from_millis(100), std::time::Duration::from_secs(5));

/// A worker, as `nats micro` knows it.
#[derive(Debug, Clone)]
pub struct Service {
    /// The broker.
    pub jetstream: JetStream,
    /// What the broker denies.
    pub denied: Denials,
    /// No other has this id.
    pub id: String,
    /// The worker's name.
    pub worker: String,
    /// When it started.
    pub started: SystemTime,
    /// Its queues.
    pub endpoints: Vec<Endpoint>,
}

/// A queue, as an endpoint.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Its name.
    pub queue: String,
    /// The subject that it takes.
    pub subject: String,
    /// Its stream.
    pub stream: String,
    /// Its consumer.
    pub durable: String,
    /// What was done for it.
    pub metrics: Metrics,
}

/// An id that no other worker has.
pub fn id() -> String {
    const LETTERS: u8 = 36;
    let digit = |_| char::from_digit(u32::from(rand::random::<u8>() % LETTERS), u32::from(LETTERS));
    (0..22).filter_map(digit).collect()
}

impl Service {
    /// Answers until dropped. A client that ended is replaced, and listened on again.
    pub async fn run(self) -> Infallible {
        let mut pause = ErrorBackoff::new(PAUSE);
        loop {
            tokio::select! {
                () = self.listen(&mut pause) => pause.rest().await,
                () = self.may_not() => {
                    tracing::info!(
                        needs = format!("subscribe {SUBJECTS}"),
                        "nats micro does not list this worker: its login may not listen there"
                    );
                    return pending().await;
                }
            }
        }
    }

    async fn listen(&self, pause: &mut ErrorBackoff) {
        let client = self.jetstream.client();
        let Ok(mut questions) = client.subscribe(SUBJECTS).await else { return };
        while let Some(Message { subject, reply, .. }) = questions.next().await {
            pause.reset();
            if let (Some(reply), Some(answer)) = (reply, self.answer(&subject)) {
                // Whoever asked asks again.
                let _ = client.publish(reply, answer.to_string().into()).await;
            }
        }
    }

    /// Returns when the broker does not let it listen.
    async fn may_not(&self) {
        self.denied.first(|complaint| complaint.contains(&format!("\"{SUBJECTS}\""))).await;
    }

    /// What there is to say to a question on this subject, if it is for this worker.
    fn answer(&self, subject: &str) -> Option<Value> {
        let mut words = subject.strip_prefix("$SRV.")?.split('.');
        let verb = words.next()?;
        let is_meant = words.next().is_none_or(|name| name.eq_ignore_ascii_case(NAME))
            && words.next().is_none_or(|id| id.eq_ignore_ascii_case(&self.id))
            && words.next().is_none();
        let (kind, more) = match verb {
            _ if !is_meant => return None,
            "PING" => ("ping", json!({})),
            "INFO" => {
                let endpoints: Vec<_> = self.endpoints.iter().map(Endpoint::info).collect();
                let description = "Calls functions and services for the messages of its queues";
                ("info", json!({ "description": description, "endpoints": endpoints }))
            }
            "STATS" => {
                let endpoints: Vec<_> = self.endpoints.iter().map(Endpoint::stats).collect();
                ("stats", json!({ "started": rfc3339(self.started), "endpoints": endpoints }))
            }
            _ => return None,
        };
        let queues: Vec<_> = self.endpoints.iter().map(|endpoint| endpoint.queue.as_str()).collect();
        let mut answer = json!({
            "type": format!("io.nats.micro.v1.{kind}_response"), "name": NAME, "id": self.id,
            "version": env!("CARGO_PKG_VERSION"),
            "metadata": { "worker": self.worker, "queues": queues.join(",") },
        });
        if let (Value::Object(answer), Value::Object(more)) = (&mut answer, more) {
            answer.extend(more);
        }
        Some(answer)
    }
}

impl Endpoint {
    /// Its name in letters that such a name may have.
    fn name(&self) -> String {
        let letter = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' };
        self.queue.chars().map(letter).collect()
    }

    fn info(&self) -> Value {
        json!({
            "name": self.name(), "subject": self.subject, "queue_group": self.durable,
            "metadata": { "queue": self.queue, "stream": self.stream },
        })
    }

    /// Its calls are what such statistics call requests.
    fn stats(&self) -> Value {
        let Made { calls, failed, took } = self.metrics.made();
        let average = took.checked_div(u32::try_from(calls).unwrap_or(u32::MAX)).unwrap_or_default();
        json!({
            "name": self.name(), "subject": self.subject, "queue_group": self.durable,
            "num_requests": calls, "num_errors": failed, "last_error": "",
            "processing_time": nanoseconds(took), "average_processing_time": nanoseconds(average),
        })
    }
}

fn nanoseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
