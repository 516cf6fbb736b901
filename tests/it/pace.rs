//! How much is taken at once, and from where.

use std::time::{Duration, SystemTime};

use async_nats::HeaderMap;

use crate::support::{
    Answer, Gateway, Invocation, Latch, Nats, QUEUE, RETRIES, Worker, eventually, eventually_is,
};

#[tokio::test]
async fn no_more_calls_run_at_once_than_permits_and_as_many_as_there_are() {
    let latch = Latch::new();
    let held = latch.clone();
    let nats = Nats::start().await;
    let gateway = Gateway::start(move |_| Answer::ok().held_by(&held)).await;
    let _worker = Worker::of(&nats, &gateway).set("max_inflight", 7).start().await;
    for n in 0..30 {
        nats.publish(&Invocation::of("f").call_id(&format!("call-{n}"))).await;
    }
    gateway.await_calls(7).await;
    latch.open();
    gateway.await_calls(30).await;
    nats.await_counts([0, 0, 0]).await;
    assert_eq!(gateway.most_at_once(), 7);
}

#[tokio::test]
async fn what_was_asked_for_ahead_is_left_to_others_when_no_call_ends_any_more() {
    const PERMITS: usize = 8;
    const QUICK: usize = 600;
    let latch = Latch::new();
    let held = latch.clone();
    let nats = Nats::start().await;
    nats.make_queue().await;
    let gateway =
        Gateway::start(
            move |call| {
                if call.function() == "stuck" { Answer::ok().held_by(&held) } else { Answer::ok() }
            },
        )
        .await;
    for (function, number) in [("quick", QUICK), ("stuck", PERMITS), ("quick", QUICK)] {
        for n in 0..number {
            nats.publish(&Invocation::of(function).call_id(&format!("{function}-{n}"))).await;
        }
    }
    let worker = || Worker::of(&nats, &gateway).set("max_inflight", PERMITS);
    let _stuck = worker().start().await;
    gateway
        .await_that("all permits are taken", |calls| {
            calls.iter().filter(|call| call.function() == "stuck").count() == PERMITS
        })
        .await;
    eventually("the first one holds what it calls, and one that waits at most", async || {
        nats.consumer(QUEUE, "faas-workers").await.num_ack_pending <= PERMITS + 1
    })
    .await;
    let _other = worker().start().await;
    // Each of the first one's two consumers may hold one.
    gateway.await_ended(2 * QUICK - 2).await;
    latch.open();
    gateway.await_ended(2 * QUICK + PERMITS).await;
    nats.await_counts([0, 0, 0]).await;
    assert_eq!(gateway.count(), 2 * QUICK + PERMITS);
}

#[tokio::test]
async fn fresh_and_due_work_share_a_single_permit() {
    let latch = Latch::new();
    let held = latch.clone();
    let nats = Nats::start().await;
    let gateway = Gateway::start(move |call| match (call.function(), call.nth) {
        ("retried", 1) => Answer::status(500),
        ("door", _) => Answer::ok().held_by(&held),
        _ => Answer::ok(),
    })
    .await;
    let _worker =
        Worker::of(&nats, &gateway).set("max_inflight", 1).set("initial_retry_wait", "1s").start().await;
    for n in 0..10 {
        nats.publish(&Invocation::of("retried").call_id(&format!("retried-{n}"))).await;
    }
    gateway.await_calls(10).await;
    // One call keeps the permit until both kinds of work have piled up behind it.
    nats.publish(&Invocation::of("door").call_id("door")).await;
    for n in 0..40 {
        nats.publish(&Invocation::of("fresh").call_id(&format!("fresh-{n}"))).await;
    }
    gateway
        .await_that("the call at the door", |calls| calls.iter().any(|call| call.function() == "door"))
        .await;
    let before = gateway.count();
    let made_already =
        gateway.calls().iter().filter(|call| call.function() == "retried" && call.nth == 2).count();
    eventually("all retries are due", async || {
        let parked = nats.messages(RETRIES).await;
        parked.iter().all(|message| message.subject.starts_with(&format!("{RETRIES}.due.")))
    })
    .await;
    let fresh = nats.consumer(QUEUE, "faas-workers").await.num_ack_pending;
    let due = nats.consumer(RETRIES, "due").await.num_ack_pending;
    assert!(fresh + due <= 3, "one call and two consumers, but {fresh} + {due} deliveries are held");
    latch.open();

    gateway.await_calls(61).await;
    nats.await_counts([0, 0, 0]).await;
    assert_eq!((gateway.count(), gateway.most_at_once()), (61, 1));
    // While both kinds wait each gets every other call; a delivery in the hand may shift that by one or two.
    let retries = 10 - made_already;
    let calls = gateway.calls();
    let shared: Vec<_> = calls[before..].iter().take(2 * retries + 3).map(|call| call.function()).collect();
    let retried = shared.iter().filter(|function| **function == "retried").count();
    assert!(retried >= retries, "only {retried} of {retries} retries among {shared:?}");
    let starved = shared.windows(4).any(|calls| calls.iter().all(|function| *function == "retried"));
    assert!(!starved, "fresh work starves: {shared:?}");
}

