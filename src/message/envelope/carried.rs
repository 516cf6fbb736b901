//! The headers that are carried on as they are.

use async_nats::HeaderMap;

use crate::message::{header, names};

/// The most bytes of other people's headers that are carried on where they are no part of the call.
pub(super) const CARRIED: usize = 4096;

/// All headers that are part of a call: as a rule those of the message, as they are.
pub(super) fn whole(headers: HeaderMap) -> HeaderMap {
    let goes_on = |name: &str| !names::is_ours(name) && !names::is_brokers(name);
    let all = headers.iter().all(|(name, _)| goes_on(name.as_ref()));
    if all { headers } else { carried(&headers, false, usize::MAX) }
}

/// At most so many bytes of other people's headers, and first those that another version of this program
/// wrote. Never the broker's own.
pub(super) fn carried(headers: &HeaderMap, ours_too: bool, most: usize) -> HeaderMap {
    let known = |name: &str| KNOWN.iter().any(|known| known.eq_ignore_ascii_case(name));
    let mut kept = HeaderMap::new();
    let mut bytes = 0;
    for ours in [true, false] {
        let of_these = |name: &str| {
            names::is_ours(name) == ours && !names::is_brokers(name) && !(ours && (!ours_too || known(name)))
        };
        for (name, values) in headers.iter().filter(|(name, _)| of_these(name.as_ref())) {
            for value in values {
                bytes += AsRef::<str>::as_ref(name).len() + value.as_str().len() + 4;
                if bytes <= most {
                    header::copy(&mut kept, name, value);
                }
            }
        }
    }
    kept
}

/// The headers that this version writes anew on every message.
const KNOWN: [&str; 26] = [
    names::HOP,
    names::ATTEMPTS,
    names::DELAYED,
    names::DUE,
    names::PARKED_AT,
    names::ORIGINAL_ID,
    names::FIRST_SEEN,
    names::CALL_ID,
    names::FUNCTION,
    names::SUBJECT,
    names::EVENT_ID,
    names::EVENT_SOURCE,
    names::LAST_STATUS,
    names::LAST_ERROR,
    names::HISTORY,
    names::ATTEMPT_TIMES,
    names::INTERRUPTIONS,
    names::REDRIVES,
    names::REDRIVEN_AT,
    names::NOT_BEFORE,
    names::CANCELLED,
    names::NOT_FOUND,
    names::KIND,
    names::ENCODING,
    names::CAUSE,
    names::FAILED_AT,
];
