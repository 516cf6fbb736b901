//! A `Retry-After`. Input: the second in which it is read, since 1970, as eight bytes; its text.

use std::time::{Duration, SystemTime};

use queue_worker::retry::{
    backoff::retry_after,
    judge::{Outcome, Progress, Reply, Verdict, judge},
};

/// Whatever an answer asks for, the wait is between the worker's bounds, and one that asks for nothing gets
/// what is computed.
pub fn check(data: &[u8]) {
    let Some((seconds, text)) = data.split_first_chunk::<8>() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    // No worker runs after the year 9999.
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from_le_bytes(*seconds) % 253_402_300_800);
    let asked = retry_after(text, now);
    if text.len() < 19 && !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        assert_eq!(asked, text.parse().ok().map(Duration::from_secs));
    }
    assert_eq!(retry_after(&format!(" {text} "), now), asked);

    let policy = super::annotations::worker();
    let progress = Progress {
        attempts: 1,
        delayed: 3,
        immediate: 9,
        age: Duration::ZERO,
        not_found: (0, Duration::ZERO),
        cancelled: false,
    };
    for status in [429, 500, 503] {
        let outcome =
            Outcome::Replied(Reply { status, retry_after: Some(text.to_owned()), ..Reply::default() });
        match judge(&outcome, &policy, &progress, now, 0.5) {
            Verdict::RetryAfter { wait, .. } if asked.is_some() && status != 500 => {
                assert!(policy.backoff.initial <= wait && wait <= policy.max_retry_after);
            }
            Verdict::RetryAfter { wait, .. } => assert_eq!(wait, policy.backoff.wait(3, 0.5)),
            verdict => assert!(status == 503 && asked.is_none(), "{status} {verdict:?}"),
        }
    }
}
