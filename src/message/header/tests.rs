use std::{
    sync::LazyLock,
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use url::Url;

use super::*;
use crate::{
    config,
    message::{
        answer::Answer,
        arrival::Arrival,
        decode::{Invocation, decode},
        names::{self, Names},
        posting::{Ending, Posting},
        record::Record,
        successor::Message,
        timer::Timer,
    },
    observe::trace::Tracer,
    retry::judge::{Cause, Outcome},
};

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[test]
fn a_value_stays_on_its_line() {
    let mut headers = HeaderMap::new();
    for value in ["a\r\nNats-Rollup: all", "a\nb", "\r", "\0\u{7f}\u{85}é"] {
        put(&mut headers, "X", value);
        let written = headers.get("X").unwrap().as_str();
        assert!(
            !written.contains(char::is_control) && written.chars().count() == value.chars().count(),
            "{written:?}"
        );
    }
}

#[test]
fn the_first_value_that_says_something_is_read_in_any_case_of_the_name() {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("Queue-Worker-Hop", ""),
        ("Queue-Worker-Hop", " \t"),
        ("Queue-Worker-Hop", " 3 "),
        ("queue-worker-kind", "x"),
    ] {
        headers.append(name, value);
    }
    assert_eq!(
        (said(&headers, "Queue-Worker-Hop"), said(&headers, "Queue-Worker-Kind")),
        (Some("3"), Some("x"))
    );
    assert_eq!(said(&headers, "Queue-Worker-Due"), None);
}

/// Text of the kind that ends a header, or begins another one.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "\r\n",
        "\n",
        "\r",
        "\0",
        "\u{7f}",
        "\u{85}",
        "\u{2028}",
        "\u{202e}",
        "é",
        "\u{10ffff}",
        " ",
        "\t",
        ":",
        ",",
        "=",
        "a=b",
        "a",
        "%0A",
        "/",
        "Nats-Rollup: all",
        "http://u:p@h/",
        TRACEPARENT,
    ]);
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

/// A name that means something here, in any case, or any text at all.
fn name() -> impl Strategy<Value = String> {
    let known = [
        "traceparent",
        "TraceState",
        "X-Call-Id",
        "x-callback-url",
        "Connection",
        "Retry-After",
        "Queue-Worker-Redrives",
        "Nats-Rollup",
    ];
    prop_oneof![prop::sample::select(known.to_vec()).prop_map(str::to_owned), hostile()]
}

/// Traces, whose spans go nowhere: the runtime that is to carry them is not run.
static TRACING: LazyLock<(Runtime, Tracer)> = LazyLock::new(|| {
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let tracer = runtime.block_on(async { tracer() });
    (runtime, tracer)
});

fn tracer() -> Tracer {
    let sampler = config::Sampler { follows_parent: true, share: 1.0 };
    let endpoint = Url::parse("http://127.0.0.1:9/").unwrap();
    Tracer::new(
        Some(&config::Tracing { endpoint, headers: Vec::new(), resource: Vec::new(), sampler }),
        "test",
    )
}

/// What follows from a message, as it would be stored.
fn followers(message: &Message) -> [Record; 2] {
    let (names, now) = (Names::new("q", "q"), UNIX_EPOCH);
    let due = now + Duration::from_secs(9);
    let clone = message.clone_due(&message.envelope, &names, Timer::Schedules, due, now, 1 << 20);
    [clone.unwrap(), message.dead_letter(&names, Cause::Exhausted, now, 1 << 20).unwrap()]
}

fn ending<'a>(invocation: &'a Invocation, call_id: &'a str, answer: &'a Answer) -> Ending<'a> {
    let (annotations, took) = (&invocation.annotations, Duration::ZERO);
    Ending {
        invocation,
        call_id,
        annotations,
        answer: Some(answer),
        status: 200,
        took,
        answer_lost: false,
        retry: 0,
        retry_max: 9,
    }
}

fn answer(headers: http::HeaderMap) -> Answer {
    let (outcome, took) = (Outcome::TimedOut, Duration::ZERO);
    Answer { outcome, took, headers, body: Bytes::new(), truncated: true }
}

proptest! {
    #[test]
    fn whatever_callers_write_is_called_and_becomes_messages_whose_headers_are_theirs(
        fields in prop::collection::vec(hostile(), 8),
        sent in prop::collection::vec((name(), prop::collection::vec(hostile(), 0..3)), 0..6),
        told in prop::collection::vec((name(), hostile()), 0..6),
        function in prop_oneof![Just("f.ns".to_owned()), hostile()],
    ) {
        let sent: serde_json::Map<String, Value> =
            sent.into_iter().map(|(name, values)| (name, json!(values))).collect();
        let callback = json!({
            "Scheme": "http", "User": {}, "Host": "h",
            "Path": fields[0], "RawPath": fields[1], "RawQuery": fields[2],
        });
        let message = json!({
            "Function": function, "Header": sent, "Path": fields[3], "QueryString": fields[4],
            "Host": fields[5], "QueueName": fields[6], "CallbackUrl": callback,
            "Annotations": { "com.openfaas.retry.attempts": fields[7], (fields[5].clone()): fields[6] },
        });
        let mut headers = HeaderMap::new();
        told.iter().for_each(|(name, value)| add(&mut headers, name, value));
        for parked in [false, true] {
            let arrival = Arrival::example(headers.clone(), serde_json::to_vec(&message).unwrap());
            let mut message = Message::new(&arrival, parked);
            let mut records = Vec::new();
            match decode(&message.payload().unwrap()) {
                Err(undecodable) => {
                    message.identify_undecodable(&undecodable);
                    message.envelope.last_error = Some(fields[0].clone());
                }
                Ok(invocation) => {
                    let call_id = invocation.call_id().unwrap_or("made").to_owned();
                    message.identify(&invocation.function, Some(&call_id));
                    let trace = TRACING.1.begin("q", &mut message, Some(&invocation), || UNIX_EPOCH);
                    let mut request = http::HeaderMap::new();
                    trace.call("f", 1, "http://h/").inject(&mut request);
                    let error = Some(fields[2].clone());
                    message.envelope.record(None, &fields[1], error, Duration::ZERO, &fields[3]);
                    let answer = answer(request);
                    let (posting, _) = Posting::of(ending(&invocation, &call_id, &answer)).unwrap();
                    let mut callback = message.callback();
                    trace.carry(&mut callback.envelope.carried);
                    let (stored, encoding) = posting.pack(1 << 20);
                    prop_assert!(Posting::read(&stored).is_ok());
                    callback.fill(stored, encoding);
                    records.extend(followers(&callback));
                }
            }
            records.extend(followers(&message));
            for record in records {
                prop_assert!(record.id.bytes().all(|byte| byte.is_ascii_graphic()), "{}", record.id);
                for (name, values) in record.headers.iter() {
                    let schedule = ["Nats-Schedule", "Nats-Schedule-Target"].contains(&name.as_ref());
                    let known = schedule || !names::is_brokers(name.as_ref());
                    let broken = values.iter().any(|value| value.as_str().contains(['\r', '\n']));
                    prop_assert!(known && !broken, "{name} {values:?}");
                }
            }
        }
    }
}
