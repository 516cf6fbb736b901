//! From a request to what is stored. Pure.

use std::{
    iter,
    time::{Duration, SystemTime},
};

use async_nats::HeaderMap as NatsHeaders;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use bytes::Bytes;
use uuid::Uuid;

use super::{
    Refusal,
    keys::Key,
    route::{Function, Route},
};
use crate::{
    message::{
        decode::{CallbackUrl, Headers, Invocation, decode},
        form::Form,
        header,
        http_headers::HOP_BY_HOP,
        names::{is_brokers, is_ours},
    },
    text::{duration, time},
};

/// The longest key of a caller's.
const LONGEST_KEY: usize = 255;
/// The header of a call's id, as gateways write it.
const CALL_ID: &str = "X-Call-Id";
/// Headers that are for the ingress, or of its connection.
const NOT_STORED: [&str; 5] = ["host", "content-length", "expect", "x-delay", "x-not-before"];

/// What is to be stored.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) subject: String,
    pub(super) headers: NatsHeaders,
    pub(super) payload: Bytes,
    pub(super) call_id: String,
    /// What tells it from any other.
    pub(super) key: Key,
    /// When it may be called, if not at once.
    pub(super) due: Option<SystemTime>,
}

fn bad(text: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, "malformed", text)
}

/// What a request asks for. `mine`: its `Authorization` is for the ingress. `unique` is no other request's.
pub(super) fn entry(
    route: &Route<'_>,
    headers: &HeaderMap,
    body: Bytes,
    mine: bool,
    max_delay: Duration,
    now: SystemTime,
    unique: Uuid,
) -> Result<Entry, Refusal> {
    let due = due(headers, max_delay, now)?;
    let key = key(headers)?;
    let own = text(headers, "x-call-id")?.filter(|id| !id.is_empty());
    // The same key has the same id, whatever the caller calls it the second time.
    let by_key = |key: &String| {
        Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{}:{key}", route.queue.name).as_bytes()).to_string()
    };
    let call_id = key.as_ref().map(by_key).or(own).unwrap_or_else(|| unique.to_string());
    let kept = kept(headers, mine)?;
    let (headers, payload) = match (&route.function, &route.queue.form) {
        (Some(function), _) => (NatsHeaders::new(), of_function(function, listed(&kept, &call_id), body)?),
        (None, Form::OpenFaas) => {
            let mut invocation = decode(&body).map_err(|undecodable| bad(undecodable.reason))?;
            invocation.headers = invocation.headers.only(|name| !name.eq_ignore_ascii_case(CALL_ID));
            invocation.headers.push(CALL_ID, &call_id);
            (NatsHeaders::new(), invocation.encode().into())
        }
        (None, _) => (of_message(&kept, &call_id), body),
    };
    let key = key.map_or(Key::Unique(unique), Key::Told);
    Ok(Entry { subject: route.subject.clone(), headers, payload, call_id, key, due })
}

/// When it may be called: as soon as both headers allow.
fn due(headers: &HeaderMap, max_delay: Duration, now: SystemTime) -> Result<Option<SystemTime>, Refusal> {
    let mut due = None;
    if let Some(delay) = text(headers, "x-delay")? {
        let delay = duration::parse(&delay).map_err(|error| bad(format!("X-Delay: {error}")))?;
        due = Some(delay);
    }
    if let Some(time) = text(headers, "x-not-before")? {
        let time = time::parse(&time).or_else(|| httpdate::parse_http_date(&time).ok());
        let time = time.ok_or_else(|| bad("X-Not-Before: expected a time of RFC 3339 or an HTTP date"))?;
        due = due.max(Some(time.duration_since(now).unwrap_or_default()));
    }
    match due {
        Some(delay) if delay > max_delay => {
            Err(bad(format!("expected a delay of at most {}", duration::shown(max_delay))))
        }
        due => Ok(due.filter(|delay| !delay.is_zero()).map(|delay| now + delay)),
    }
}

fn key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    match text(headers, "idempotency-key")? {
        Some(key) if key.is_empty() || key.len() > LONGEST_KEY => {
            Err(bad(format!("Idempotency-Key: expected 1 to {LONGEST_KEY} characters")))
        }
        key => Ok(key),
    }
}

