//! A worker that died between storing what follows from a call and acknowledging the call: the next one must
//! notice.

use std::time::{Duration, UNIX_EPOCH};

use async_nats::{HeaderMap, jetstream::consumer::pull};
use futures_util::StreamExt;

use crate::support::{
    Answer, DEAD, Gateway, Invocation, Latch, Nats, QUEUE, RETRIES, Worker, base36, eventually, patiently,
};

/// A broker whose queue holds one message, once delivered to a worker that died, and the message's id.
async fn after_a_death(gateway: &Gateway, invocation: &Invocation) -> (Nats, String) {
    let nats = Nats::start().await;
    let abandoned = pull::Config {
        durable_name: Some("faas-workers".to_owned()),
        filter_subject: QUEUE.to_owned(),
        ack_wait: Duration::from_secs(1),
        ..Default::default()
    };
    let consumer = nats.make_queue().await.create_consumer(abandoned).await.unwrap();
    // A first worker makes whatever else there is to make.
    assert_eq!(Worker::of(&nats, gateway).set("ack_wait", "1s").start().await.drain().await, 0);
    nats.publish(invocation).await;
    // It waits: a request that takes what is there now is turned away while the first worker's last one still
    // stands.
    let mut taken =
        consumer.batch().max_messages(1).expires(Duration::from_secs(30)).messages().await.unwrap();
    patiently("the first delivery", taken.next()).await.unwrap().unwrap();
    let id = only_id(&nats).await;
    (nats, id)
}

/// The id of the only message in the queue.
async fn only_id(nats: &Nats) -> String {
    let stored = nats.messages(QUEUE).await.remove(0);
    let nanoseconds = stored.time.duration_since(UNIX_EPOCH).unwrap().as_nanos();
    format!("{}-{}", stored.sequence, base36(nanoseconds))
}

/// What the worker that died stored before it could acknowledge.
async fn store(nats: &Nats, subject: &str, id: &str, last: &str, more: &[(&str, &str)]) {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", format!("{id}.{last}"));
    headers.insert("Queue-Worker-Original-Id", format!("{QUEUE}:{id}"));
    let common = [
        ("Queue-Worker-Hop", "1"),
        ("Queue-Worker-Attempts", "1"),
        ("Queue-Worker-Call-Id", "a"),
        ("Queue-Worker-Function", "f"),
        ("Queue-Worker-First-Seen", "2026-01-01T00:00:00Z"),
    ];
    for (name, value) in common.iter().chain(more) {
        headers.insert(*name, *value);
    }
    nats.publish_raw(subject, headers, Invocation::of("f").call_id("a").to_bytes()).await;
}

/// A retry is parked, so many hops on: its call is known to have failed.
async fn check_parked(generation: &str) {
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let (nats, id) = after_a_death(&gateway, &Invocation::of("f").call_id("a")).await;
    let due = "2099-01-01T00:00:00Z";
    let target = format!("{RETRIES}.due.f.{id}.{generation}");
    let more = [
        ("Nats-Schedule", "@at 2099-01-01T00:00:00Z"),
        ("Nats-Schedule-Target", &target),
        ("Queue-Worker-Due", due),
    ];
    store(&nats, &format!("{RETRIES}.at.f.{id}.{generation}"), &id, generation, &more).await;
    let _worker = Worker::of(&nats, &gateway).set("ack_wait", "1s").start().await;
    nats.await_counts([0, 1, 0]).await;
    assert_eq!(gateway.count(), 0, "the retry is parked, so that the call is known to have failed");
}

#[tokio::test]
async fn a_message_whose_retry_is_parked_is_acknowledged_and_not_called() {
    check_parked("1").await;
}

#[tokio::test]
async fn a_message_whose_later_retry_is_parked_is_acknowledged_though_the_first_is_forgotten() {
    check_parked("3").await;
}

/// The last part of the dead letter's id: one for each invocation, or the generation's.
async fn check_dead_letter(last: &str) {
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let (nats, id) = after_a_death(&gateway, &Invocation::of("f").call_id("a")).await;
    let more = [("Queue-Worker-Cause", "refused"), ("Queue-Worker-Failed-At", "2026-01-01T00:00:01Z")];
    store(&nats, &format!("{DEAD}.f"), &id, last, &more).await;
    let _worker = Worker::of(&nats, &gateway).set("ack_wait", "1s").start().await;
    nats.await_counts([0, 0, 1]).await;
    assert_eq!(gateway.count(), 0);
}

#[tokio::test]
async fn a_message_whose_dead_letter_is_stored_is_acknowledged_and_not_called() {
    check_dead_letter("dead").await;
}

#[tokio::test]
async fn a_message_whose_dead_letter_was_written_by_hand_is_acknowledged_and_not_called() {
    check_dead_letter("1").await;
}

#[tokio::test]
async fn a_message_without_a_successor_is_called() {
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let (nats, _) = after_a_death(&gateway, &Invocation::of("f").call_id("a")).await;
    let _worker = Worker::of(&nats, &gateway).set("ack_wait", "1s").start().await;
    gateway.await_calls(1).await;
    nats.await_counts([0, 0, 0]).await;
    assert_eq!(gateway.count(), 1);
}

