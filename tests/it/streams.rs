//! What the worker makes in the broker, and what it leaves as it was.

use std::time::Duration;

use async_nats::jetstream::{
    consumer::{AckPolicy, pull},
    stream::{Config, RetentionPolicy, StorageType},
};

use crate::support::{Answer, DEAD, Gateway, Invocation, Nats, QUEUE, RETRIES, Worker, eventually};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn what_is_missing_is_made_as_promised() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let _worker = Worker::of(&nats, &gateway).set("ack_wait", "45s").start().await;
    assert_eq!(nats.streams().await, [QUEUE, DEAD, RETRIES]);

    let queue = nats.stream(QUEUE).await.config;
    assert_eq!((queue.retention, queue.storage), (RetentionPolicy::WorkQueue, StorageType::File));
    assert_eq!(queue.subjects, [QUEUE]);

    let retries = nats.stream(RETRIES).await.config;
    assert_eq!((retries.retention, retries.storage), (RetentionPolicy::WorkQueue, StorageType::File));
    assert_eq!(retries.subjects, [format!("{RETRIES}.>")]);
    assert_eq!(
        (retries.max_messages, retries.max_bytes, retries.max_age),
        (-1, -1, Duration::ZERO),
        "no limits"
    );
    assert!(retries.duplicate_window >= 10 * MINUTE, "{:?}", retries.duplicate_window);
    assert_eq!(retries.allow_message_schedules, nats.schedules());

    let dead = nats.stream(DEAD).await.config;
    assert_eq!((dead.retention, dead.storage), (RetentionPolicy::Limits, StorageType::File));
    assert_eq!(dead.subjects, [format!("{DEAD}.>")]);
    assert_eq!((dead.max_age, dead.max_bytes), (336 * 60 * MINUTE, -1));

    let mut consumers = vec![
        (QUEUE, "faas-workers".to_owned(), QUEUE.to_owned(), 45),
        (RETRIES, "due".to_owned(), format!("{RETRIES}.due.>"), 45),
    ];
    let levels = if nats.schedules() { 0..0 } else { 0..17 };
    assert_eq!(nats.stream(RETRIES).await.state.consumer_count, 1 + levels.len());
    // Nothing runs under a level's lease but a publish.
    consumers.extend(levels.map(|k| (RETRIES, format!("l{k}"), format!("{RETRIES}.l{k}.>"), 5)));
    for (stream, name, filter, ack_wait) in &consumers {
        let consumer = nats.consumer(stream, name).await.config;
        assert_eq!((consumer.ack_policy, consumer.max_deliver), (AckPolicy::Explicit, -1), "{name}");
        assert_eq!(
            (consumer.max_ack_pending, consumer.ack_wait),
            (10_000, Duration::from_secs(*ack_wait)),
            "{name}"
        );
        // A work queue's only consumer of everything may say so by no filter at all.
        assert!(
            consumer.filter_subject == *filter || (*stream == QUEUE && consumer.filter_subject.is_empty()),
            "{consumer:?}"
        );
    }
}

#[tokio::test]
async fn workers_that_start_together_share_what_one_of_them_made() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let queues: Vec<_> = (0..20).map(|n| format!("q{n}")).collect();
    let settings = Worker::of(&nats, &gateway).set("queue_name", queues.join(","));
    let workers: Vec<_> = (0..10).map(|_| settings.spawn()).collect();
    for worker in &workers {
        worker.ready().await;
    }
    assert_eq!(nats.streams().await.len(), 3 * queues.len());
}

#[tokio::test]
async fn the_limits_of_the_dead_letters_are_the_operators_choice_when_the_stream_is_made() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let settings = Worker::of(&nats, &gateway);
    let limited = settings.clone().set("dead_letter_max_age", "0").set("dead_letter_max_bytes", 1_000_000);
    assert_eq!(limited.start().await.drain().await, 0);
    let made = nats.stream(DEAD).await.config;
    assert_eq!((made.max_age, made.max_bytes), (Duration::ZERO, 1_000_000));
    let _worker = settings.start().await;
    assert_eq!(nats.stream(DEAD).await.config, made, "an existing stream is never reshaped");
}

#[tokio::test]
async fn names_follow_the_queues_name() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::status(400)).await;
    let _worker = Worker::of(&nats, &gateway).set("queue_name", "slow.queue").start().await;
    assert_eq!(nats.streams().await, ["slow_queue", "slow_queue-dead", "slow_queue-retries"]);
    assert_eq!(nats.stream("slow_queue").await.config.subjects, ["slow.queue"]);
    nats.publish_raw("slow.queue", async_nats::HeaderMap::new(), Invocation::of("f").to_bytes()).await;
    gateway.await_calls(1).await;
    eventually("the dead letter", async || nats.count("slow_queue-dead").await == 1).await;
}

#[tokio::test]
async fn an_existing_queue_is_used_as_it_is() {
    let nats = Nats::start().await;
    let config = Config {
        retention: RetentionPolicy::WorkQueue,
        max_messages: 500,
        max_age: 60 * MINUTE,
        description: Some("mine".to_owned()),
        ..Default::default()
    };
    let before = nats.make_stream(config).await.cached_info().config.clone();
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let _worker = Worker::of(&nats, &gateway).start().await;
    assert_eq!(nats.stream(QUEUE).await.config, before);
}