/// The only value of a header.
fn text(headers: &HeaderMap, name: &str) -> Result<Option<String>, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let text = value.to_str().map_err(|_| bad(format!("{name}: expected printable characters")))?;
            Ok(Some(text.trim().to_owned()))
        }
        (Some(_), Some(_)) => Err(bad(format!("{name}: expected one value"))),
    }
}

/// The headers that are stored with the message, but for its call id. All of one name stand together.
fn kept(headers: &HeaderMap, mine: bool) -> Result<Vec<(&HeaderName, &str)>, Refusal> {
    let listed: Vec<String> = headers
        .get_all("connection")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(|name| name.trim().to_ascii_lowercase()))
        .collect();
    let is_kept = |name: &HeaderName| {
        let lower = name.as_str();
        let dropped = HOP_BY_HOP.contains(&lower)
            || NOT_STORED.contains(&lower)
            || listed.iter().any(|listed| listed == lower)
            || is_brokers(lower)
            || is_ours(lower)
            || lower == "x-call-id"
            || (mine && lower == "authorization");
        !dropped
    };
    let kept = headers.iter().filter(|(name, _)| is_kept(name));
    kept.map(|(name, value)| match str::from_utf8(value.as_bytes()) {
        Ok(text) => Ok((name, text)),
        Err(_) => Err(bad(format!("{name}: expected UTF-8"))),
    })
    .collect()
}

/// `x-call-id` as `X-Call-Id`: the usual form, and Go's.
fn canonical(name: &str) -> String {
    let mut written = name.to_owned();
    let behind_hyphens = name.match_indices('-').map(|(at, _)| at + 1);
    for start in iter::once(0).chain(behind_hyphens) {
        written.get_mut(start..=start).into_iter().for_each(str::make_ascii_uppercase);
    }
    written
}

fn of_message(kept: &[(&HeaderName, &str)], call_id: &str) -> NatsHeaders {
    let mut headers = NatsHeaders::new();
    kept.iter().for_each(|(name, value)| header::add(&mut headers, &canonical(name.as_str()), value));
    header::add(&mut headers, CALL_ID, call_id);
    headers
}

/// The same as a gateway lists them.
fn listed(kept: &[(&HeaderName, &str)], call_id: &str) -> Headers {
    let of_one_name = kept.chunk_by(|(name, _), (next, _)| name == next).filter_map(|all| {
        let (name, _) = all.first()?;
        Some((canonical(name.as_str()), all.iter().map(|(_, value)| *value)))
    });
    let mut headers: Headers = of_one_name.collect();
    headers.push(CALL_ID, call_id);
    headers
}

