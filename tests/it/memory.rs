//! How much memory calls and their callbacks take, all of them together.

use bytes::Bytes;

use crate::support::{Answer, Flood, Flooder, Gateway, Invocation, Latch, Nats, QUEUE, Worker, eventually};

/// What the chart gives a worker, and what is to be left of it. The same calls took 343 to 364 MiB in four
/// runs: how much of what was freed is used again depends on the order in which they end.
const LIMIT: u64 = 512 << 20;
const SPARE: u64 = 64 << 20;

/// A gateway that answers with 10 MiB, of which the length is told or not.
async fn large(told: bool) -> Flooder {
    let chunk = 1 << 16;
    let (head, piece) = match told {
        true => (format!("Content-Length: {}\r\n\r\n", 160 * chunk), vec![b'x'; chunk]),
        false => (
            "Transfer-Encoding: chunked\r\n\r\n".to_owned(),
            format!("{chunk:x}\r\n{}\r\n", "x".repeat(chunk)).into_bytes(),
        ),
    };
    let (head, piece) =
        (Bytes::from(format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{head}")), Bytes::from(piece));
    let end = if told { Bytes::new() } else { Bytes::from("0\r\n\r\n") };
    Flooder::start(move |_| Flood::endless(head.clone(), piece.clone()).times(160).and(end.clone())).await
}

/// A receiver that answers like this, and keeps nothing of what it is sent.
async fn receiver(status: &'static str) -> Flooder {
    let answer = Bytes::from(format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"));
    Flooder::start(move |_| Flood::endless(answer.clone(), "").times(0)).await
}

async fn delivered(worker: &Worker) -> Option<f64> {
    worker.metrics().await.get("queue_worker_callbacks_total", &[("result", "delivered")])
}

#[tokio::test]
async fn all_calls_of_a_worker_may_be_answered_with_all_that_is_passed_on() {
    let nats = Nats::start().await;
    let (gateway, receiver) = (large(false).await, receiver("200 OK").await);
    let worker = Worker::bare().set("nats_url", nats.url()).set("gateway_url", gateway.url()).start().await;
    // What callers send is large, too.
    let body = "y".repeat(700_000);
    let call = |n: i32| Invocation::of("f").call_id(&n.to_string()).body(&body).callback(&receiver.url());
    nats.publish_all((0..50).map(call)).await;
    eventually("50 callbacks are delivered", async || delivered(&worker).await == Some(50.0)).await;
    nats.await_counts([0, 0, 0]).await;
    let most = worker.most_rss();
    assert!(most < LIMIT - SPARE, "the worker took {} MiB", most >> 20);
    assert!(worker.log_with("Retry scheduled").is_empty());
}

#[tokio::test]
async fn answers_that_wait_for_each_other_come_through_and_none_is_called_again() {
    let nats = Nats::start().await;
    let (gateway, receiver) = (large(false).await, receiver("200 OK").await);
    let settings = Worker::bare().set("nats_url", nats.url()).set("gateway_url", gateway.url());
    let worker = settings.set("callback_memory", "1MiB").set("max_inflight", 5).start().await;
    nats.publish_all((0..10).map(|n| Invocation::of("f").call_id(&n.to_string()).callback(&receiver.url())))
        .await;
    eventually("10 callbacks are delivered", async || delivered(&worker).await == Some(10.0)).await;
    nats.await_counts([0, 0, 0]).await;
    assert!(worker.log_with("Retry scheduled").is_empty());
}

#[tokio::test]
async fn callbacks_that_fail_together_are_packed_and_read_again_within_the_same_room() {
    let nats = Nats::start().await;
    let gateway = large(true).await;
    let receiver = Gateway::start(|call| Answer::status(if call.nth == 1 { 500 } else { 200 })).await;
    let settings = Worker::bare().set("nats_url", nats.url()).set("gateway_url", gateway.url());
    // The allocator keeps what is freed for 10 ms, 20 MiB at times, and this is about what is in use.
    let settings = settings.set("initial_retry_wait", "10ms").set("MIMALLOC_PURGE_DELAY", "0");
    let worker = settings.set("callback_memory", "10MiB").start().await;
    let idle = worker.most_rss();
    nats.publish_all((0..5).map(|n| Invocation::of("f").call_id(&n.to_string()).callback(&receiver.url())))
        .await;
    eventually("5 callbacks are delivered", async || delivered(&worker).await == Some(5.0)).await;
    nats.await_counts([0, 0, 0]).await;
    let whole = receiver
        .calls()
        .iter()
        .filter(|call| call.request.body.len() == 10 << 20 && call.header("x-body-truncated").is_none())
        .count();
    assert_eq!(whole, 10, "what can be packed is posted whole each time");
    // Its 10 MiB and one answer beyond, what two are unpacked from, and what connections need.
    worker.took_at_most(idle, 100);
    assert!(worker.log_with("Lease lost").is_empty());
}

#[tokio::test]
async fn messages_of_the_calls_that_run_have_so_many_bytes() {
    let latch = Latch::new();
    let held = latch.clone();
    let nats = Nats::start().await;
    let gateway = Gateway::start(move |_| Answer::ok().held_by(&held)).await;
    let settings = Worker::of(&nats, &gateway).set("max_inflight", 50).set("max_inflight_bytes", "2MiB");
    let _worker = settings.start().await;
    let body = "y".repeat(700_000);
    nats.publish_all((0..20).map(|n| Invocation::of("f").call_id(&format!("large-{n}")).body(&body))).await;
    gateway.await_calls(2).await;
    // Those that run, and one that a consumer hands over to wait for a permit.
    assert!(nats.consumer(QUEUE, "faas-workers").await.num_ack_pending <= 3);
    latch.open();
    nats.await_counts([0, 0, 0]).await;
    assert_eq!((gateway.count(), gateway.most_at_once()), (20, 2));
}

#[tokio::test]
async fn small_messages_run_at_once_however_large_one_may_be() {
    let latch = Latch::new();
    let held = latch.clone();
    let nats = Nats::start().await;
    let gateway = Gateway::start(move |_| Answer::ok().held_by(&held)).await;
    let settings = Worker::of(&nats, &gateway).set("max_inflight", 50).set("max_inflight_bytes", "1MiB");
    let _worker = settings.start().await;
    nats.publish_all((0..50).map(|n| Invocation::of("f").call_id(&format!("small-{n}")))).await;
    gateway.await_calls(50).await;
    latch.open();
    nats.await_counts([0, 0, 0]).await;
    assert_eq!((gateway.count(), gateway.most_at_once()), (50, 50));
}
