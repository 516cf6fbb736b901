//! What becomes of a callback after a POST. Pure.

use std::time::{Duration, SystemTime};

use crate::retry::{backoff::retry_after, judge::Outcome, policy::RetryPolicy};

/// A callback that is not to be made at all; the text says why in a few words and without the URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub &'static str);

/// What to do after a POST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing: it was taken.
    Delivered,
    /// Post it again, after so long.
    Again(Duration),
    /// Give it up.
    Dead,
}

/// Judges the POST after which `attempts` of `most` were made.
///
/// `now` is the wall time that dates in a `Retry-After` are compared with, `draw` the die for the jitter,
/// uniform in 0–1.
pub fn judge(
    outcome: &Outcome,
    policy: &RetryPolicy,
    attempts: u32,
    most: u32,
    now: SystemTime,
    draw: f64,
) -> Next {
    let may_help = match outcome.status() {
        Some(200..=299) => return Next::Delivered,
        // Not ready, too early, too much, or in disorder: all of that passes. No other answer changes by
        // asking again.
        Some(status) => matches!(status, 408 | 425 | 429 | 500..=599),
        None => true,
    };
    if !may_help || attempts >= most {
        return Next::Dead;
    }
    let pushed_back = outcome.reply().filter(|reply| matches!(reply.status, 429 | 503));
    let asked = pushed_back.and_then(|reply| retry_after(reply.retry_after.as_deref()?, now));
    Next::Again(
        asked.map_or_else(
            || policy.backoff.wait(attempts.saturating_sub(1), draw),
            |asked| policy.heeded(asked),
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::{
        backoff::{Backoff, Jitter},
        judge::Reply,
    };

    fn check(outcome: Outcome, attempts: u32, expected: Next) {
        let policy = RetryPolicy {
            max_attempts: 1,
            codes: "404".parse().unwrap(),
            backoff: Backoff {
                initial: Duration::from_secs(10),
                max: Duration::from_secs(120),
                jitter: Jitter::None,
            },
            immediate_retries: 3,
            max_retry_after: Duration::from_secs(3600),
            max_message_age: Some(Duration::ZERO),
        };
        assert_eq!(
            judge(&outcome, &policy, attempts, 3, SystemTime::UNIX_EPOCH, 0.5),
            expected,
            "{outcome:?} {attempts}"
        );
    }

    fn replied(status: u16, retry_after: Option<&str>) -> Outcome {
        Outcome::Replied(Reply { status, retry_after: retry_after.map(str::to_owned), ..Reply::default() })
    }

    fn again(seconds: u64) -> Next {
        Next::Again(Duration::from_secs(seconds))
    }

    #[test]
    fn what_may_pass_is_tried_again_and_nothing_else() {
        for status in [200, 201, 204, 299] {
            check(replied(status, None), 3, Next::Delivered);
        }
        for status in [408, 425, 429, 500, 502, 503, 504, 599] {
            check(replied(status, None), 1, again(10));
        }
        for outcome in
            [Outcome::TimedOut, Outcome::Unreachable("refused".into()), Outcome::Broken("reset".into())]
        {
            check(outcome, 1, again(10));
        }
        for status in [301, 302, 307, 400, 401, 404, 410, 422, 600] {
            check(replied(status, Some("1")), 1, Next::Dead);
        }
    }

    #[test]
    fn waits_grow_until_the_attempts_are_used_up() {
        check(replied(500, None), 1, again(10));
        check(replied(500, None), 2, again(20));
        check(replied(500, None), 3, Next::Dead);
        check(Outcome::TimedOut, 3, Next::Dead);
    }

    #[test]
    fn a_retry_after_is_heeded_within_its_bounds() {
        check(replied(503, Some("30")), 2, again(30));
        check(replied(429, Some("1")), 1, again(10));
        check(replied(429, Some("99999")), 1, again(3600));
        check(replied(429, Some("soon")), 1, again(10));
        check(replied(500, Some("30")), 1, again(10));
        check(replied(503, Some("30")), 3, Next::Dead);
    }
}