/// The message that a gateway would have queued.
fn of_function(function: &Function, kept: Headers, body: Bytes) -> Result<Bytes, Refusal> {
    let callback = kept.values("X-Callback-Url").next();
    let invocation = Invocation {
        callback: callback.filter(|url| !url.is_empty()).map(CallbackUrl::written),
        path: function.path.clone(),
        query: function.query.clone(),
        method: "POST".to_owned(),
        headers: kept,
        body,
        ..Invocation::of(function.name.clone())
    };
    if let Some(Err(reason)) = invocation.callback_url() {
        return Err(bad(format!("X-Callback-Url: {reason}")));
    }
    let payload = invocation.encode();
    // A worker would refuse the same.
    decode(&payload).map_err(|undecodable| bad(undecodable.reason))?;
    Ok(payload.into())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use axum::http::{HeaderValue, Method};

    use super::*;
    use crate::{config::load, ingress::route::route};

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn made(uri: &str, of: &[(&str, &str)], mine: bool) -> Result<Entry, Refusal> {
        let set = [
            ("queue_name", "orders,faas-request"),
            ("input", "http,openfaas"),
            ("target_url", "http://shop/"),
        ];
        let set = set.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let queues = load([], set).unwrap().config.queues;
        let route = route(&Method::POST, &uri.parse().unwrap(), &queues).unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in of {
            headers.append(
                name.parse::<HeaderName>().unwrap(),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        let hour = Duration::from_secs(3_600);
        entry(&route, &headers, Bytes::from_static(b"{}"), mine, hour, NOW, Uuid::from_u128(7))
    }

    fn names(entry: &Entry) -> Vec<String> {
        let mut names: Vec<_> = entry.headers.iter().map(|(name, _)| name.to_string()).collect();
        names.sort();
        names
    }

    #[test]
    fn headers_that_would_command_the_broker_are_not_stored() {
        let sent = [
            ("nats-rollup", "all"),
            ("Nats-Expected-Stream", "x"),
            ("queue-worker-hop", "1"),
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("host", "h"),
            ("content-length", "2"),
            ("x-delay", "0s"),
            ("authorization", "Bearer t"),
            ("x-a", "1"),
            ("x-a", "2"),
        ];
        let entry = made("/queues/orders/messages", &sent, true).unwrap();
        assert_eq!(names(&entry), ["X-A", "X-Call-Id"]);
        assert_eq!(entry.headers.get_all("X-A").count(), 2);
        assert_eq!((entry.due, entry.call_id.as_str()), (None, Uuid::from_u128(7).to_string().as_str()));
        let open = made("/queues/orders/messages", &sent, false).unwrap();
        assert_eq!(names(&open), ["Authorization", "X-A", "X-Call-Id"]);
        // OpenFaaS's message has them in its payload.
        let call = made("/async-function/f", &sent, true).unwrap();
        assert!(call.headers.is_empty());
        let invocation = decode(&call.payload).unwrap();
        assert_eq!((invocation.call_id(), &*invocation.body), (Some(call.call_id.as_str()), &b"{}"[..]));
        assert!(!format!("{:?}", invocation.headers).contains("Bearer"));
    }

    #[test]
    fn names_are_written_as_go_writes_them() {
        for (name, written) in [
            ("x-call-id", "X-Call-Id"),
            ("te", "Te"),
            ("x-1a-b", "X-1a-B"),
            ("a--b-", "A--B-"),
            ("x_y", "X_y"),
        ] {
            assert_eq!(canonical(name), written);
        }
    }

    #[test]
    fn a_key_makes_the_id_and_is_of_its_queue() {
        let of = |uri: &str, id: &str| {
            let entry = made(uri, &[("idempotency-key", "k"), ("x-call-id", id)], false).unwrap();
            (entry.call_id, entry.key)
        };
        assert_eq!(of("/queues/orders/messages", "a"), of("/queues/orders/messages", "b"));
        assert_ne!(of("/queues/orders/messages", "a").0, of("/async-function/f", "a").0);
        let own = made("/queues/orders/messages", &[("x-call-id", " mine ")], false).unwrap();
        assert_eq!(own.call_id, "mine");
    }

    #[test]
    fn a_call_is_put_off_as_far_as_both_headers_say() {
        let due = |of: &[(&str, &str)]| {
            made("/queues/orders/messages", of, false)
                .map(|entry| entry.due.map(|due| due.duration_since(NOW).unwrap().as_secs()))
        };
        assert_eq!(due(&[("x-delay", "1m")]), Ok(Some(60)));
        assert_eq!(due(&[("x-not-before", "1970-01-01T00:02:00Z")]), Ok(Some(120)));
        assert_eq!(due(&[("x-not-before", "1970-01-01T02:02:00+02:00")]), Ok(Some(120)));
        assert_eq!(
            due(&[("x-not-before", "Thu, 01 Jan 1970 00:02:00 GMT"), ("x-delay", "1m")]),
            Ok(Some(120))
        );
        assert_eq!(due(&[("x-not-before", "1970-01-01T00:00:00Z")]).ok(), Some(None));
        for bad in [("x-delay", "2h"), ("x-delay", "5"), ("x-not-before", "soon"), ("idempotency-key", "")] {
            assert_eq!(due(&[bad]).unwrap_err().status, StatusCode::BAD_REQUEST, "{bad:?}");
        }
        assert!(due(&[("x-delay", "1s"), ("x-delay", "2s")]).is_err());
        assert!(made("/async-function/f", &[("x-callback-url", "ftp://x")], false).is_err());
    }
}
