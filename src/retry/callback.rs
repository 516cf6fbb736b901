//! Judges callbacks: after a POST, and where their invocation comes again though it has ended.

use std::time::{Duration, SystemTime};

use crate::retry::{
    backoff::retry_after,
    judge::{Cause, Outcome},
    policy::RetryPolicy,
};

/// A callback that is not to be made at all; the text says why in a few words and without the URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub &'static str);

/// The decision after a POST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: it was taken.
    Delivered,
    /// Post it again, after so long.
    Again(Duration),
    /// Give it up.
    GiveUp,
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
) -> Verdict {
    let may_help = match outcome.status() {
        Some(200..=299) => return Verdict::Delivered,
        // Not ready, too early, too much, or in disorder: all of that passes. No other answer changes by
        // asking again.
        Some(status) => matches!(status, 408 | 425 | 429 | 500..=599),
        None => true,
    };
    if !may_help || attempts >= most {
        return Verdict::GiveUp;
    }
    let pushed_back = outcome.reply().filter(|reply| matches!(reply.status, 429 | 503));
    let asked = pushed_back.and_then(|reply| retry_after(reply.retry_after.as_deref()?, now));
    Verdict::Again(
        asked.map_or_else(
            || policy.backoff.wait(attempts.saturating_sub(1), draw),
            |asked| policy.heeded(asked),
        ),
    )
}

/// The dead letter, of an invocation that comes again, that may owe its callback still: the worker died
/// before that was delivered or parked, or just after. Where nobody asked for one (`has_callback`), or the
/// letter is not all that is stored, none is owed.
pub fn may_owe(letter: Option<u64>, has_callback: bool) -> Option<u64> {
    letter.filter(|_| has_callback)
}

/// Whether a callback is owed by a dead letter of this cause, as far as it tells one. Older versions buried
/// as undecodable what can be read and not be sent, and told nobody of it.
pub fn is_owed(cause: Option<Cause>) -> bool {
    cause != Some(Cause::Undecodable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::{
        backoff::{Backoff, Jitter},
        judge::Reply,
    };

    fn check(outcome: Outcome, attempts: u32, expected: Verdict) {
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

    fn again(seconds: u64) -> Verdict {
        Verdict::Again(Duration::from_secs(seconds))
    }

    #[test]
    fn what_may_pass_is_tried_again_and_nothing_else() {
        for status in [200, 201, 204, 299] {
            check(replied(status, None), 3, Verdict::Delivered);
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
            check(replied(status, Some("1")), 1, Verdict::GiveUp);
        }
    }

    #[test]
    fn waits_grow_until_the_attempts_are_used_up() {
        check(replied(500, None), 1, again(10));
        check(replied(500, None), 2, again(20));
        check(replied(500, None), 3, Verdict::GiveUp);
        check(Outcome::TimedOut, 3, Verdict::GiveUp);
    }

    #[test]
    fn a_retry_after_is_heeded_within_its_bounds() {
        check(replied(503, Some("30")), 2, again(30));
        check(replied(429, Some("1")), 1, again(10));
        check(replied(429, Some("99999")), 1, again(3600));
        check(replied(429, Some("soon")), 1, again(10));
        check(replied(500, Some("30")), 1, again(10));
        check(replied(503, Some("30")), 3, Verdict::GiveUp);
    }

    #[test]
    fn a_callback_is_owed_where_only_the_dead_letter_of_its_invocation_is_stored() {
        assert_eq!([may_owe(Some(7), true), may_owe(Some(7), false)], [Some(7), None]);
        assert_eq!([may_owe(None, true), may_owe(None, false)], [None, None]);
        assert!(is_owed(None));
        for cause in Cause::ALL {
            assert_eq!(is_owed(Some(cause)), cause != Cause::Undecodable, "{cause:?}");
        }
    }
}
