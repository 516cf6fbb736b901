//! What a function sees, compared byte for byte with what a caller sent.

use std::{fs, path::Path};

use async_nats::HeaderMap;
use serde_json::Value;

use crate::support::{Answer, Call, Gateway, Invocation, Nats, QUEUE, Worker};

type Headers = Vec<(String, String)>;

/// Headers of a message that stay behind.
const LEFT: [&str; 5] = ["content-length", "expect", "host", "transfer-encoding", "x-callback-url"];

/// A message captured from a real gateway, its callback led to the receiver, becomes a call of this target
/// and body.
async fn check(file: &str, target: &str, body: &[u8]) {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let receiver = Gateway::start(|_| Answer::ok()).await;
    let _worker = Worker::of(&nats, &gateway).set("max_retry_attempts", 8).start().await;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata").join(file);
    let text = fs::read_to_string(path).unwrap().replace("127.0.0.1:9000", &receiver.address().to_string());
    nats.publish_raw(QUEUE, HeaderMap::new(), text.trim_end().to_owned()).await;

    let call = gateway.await_calls(1).await.remove(0);
    assert_eq!(call.request.start, format!("POST {target} HTTP/1.1"), "{file}");
    assert_eq!(&*call.request.body, body, "{file}");
    let message: Value = serde_json::from_str(&text).unwrap();
    let mut expected = Vec::new();
    for (name, values) in message["Header"].as_object().unwrap() {
        if !LEFT.contains(&name.to_lowercase().as_str()) {
            expected.extend(
                values
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|value| (name.to_lowercase(), value.as_str().unwrap().to_owned())),
            );
        }
    }
    let (framing, passed) = split(&call);
    assert_eq!(passed, expected, "{file}: the message's own headers, in order and number");
    let expected = [
        ("content-length", body.len().to_string()),
        ("host", gateway.address().to_string()),
        ("x-retry", "0".to_owned()),
        ("x-retry-max", "7".to_owned()),
    ];
    assert_eq!(
        framing,
        expected.map(|(name, value)| (name.to_owned(), value)),
        "{file}: what the worker adds"
    );
    nats.await_counts([0, 0, 0]).await;
}

/// The headers that a worker adds, sorted, and the others in their order.
fn split(call: &Call) -> (Headers, Headers) {
    let headers = call.request.headers.iter().map(|(name, value)| (name.to_lowercase(), value.clone()));
    let (mut added, passed): (Headers, Headers) = headers
        .partition(|(name, _)| ["content-length", "host", "x-retry", "x-retry-max"].contains(&name.as_str()));
    added.sort();
    (added, passed)
}

#[tokio::test]
async fn a_plain_call_gets_no_slash_and_no_header_of_a_client_library() {
    check("msg-1.json", "/function/echo", b"hello").await;
}

#[tokio::test]
async fn a_path_is_encoded_again_and_a_query_passes_as_it_is() {
    check("msg-2.json", "/function/echo/a/b%20c?x=1&y=%2F", br#"{"a":1}"#).await;
}

#[tokio::test]
async fn a_namespace_a_closing_slash_and_an_empty_body_pass() {
    check("msg-3.json", "/function/echo.openfaas-fn/", b"").await;
}

#[tokio::test]
async fn a_callback_url_is_not_shown_to_the_function() {
    check("msg-4.json", "/function/busy", b"x").await;
    check("msg-5.json", "/function/redir", b"x").await;
}

#[tokio::test]
async fn a_binary_body_passes() {
    check("msg-6.json", "/function/echo", &[0, 255, 254]).await;
}

#[tokio::test]
async fn an_expectation_of_the_callers_connection_stays_behind() {
    check("msg-7.json", "/function/echo", b"abc").await;
}

/// The one call that becomes of an invocation of `f`.
async fn call_of(invocation: Invocation) -> Call {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let _worker = Worker::of(&nats, &gateway).start().await;
    nats.publish(&invocation).await;
    gateway.await_calls(1).await;
    nats.await_counts([0, 0, 0]).await;
    gateway.calls().remove(0)
}

#[tokio::test]
async fn headers_about_the_callers_connection_stay_behind_and_the_callers_own_pass() {
    let mut invocation = Invocation::of("f").call_id("a");
    let left = [
        "Connection",
        "Keep-Alive",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "Proxy-Authorization",
        "Host",
        "Expect",
    ];
    for name in left {
        invocation = invocation.header(name, "left-behind");
    }
    let passed = [
        ("Accept-Encoding", "br"),
        ("Authorization", "Bearer x"),
        ("Cookie", "a=b"),
        ("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("User-Agent", "mine"),
        ("X-Empty", ""),
        ("X-Many", "2"),
        ("X-Many", "1"),
        ("X-Many", "2"),
    ];
    for (name, value) in passed {
        invocation = invocation.header(name, value);
    }
    let call = call_of(invocation.header("X-Broken", "a\r\nX-Smuggled: b").header("X-Nul", "a\0b")).await;
    let (_, seen) = split(&call);
    // Like Go, the builder writes the names in their order, so that the call id stands among the others.
    let mut expected: Vec<_> =
        passed.iter().map(|(name, value)| (name.to_lowercase(), (*value).to_owned())).collect();
    expected.insert(5, ("x-call-id".to_owned(), "a".to_owned()));
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn the_call_id_is_the_one_that_the_gateway_told_the_caller_everywhere() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::status(400)).await;
    let receiver = Gateway::start(|_| Answer::ok()).await;
    let worker = Worker::of(&nats, &gateway).start().await;
    for (nth, empty) in ["", " ", "\t", "a\r\nb"].into_iter().enumerate() {
        let id = format!("told-{nth}");
        // The caller's own comes first, and the gateway adds its id to it.
        nats.publish(&Invocation::of("f").call_id(empty).call_id(&id).callback(&receiver.url())).await;
        let call = receiver.await_ended(nth + 1).await.remove(nth);
        assert_eq!(call.id(), id);
        assert_eq!(
            gateway.calls()[nth]
                .request
                .headers
                .iter()
                .filter(|(name, _)| name.eq_ignore_ascii_case("x-call-id"))
                .count(),
            1
        );
        assert_eq!(gateway.calls()[nth].id(), id);
        let dead = nats.dead_letters(nth as u64 + 1).await;
        assert_eq!(dead[nth].expect("Queue-Worker-Call-Id"), id);
        worker.await_log(&["Dead letter", &id]).await;
    }
}

#[tokio::test]
async fn a_path_and_a_query_cannot_break_the_request_line() {
    let call =
        call_of(Invocation::of("f").path("/ä?b#c%2F d").field("QueryString", "a=b%20c&d=/?".into())).await;
    assert_eq!(call.target(), "/function/f/%C3%A4%3Fb%23c%252F%20d?a=b%20c&d=/?");
}

#[tokio::test]
async fn a_base_path_of_the_gateway_is_kept() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let settings = Worker::of(&nats, &gateway).set("gateway_url", format!("{}/base/path/", gateway.url()));
    let _worker = settings.start().await;
    nats.publish(&Invocation::of("f").call_id("a").path("/p")).await;
    assert_eq!(gateway.await_calls(1).await[0].target(), "/base/path/function/f/p");
}
