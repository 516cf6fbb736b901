//! Callbacks that fail at first, or never succeed: they go round on their own, and the call they came from
//! does not.

use std::time::Duration;

use async_nats::HeaderMap;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::Value;

use crate::support::{
    Answer, Call, DEAD, Gateway, Invocation, Latch, Nats, RETRIES, Stored, Worker, eventually, eventually_is,
};

/// The dead letter with this cause.
pub fn of_cause<'a>(dead: &'a [Stored], cause: &str) -> &'a Stored {
    dead.iter()
        .find(|dead| dead.header("Queue-Worker-Cause") == Some(cause))
        .unwrap_or_else(|| panic!("no {cause} in {dead:?}"))
}

/// What was counted as the results of callbacks: delivered, retried, failed, refused.
pub async fn results(worker: &Worker) -> [f64; 4] {
    let metrics = worker.metrics().await;
    ["delivered", "retried", "failed", "refused"]
        .map(|result| metrics.get("queue_worker_callbacks_total", &[("result", result)]).unwrap_or_default())
}

#[tokio::test]
async fn a_callback_that_fails_three_times_succeeds_at_the_fourth_and_the_function_is_called_once() {
    let nats = Nats::start().await;
    let gateway =
        Gateway::start(|_| Answer::status(201).header("Content-Type", "text/x").body("hello")).await;
    let answers = [500, 429, 408, 202];
    let receiver = Gateway::start(move |call| Answer::status(answers[call.nth - 1])).await;
    let worker = Worker::of(&nats, &gateway).set("initial_retry_wait", "50ms").start().await;
    let url = format!("http://user:hidden@{}/back?token=hidden", receiver.address());
    let mut watch = nats.watch_parked().await;
    nats.publish(&Invocation::of("f.ns").call_id("a").callback(&url)).await;

    let calls = receiver.await_calls(4).await;
    nats.await_counts([0, 0, 0]).await;
    assert_eq!((gateway.count(), receiver.count()), (1, 4));
    for call in &calls {
        assert_eq!(
            (&*call.request.start, &*call.request.body),
            ("POST /back?token=hidden HTTP/1.1", &b"hello"[..])
        );
        assert_eq!(call.header("authorization"), Some("Basic dXNlcjpoaWRkZW4="));
        for (name, value) in
            [("content-type", "text/x"), ("x-call-id", "a"), ("x-function-status", "201"), ("x-retry", "0")]
        {
            assert_eq!(call.header(name), Some(value), "{name}");
        }
        assert_eq!(call.header("x-duration-seconds"), calls[0].header("x-duration-seconds"));
        assert_eq!(call.header("x-body-truncated"), None);
    }
    for (n, parked) in (1..=3).zip(watch.take(3).await) {
        let figures = ["Kind", "Attempts", "Hop", "Function"]
            .map(|name| parked.expect(&format!("Queue-Worker-{name}")).to_owned());
        assert_eq!(figures, ["callback".to_owned(), n.to_string(), n.to_string(), "f.ns".to_owned()]);
        assert!(parked.subject.ends_with(&format!(".{n}")), "{}", parked.subject);
        assert!(parked.expect("Nats-Msg-Id").ends_with(&format!(".{n}")), "{parked:?}");
    }
    eventually("each POST is counted", async || results(&worker).await == [1.0, 3.0, 0.0, 0.0]).await;
    let lines = || ["Posted result", "Callback retry scheduled"].map(|text| worker.log_with(text).len());
    eventually_is("POSTs and retries in the log", [4, 3], async || lines()).await;
    assert!(worker.log_with("hidden").is_empty(), "{:?}", worker.log_with("hidden"));
}

#[tokio::test]
async fn a_callback_whose_attempts_are_used_up_is_a_dead_letter_with_all_that_it_takes_to_post_it() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok().header("X-Own", "1").body(vec![0, 255, 10])).await;
    let receiver = Gateway::start(|_| Answer::status(503)).await;
    let worker = Worker::of(&nats, &gateway)
        .set("initial_retry_wait", "10ms")
        .set("callback_attempts", 3)
        .start()
        .await;
    nats.publish(&Invocation::of("f").call_id("a").callback(&receiver.url())).await;
    let dead = nats.dead_letter().await;
    assert_eq!((gateway.count(), receiver.count()), (1, 3));
    assert_eq!(dead.subject, format!("{DEAD}.f"));
    let expected = [
        ("Cause", "callback"),
        ("Kind", "callback"),
        ("Attempts", "3"),
        ("Last-Status", "503"),
        ("Call-Id", "a"),
        ("Function", "f"),
    ];
    for (name, value) in expected {
        assert_eq!(dead.expect(&format!("Queue-Worker-{name}")), value, "{name}");
    }
    assert!(dead.expect("Nats-Msg-Id").ends_with(".callback.dead"), "{dead:?}");
    assert_eq!(dead.expect("Queue-Worker-History").split(',').count(), 3);
    let payload: Value = serde_json::from_slice(&dead.payload).unwrap();
    assert_eq!((payload["function"].as_str(), payload["callId"].as_str()), (Some("f"), Some("a")));
    assert_eq!(payload["url"].as_str(), Some(&*format!("{}/", receiver.url())));
    assert_eq!(BASE64_STANDARD.decode(payload["body"].as_str().unwrap()).unwrap(), [0, 255, 10]);
    let headers = payload["headers"].as_array().unwrap();
    for (name, value) in [("x-own", "1"), ("x-function-status", "200"), ("x-retry", "0")] {
        assert!(headers.iter().any(|header| header[0] == name && header[1] == value), "{name}: {headers:?}");
    }
    eventually("each POST is counted", async || results(&worker).await == [0.0, 2.0, 1.0, 0.0]).await;
    worker.await_log(&["ERROR", "Dead letter", "callback", "503"]).await;
}

