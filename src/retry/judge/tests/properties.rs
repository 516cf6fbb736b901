use proptest::prelude::*;

use super::*;
use crate::retry::{backoff::Jitter, policy::StatusCodes};

fn any_reply() -> impl Strategy<Value = Reply> {
    let retry_after = prop::option::of(prop_oneof!["[0-9]{1,25}", ".*"]);
    (any::<u16>(), 100..600_u16, any::<[bool; 5]>(), retry_after).prop_map(
        |(any, usual, [odd, internal, has_call_id, served_by, not_found_text], retry_after)| Reply {
            status: if odd { any } else { usual },
            internal,
            retry_after,
            has_call_id,
            served_by,
            not_found_text,
        },
    )
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => any_reply().prop_map(Outcome::Replied),
        1 => Just(Outcome::TimedOut),
        1 => ".{0,20}".prop_map(Outcome::Unreachable),
        1 => ".{0,20}".prop_map(Outcome::Broken),
    ]
}

fn any_policy() -> impl Strategy<Value = RetryPolicy> {
    let codes = prop::sample::select(vec!["429,502,500,504,408", "100-599", "503"]);
    let jitter = prop::sample::select(vec![Jitter::None, Jitter::Full, Jitter::Equal]);
    (any::<u32>(), codes, any::<[Duration; 3]>(), jitter, 0..4_u32, any::<Option<Duration>>()).prop_map(
        |(
            max_attempts,
            codes,
            [initial, max, max_retry_after],
            jitter,
            immediate_retries,
            max_message_age,
        )| RetryPolicy {
            max_attempts,
            codes: codes.parse::<StatusCodes>().unwrap(),
            backoff: Backoff { initial, max, jitter },
            immediate_retries,
            max_retry_after,
            max_message_age,
        },
    )
}

fn any_progress() -> impl Strategy<Value = Progress> {
    (
        prop_oneof![1..20_u32, any::<u32>()],
        any::<u32>(),
        0..5_u32,
        any::<Duration>(),
        any::<(u32, Duration)>(),
    )
        .prop_map(|(attempts, delayed, immediate, age, not_found)| Progress {
            attempts,
            delayed,
            immediate,
            age,
            not_found,
            cancelled: false,
        })
}

proptest! {
    #[test]
    fn no_verdict_breaks_a_bound(
        outcome in any_outcome(), policy in any_policy(), progress in any_progress(), draw in any::<f64>(),
    ) {
        let verdict = judge(&outcome, &policy, &progress, SystemTime::UNIX_EPOCH + SECOND * NOW, draw);
        let wait = match verdict {
            Verdict::RetryNow(_) => {
                prop_assert!(progress.immediate < policy.immediate_retries);
                prop_assert_ne!(outcome.status(), Some(429));
                Duration::ZERO
            }
            Verdict::RetryAfter { wait, .. } => {
                let longest = policy.backoff.max.max(policy.max_retry_after).max(policy.backoff.initial);
                prop_assert!(wait <= longest);
                if outcome.reply().is_none_or(|reply| reply.retry_after.is_none()) {
                    prop_assert!(wait <= policy.backoff.max);
                }
                wait
            }
            Verdict::Complete => return Ok(()),
            Verdict::DeadLetter(cause) => {
                prop_assert!(matches!(cause, Cause::Exhausted | Cause::Refused | Cause::Expired));
                return Ok(());
            }
        };
        prop_assert!(progress.attempts < policy.max_attempts);
        if let Some(oldest) = policy.max_message_age {
            prop_assert!(progress.age.saturating_add(wait) <= oldest);
        }
    }

    #[test]
    fn only_success_is_complete(
        outcome in any_outcome(), policy in any_policy(), progress in any_progress(),
    ) {
        let complete = judged(&outcome, &policy, &progress) == Verdict::Complete;
        prop_assert_eq!(complete, outcome.status().is_some_and(|status| (200..300).contains(&status)));
    }
}