#[tokio::test]
async fn parked_retries_take_no_permit_and_delay_no_fresh_call() {
    let nats = Nats::start().await;
    let gateway =
        Gateway::start(|call| Answer::status(if call.function() == "bad" { 500 } else { 200 })).await;
    let _worker =
        Worker::of(&nats, &gateway).set("max_inflight", 2).set("initial_retry_wait", "1h").start().await;
    for n in 0..50 {
        nats.publish(&Invocation::of("bad").call_id(&format!("bad-{n}"))).await;
    }
    nats.await_counts([0, 50, 0]).await;
    for (stream, consumer) in [(QUEUE, "faas-workers"), (RETRIES, "due")] {
        eventually_is("pending acks", 0, async || nats.consumer(stream, consumer).await.num_ack_pending)
            .await;
    }
    nats.publish(&Invocation::of("good").call_id("good")).await;
    gateway.await_calls(51).await;
    nats.await_counts([0, 50, 0]).await;
}

#[tokio::test]
async fn two_workers_share_a_backlog_without_calling_twice() {
    let nats = Nats::start().await;
    nats.make_queue().await;
    for n in 0..100 {
        nats.publish(&Invocation::of("f").call_id(&format!("call-{n}"))).await;
    }
    let gateway = Gateway::start(|call| {
        Answer::status(if call.nth == 1 { 500 } else { 200 }).after(Duration::from_millis(10))
    })
    .await;
    let settings = Worker::of(&nats, &gateway).set("max_inflight", 5).set("initial_retry_wait", "100ms");
    let _workers = tokio::join!(settings.start(), settings.start());
    gateway.await_ended(200).await;
    nats.await_counts([0, 0, 0]).await;
    assert_eq!(gateway.count(), 200);
    assert!(gateway.most_at_once() <= 10);
}

#[tokio::test]
async fn a_retry_whose_timer_was_lost_is_made_nevertheless() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let settings = Worker::of(&nats, &gateway);
    assert_eq!(settings.start().await.drain().await, 0);

    // The schedule lies far ahead while the due time in the message has passed: nothing but the worker will
    // move it.
    let stamp = |time: SystemTime| humantime::format_rfc3339_nanos(time).to_string();
    let due = stamp(SystemTime::now() - Duration::from_secs(90));
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("Nats-Msg-Id", "x.1"),
        ("Nats-Schedule", "@at 2099-01-01T00:00:00Z"),
        ("Nats-Schedule-Target", &format!("{RETRIES}.due.f.x.1")),
        ("Queue-Worker-Hop", "1"),
        ("Queue-Worker-Attempts", "1"),
        ("Queue-Worker-Due", &due),
        ("Queue-Worker-First-Seen", &stamp(SystemTime::now() - Duration::from_secs(100))),
        ("Queue-Worker-Original-Id", &format!("{QUEUE}:x")),
        ("Queue-Worker-Call-Id", "a"),
        ("Queue-Worker-Function", "f"),
    ] {
        headers.insert(name, value);
    }
    let holder = format!("{RETRIES}.at.f.x.1");
    nats.publish_raw(&holder, headers, Invocation::of("f").call_id("a").to_bytes()).await;
    let mut moved = nats.watch(&format!("{RETRIES}.due.>")).await;
    let _workers = tokio::join!(settings.start(), settings.start());

    assert_eq!(moved.next().await.subject, format!("{RETRIES}.due.f.x.1"));
    let calls = gateway.await_calls(1).await;
    assert_eq!((calls[0].id(), calls[0].retry()), ("a", 1));
    nats.await_counts([0, 0, 0]).await;
    assert_eq!(gateway.count(), 1, "two workers see it, one moves it");
}
