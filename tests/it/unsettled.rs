//! What follows from a message and cannot be stored yet: its outcome stays known, and the others are called
//! meanwhile.

use std::time::Duration;

use async_nats::{
    HeaderMap,
    jetstream::{consumer::pull, stream},
};

use crate::support::{
    Answer, DEAD, Gateway, Invocation, Nats, QUEUE, RETRIES, Worker, eventually, eventually_is,
};

const UNSETTLED: &str = "queue_worker_unsettled";

/// A stream that takes one message, and then says no.
async fn make_small(nats: &Nats, name: &str) -> stream::Config {
    let config = stream::Config {
        name: name.to_owned(),
        subjects: vec![format!("{name}.>")],
        max_messages: 1,
        discard: stream::DiscardPolicy::New,
        duplicate_window: Duration::from_secs(900),
        retention: if name.ends_with("dead") {
            stream::RetentionPolicy::Limits
        } else {
            stream::RetentionPolicy::WorkQueue
        },
        ..Default::default()
    };
    nats.make_stream(config.clone()).await;
    config
}

async fn make_room(nats: &Nats, config: stream::Config) {
    nats.js().update_stream(stream::Config { max_messages: -1, ..config }).await.unwrap();
}

async fn await_unsettled(worker: &Worker, queue: &str, n: usize) {
    let value = async || worker.metrics().await.value(UNSETTLED, &[("queue_name", queue)]);
    eventually_is(&format!("unsettled in {queue}"), n as f64, value).await;
}

#[tokio::test]
async fn dead_letters_without_room_keep_no_permit_and_are_stored_when_there_is_room() {
    let nats = Nats::start().await;
    let small = make_small(&nats, DEAD).await;
    let gateway =
        Gateway::start(|call| Answer::status(if call.function() == "bad" { 400 } else { 200 })).await;
    let receiver = Gateway::start(|_| Answer::ok()).await;
    let worker = Worker::of(&nats, &gateway).set("max_inflight", 2).set("ack_wait", "2s").start().await;
    for n in 0..7 {
        nats.publish(&Invocation::of("bad").call_id(&format!("bad-{n}")).callback(&receiver.url())).await;
    }
    await_unsettled(&worker, QUEUE, 6).await;
    for n in 0..5 {
        nats.publish(&Invocation::of("good").call_id(&format!("good-{n}"))).await;
    }
    gateway.await_ended(12).await;
    eventually_is("what is not settled", 6, async || nats.count(QUEUE).await).await;
    assert_eq!(worker.readyz().await.unwrap().0, 200);

    // Their leases are prolonged for as long as it takes, and the reason is said once.
    eventually("the oldest has waited for longer than a lease", async || {
        worker.metrics().await.value("queue_worker_unsettled_oldest_seconds", &[("queue_name", QUEUE)]) > 5.0
    })
    .await;
    let said = worker.log_with("does not take what follows");
    assert!(said.len() == 1 && said[0].contains("maximum messages exceeded"), "{said:#?}");
    assert_eq!((gateway.count(), receiver.count()), (12, 1));

    make_room(&nats, small).await;
    assert_eq!(nats.dead_letters(7).await.len(), 7);
    await_unsettled(&worker, QUEUE, 0).await;
    receiver.await_ended(7).await;
    assert_eq!((gateway.count(), receiver.count()), (12, 7));
    assert!(gateway.most_at_once() <= 2 && receiver.most_at_once() <= 2);
    assert_eq!(worker.metrics().await.value("queue_worker_lease_lost_total", &[]), 0.0);
}

#[tokio::test]
async fn retries_without_room_keep_no_permit() {
    let nats = Nats::start().await;
    let small = make_small(&nats, RETRIES).await;
    let gateway =
        Gateway::start(|call| Answer::status(if call.function() == "bad" { 500 } else { 200 })).await;
    let worker = Worker::of(&nats, &gateway)
        .set("max_inflight", 1)
        .set("initial_retry_wait", "1h")
        .set("max_retry_wait", "1h");
    let worker = worker.start().await;
    for n in 0..4 {
        nats.publish(&Invocation::of("bad").call_id(&format!("bad-{n}"))).await;
    }
    await_unsettled(&worker, QUEUE, 3).await;
    nats.publish(&Invocation::of("good").call_id("good")).await;
    gateway.await_ended(5).await;
    nats.await_counts([3, 1, 0]).await;
    make_room(&nats, small).await;
    nats.await_counts([0, 4, 0]).await;
    await_unsettled(&worker, QUEUE, 0).await;
    assert_eq!(gateway.count(), 5);
}

#[tokio::test]
async fn a_queue_that_can_settle_nothing_takes_no_more_says_so_and_leaves_the_others_alone() {
    let nats = Nats::start().await;
    let small = make_small(&nats, "a-dead").await;
    let queue = stream::Config {
        name: "a".to_owned(),
        retention: stream::RetentionPolicy::WorkQueue,
        ..Default::default()
    };
    let consumer = pull::Config {
        durable_name: Some("faas-workers".to_owned()),
        filter_subject: "a".to_owned(),
        ack_wait: Duration::from_secs(60),
        max_ack_pending: 8,
        ..Default::default()
    };
    nats.make_stream(queue).await.create_consumer(consumer).await.unwrap();
    let gateway =
        Gateway::start(|call| Answer::status(if call.function() == "bad" { 400 } else { 200 })).await;
    let worker = Worker::of(&nats, &gateway).set("queue_name", "a,b").set("max_inflight", 2).start().await;
    let publish = async |queue: &str, function: &str, n: usize| {
        let invocation = Invocation::of(function).call_id(&format!("{function}-{n}"));
        nats.publish_raw(queue, HeaderMap::new(), invocation.to_bytes()).await;
    };
    for n in 0..20 {
        publish("a", "bad", n).await;
    }
    eventually("the worker is not ready", async || {
        worker
            .readyz()
            .await
            .is_some_and(|(status, reason)| status == 503 && reason.contains("queue a: NATS does not store"))
    })
    .await;
    for n in 0..5 {
        publish("b", "good", n).await;
    }
    gateway
        .await_that("the other queue's calls", |calls| {
            calls.iter().filter(|call| call.function() == "good").count() == 5
        })
        .await;
    let held = worker.metrics().await.value(UNSETTLED, &[("queue_name", "a")]);
    assert!((4.0..8.0).contains(&held), "{held}");

    make_room(&nats, small).await;
    eventually_is("dead letters", 20, async || nats.count("a-dead").await).await;
    worker.ready().await;
    await_unsettled(&worker, "a", 0).await;
    assert_eq!(gateway.count(), 25);
}
