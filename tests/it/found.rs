//! Streams and consumers that an operator made: used as they were found, or refused in words.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, Source};
use serde_json::{Value, json};

use crate::support::{
    Answer, Call, Gateway, Invocation, Nats, QUEUE, RETRIES, Settings, Worker, eventually_is,
};

fn answer(call: &Call) -> Answer {
    Answer::status(if call.nth == 1 { 500 } else { 200 })
}

fn settings(nats: &Nats, gateway: &Gateway) -> Settings {
    Worker::of(nats, gateway).set("initial_retry_wait", "10ms")
}

/// Makes a durable consumer of the queue with these settings, which the API's own words name.
async fn make_consumer(nats: &Nats, name: &str, settings: Value) {
    let mut config = json!({ "durable_name": name, "ack_policy": "explicit", "deliver_policy": "all",
        "filter_subject": QUEUE });
    config.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    let question = json!({ "stream_name": QUEUE, "config": config }).to_string();
    let subject = format!("$JS.API.CONSUMER.DURABLE.CREATE.{QUEUE}.{name}");
    let answer = nats.client().request(subject, question.into()).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    assert!(answer["error"].is_null(), "{name}: {answer}");
}

/// A call that fails once, is parked and ends.
async fn serves(nats: &Nats, gateway: &Gateway, id: &str) {
    let before = gateway.count();
    nats.publish(&Invocation::of("f").call_id(id)).await;
    gateway.await_ended(before + 2).await;
    eventually_is("parked", 0, async || nats.count(RETRIES).await).await;
    eventually_is("unacknowledged", (0, 0), async || {
        let consumer = nats.consumer(QUEUE, "faas-workers").await;
        (consumer.num_ack_pending, usize::try_from(consumer.num_pending).unwrap())
    })
    .await;
    assert_eq!(gateway.count(), before + 2);
}

#[tokio::test]
async fn a_stream_keeps_its_retention() {
    for (retention, kept) in [(RetentionPolicy::Limits, 2), (RetentionPolicy::Interest, 0)] {
        let (nats, gateway) = (Nats::start().await, Gateway::start(answer).await);
        nats.make_stream(Config { retention, ..Default::default() }).await;
        let settings = settings(&nats, &gateway);
        let mut refused = settings.spawn();
        refused.await_log(&["error", "nats_deliver", "faas-workers"]).await;
        assert_eq!(refused.exit().await, 1);

        let settings = settings.set("nats_deliver", "all");
        let mut worker = settings.start().await;
        serves(&nats, &gateway, "a").await;
        assert_eq!(worker.drain().await, 0);
        // What is kept was acknowledged, and is not called by the next one.
        let _worker = settings.start().await;
        serves(&nats, &gateway, "b").await;
        eventually_is("stored", kept, async || nats.count(QUEUE).await).await;
    }
}

#[tokio::test]
async fn what_a_consumer_has_room_for_is_raised_and_never_lowered() {
    for (found, expected) in [(json!(-1), -1), (json!(79), 80), (json!(80), 80), (json!(20_000), 20_000)] {
        let (nats, gateway) = (Nats::start().await, Gateway::start(answer).await);
        nats.make_queue().await;
        make_consumer(
            &nats,
            "faas-workers",
            json!({ "max_ack_pending": found, "ack_wait": 5_000_000_000_u64 }),
        )
        .await;
        let _worker = settings(&nats, &gateway).set("max_inflight", 20).start().await;
        let after = nats.consumer(QUEUE, "faas-workers").await.config;
        assert_eq!((after.max_ack_pending, after.ack_wait), (expected, Duration::from_secs(60)), "{found}");
        serves(&nats, &gateway, "a").await;
    }
}

