//! The request to a consumer. Pure.

use std::time::Duration;

use crate::broker::jetstream::{call::Request, nanoseconds};

/// How often the broker says that a waiting request stands. Its silence is the only sign that it dropped one.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// A request for what is there now is answered by then.
pub(super) const NOW: Duration = Duration::from_secs(3);

/// A request for so many messages and bytes, that is answered at once or waits; and how long the broker's
/// silence may last.
pub(super) fn question(
    batch: usize,
    max_bytes: Option<usize>,
    wait: Option<Duration>,
) -> (Request, Duration) {
    let request = Request { batch, max_bytes, ..Request::default() };
    let Some(wait) = wait else { return (Request { no_wait: Some(true), ..request }, NOW) };
    let heartbeat = HEARTBEAT.min(wait / 3);
    let request =
        Request { expires: Some(nanoseconds(wait)), idle_heartbeat: Some(nanoseconds(heartbeat)), ..request };
    (request, heartbeat * 2 + Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_that_waits_wants_to_hear_that_it_stands() {
        for (wait, max_bytes, expected, silence) in [
            (None, None, json!({ "batch": 7, "no_wait": true }), 3),
            (
                Some(30),
                Some(99),
                json!({ "batch": 7, "expires": 30_000_000_000_u64, "idle_heartbeat": 5_000_000_000_u64,
                    "max_bytes": 99 }),
                11,
            ),
            (
                Some(3),
                None,
                json!({ "batch": 7, "expires": 3_000_000_000_u64, "idle_heartbeat": 1_000_000_000 }),
                3,
            ),
        ] {
            let (request, bound) = question(7, max_bytes, wait.map(Duration::from_secs));
            assert_eq!(
                (serde_json::to_value(request).unwrap(), bound),
                (expected, Duration::from_secs(silence))
            );
        }
    }
}