#[tokio::test]
async fn an_answer_that_no_other_try_will_change_ends_a_callback_at_once() {
    for status in [302, 400, 404] {
        let nats = Nats::start().await;
        let gateway = Gateway::start(|_| Answer::ok()).await;
        let receiver = Gateway::start(move |_| Answer::status(status).header("Location", "/elsewhere")).await;
        let _worker = Worker::of(&nats, &gateway).start().await;
        nats.publish(&Invocation::of("f").call_id("a").callback(&format!("{}/back", receiver.url()))).await;
        let dead = nats.dead_letter().await;
        assert_eq!(
            (dead.expect("Queue-Worker-Cause"), dead.expect("Queue-Worker-Attempts")),
            ("callback", "1")
        );
        assert_eq!(dead.expect("Queue-Worker-Last-Status"), status.to_string());
        assert_eq!(
            (gateway.count(), receiver.calls().iter().map(Call::target).collect::<Vec<_>>()),
            (1, vec!["/back"])
        );
    }
}

#[tokio::test]
async fn the_wait_is_the_function_s_own_or_what_the_receiver_asks_for() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let receiver = Gateway::start(|call| match call.nth {
        1 => Answer::hang_up(),
        2 => Answer::status(503).header("Retry-After", "2"),
        _ => Answer::ok(),
    })
    .await;
    // Neither the worker's own wait nor the age of the message stands in a callback's way.
    let settings = Worker::of(&nats, &gateway).set("initial_retry_wait", "10m").set("max_retry_wait", "20m");
    let _worker = settings.set("max_message_age", "1s").start().await;
    let invocation = Invocation::of("f").call_id("a").callback(&receiver.url());
    nats.publish(&invocation.retry_annotation("min_wait", "1s").retry_annotation("max_wait", "1s")).await;
    let calls = receiver.await_calls(3).await;
    nats.await_counts([0, 0, 0]).await;
    for (n, least) in [(1, 1), (2, 2)] {
        let waited = calls[n].arrived - calls[n - 1].end.unwrap().0;
        assert!(waited >= Duration::from_secs(least), "waited only {waited:?} before the POST after {n}");
    }
    assert_eq!(gateway.count(), 1);
}

#[tokio::test]
async fn a_large_answer_is_posted_whole_at_first_and_cut_when_it_had_to_be_parked() {
    let nats = Nats::start().await;
    let mut seed = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        u8::try_from(seed >> 56).unwrap()
    })
    .take(10 << 20)
    .collect();
    let body = noise.clone();
    let gateway = Gateway::start(move |_| Answer::ok().body(body.clone())).await;
    let receiver = Gateway::start(|call| Answer::status(if call.nth == 1 { 500 } else { 200 })).await;
    let _worker = Worker::of(&nats, &gateway).set("initial_retry_wait", "10ms").start().await;
    nats.publish(&Invocation::of("f").call_id("a").callback(&receiver.url())).await;
    let calls = receiver.await_calls(2).await;
    nats.await_counts([0, 0, 0]).await;
    assert!(calls[0].request.body == noise, "the first POST has all {} bytes", noise.len());
    assert_eq!(calls[0].header("x-body-truncated"), None);
    assert_eq!(calls[1].header("x-body-truncated"), Some("true"));
    let kept = &calls[1].request.body;
    assert!(noise.starts_with(kept) && kept.len() > 700_000, "{} bytes are kept", kept.len());
    assert_eq!(gateway.count(), 1);
}

#[tokio::test]
async fn large_answers_that_have_to_be_parked_together_are_packed_one_after_the_other() {
    const CALLS: usize = 16;
    const SIZE: usize = 10 << 20;
    let latch = Latch::new();
    let held = latch.clone();
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok().body(vec![b'x'; SIZE])).await;
    let receiver =
        Gateway::start(move |call| Answer::status(if call.nth == 1 { 500 } else { 200 }).held_by(&held))
            .await;
    let worker = Worker::of(&nats, &gateway).set("initial_retry_wait", "10ms").start().await;
    let name = |n: usize| n.to_string();
    nats.publish_all((0..CALLS).map(|n| Invocation::of("f").call_id(&name(n)).callback(&receiver.url())))
        .await;
    receiver.await_calls(CALLS).await;
    latch.open();
    receiver.await_calls(2 * CALLS).await;
    nats.await_counts([0, 0, 0]).await;
    // The answers themselves are in memory, which `callback_max_body` and `max_inflight` say.
    let most = worker.most_rss();
    let answers = (CALLS * SIZE) as u64;
    assert!(most < 2 * answers + 150_000_000, "{most} bytes at most, with answers of {answers}");
}

