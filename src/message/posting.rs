//! A callback to be posted: made at the end of an invocation, written into a message when it has to wait, and
//! read again.
//!
//! The message is JSON, all of it this program's own:
//!
//! | key | value |
//! |---|---|
//! | `function`, `callId` | for logs |
//! | `url` | where it goes, with user and password if it has them |
//! | `headers` | name and value of each header, in order; characters stand for a value's bytes |
//! | `body` | the body in base64 |
//! | `annotations` | those of the function's that say how long to wait between retries |
//!
//! The invocation's own figures are among the headers: `X-Function-Status`, `X-Retry`, `X-Duration-Seconds`.
//! Signatures are not, because each POST has its own.

mod wire;

use std::{collections::BTreeMap, fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName};

use wire::Wire;

use crate::{
    message::{
        answer::Answer,
        decode::{FunctionName, Invocation, Undecodable},
        envelope::{Encoding, Envelope},
        gzip,
        http_headers::{HOP_BY_HOP, set},
    },
    retry::{judge::Cause, policy::ANNOTATIONS},
};

/// Headers of an answer that would say something wrong about our request.
const NOT_PASSED_ON: [&str; 3] = ["content-length", "expect", "host"];
/// Room for the headers of the message, in bytes.
const RESERVE: usize = 4096;

/// How an invocation ended, as its caller is told.
#[derive(Debug, Clone, Copy)]
pub struct Ending<'a> {
    /// The invocation.
    pub invocation: &'a Invocation,
    /// Its call id.
    pub call_id: &'a str,
    /// What its function says, in the message or elsewhere.
    pub annotations: &'a BTreeMap<String, String>,
    /// The function's last answer, if it is at hand.
    pub answer: Option<&'a Answer>,
    /// The status: the function's, or one that says why there is none.
    pub status: u16,
    /// How long the last attempt took.
    pub took: Duration,
    /// Whether there was an answer that is no more at hand.
    pub(crate) answer_lost: bool,
    /// Retries made.
    pub retry: u32,
    /// Retries that were allowed.
    pub retry_max: u32,
}

/// A callback: what is posted, and where.
#[derive(Clone, PartialEq, Eq)]
pub struct Posting {
    /// The function that was called.
    pub function: FunctionName,
    /// The call's id.
    pub call_id: String,
    /// Where it goes, as text: it may be no URL at all.
    pub url: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// What the function says about retries.
    pub annotations: BTreeMap<String, String>,
}

impl fmt::Debug for Posting {
    /// Without what callers and functions wrote.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Posting")
            .field("function", &self.function)
            .field("call_id", &self.call_id)
            .finish_non_exhaustive()
    }
}

/// The status that a callback reports where the answer is not at hand: what the last attempt came to.
pub(crate) fn status_of(cause: Option<Cause>, past: &Envelope) -> u16 {
    let known = past.last_status.as_deref().and_then(|status| status.parse().ok());
    match (cause, past.last_attempt()) {
        (Some(Cause::Interrupted), _) => 503,
        (Some(Cause::Cancelled), _) => 499,
        (_, Some(("timeout", _))) => 504,
        _ => known.unwrap_or(503),
    }
}

impl Posting {
    /// The callback of an invocation that ended so, and why its URL cannot be used, if it cannot; `None` if
    /// nobody asked for a callback.
    pub fn of(ending: Ending<'_>) -> Option<(Self, Option<String>)> {
        let invocation = ending.invocation;
        let (url, flaw) = match invocation.callback_url()? {
            Ok(url) => (url.into(), None),
            Err(reason) => (String::new(), Some(reason)),
        };
        let annotations = ending.annotations.iter().filter(|(name, _)| name.starts_with(ANNOTATIONS));
        let posting = Self {
            function: invocation.function.clone(),
            call_id: ending.call_id.to_owned(),
            url,
            headers: headers(ending),
            body: ending.answer.map(|answer| answer.body.clone()).unwrap_or_default(),
            annotations: annotations.map(|(name, value)| (name.clone(), value.clone())).collect(),
        };
        Some((posting, flaw))
    }

