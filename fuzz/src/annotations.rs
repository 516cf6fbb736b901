//! The annotations of a function. Input: four values, a line each.

use std::{collections::BTreeMap, time::Duration};

use queue_worker::retry::{
    backoff::{Backoff, Jitter},
    policy::{RetryPolicy, StatusCodes},
};

const KEYS: [&str; 4] = [
    "com.openfaas.retry.attempts",
    "com.openfaas.retry.codes",
    "com.openfaas.retry.min_wait",
    "com.openfaas.retry.max_wait",
];

/// The worker's own policy, over which annotations stand.
pub fn worker() -> RetryPolicy {
    RetryPolicy {
        max_attempts: 10,
        codes: "429,502,500,504,408".parse().expect("codes"),
        backoff: Backoff {
            initial: Duration::from_secs(10),
            max: Duration::from_secs(120),
            jitter: Jitter::Full,
        },
        immediate_retries: 2,
        max_retry_after: Duration::from_secs(3_600),
        max_message_age: None,
    }
}

/// Whatever annotations say, the policy is one to work with, and what is wrong is said in a line and leaves
/// the worker's own.
pub fn check(data: &[u8]) {
    let annotations: BTreeMap<_, _> = KEYS.map(str::to_owned).into_iter().zip(super::lines(data)).collect();
    let worker = worker();
    let (policy, invalid) = worker.for_annotations(&annotations);
    for complaint in &invalid {
        super::is_showable(&complaint.to_string(), 400);
        let kept = match complaint.key {
            "com.openfaas.retry.attempts" => policy.max_attempts == worker.max_attempts,
            "com.openfaas.retry.codes" => policy.codes == worker.codes,
            "com.openfaas.retry.min_wait" => policy.backoff.initial == worker.backoff.initial,
            _ => policy.backoff.max == worker.backoff.max,
        };
        assert!(kept, "{complaint}");
    }
    assert!((1..=1_000).contains(&policy.max_attempts));
    assert_eq!(policy.codes.to_string().parse::<StatusCodes>().as_ref(), Ok(&policy.codes));
    assert!(![0, 99, 600, u16::MAX].iter().any(|status| policy.codes.contains(*status)));
    for (delayed, draw) in [(0, 0.0), (1, 0.3), (7, 1.0), (u32::MAX, f64::NAN)] {
        assert!(policy.backoff.wait(delayed, draw) <= policy.backoff.max);
    }
    for asked in [Duration::ZERO, Duration::from_secs(60), Duration::MAX] {
        let heeded = policy.heeded(asked);
        assert!(
            policy.backoff.initial <= heeded && heeded <= policy.max_retry_after.max(policy.backoff.initial)
        );
    }
}
