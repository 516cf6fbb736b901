mod answers;
mod producers;
mod properties;

use super::*;
use crate::retry::backoff::{Backoff, Jitter};

const SECOND: Duration = Duration::from_secs(1);
/// A second before the moment of RFC 9110's example dates.
const NOW: u32 = 784_111_776;

fn policy() -> RetryPolicy {
    RetryPolicy {
        max_attempts: 10,
        codes: "429,502,500,504,408".parse().unwrap(),
        backoff: Backoff { initial: 10 * SECOND, max: 120 * SECOND, jitter: Jitter::None },
        immediate_retries: 0,
        max_retry_after: 3600 * SECOND,
        max_message_age: None,
    }
}

fn first() -> Progress {
    let not_found = (0, Duration::ZERO);
    Progress { attempts: 1, delayed: 0, immediate: 0, age: SECOND, not_found, cancelled: false }
}

fn judged(outcome: &Outcome, policy: &RetryPolicy, progress: &Progress) -> Verdict {
    judge(outcome, policy, progress, SystemTime::UNIX_EPOCH + SECOND * NOW, 0.5)
}

/// An answer of the function, which the gateway marked as served.
fn function(status: u16) -> Reply {
    Reply { status, has_call_id: true, served_by: true, ..Reply::default() }
}

fn platform(status: u16) -> Reply {
    Reply { internal: true, ..function(status) }
}

fn asking(status: u16, retry_after: &str) -> Reply {
    Reply { retry_after: Some(retry_after.to_owned()), ..function(status) }
}

/// The gateway's answer when it cannot find a function, or cannot ask for it.
fn not_found() -> Reply {
    Reply { status: 404, not_found_text: true, ..Reply::default() }
}

fn later(reason: Reason) -> Verdict {
    after(10, reason)
}

fn after(seconds: u32, reason: Reason) -> Verdict {
    Verdict::RetryAfter { wait: SECOND * seconds, reason }
}

const REFUSED: Verdict = Verdict::DeadLetter(Cause::Refused);

#[test]
fn a_call_that_was_cancelled_is_not_tried_again_and_a_success_or_a_refusal_stands() {
    let (policy, cancelled) = (policy(), Progress { cancelled: true, ..first() });
    let replied = |status| Outcome::Replied(function(status));
    let dead = Verdict::DeadLetter(Cause::Cancelled);
    assert_eq!(judged(&Outcome::TimedOut, &policy, &cancelled), dead);
    assert_eq!(judged(&replied(200), &policy, &cancelled), Verdict::Complete);
    assert_eq!(judged(&replied(400), &policy, &cancelled), REFUSED);
}

#[test]
fn a_retry_after_sets_the_wait_within_its_bounds() {
    let check = |reply, seconds, reason| {
        assert_eq!(judged(&Outcome::Replied(reply), &policy(), &first()), after(seconds, reason));
    };
    check(asking(429, "30"), 30, Reason::Status);
    check(asking(429, "0"), 10, Reason::Status);
    check(asking(429, "9"), 10, Reason::Status);
    check(asking(429, "300"), 300, Reason::Status);
    check(asking(429, "3601"), 3600, Reason::Status);
    check(asking(429, "99999999999999999999999"), 3600, Reason::Status);
    check(asking(429, "soon"), 10, Reason::Status);
    check(asking(429, "-5"), 10, Reason::Status);
    check(asking(429, "Sun, 06 Nov 1994 08:50:37 GMT"), 61, Reason::Status);
    check(asking(503, "Sun, 06 Nov 1994 08:50:37 GMT"), 61, Reason::RetryAfter);
    check(asking(503, "Sat, 06 Nov 1993 08:49:37 GMT"), 10, Reason::RetryAfter);
    check(Reply { internal: true, ..asking(503, "45") }, 45, Reason::Internal);
    check(asking(500, "45"), 10, Reason::Status);
}

#[test]
fn where_the_bounds_of_a_retry_after_cross_the_function_is_spared() {
    let policy = RetryPolicy { max_retry_after: Duration::ZERO, ..policy() };
    assert_eq!(judged(&Outcome::Replied(asking(429, "30")), &policy, &first()), later(Reason::Status));
}

#[test]
fn waits_grow_with_the_delayed_ones_and_not_with_the_attempts() {
    let progress = Progress { attempts: 7, delayed: 2, ..first() };
    assert_eq!(judged(&Outcome::TimedOut, &policy(), &progress), after(40, Reason::TimedOut));
}