#[tokio::test]
async fn an_invocation_without_success_may_leave_two_dead_letters_its_own_and_its_callback_s() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::status(500).body("sorry")).await;
    let receiver = Gateway::start(|_| Answer::status(500)).await;
    let settings = Worker::of(&nats, &gateway).set("initial_retry_wait", "10ms").set("max_retry_attempts", 2);
    let _worker = settings.set("callback_attempts", 2).start().await;
    nats.publish(&Invocation::of("f").call_id("a").callback(&receiver.url())).await;
    let dead = nats.dead_letters(2).await;
    let (invocation, callback) = (of_cause(&dead, "exhausted"), of_cause(&dead, "callback"));
    assert_eq!(
        (invocation.header("Queue-Worker-Kind"), callback.header("Queue-Worker-Kind")),
        (None, Some("callback"))
    );
    assert_eq!(invocation.expect("Queue-Worker-Original-Id"), callback.expect("Queue-Worker-Original-Id"));
    assert_eq!((gateway.count(), receiver.count()), (2, 2));
    assert_eq!(receiver.calls()[1].header("x-retry"), Some("1"));
}

#[tokio::test]
async fn without_dead_letters_a_callback_that_fails_is_dropped_with_a_warning_and_a_count() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let receiver = Gateway::start(|_| Answer::status(400)).await;
    let worker = Worker::of(&nats, &gateway).set("dead_letters", "false").start().await;
    nats.publish(&Invocation::of("f").call_id("dropped-call").callback(&receiver.url())).await;
    nats.await_counts([0, 0, 0]).await;
    eventually("the drop is counted", async || {
        worker.metrics().await.value("queue_worker_dead_letters_dropped_total", &[]) == 1.0
    })
    .await;
    worker.await_log(&["WARN", "dropped-call", "callback", "dead_letters is false"]).await;
    assert_eq!((gateway.count(), receiver.count()), (1, 1));
}

#[tokio::test]
async fn a_parked_callback_that_fits_no_more_stays_where_it_is_and_is_posted_again() {
    let latch = Latch::new();
    let held = latch.clone();
    let mut nats = Nats::start_with("max_payload: 64KiB").await;
    let gateway =
        Gateway::start(|_| Answer::ok().body((0..30_000).map(|_| rand::random()).collect::<Vec<u8>>())).await;
    let receiver = Gateway::start(move |call| match call.nth {
        1 => Answer::status(500),
        2 => Answer::status(500).held_by(&held),
        _ => Answer::ok(),
    })
    .await;
    let worker = Worker::of(&nats, &gateway).set("initial_retry_wait", "0s").start().await;
    nats.publish(&Invocation::of("f").call_id("a").callback(&receiver.url())).await;
    receiver.await_calls(2).await;
    nats.await_counts([0, 1, 0]).await;
    nats.reconfigure("max_payload: 64KiB", "max_payload: 16KiB");
    nats.restart().await;
    latch.open();
    let calls = receiver.await_calls(3).await;
    assert_eq!(calls[2].request.body.len(), 30_000);
    worker.await_log(&["ERROR", "Unstorable", "16384"]).await;
    nats.await_counts([0, 0, 0]).await;
    assert_eq!((gateway.count(), receiver.count()), (1, 3));
}

#[tokio::test]
async fn what_is_of_an_unknown_kind_or_no_callback_is_dead_lettered_whole() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let _worker = Worker::of(&nats, &gateway).start().await;
    let invocation = Invocation::of("f").call_id("a").to_bytes();
    for (generation, kind, payload) in [
        ("1", "of-tomorrow", &invocation[..]),
        ("2", "of-next-week", &invocation),
        ("3", "callback", &invocation),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert("Queue-Worker-Kind", kind);
        headers.insert("Queue-Worker-Hop", generation);
        headers.insert("Queue-Worker-Original-Id", "faas-request:7-abc");
        nats.publish_raw(&format!("{RETRIES}.due.f.7-abc.{generation}"), headers, payload.to_vec()).await;
    }
    let dead = nats.dead_letters(3).await;
    let mut kinds: Vec<_> = dead.iter().map(|dead| dead.expect("Queue-Worker-Kind")).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["callback", "of-next-week", "of-tomorrow"]);
    for dead in &dead {
        assert_eq!((dead.expect("Queue-Worker-Cause"), &*dead.payload), ("undecodable", &*invocation));
    }
    assert_eq!(gateway.count(), 0);
}