#[tokio::test]
async fn a_success_whose_callback_was_given_up_is_acknowledged_and_not_called() {
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let (nats, id) =
        after_a_death(&gateway, &Invocation::of("f").call_id("a").callback("http://127.0.0.1:1/")).await;
    let more = [
        ("Queue-Worker-Cause", "callback"),
        ("Queue-Worker-Kind", "callback"),
        ("Queue-Worker-Failed-At", "2026-01-01T00:00:01Z"),
    ];
    store(&nats, &format!("{DEAD}.f"), &id, "callback.dead", &more).await;
    let _worker = Worker::of(&nats, &gateway).set("ack_wait", "1s").start().await;
    nats.await_counts([0, 0, 1]).await;
    assert_eq!(gateway.count(), 0);
}

#[tokio::test]
async fn a_message_that_the_broker_forgot_to_have_delivered_is_not_called_by_a_worker_that_never_saw_it() {
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let nats = Nats::start().await;
    assert_eq!(Worker::of(&nats, &gateway).start().await.drain().await, 0);
    nats.publish(&Invocation::of("f").call_id("a")).await;
    bury_only(&nats).await;
    let _worker = Worker::of(&nats, &gateway).start().await;
    nats.await_counts([0, 0, 1]).await;
    assert_eq!(gateway.count(), 0);
}

/// The dead letter of the only message in the queue, as whoever settled it stored it.
async fn bury_only(nats: &Nats) {
    let more = [("Queue-Worker-Cause", "refused"), ("Queue-Worker-Failed-At", "2026-01-01T00:00:01Z")];
    store(nats, &format!("{DEAD}.f"), &only_id(nats).await, "dead", &more).await;
}

#[tokio::test]
async fn a_message_that_a_killed_broker_forgot_is_not_called_by_a_worker_that_starts_afterwards() {
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let mut nats = Nats::start().await;
    let settings = Worker::of(&nats, &gateway);
    let mut first = settings.start().await;
    nats.publish(&Invocation::of("f").call_id("before")).await;
    nats.await_counts([0, 0, 0]).await;
    assert_eq!(first.drain().await, 0);
    nats.publish(&Invocation::of("f").call_id("a")).await;
    bury_only(&nats).await;
    nats.restart().await;
    let _worker = settings.start().await;
    nats.await_counts([0, 0, 1]).await;
    assert_eq!(gateway.count(), 1, "of the two only the first is called");
}

#[tokio::test]
async fn a_message_that_a_killed_broker_forgot_is_not_called_by_the_worker_that_saw_it_die() {
    let latch = Latch::new();
    let held = latch.clone();
    let gateway = Gateway::start(move |_| Answer::ok().held_by(&held)).await;
    let mut nats = Nats::start().await;
    let _worker = Worker::of(&nats, &gateway).set("max_inflight", 1).start().await;
    // Two that the worker has, one of them called and one that waits for its permit.
    nats.publish(&Invocation::of("f").call_id("door")).await;
    gateway.await_calls(1).await;
    nats.publish(&Invocation::of("f").call_id("next")).await;
    eventually("the next one is delivered", async || {
        nats.consumer(QUEUE, "faas-workers").await.num_ack_pending == 2
    })
    .await;
    let sequence = nats.publish(&Invocation::of("f").call_id("a")).await;
    let stored = nats.messages(QUEUE).await.into_iter().find(|stored| stored.sequence == sequence).unwrap();
    let nanoseconds = stored.time.duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let more = [("Queue-Worker-Cause", "refused"), ("Queue-Worker-Failed-At", "2026-01-01T00:00:01Z")];
    store(&nats, &format!("{DEAD}.f"), &format!("{sequence}-{}", base36(nanoseconds)), "dead", &more).await;
    nats.restart().await;
    latch.open();
    nats.await_counts([0, 0, 1]).await;
    assert!(gateway.calls_of("a").is_empty(), "it is settled");
}

#[tokio::test]
async fn a_message_that_runs_while_its_consumer_is_made_anew_is_not_called_again() {
    let latch = Latch::new();
    let held = latch.clone();
    let gateway = Gateway::start(move |_| Answer::status(400).held_by(&held)).await;
    let nats = Nats::start().await;
    let _worker = Worker::of(&nats, &gateway).set("max_inflight", 1).start().await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    gateway.await_calls(1).await;
    let queue = nats.js().get_stream(QUEUE).await.unwrap();
    queue.delete_consumer("faas-workers").await.unwrap();
    eventually("it is delivered as if for the first time", async || {
        queue.consumer_info("faas-workers").await.is_ok_and(|made_anew| made_anew.num_ack_pending == 1)
    })
    .await;
    latch.open();
    nats.await_counts([0, 0, 1]).await;
    assert_eq!(gateway.count(), 1);
}

/// How many callbacks follow when the worker died between the dead letter of this cause and the
/// acknowledgement.
async fn check_owed(cause: &str, expected: usize) {
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let (nats, id) =
        after_a_death(&gateway, &Invocation::of("f").call_id("a").callback(&gateway.url())).await;
    let more = [("Queue-Worker-Cause", cause), ("Queue-Worker-Failed-At", "2026-01-01T00:00:01Z")];
    store(&nats, &format!("{DEAD}.f"), &id, "dead", &more).await;
    let _worker = Worker::of(&nats, &gateway).set("ack_wait", "1s").start().await;
    nats.await_counts([0, 0, 1]).await;
    assert_eq!(gateway.count(), expected, "{cause}");
}

#[tokio::test]
async fn what_could_not_be_called_is_not_told_of_after_a_death_either() {
    check_owed("refused", 1).await;
    check_owed("undecodable", 0).await;
}