#[tokio::test]
async fn other_settings_of_a_consumer_are_used_as_found_with_a_warning() {
    for (found, said) in [
        (json!({ "backoff": [2_000_000_000_u64, 60_000_000_000_u64], "max_deliver": 9 }), "backoff"),
        (json!({ "max_deliver": 7 }), "max_deliver"),
        (json!({ "filter_subject": "other.>" }), "filter"),
        // These limit the worker's requests, which keep to them.
        (json!({ "max_batch": 1, "max_expires": 1_000_000_000_u64 }), ""),
        (json!({ "max_waiting": 1, "inactive_threshold": 3_600_000_000_000_u64, "mem_storage": true }), ""),
    ] {
        let (nats, gateway) = (Nats::start().await, Gateway::start(answer).await);
        let subjects = vec![QUEUE.to_owned(), "other.>".to_owned()];
        nats.make_stream(Config { subjects, retention: RetentionPolicy::WorkQueue, ..Default::default() })
            .await;
        make_consumer(&nats, "faas-workers", found.clone()).await;
        let before = nats.consumer(QUEUE, "faas-workers").await.config;
        let worker = settings(&nats, &gateway).start().await;
        if !said.is_empty() {
            worker.await_log(&["warn", "used as found", said]).await;
        }
        let after = nats.consumer(QUEUE, "faas-workers").await.config;
        let expected = async_nats::jetstream::consumer::Config {
            ack_wait: after.ack_wait,
            max_ack_pending: after.max_ack_pending,
            ..before
        };
        assert_eq!(after, expected);
        if said == "filter" {
            nats.publish_raw(
                "other.a",
                async_nats::HeaderMap::new(),
                Invocation::of("f").call_id("b").to_bytes(),
            )
            .await;
            gateway.await_ended(2).await;
        } else {
            serves(&nats, &gateway, "a").await;
        }
    }
}

#[tokio::test]
async fn a_consumer_that_cannot_do_is_refused_and_not_touched() {
    let (nats, gateway) = (Nats::start().await, Gateway::start(answer).await);
    nats.make_stream(Config::default()).await;
    for (name, found, said) in [
        ("push", json!({ "deliver_subject": "somewhere" }), "no pull consumer"),
        ("none", json!({ "ack_policy": "none" }), "explicit acks"),
        ("all", json!({ "ack_policy": "all" }), "explicit acks"),
        ("headers", json!({ "headers_only": true }), "payloads"),
        ("groups", json!({ "priority_groups": ["a"], "priority_policy": "overflow" }), "priority groups"),
        ("hasty", json!({ "backoff": [10_000_000_u64], "max_deliver": 3 }), "keep its lease"),
    ] {
        // Old servers know no groups.
        if name == "groups" && !nats.schedules() {
            continue;
        }
        make_consumer(&nats, name, found).await;
        let before = nats.consumer(QUEUE, name).await.config;
        let settings = settings(&nats, &gateway).set("nats_durable", name);
        let mut worker = settings.spawn();
        worker.await_log(&["error", name, said]).await;
        assert_eq!(worker.exit().await, 1, "{name}");
        assert_eq!(nats.consumer(QUEUE, name).await.config, before);
    }
    make_consumer(&nats, "hasty-too", json!({ "ack_wait": 10_000_000_u64 })).await;
    let settings = Worker::of(&nats, &gateway);
    assert_eq!(
        settings.clone().set("nats_durable", "hasty-too").start().await.drain().await,
        0,
        "its ack_wait can be set"
    );
    make_consumer(&nats, "faas-workers", json!({ "ack_wait": 10_000_000_u64 })).await;
    let mut bound = settings.set("nats_manage", "false").spawn();
    bound.await_log(&["error", "keep its lease"]).await;
    assert_eq!(bound.exit().await, 1);
}

#[tokio::test]
async fn a_queue_may_be_fed_from_another_stream() {
    let source = || Source { name: "origin".to_owned(), ..Default::default() };
    for config in [
        Config { mirror: Some(source()), ..Default::default() },
        Config { sources: Some(vec![source()]), retention: RetentionPolicy::WorkQueue, ..Default::default() },
    ] {
        let (nats, gateway) = (Nats::start().await, Gateway::start(answer).await);
        nats.make_stream(Config {
            name: "origin".to_owned(),
            subjects: vec![QUEUE.to_owned()],
            ..Default::default()
        })
        .await;
        nats.js().create_stream(Config { name: QUEUE.to_owned(), ..config }).await.unwrap();
        let before = nats.stream(QUEUE).await.config;
        let _worker = settings(&nats, &gateway).set("nats_deliver", "all").start().await;
        serves(&nats, &gateway, "a").await;
        assert_eq!(nats.stream(QUEUE).await.config, before);
    }
}

#[tokio::test]
async fn a_stream_that_takes_more_than_the_queue_gives_the_queues_messages_only() {
    let (nats, gateway) = (Nats::start().await, Gateway::start(answer).await);
    let subjects = vec![QUEUE.to_owned(), "other".to_owned()];
    nats.make_stream(Config { subjects, retention: RetentionPolicy::WorkQueue, ..Default::default() }).await;
    let worker = settings(&nats, &gateway).start().await;
    // Of an old server the worker says that it is one.
    assert!(worker.log_with(" warn ").iter().all(|line| line.contains("NATS before 2.10")));
    nats.publish_raw("other", async_nats::HeaderMap::new(), "not ours").await;
    serves(&nats, &gateway, "a").await;
    assert_eq!(nats.messages(QUEUE).await.len(), 1);
}

