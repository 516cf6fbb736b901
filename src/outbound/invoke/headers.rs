//! The headers of a request: the message's, and ours.

use std::iter;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header::HOST};

use super::Call;
use crate::{
    message::http_headers::{HOP_BY_HOP, set},
    text::line,
};

/// Headers that speak of the caller's request to the gateway, not of ours.
const NOT_PASSED_ON: [&str; 6] =
    ["host", "content-length", "expect", "x-callback-url", "x-retry", "x-retry-max"];

/// The call's own id.
const CALL_ID: HeaderName = HeaderName::from_static("x-call-id");
/// The number of this retry, and of the last one.
const RETRY: HeaderName = HeaderName::from_static("x-retry");
const RETRY_MAX: HeaderName = HeaderName::from_static("x-retry-max");

/// The most bytes of a header's name that the log shows.
const LONGEST_NAME: usize = 64;

/// How many headers are ours: the call's id, place, numbers and trace.
const OURS: usize = 8;

/// The message's headers, in order and number, less those of its first journey, plus ours.
pub(super) fn headers(call: Call<'_>, host: &HeaderValue) -> HeaderMap {
    let given = &call.invocation.headers;
    let listed: Vec<String> = given
        .values("connection")
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    // The values are parts of it: each by itself would be an allocation.
    let text = Bytes::copy_from_slice(given.text().as_bytes());
    let mut headers = HeaderMap::with_capacity(given.len() + OURS);
    drop(headers.try_insert(HOST, host.clone()));
    for (name, mut values) in given.iter() {
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            tracing::warn!(
                callId = call.call_id,
                header = line::ascii(name, LONGEST_NAME),
                "a header whose name HTTP does not allow is not passed on"
            );
            continue;
        };
        let lower = name.as_str();
        if HOP_BY_HOP.contains(&lower)
            || NOT_PASSED_ON.contains(&lower)
            || listed.iter().any(|listed| listed == lower)
        {
            continue;
        }
        for name in iter::repeat_n(name, values.len()) {
            let value = values.next_range().map(|range| text.slice(range)).unwrap_or_default();
            match HeaderValue::from_maybe_shared(value) {
                // A map has room for 32,768 names; what does not fit was no request that a gateway took.
                Ok(value) => drop(headers.try_append(name, value)),
                Err(_) => tracing::warn!(
                    callId = call.call_id,
                    header = name.as_str(),
                    "a header whose value HTTP does not allow is not passed on"
                ),
            }
        }
    }
    // The function knows the call by the id that its caller was told, whatever else stands before it.
    if headers.get(CALL_ID).is_none_or(|first| first.as_bytes().trim_ascii() != call.call_id.as_bytes()) {
        set(&mut headers, "x-call-id", call.call_id);
    }
    drop(headers.try_insert(RETRY, call.retry.into()));
    drop(headers.try_insert(RETRY_MAX, call.retry_max.into()));
    call.span.inject(&mut headers);
    if call.invocation.body.is_empty() {
        // The client leaves it to us to say so.
        set(&mut headers, "content-length", "0");
    }
    headers
}
