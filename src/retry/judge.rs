//! From what happened to what to do about it.

mod cause;
mod outcome;

use std::time::{Duration, SystemTime};

use crate::retry::{backoff::retry_after, policy::RetryPolicy};

pub use cause::{Cause, UnknownCause};
pub use outcome::{Outcome, Reply};

/// The statuses that the platform itself answers when it is overloaded or in disorder. Its 401 and 403 carry
/// the same header, but a bad token is no better at the next attempt.
const INTERNAL: [u16; 5] = [429, 500, 502, 503, 504];
/// A gateway that cannot reach its provider says that the function does not exist. It is believed once it has
/// said so this often in a row and for this long. What came before does not count: a message may have waited
/// or failed for long when the provider goes away for a moment.
const NOT_FOUND_ATTEMPTS: u32 = 5;
const NOT_FOUND_AGE: Duration = Duration::from_secs(120);

/// How far an invocation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Attempts made, the one that is judged included.
    pub attempts: u32,
    /// Delayed waits served so far.
    pub delayed: u32,
    /// Immediate tries made in place since the last wait.
    pub immediate: u32,
    /// The time since the invocation first arrived.
    pub age: Duration,
    /// How often in a row, and for how long, the gateway has not found the function, the attempt that is
    /// judged included.
    pub not_found: (u32, Duration),
    /// Whether somebody cancelled it meanwhile.
    pub cancelled: bool,
}

/// The decision about an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The invocation has succeeded.
    Complete,
    /// Call again at once, in place.
    RetryNow(Reason),
    /// Call again later.
    RetryAfter {
        /// How much later.
        wait: Duration,
        /// Why.
        reason: Reason,
    },
    /// Give up.
    DeadLetter(Cause),
}

/// Why an invocation is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The platform itself answered, not the function.
    Internal,
    /// The status is one of those that are retried.
    Status,
    /// A 503 that says when to come back.
    RetryAfter,
    /// The gateway did not find the function, or could not ask.
    GatewayNotFound,
    /// No connection came about.
    Unreachable,
    /// The connection broke off.
    Broken,
    /// There was no answer in time.
    TimedOut,
}

impl Reason {
    /// The name in log fields and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Status => "status",
            Self::RetryAfter => "retry_after",
            Self::GatewayNotFound => "gateway_not_found",
            Self::Unreachable => "unreachable",
            Self::Broken => "broken",
            Self::TimedOut => "timeout",
        }
    }
}

/// The class of an outcome, before anything is known about the attempts that are left.
enum Finding {
    Success,
    Retriable(Reason),
    Final,
}

/// Decides what becomes of an invocation after an attempt.
///
/// `now` is the wall time that dates in a `Retry-After` are compared with, `draw` the die for the jitter,
/// uniform in 0–1.
pub fn judge(
    outcome: &Outcome,
    policy: &RetryPolicy,
    progress: &Progress,
    now: SystemTime,
    draw: f64,
) -> Verdict {
    let asked = outcome.reply().and_then(|reply| retry_after(reply.retry_after.as_deref()?, now));
    let reason = match find(outcome, policy, asked) {
        Finding::Success => return Verdict::Complete,
        Finding::Final => return Verdict::DeadLetter(Cause::Refused),
        Finding::Retriable(reason) => reason,
    };
    if progress.cancelled {
        return Verdict::DeadLetter(Cause::Cancelled);
    }
    let (attempts, lasting) = progress.not_found;
    let believed = attempts >= NOT_FOUND_ATTEMPTS && lasting >= NOT_FOUND_AGE;
    if reason == Reason::GatewayNotFound && believed {
        return Verdict::DeadLetter(Cause::Refused);
    }
    if progress.attempts >= policy.max_attempts {
        return Verdict::DeadLetter(Cause::Exhausted);
    }
    let wait = wait(outcome, asked, policy, progress, draw);
    let age = progress.age.saturating_add(wait.unwrap_or_default());
    if policy.is_expired(age) {
        return Verdict::DeadLetter(Cause::Expired);
    }
    match wait {
        None => Verdict::RetryNow(reason),
        Some(wait) => Verdict::RetryAfter { wait, reason },
    }
}

/// The table of answers. The first row that matches decides.
fn find(outcome: &Outcome, policy: &RetryPolicy, asked: Option<Duration>) -> Finding {
    let reply = match outcome {
        Outcome::Replied(reply) => reply,
        Outcome::Unreachable(_) => return Finding::Retriable(Reason::Unreachable),
        Outcome::Broken(_) => return Finding::Retriable(Reason::Broken),
        Outcome::TimedOut => return Finding::Retriable(Reason::TimedOut),
    };
    if (200..300).contains(&reply.status) {
        Finding::Success
    } else if reply.internal && INTERNAL.contains(&reply.status) {
        Finding::Retriable(Reason::Internal)
    } else if policy.codes.contains(reply.status) {
        Finding::Retriable(Reason::Status)
    } else if reply.status == 503 && asked.is_some() {
        Finding::Retriable(Reason::RetryAfter)
    } else if reply.is_gateway_not_found() {
        Finding::Retriable(Reason::GatewayNotFound)
    } else {
        Finding::Final
    }
}

/// How long to wait before the next attempt; `None` is not at all, in place.
fn wait(
    outcome: &Outcome,
    asked: Option<Duration>,
    policy: &RetryPolicy,
    progress: &Progress,
    draw: f64,
) -> Option<Duration> {
    let status = outcome.status();
    let pushed_back = status == Some(429) || asked.is_some();
    if !pushed_back && progress.immediate < policy.immediate_retries {
        return None;
    }
    let computed = || policy.backoff.wait(progress.delayed, draw);
    let heeded = asked.filter(|_| matches!(status, Some(429 | 503)));
    Some(heeded.map_or_else(computed, |asked| policy.heeded(asked)))
}

#[cfg(test)]
mod tests;
