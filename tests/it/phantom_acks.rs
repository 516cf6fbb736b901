//! What an old server awaits an acknowledgement of although it is gone.

use std::{fs, time::Duration};

use crate::support::{
    Answer, Gateway, Invocation, Latch, Nats, QUEUE, RETRIES, Worker, eventually, eventually_is,
};

const GONE: usize = 20;

fn invocations(function: &str, n: usize) -> impl Iterator<Item = Invocation> {
    (0..n).map(move |n| Invocation::of(function).call_id(&format!("{function}-{n}")))
}

#[tokio::test]
async fn what_is_gone_from_an_old_server_that_awaits_its_acknowledgement_holds_up_nothing() {
    let (door, crowd) = (Latch::new(), Latch::new());
    let (held_by_door, held_by_crowd) = (door.clone(), crowd.clone());
    let mut nats = Nats::start_old().await;
    let gateway = Gateway::start(move |call| match (call.function(), call.nth) {
        ("door", _) => Answer::ok().held_by(&held_by_door),
        ("crowd", 1) => Answer::status(500).held_by(&held_by_crowd),
        ("late", 1) => Answer::status(500),
        _ => Answer::ok(),
    })
    .await;
    let settings = Worker::of(&nats, &gateway)
        .set("ack_wait", "2s")
        .set("initial_retry_wait", "3s")
        .set("max_inflight", 2 * GONE);
    let worker = settings.start().await;
    // What is older and still there keeps the phantom acknowledgements alive: a call that lasts, and a retry
    // that has long to wait.
    nats.publish(&Invocation::of("door").call_id("door")).await;
    nats.publish_raw(&format!("{RETRIES}.l16.f.0-0.1"), parked_for_long(), Invocation::of("f").to_bytes())
        .await;
    gateway.await_calls(1).await;

    // Both consumers note what they await, and their notes are kept until it was acknowledged.
    nats.publish_all(invocations("crowd", GONE)).await;
    gateway.await_calls(1 + GONE).await;
    let of_queue = nats.notes(QUEUE, "faas-workers").await;
    crowd.open();
    eventually_is("handed back", GONE, async || nats.consumer(RETRIES, "l1").await.num_ack_pending).await;
    let of_level = nats.notes(RETRIES, "l1").await;
    gateway.await_ended(2 * GONE).await;
    eventually_is("acknowledged", 0, async || nats.consumer(RETRIES, "l1").await.num_ack_pending).await;
    nats.end().await;
    for (path, notes) in [of_queue, of_level] {
        fs::write(path, notes).unwrap();
    }
    nats.boot().await;

    // A call that is new, and a retry: neither finds its way past the phantom acknowledgements.
    nats.publish_all(invocations("late", 2)).await;
    let ended = |calls: &[crate::support::Call]| {
        calls.iter().filter(|call| call.function() == "late" && call.nth == 2).count() == 2
    };
    gateway.await_that("the retries", ended).await;
    eventually_is("only the one that waits long is parked", 1.0, async || {
        worker.metrics().await.value("queue_worker_retries_parked", &[])
    })
    .await;
    door.open();
    eventually("nothing is awaited any more", async || nats.count(QUEUE).await == 0).await;
    let crowd = gateway.calls().iter().filter(|call| call.function() == "crowd").count();
    assert_eq!(crowd, 2 * GONE, "a settled call was made again");
}

fn parked_for_long() -> async_nats::HeaderMap {
    let mut headers = async_nats::HeaderMap::new();
    let due = std::time::SystemTime::now() + Duration::from_secs(99_999);
    headers.insert("Queue-Worker-Due", humantime::format_rfc3339_nanos(due).to_string());
    headers
}