#[tokio::test]
async fn a_stream_that_does_not_take_the_queues_subject_is_warned_about() {
    let (nats, gateway) = (Nats::start().await, Gateway::start(answer).await);
    nats.make_stream(Config {
        subjects: vec!["other".to_owned()],
        retention: RetentionPolicy::WorkQueue,
        ..Default::default()
    })
    .await;
    make_consumer(&nats, "faas-workers", json!({ "filter_subject": "other" })).await;
    let worker = settings(&nats, &gateway).start().await;
    worker.await_log(&["warn", "does not take", QUEUE]).await;
    nats.publish_raw("other", async_nats::HeaderMap::new(), Invocation::of("f").call_id("a").to_bytes())
        .await;
    gateway.await_ended(2).await;
    nats.await_counts([0, 0, 0]).await;
}

#[tokio::test]
async fn a_stream_that_may_lose_messages_is_warned_about() {
    let limited = |name: &str, subject: &str, discard| Config {
        name: name.to_owned(),
        subjects: vec![subject.to_owned()],
        retention: RetentionPolicy::WorkQueue,
        max_messages_per_subject: 100,
        discard,
        ..Default::default()
    };
    let all = format!("{RETRIES}.>");
    let (nats, gateway) = (Nats::start().await, Gateway::start(answer).await);
    nats.make_stream(limited(QUEUE, QUEUE, DiscardPolicy::Old)).await;
    nats.make_stream(limited(RETRIES, &all, DiscardPolicy::Old)).await;
    let worker = settings(&nats, &gateway).start().await;
    for stream in ["stream=faas-request ", "stream=faas-request-retries "] {
        worker.await_log(&["warn", "has a limit", "max_msgs_per_subject", stream]).await;
    }
    serves(&nats, &gateway, "a").await;

    // A queue that refuses what it has no room for loses nothing, but a full subject makes room unless it is
    // told not to.
    let (nats, gateway) = (Nats::start().await, Gateway::start(answer).await);
    nats.make_stream(limited(QUEUE, QUEUE, DiscardPolicy::New)).await;
    let mut worker = settings(&nats, &gateway).start().await;
    worker.await_log(&["warn", "has a limit", "max_msgs_per_subject", "stream=faas-request "]).await;
    assert_eq!(worker.drain().await, 0);
    nats.js()
        .update_stream(Config { discard_new_per_subject: true, ..limited(QUEUE, QUEUE, DiscardPolicy::New) })
        .await
        .unwrap();
    let mut worker = settings(&nats, &gateway).start().await;
    assert!(worker.log_with("has a limit").is_empty());
    serves(&nats, &gateway, "a").await;
    assert_eq!(worker.drain().await, 0);
    nats.js().delete_stream(RETRIES).await.unwrap();
    nats.make_stream(limited(RETRIES, &all, DiscardPolicy::New)).await;
    let worker = settings(&nats, &gateway).start().await;
    if nats.schedules() {
        worker.await_log(&["warn", RETRIES, "discard new"]).await;
    }
    worker.await_log(&["Ready", "timer=levels"]).await;
}

#[tokio::test]
async fn a_running_worker_goes_by_an_ack_wait_that_is_changed_meanwhile() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok().after(Duration::from_secs(18))).await;
    let worker = Worker::of(&nats, &gateway).start().await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    gateway.await_calls(1).await;
    // It would be renewed after twenty seconds, and is delivered again after twelve.
    let mut config = nats.consumer(QUEUE, "faas-workers").await.config;
    config.ack_wait = Duration::from_secs(12);
    let question = json!({ "stream_name": QUEUE, "config": config });
    let answer = nats
        .client()
        .request(format!("$JS.API.CONSUMER.DURABLE.CREATE.{QUEUE}.faas-workers"), question.to_string().into())
        .await;
    assert!(!String::from_utf8_lossy(&answer.unwrap().payload).contains("error"));
    worker.await_log(&["warn", "the consumer was changed", "setting=ack_wait", "was=1m", "found=12s"]).await;
    gateway.await_ended(1).await;
    nats.await_counts([0, 0, 0]).await;
    assert_eq!(gateway.count(), 1);
    assert!(worker.log_with("Lease lost").is_empty());
}
