//! Where an answer goes when the caller asked for it.

use std::time::Duration;

use crate::support::{Answer, Call, DEAD, Gateway, Invocation, Latch, Nats, QUEUE, Worker, eventually};

/// Headers of a callback that HTTP itself needs.
const FRAMING: [&str; 5] = ["host", "content-length", "accept", "accept-encoding", "connection"];

/// One call of `f` that is answered like this, tried this often; returns its callback.
async fn check(answer: fn(&Call) -> Answer, attempts: u32) -> Call {
    let nats = Nats::start().await;
    let gateway = Gateway::start(answer).await;
    let receiver = Gateway::start(|_| Answer::status(202)).await;
    let settings =
        Worker::of(&nats, &gateway).set("initial_retry_wait", "10ms").set("upstream_timeout", "500ms");
    let _worker = settings.set("max_retry_attempts", attempts).start().await;
    nats.publish(&Invocation::of("f.ns").call_id("a").callback(&format!("{}/back?x=1", receiver.url())))
        .await;
    receiver.await_calls(1).await;
    eventually("the invocation ends", async || nats.counts().await[..2] == [0, 0]).await;
    assert_eq!(receiver.count(), 1, "an invocation ends once, and only its end is told");
    receiver.calls().remove(0)
}

#[tokio::test]
async fn an_answer_is_passed_on_with_its_headers_and_ours() {
    let answer = |_: &Call| {
        let answer =
            Answer::status(201).header("Content-Type", "text/x").header("X-Own", "1").header("X-Own", "2");
        answer.header("Keep-Alive", "timeout=5").header("X-Duration-Seconds", "99").body("hello")
    };
    let call = check(answer, 3).await;
    assert_eq!((&*call.request.start, &*call.request.body), ("POST /back?x=1 HTTP/1.1", &b"hello"[..]));
    let mut headers: Vec<_> =
        call.request.headers.iter().map(|(name, value)| (name.to_lowercase(), value.clone())).collect();
    headers.retain(|(name, _)| !FRAMING.contains(&name.as_str()));
    let duration =
        headers.iter().position(|(name, _)| name == "x-duration-seconds").expect("X-Duration-Seconds");
    let (_, duration) = headers.remove(duration);
    assert!(
        duration.split_once('.').is_some_and(|(_, digits)| digits.len() == 6),
        "not six decimals: {duration}"
    );
    assert!(duration.parse::<f64>().is_ok_and(|seconds| seconds < 60.0), "{duration}");
    headers.sort();
    let version = format!("queue-worker/{}", env!("CARGO_PKG_VERSION"));
    let expected = [
        ("content-type", "text/x"),
        ("user-agent", &version),
        ("x-call-id", "a"),
        ("x-function-name", "f.ns"),
        ("x-function-status", "201"),
        ("x-own", "1"),
        ("x-own", "2"),
        ("x-retry", "0"),
        ("x-retry-max", "2"),
    ];
    assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[tokio::test]
async fn only_the_last_of_several_attempts_is_told() {
    let call = check(|call| Answer::status(if call.nth < 3 { 500 } else { 200 }), 5).await;
    assert_eq!((call.header("x-function-status"), call.header("x-retry")), (Some("200"), Some("2")));
    let call = check(|_| Answer::status(500).body("sorry"), 2).await;
    assert_eq!((call.header("x-function-status"), call.header("x-retry")), (Some("500"), Some("1")));
    assert_eq!(&*call.request.body, b"sorry");
}

#[tokio::test]
async fn a_refusal_is_told() {
    let call = check(|_| Answer::status(400).body("no"), 5).await;
    assert_eq!((call.header("x-function-status"), &*call.request.body), (Some("400"), &b"no"[..]));
}

#[tokio::test]
async fn a_function_that_cannot_be_reached_is_told_as_503_and_a_slow_one_as_504() {
    let call = check(|_| Answer::hang_up(), 1).await;
    assert_eq!((call.header("x-function-status"), &*call.request.body), (Some("503"), &b""[..]));
    let call = check(|_| Answer::silence(), 1).await;
    assert_eq!((call.header("x-function-status"), &*call.request.body), (Some("504"), &b""[..]));
}

#[tokio::test]
async fn the_order_is_dead_letter_then_callback_then_ack() {
    let latch = Latch::new();
    let held = latch.clone();
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::status(400)).await;
    let receiver = Gateway::start(move |_| Answer::ok().held_by(&held)).await;
    let _worker = Worker::of(&nats, &gateway).start().await;
    nats.publish(&Invocation::of("f").call_id("a").callback(&receiver.url())).await;
    receiver.await_calls(1).await;
    assert_eq!((nats.count(QUEUE).await, nats.count(DEAD).await), (1, 1));
    latch.open();
    nats.await_counts([0, 0, 1]).await;
}

#[tokio::test]
async fn user_and_password_of_the_callback_are_recovered_from_the_header() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let receiver = Gateway::start(|_| Answer::ok()).await;
    let _worker = Worker::of(&nats, &gateway).start().await;
    let url = format!("http://user:pw@{}/back", receiver.address());
    nats.publish(&Invocation::of("f").call_id("a").callback(&url)).await;
    let calls = receiver.await_calls(1).await;
    assert_eq!(calls[0].header("authorization"), Some("Basic dXNlcjpwdw=="));
    assert_eq!(
        gateway.calls()[0].header("x-callback-url"),
        None,
        "the function must not see the callback's password"
    );
}

#[tokio::test]
async fn a_callback_that_fails_does_not_repeat_the_call() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let receiver =
        Gateway::start(|call| if call.nth == 1 { Answer::status(500) } else { Answer::ok() }).await;
    let _worker = Worker::of(&nats, &gateway).set("initial_retry_wait", "10ms").start().await;
    nats.publish(&Invocation::of("f").call_id("a").callback(&receiver.url())).await;
    receiver.await_calls(1).await;
    eventually("the invocation ends", async || nats.counts().await[..2] == [0, 0]).await;
    assert_eq!(gateway.count(), 1);
}

#[tokio::test]
async fn a_callback_may_be_slower_than_the_lease() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let receiver = Gateway::start(|_| Answer::ok().after(Duration::from_secs(5))).await;
    let _worker = Worker::of(&nats, &gateway).set("ack_wait", "2s").start().await;
    nats.publish(&Invocation::of("f").call_id("a").callback(&receiver.url())).await;
    receiver.await_ended(1).await;
    nats.await_counts([0, 0, 0]).await;
    assert_eq!((gateway.count(), receiver.count()), (1, 1));
}

#[tokio::test]
async fn a_redirected_callback_is_not_followed() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let receiver = Gateway::start(|_| Answer::status(302).header("Location", "/elsewhere")).await;
    let _worker = Worker::of(&nats, &gateway).start().await;
    nats.publish(&Invocation::of("f").call_id("a").callback(&format!("{}/back", receiver.url()))).await;
    receiver.await_calls(1).await;
    eventually("the invocation ends", async || nats.counts().await[..2] == [0, 0]).await;
    assert_eq!(receiver.calls().iter().map(Call::target).collect::<Vec<_>>(), ["/back"]);
}