#[test]
fn immediate_retries_come_before_each_wait() {
    let policy = RetryPolicy { immediate_retries: 2, ..policy() };
    let check = |outcome: Outcome, immediate, expected| {
        let progress = Progress { attempts: 1 + immediate, immediate, ..first() };
        assert_eq!(judged(&outcome, &policy, &progress), expected, "{outcome:?} {immediate}");
    };
    check(Outcome::TimedOut, 0, Verdict::RetryNow(Reason::TimedOut));
    check(Outcome::TimedOut, 1, Verdict::RetryNow(Reason::TimedOut));
    check(Outcome::TimedOut, 2, later(Reason::TimedOut));
    check(Outcome::Replied(platform(503)), 0, Verdict::RetryNow(Reason::Internal));
    check(Outcome::Replied(asking(500, "soon")), 0, Verdict::RetryNow(Reason::Status));
    check(Outcome::Replied(function(429)), 0, later(Reason::Status));
    check(Outcome::Replied(platform(429)), 0, later(Reason::Internal));
    check(Outcome::Replied(asking(503, "30")), 0, after(30, Reason::RetryAfter));
    check(Outcome::Replied(asking(500, "30")), 0, later(Reason::Status));
    check(Outcome::Replied(function(200)), 0, Verdict::Complete);
    check(Outcome::Replied(function(400)), 0, REFUSED);
}

#[test]
fn the_last_attempt_is_followed_by_no_other() {
    let check = |max_attempts, immediate_retries, attempts, expected| {
        let policy = RetryPolicy { max_attempts, immediate_retries, ..policy() };
        assert_eq!(judged(&Outcome::TimedOut, &policy, &Progress { attempts, ..first() }), expected);
    };
    let exhausted = Verdict::DeadLetter(Cause::Exhausted);
    check(10, 0, 9, later(Reason::TimedOut));
    check(10, 0, 10, exhausted);
    check(10, 0, 11, exhausted);
    check(10, 5, 9, Verdict::RetryNow(Reason::TimedOut));
    check(10, 5, 10, exhausted);
    check(1, 0, 1, exhausted);
    check(0, 0, 1, exhausted);
    check(u32::MAX, 0, u32::MAX, exhausted);
}

#[test]
fn success_and_refusal_count_on_the_last_attempt_too() {
    let last = Progress { attempts: 10, ..first() };
    assert_eq!(judged(&Outcome::Replied(function(200)), &policy(), &last), Verdict::Complete);
    assert_eq!(judged(&Outcome::Replied(function(400)), &policy(), &last), REFUSED);
}

#[test]
fn the_gateway_is_believed_after_five_tries_in_a_row_and_two_minutes() {
    let check = |attempts, row, seconds, expected| {
        let progress =
            Progress { attempts, age: 600 * SECOND, not_found: (row, SECOND * seconds), ..first() };
        assert_eq!(
            judged(&Outcome::Replied(not_found()), &policy(), &progress),
            expected,
            "{attempts} {row} {seconds}"
        );
    };
    check(4, 4, 600, later(Reason::GatewayNotFound));
    check(5, 5, 119, later(Reason::GatewayNotFound));
    check(5, 5, 120, REFUSED);
    check(9, 9, 119, later(Reason::GatewayNotFound));
    check(10, 10, 119, Verdict::DeadLetter(Cause::Exhausted));
    check(10, 10, 120, REFUSED);
    // Failures of another kind before them do not count.
    check(9, 1, 0, later(Reason::GatewayNotFound));
    check(9, 4, 120, later(Reason::GatewayNotFound));
}

#[test]
fn a_message_whose_next_attempt_would_be_too_late_expires() {
    let check = |outcome: Outcome, immediate_retries, age: u32, expected| {
        let policy = RetryPolicy { max_message_age: Some(60 * SECOND), immediate_retries, ..policy() };
        let progress = Progress { age: SECOND * age, ..first() };
        assert_eq!(judged(&outcome, &policy, &progress), expected, "{outcome:?} {age}");
    };
    let expired = Verdict::DeadLetter(Cause::Expired);
    check(Outcome::TimedOut, 0, 50, later(Reason::TimedOut));
    check(Outcome::TimedOut, 0, 51, expired);
    check(Outcome::TimedOut, 1, 60, Verdict::RetryNow(Reason::TimedOut));
    check(Outcome::TimedOut, 1, 61, expired);
    check(Outcome::Replied(asking(429, "59")), 0, 1, after(59, Reason::Status));
    check(Outcome::Replied(asking(429, "60")), 0, 1, expired);
    check(Outcome::Replied(function(200)), 0, 600, Verdict::Complete);
    check(Outcome::Replied(function(400)), 0, 600, REFUSED);
}

#[test]
fn a_message_both_too_old_and_out_of_attempts_is_exhausted() {
    let policy = RetryPolicy { max_message_age: Some(SECOND), ..policy() };
    let last = Progress { attempts: 10, age: 600 * SECOND, ..first() };
    assert_eq!(judged(&Outcome::TimedOut, &policy, &last), Verdict::DeadLetter(Cause::Exhausted));
}
