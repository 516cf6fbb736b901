//! When the attempts of a call would be that always fails.

use std::time::Duration;

use super::{
    backoff::{Backoff, Jitter},
    policy::RetryPolicy,
};

/// An attempt to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// Its number, from 1.
    pub n: u32,
    /// The wait before it, at least and at most.
    pub wait: (Duration, Duration),
    /// When it begins after the first one began, at least and at most, where calls take no time.
    pub after: (Duration, Duration),
}

/// The attempts that a policy makes of a call that always fails, and of which none is too old.
pub fn attempts(policy: &RetryPolicy) -> Vec<Planned> {
    let RetryPolicy { max_attempts, immediate_retries, backoff, max_message_age, .. } = policy;
    let (mut delayed, mut after) = (0, (Duration::ZERO, Duration::ZERO));
    let mut planned = Vec::new();
    for n in 1..=(*max_attempts).max(1) {
        let in_place = n == 1 || (n - 1) % immediate_retries.saturating_add(1) != 0;
        let wait = if in_place { (Duration::ZERO, Duration::ZERO) } else { bounds(backoff, delayed) };
        delayed += u32::from(!in_place);
        after = (after.0.saturating_add(wait.0), after.1.saturating_add(wait.1));
        if max_message_age.is_some_and(|oldest| after.0 > oldest) {
            break;
        }
        planned.push(Planned { n, wait, after });
    }
    planned
}

/// The least and the most that chance makes of a wait.
fn bounds(backoff: &Backoff, delayed: u32) -> (Duration, Duration) {
    let most = Backoff { jitter: Jitter::None, ..backoff.clone() }.wait(delayed, 1.0);
    (backoff.wait(delayed, 0.0), most)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn policy(max_attempts: u32, immediate_retries: u32, jitter: Jitter) -> RetryPolicy {
        RetryPolicy {
            max_attempts,
            codes: "500".parse().unwrap(),
            backoff: Backoff { initial: SECOND * 10, max: SECOND * 120, jitter },
            immediate_retries,
            max_retry_after: SECOND,
            max_message_age: None,
        }
    }

    fn after(policy: &RetryPolicy) -> Vec<u64> {
        attempts(policy).iter().map(|planned| planned.after.1.as_secs()).collect()
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let default = policy(10, 0, Jitter::None);
        assert_eq!(after(&default), [0, 10, 30, 70, 150, 270, 390, 510, 630, 750]);
        assert_eq!(after(&policy(0, 0, Jitter::None)), [0]);
    }

    #[test]
    fn immediate_retries_come_before_each_wait() {
        assert_eq!(after(&policy(7, 2, Jitter::None)), [0, 0, 0, 10, 10, 10, 30]);
    }

    #[test]
    fn chance_makes_a_range_and_age_an_end() {
        let planned = attempts(&policy(2, 0, Jitter::Equal));
        assert_eq!(planned[1].wait, (SECOND * 5, SECOND * 10));
        let old = RetryPolicy { max_message_age: Some(SECOND * 60), ..policy(10, 0, Jitter::None) };
        assert_eq!(after(&old), [0, 10, 30]);
    }
}
