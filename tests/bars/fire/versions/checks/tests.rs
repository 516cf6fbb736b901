//! A header that a call, a callback, a parked retry or a dead letter lacks is found, and nobody complains of
//! what is whole.

use std::time::SystemTime;

use bytes::Bytes;
use tokio::time::Instant;

use super::*;

/// A number of each fate.
const NUMBERS: [usize; 4] = [0, 1, 3, 5];

fn request(target: &str, headers: Vec<(String, String)>, body: Vec<u8>) -> Call {
    let start = format!("POST {target} HTTP/1.1");
    Call {
        nth: 1,
        request: http::Message { start, headers, body: body.into() },
        arrived: Instant::now(),
        end: None,
    }
}

fn owned(headers: &[(&str, &str)]) -> Vec<(String, String)> {
    headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A call by the worker as it ought to be.
fn call(number: usize, retry: u32, by: usize) -> Call {
    let mut all: Vec<_> = headers(number).into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    all.extend(owned(&[("host", "gateway"), ("x-retry", &retry.to_string())]));
    all.push(("X-Retry-Max".to_owned(), (most_attempts(number) - 1).to_string()));
    request(&format!("/worker-{by}/function/f?q=1"), all, body(number))
}

/// The complaints about two calls, of which the second was changed.
fn after(change: impl FnOnce(&mut Call)) -> Vec<String> {
    let mut second = call(1, 1, 1);
    change(&mut second);
    of_calls(1, &[&call(1, 0, 0), &second])
}

#[test]
fn a_call_that_is_whole_is_nobodys_complaint() {
    assert_eq!(after(|_| {}), [""; 0]);
    assert_eq!(
        after(|second| second.request.headers.iter_mut().for_each(|(name, _)| name.make_ascii_uppercase())),
        [""; 0]
    );
}

#[test]
fn each_header_that_a_retry_lacks_is_missed() {
    let all = call(1, 1, 1).request.headers;
    for (place, (name, _)) in all.iter().enumerate().filter(|(_, (name, _))| name != "x-retry") {
        assert!(!after(|second| _ = second.request.headers.remove(place)).is_empty(), "{name}");
        assert!(!after(|second| second.request.headers[place].1.push('.')).is_empty(), "{name}");
        // It was sent, so its absence from all calls is no excuse.
        let mut both = [call(1, 0, 0), call(1, 1, 1)];
        both.iter_mut().for_each(|call| _ = call.request.headers.remove(place));
        assert!(name == "host" || !of_calls(1, &both.each_ref()).is_empty(), "{name}");
    }
}

#[test]
fn a_retry_that_says_more_or_goes_elsewhere_or_comes_too_soon_is_found() {
    assert!(!after(|second| second.request.headers.push(("X-More".to_owned(), String::new()))).is_empty());
    assert!(
        !after(|second| second.request.headers.push(("X-Several".to_owned(), "fourth".to_owned())))
            .is_empty()
    );
    assert!(
        !after(|second| second.request.start = "POST /worker-1/function/g?q=1 HTTP/1.1".to_owned())
            .is_empty()
    );
    assert!(!after(|second| second.request.body = Bytes::from_static(b"other")).is_empty());
    assert!(!after(|second| *second = call(1, 2, 1)).is_empty());
}

/// A callback as it ought to be.
fn callback(number: usize) -> Call {
    let (retry, answered) = end(number);
    let status = answered.unwrap_or(503);
    let [retry, most, code] = [retry, most_attempts(number) - 1, status.into()].map(|n| n.to_string());
    let id = format!("call-{number}");
    let mut all = owned(&[("X-Answer", "one"), ("X-Answer", "two"), ("Content-Type", "text/answer")]);
    all.truncate(if answered.is_some() { 3 } else { 0 });
    all.extend(owned(&[
        ("x-call-id", &id),
        ("x-function-name", function(number)),
        ("x-function-status", &code),
        ("x-retry", &retry),
        ("x-retry-max", &most),
        ("x-duration-seconds", "0.100000"),
        ("user-agent", "queue-worker/0.1.0"),
        ("authorization", "Basic bWU6cDp3"),
    ]));
    request("/", all, if answered.is_some() { told(number, status) } else { Vec::new() })
}

#[test]
fn each_header_that_a_callback_lacks_is_missed() {
    for number in NUMBERS {
        assert_eq!(of_callback(number, &callback(number)), [""; 0]);
        for place in 0..callback(number).request.headers.len() {
            let mut lame = callback(number);
            let (name, _) = lame.request.headers.remove(place);
            assert!(!of_callback(number, &lame).is_empty(), "{name}");
        }
        let mut lame = callback(number);
        lame.request.body = Bytes::from_static(b"other");
        assert!(!of_callback(number, &lame).is_empty());
    }
}

/// A message with these headers.
fn kept(headers: HeaderMap, payload: Vec<u8>) -> Stored {
    Stored {
        subject: String::new(),
        sequence: 1,
        headers,
        payload: payload.into(),
        time: SystemTime::UNIX_EPOCH,
    }
}

/// Checks that the message passes, and that it does not when it lacks one of its headers.
fn check(whole: &HeaderMap, passes: impl Fn(HeaderMap) -> Vec<String>) {
    assert_eq!(passes(whole.clone()), [""; 0]);
    for (missing, _) in whole.iter() {
        let lame: HeaderMap = whole
            .iter()
            .filter(|(name, _)| *name != missing)
            .map(|(name, values)| (name.clone(), values[0].clone()))
            .collect();
        assert!(!passes(lame).is_empty(), "{missing}");
    }
}

#[test]
fn each_header_that_a_parked_retry_or_a_dead_letter_lacks_is_missed() {
    let foreign = HeaderMap::from_iter([("X-Tenant".parse().unwrap(), "a".parse().unwrap())]);
    let with = |names: &[&str]| {
        let mut headers = foreign.clone();
        names.iter().for_each(|name| headers.insert(format!("Queue-Worker-{name}"), "1"));
        headers
    };
    check(&with(&PARKED), |headers| of_parked(1, &kept(headers, Vec::new()), &foreign));

    let mut headers = with(&DEAD);
    headers.insert("Queue-Worker-Call-Id", "call-3");
    headers.insert("Queue-Worker-Last-Status", "400");
    headers.insert("Queue-Worker-History", "1:400:100:worker-1");
    let payload = message(3, "http://localhost").to_bytes();
    let judged = |headers, by, payload: &[u8]| {
        of_letter(3, &kept(headers, payload.to_vec()), &[&call(3, 0, by)], &foreign, "http://localhost")
    };
    check(&headers, |headers| judged(headers, 1, &payload));
    assert!(!judged(headers.clone(), 0, &payload).is_empty(), "the other worker made the attempt");
    assert!(!judged(headers, 1, &payload[1..]).is_empty());
}
