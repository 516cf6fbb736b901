//! The functions that are built in: `chaos-fn` fails when told to, `echo` returns the body, `headers` what it
//! was sent.

use crate::queue_request::canonical;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{StatusCode, request::Parts};
use serde::{Deserialize, Serialize};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[derive(Default)]
pub struct Functions {
    chaos: Mutex<Canned>,
}

/// What `chaos-fn` answers.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default)]
struct Canned {
    status: u16,
    delay: Delay,
    body: String,
}

impl Default for Canned {
    fn default() -> Self {
        Self { status: 200, delay: Delay::Nanoseconds(0), body: String::new() }
    }
}

/// A time as Go's JSON may give it: a number of nanoseconds, or a duration like `1m10s`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Delay {
    Nanoseconds(u64),
    Text(String),
}

impl Functions {
    /// Runs the function `name`, in whatever namespace; nothing where there is none of that name.
    pub async fn call(&self, name: &str, path: &str, request: &Parts, body: Bytes) -> Option<Response> {
        let (name, _) = name.split_once('.').unwrap_or((name, ""));
        match name {
            "chaos-fn" => Some(self.chaos(path, &body).await),
            "echo" => Some(body.into_response()),
            "headers" => {
                let lines = request.headers.iter().map(|(name, value)| {
                    format!("{}: {}\n", canonical(name.as_str()), String::from_utf8_lossy(value.as_bytes()))
                });
                Some(lines.collect::<String>().into_response())
            }
            _ => None,
        }
    }

    async fn chaos(&self, path: &str, body: &[u8]) -> Response {
        let canned = self.canned().clone();
        match path {
            "/set" => match serde_json::from_slice::<Canned>(body) {
                Ok(wanted) if wanted.answers() => {
                    *self.canned() = wanted;
                    StatusCode::ACCEPTED.into_response()
                }
                Ok(_) => bad_json("no status or delay to answer with".to_owned()),
                Err(error) => bad_json(error.to_string()),
            },
            "/get" => serde_json::to_string(&canned).unwrap_or_default().into_response(),
            _ => {
                tokio::time::sleep(canned.delay.duration().unwrap_or_default()).await;
                let status = StatusCode::from_u16(canned.status).unwrap_or_default();
                (status, canned.body).into_response()
            }
        }
    }

    fn canned(&self) -> MutexGuard<'_, Canned> {
        self.chaos.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bad_json(reason: String) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, reason).into_response()
}

impl Canned {
    fn answers(&self) -> bool {
        (200..600).contains(&self.status) && self.delay.duration().is_some()
    }
}

impl Delay {
    /// Nothing where the text is no duration. It takes all that Go takes, and days.
    fn duration(&self) -> Option<Duration> {
        match self {
            Self::Nanoseconds(n) => Some(Duration::from_nanos(*n)),
            Self::Text(text) => humantime::parse_duration(text).ok(),
        }
    }
}