#[tokio::test]
async fn a_stream_of_retries_without_schedules_gets_them_where_the_server_has_them_and_keeps_the_rest() {
    let nats = Nats::start().await;
    let before = Config {
        name: RETRIES.to_owned(),
        subjects: vec![format!("{RETRIES}.>")],
        retention: RetentionPolicy::WorkQueue,
        description: Some("mine".to_owned()),
        ..Default::default()
    };
    nats.make_stream(before).await;
    let gateway = Gateway::start(|call| Answer::status(if call.nth == 1 { 500 } else { 200 })).await;
    let _worker = Worker::of(&nats, &gateway).set("initial_retry_wait", "10ms").start().await;
    let after = nats.stream(RETRIES).await.config;
    assert_eq!(after.allow_message_schedules, nats.schedules());
    assert!(after.duplicate_window >= 10 * MINUTE, "{after:?}");
    assert_eq!(after.description.as_deref(), Some("mine"));
    nats.publish(&Invocation::of("f").call_id("a")).await;
    gateway.await_calls(2).await;
    nats.await_counts([0, 0, 0]).await;
}

#[tokio::test]
async fn an_existing_consumer_is_used_and_only_its_lease_and_its_room_are_set() {
    for (room, expected) in [(10, 80), (50_000, 50_000)] {
        let nats = Nats::start().await;
        let before = pull::Config {
            durable_name: Some("faas-workers".to_owned()),
            ack_wait: Duration::from_secs(180),
            max_ack_pending: room,
            max_deliver: 7,
            description: Some("mine".to_owned()),
            ..Default::default()
        };
        nats.make_queue().await.create_consumer(before).await.unwrap();
        let gateway = Gateway::start(|_| Answer::ok()).await;
        let worker = Worker::of(&nats, &gateway).set("ack_wait", "20s").set("max_inflight", 20).start().await;
        let after = nats.consumer(QUEUE, "faas-workers").await.config;
        assert_eq!((after.ack_wait, after.max_ack_pending), (Duration::from_secs(20), expected));
        assert_eq!((after.max_deliver, after.description.as_deref()), (7, Some("mine")));
        worker.await_log(&["WARN", "faas-workers"]).await;
        nats.publish(&Invocation::of("f").call_id("a")).await;
        gateway.await_calls(1).await;
        nats.await_counts([0, 0, 0]).await;
    }
}

#[tokio::test]
async fn a_queue_that_is_no_work_queue_needs_to_be_told_where_to_start() {
    let nats = Nats::start().await;
    nats.make_stream(Config::default()).await;
    nats.publish(&Invocation::of("f").call_id("old")).await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let mut refused = Worker::of(&nats, &gateway).spawn();
    refused.await_log(&["nats_deliver"]).await;
    assert_eq!(refused.exit().await, 1);
    assert_eq!(gateway.count(), 0);

    let _worker = Worker::of(&nats, &gateway).set("nats_deliver", "all").start().await;
    gateway.await_calls(1).await;
    nats.publish(&Invocation::of("f").call_id("new")).await;
    let calls = gateway.await_calls(2).await;
    assert_eq!((calls[0].id(), calls[1].id()), ("old", "new"));
}

#[tokio::test]
async fn a_new_consumer_may_begin_with_what_is_new() {
    let nats = Nats::start().await;
    nats.make_stream(Config::default()).await;
    nats.publish(&Invocation::of("f").call_id("old")).await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let settings = Worker::of(&nats, &gateway).set("nats_deliver", "new");
    assert_eq!(settings.start().await.drain().await, 0);
    // Published while nobody runs: the durable remembers.
    nats.publish(&Invocation::of("f").call_id("new")).await;
    let _worker = settings.start().await;
    let calls = gateway.await_ended(1).await;
    assert_eq!(calls[0].id(), "new");
    assert_eq!(gateway.count(), 1);
}

#[tokio::test]
async fn without_nats_manage_nothing_is_made_and_nothing_changed() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|call| Answer::status(if call.nth == 1 { 500 } else { 200 })).await;
    let settings = Worker::of(&nats, &gateway).set("initial_retry_wait", "10ms");
    let unmanaged = settings.clone().set("nats_manage", "false").set("ack_wait", "33s");
    let mut lost = unmanaged.spawn();
    lost.await_log(&["ERROR", QUEUE]).await;
    assert_eq!(lost.exit().await, 1);
    assert!(nats.streams().await.is_empty());

    assert_eq!(settings.start().await.drain().await, 0);
    let _worker = unmanaged.start().await;
    for (stream, name) in [(QUEUE, "faas-workers"), (RETRIES, "due")] {
        assert_eq!(nats.consumer(stream, name).await.config.ack_wait, MINUTE, "{name}");
    }
    nats.publish(&Invocation::of("f").call_id("a")).await;
    gateway.await_calls(2).await;
    nats.await_counts([0, 0, 0]).await;
}
