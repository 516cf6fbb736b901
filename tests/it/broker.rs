//! A broker that is late, goes away or comes back.

use std::time::Duration;

use tokio::time::sleep;

use crate::support::{Answer, Gateway, Invocation, Latch, Nats, Proxy, RETRIES, Worker, eventually};

async fn await_status(worker: &Worker, expected: u16) {
    eventually(&format!("/readyz says {expected}"), async || {
        worker.readyz().await.is_some_and(|(status, _)| status == expected)
    })
    .await;
}

#[tokio::test]
async fn a_broker_that_is_absent_at_the_start_is_waited_for() {
    let mut nats = Nats::absent();
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let worker = Worker::of(&nats, &gateway).spawn();
    await_status(&worker, 503).await;
    let (_, reason) = worker.readyz().await.unwrap();
    assert!(!reason.trim().is_empty(), "/readyz gives no reason");
    assert_eq!(worker.get("/healthz").await.map(|(status, _)| status), Some(200));

    nats.boot().await;
    worker.ready().await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    gateway.await_calls(1).await;
    nats.await_counts([0, 0, 0]).await;
}

#[tokio::test]
async fn a_worker_that_waits_for_its_broker_ends_at_once_when_told_to() {
    let nats = Nats::absent();
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let mut worker = Worker::of(&nats, &gateway).spawn();
    await_status(&worker, 503).await;
    assert_eq!(worker.drain().await, 0);
}

#[tokio::test]
async fn parked_retries_outlive_the_broker_and_come_due_once_each() {
    let mut nats = Nats::start().await;
    let gateway = Gateway::start(|call| Answer::status(if call.nth == 1 { 500 } else { 200 })).await;
    let worker = Worker::of(&nats, &gateway).set("initial_retry_wait", "10s").start().await;
    for n in 0..20 {
        nats.publish(&Invocation::of("f").call_id(&format!("call-{n}"))).await;
    }
    gateway.await_calls(20).await;
    nats.await_counts([0, 20, 0]).await;
    nats.kill().await;
    await_status(&worker, 503).await;
    nats.boot().await;
    await_status(&worker, 200).await;

    gateway.await_calls(40).await;
    nats.await_counts([0, 0, 0]).await;
    for n in 0..20 {
        let calls = gateway.calls_of(&format!("call-{n}"));
        assert_eq!(calls.len(), 2, "call-{n}");
        let waited = calls[1].arrived - calls[0].end.unwrap().0;
        assert!(waited >= Duration::from_secs(10), "call-{n} waited only {waited:?}");
    }
    assert!(worker.metrics().await.value("queue_worker_nats_reconnect_total", &[]) >= 1.0);
}

#[tokio::test]
async fn retries_that_come_due_while_the_broker_is_down_are_made_when_it_is_back() {
    let mut nats = Nats::start().await;
    let gateway = Gateway::start(|call| Answer::status(if call.nth == 1 { 500 } else { 200 })).await;
    let _worker = Worker::of(&nats, &gateway).set("initial_retry_wait", "1s").start().await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    nats.await_counts([0, 1, 0]).await;
    let due = nats.messages(RETRIES).await[0].time_in("Queue-Worker-Due");
    nats.kill().await;
    eventually("the retry is due", async || due.elapsed().is_ok()).await;
    assert_eq!(gateway.count(), 1);
    nats.boot().await;
    gateway.await_calls(2).await;
    nats.await_counts([0, 0, 0]).await;
    assert_eq!(gateway.count(), 2);
}

#[tokio::test]
async fn an_outcome_that_cannot_be_stored_yet_is_stored_later_and_the_call_not_repeated() {
    let latch = Latch::new();
    let held = latch.clone();
    let nats = Nats::start().await;
    let proxy = Proxy::start(nats.port()).await;
    let gateway = Gateway::start(move |_| Answer::status(400).held_by(&held)).await;
    let settings = Worker::of(&nats, &gateway).set("nats_url", format!("nats://127.0.0.1:{}", proxy.port()));
    let worker = settings.start().await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    gateway.await_calls(1).await;
    proxy.refuse();
    await_status(&worker, 503).await;
    latch.open();
    gateway.await_ended(1).await;
    assert_eq!(nats.counts().await, [1, 0, 0]);
    proxy.pass();
    assert_eq!(nats.dead_letter().await.expect("Queue-Worker-Cause"), "refused");
    assert_eq!(gateway.count(), 1);
}

#[tokio::test]
async fn a_slow_network_slows_down_and_nothing_else() {
    let nats = Nats::start().await;
    let proxy = Proxy::start(nats.port()).await;
    proxy.delay(Duration::from_millis(100));
    let gateway = Gateway::start(|call| Answer::status(if call.nth == 1 { 500 } else { 200 })).await;
    let settings = Worker::of(&nats, &gateway).set("initial_retry_wait", "100ms").set("ack_wait", "5s");
    let _worker = settings.set("nats_url", format!("nats://127.0.0.1:{}", proxy.port())).start().await;
    for n in 0..10 {
        nats.publish(&Invocation::of("f").call_id(&format!("call-{n}"))).await;
    }
    gateway.await_calls(20).await;
    nats.await_counts([0, 0, 0]).await;
    assert_eq!(gateway.count(), 20);
}

#[tokio::test]
async fn a_broker_that_freezes_for_a_moment_costs_no_second_call() {
    let latch = Latch::new();
    let held = latch.clone();
    let nats = Nats::start().await;
    let gateway = Gateway::start(move |_| Answer::ok().held_by(&held)).await;
    let _worker = Worker::of(&nats, &gateway).set("ack_wait", "10s").start().await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    gateway.await_calls(1).await;
    nats.pause();
    latch.open();
    gateway.await_ended(1).await;
    sleep(Duration::from_secs(2)).await;
    nats.resume();
    nats.await_counts([0, 0, 0]).await;
    assert_eq!(gateway.count(), 1);
}