    /// Reads what [`pack`](Self::pack) wrote.
    ///
    /// # Errors
    /// Says that it is damaged, and quotes nothing.
    pub fn read(payload: &[u8]) -> Result<Self, Undecodable> {
        let wire = serde_json::from_slice::<Wire>(payload).ok().and_then(Wire::posting);
        wire.ok_or_else(|| Undecodable::new("the parked callback is damaged"))
    }

    /// Writes it as a message that a broker with this maximum takes: compressed if it is too large as it is,
    /// and cut if it is too large even so, which its headers say then. Takes its time over a large one.
    pub fn pack(mut self, max_payload: usize) -> (Bytes, Encoding) {
        let room = max_payload.saturating_sub(RESERVE);
        let body = std::mem::take(&mut self.body);
        let frame = Wire::of(&self).written().len();
        // Base64 makes four bytes of three.
        let whole = frame + body.len().div_ceil(3) * 4;
        self.body = body.clone();
        if whole <= room {
            return (Wire::of(&self).written(), Encoding::Plain);
        }
        if u64::try_from(whole).is_ok_and(|length| length <= gzip::MAX_PAYLOAD) {
            // The plain text, some times as large, is never there as a whole.
            let packed = gzip::pack_from(room, |out| Ok(serde_json::to_writer(out, &Wire::of(&self))?));
            if let Ok(small) = packed {
                return (small, Encoding::Gzip);
            }
        }
        self = self.without_body();
        let mut frame = Wire::of(&self).written().len();
        if frame > room {
            // Answers with such headers are no answers that anybody reads. Ours say how the call ended.
            self.headers = ours(&self.headers);
            frame = Wire::of(&self).written().len();
        }
        let kept = (room.saturating_sub(frame) / 4 * 3).min(body.len());
        self.body = body.slice(..kept);
        (Wire::of(&self).written(), Encoding::Plain)
    }

    /// The same without its body, which its headers say.
    #[must_use]
    pub(crate) fn without_body(&self) -> Self {
        let mut cut = Self { body: Bytes::new(), ..self.clone() };
        set(&mut cut.headers, "x-body-truncated", "true");
        cut
    }
}

fn headers(ending: Ending<'_>) -> HeaderMap {
    let mut headers = ending.answer.map(|answer| answer.headers.clone()).unwrap_or_default();
    let listed: Vec<HeaderName> = headers
        .get_all("connection")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').filter_map(|name| name.trim().parse().ok()))
        .collect();
    for name in HOP_BY_HOP.iter().chain(&NOT_PASSED_ON) {
        headers.remove(*name);
    }
    for name in listed {
        headers.remove(name);
    }
    headers.remove("x-call-id");
    set(&mut headers, "x-call-id", ending.call_id);
    set(&mut headers, "x-function-name", ending.invocation.function.as_str());
    set(&mut headers, "x-function-status", &ending.status.to_string());
    set(&mut headers, "x-duration-seconds", &format!("{:.6}", ending.took.as_secs_f64()));
    set(&mut headers, "x-retry", &ending.retry.to_string());
    set(&mut headers, "x-retry-max", &ending.retry_max.to_string());
    set(&mut headers, "user-agent", concat!("queue-worker/", env!("CARGO_PKG_VERSION")));
    if ending.answer_lost || ending.answer.is_some_and(|answer| answer.truncated) {
        set(&mut headers, "x-body-truncated", "true");
    }
    headers
}

/// The headers that this program put there.
fn ours(all: &HeaderMap) -> HeaderMap {
    const OURS: [&str; 8] = [
        "x-call-id",
        "x-function-name",
        "x-function-status",
        "x-duration-seconds",
        "x-retry",
        "x-retry-max",
        "user-agent",
        "x-body-truncated",
    ];
    OURS.iter().filter_map(|name| Some((HeaderName::from_static(name), all.get(*name)?.clone()))).collect()
}

#[cfg(test)]
mod tests;
