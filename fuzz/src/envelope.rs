//! The headers of a parked message, which tell its past. Input: its subject; headers, a line each; an empty
//! line; its payload.

use std::{
    str::FromStr,
    time::{Duration, SystemTime},
};

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use queue_worker::message::{arrival::Arrival, envelope::Envelope, successor::Message};

/// What headers with all the trimmings may take, and those that are always there.
const MOST: (usize, usize) = (10_240, 8_192);

/// Whatever headers tell, what is written of it is small, is read again as it was written, and can go on.
pub fn check(data: &[u8]) {
    let arrival = arrival(data);
    let _ = Message::new(&arrival, true).payload();
    let told = Envelope::parked(&arrival);
    assert!(told.history.len() <= 20 && told.origin.len() <= 256);
    let headers = told.headers(Some("f"), Some("id"), false);
    // Where the headers are part of the call all of them go on.
    if told.subject.is_none() {
        assert!(size(&headers) <= MOST.0, "{} bytes of headers", size(&headers));
        assert!(size(&told.headers(Some("f"), Some("id"), true)) <= MOST.1);
    }
    for (name, values) in headers.iter() {
        let ours = name.to_string().to_ascii_lowercase().starts_with("queue-worker-");
        assert!(!name.to_string().to_ascii_lowercase().starts_with("nats-"));
        for value in values.iter().filter(|_| ours) {
            assert!(!value.as_str().contains(['\r', '\n']));
        }
    }

    // What was trimmed on the way out the first time is not trimmed again.
    let again = |headers: &HeaderMap| {
        Envelope::fresh(&arrival).as_told(headers).headers(Some("f"), Some("id"), false)
    };
    let settled = again(&again(&headers));
    assert_eq!(again(&settled), settled);

    let mut tried = told.next();
    assert!(tried.generation >= told.generation);
    for _ in 0..3 {
        tried.record(
            Some(500),
            "server_error",
            Some("an error".to_owned()),
            Duration::from_millis(5),
            "worker",
        );
        tried.note_found(false, SystemTime::UNIX_EPOCH);
    }
    assert!(tried.attempts == u32::MAX || tried.attempts >= 3);
    assert!(tried.history.len() <= 20);
    assert_eq!(tried.last_attempt(), Some(("server_error", 5)));
}

/// The message of an input.
pub(crate) fn arrival(data: &[u8]) -> Arrival {
    let mut rest = data;
    let mut line = || {
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        let (line, after) = rest.split_at(end);
        rest = after.get(1..).unwrap_or_default();
        String::from_utf8_lossy(line).into_owned()
    };
    let subject = line();
    let mut headers = HeaderMap::new();
    loop {
        let line = line();
        let Some((name, value)) = line.split_once(':') else { break };
        if let (Ok(name), Ok(value)) = (HeaderName::from_str(name), HeaderValue::from_str(value.trim_start()))
        {
            headers.append(name, value);
        }
    }
    let payload = Bytes::copy_from_slice(rest);
    Arrival {
        subject,
        headers,
        payload,
        stream: "faas-request-retries".into(),
        sequence: 7,
        stored: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
    }
}

fn size(headers: &HeaderMap) -> usize {
    let value = |name: usize, value: &HeaderValue| name + value.as_str().len() + 4;
    headers
        .iter()
        .map(|(name, values)| values.iter().map(|one| value(name.to_string().len(), one)).sum::<usize>())
        .sum()
}
