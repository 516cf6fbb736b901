//! Fresh and due work share what there is.

use crate::{
    support::{Answer, Call, Gateway, Invocation, Latch, Nats, QUEUE, RETRIES, Worker},
    until,
};

const EACH: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fresh_and_due_messages_alternate_where_one_call_runs_at_a_time() {
    let latch = Latch::new();
    let held = latch.clone();
    let nats = Nats::start().await;
    let gateway = Gateway::start(move |call| match (call.function(), call.nth) {
        ("due", 1) => Answer::status(500),
        ("door", _) => Answer::ok().held_by(&held),
        _ => Answer::ok(),
    })
    .await;
    let settings = Worker::of(&nats, &gateway).set("initial_retry_wait", "5s");
    let mut worker = settings.start().await;
    nats.publish_all((0..EACH).map(|n| Invocation::of("due").call_id(&format!("due-{n}")))).await;
    until("all have failed once", async || nats.count(QUEUE).await == 0).await;
    assert_eq!(worker.drain().await, 0);
    // One call keeps the only permit until the others are due: whichever timer parked them, a worker has to
    // run for that.
    nats.publish(&Invocation::of("door").call_id("door")).await;
    let _worker = settings.set("max_inflight", 1).start().await;
    gateway
        .await_that("the call at the door", |calls| calls.iter().any(|call| call.function() == "door"))
        .await;
    let begun = gateway.count();
    let due = async || {
        let due = nats.consumer(RETRIES, "due").await;
        due.num_pending + due.num_ack_pending as u64
    };
    until("all are due", async || due().await == EACH as u64).await;
    nats.publish_all((0..EACH).map(|n| Invocation::of("fresh").call_id(&format!("fresh-{n}")))).await;
    latch.open();
    until("all are called", async || nats.counts().await == [0, 0, 0]).await;

    assert_eq!(begun, EACH + 1, "some came due before they were to be counted");
    let calls = gateway.calls()[begun..].to_vec();
    assert_eq!((calls.len(), gateway.count() - begun), (2 * EACH, 2 * EACH));
    let order: String = calls.iter().map(|call| if call.function() == "due" { 'd' } else { 'f' }).collect();
    println!("     in order: {order}");
    let due = calls[..EACH].iter().filter(|call: &&Call| call.function() == "due").count();
    println!("     of the first {EACH} calls {due} are due, {} are fresh", EACH - due);
    assert!((EACH * 2 / 5..=EACH * 3 / 5).contains(&due), "{due} of {EACH}");
}
