//! Fresh and due work share what there is.

use crate::{
    support::{Answer, Call, Gateway, Invocation, Nats, QUEUE, RETRIES, Worker},
    until,
};

const EACH: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fresh_and_due_messages_alternate_where_one_call_runs_at_a_time() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|call| Answer::status(if call.function() == "due" && call.nth == 1 { 500 } else { 200 })).await;
    let settings = Worker::of(&nats, &gateway).set("initial_retry_wait", "3s");
    let mut worker = settings.start().await;
    nats.publish_all((0..EACH).map(|n| Invocation::of("due").call_id(&format!("due-{n}")))).await;
    until("all have failed once", async || nats.count(QUEUE).await == 0).await;
    assert_eq!(worker.drain().await, 0);
    // The broker brings them due, worker or not. What came due before the drain only leaves fewer to wait.
    let begun = gateway.count();
    let left = nats.count(RETRIES).await;
    until("all are due", async || nats.consumer(RETRIES, "due").await.num_pending == left).await;
    nats.publish_all((0..EACH).map(|n| Invocation::of("fresh").call_id(&format!("fresh-{n}")))).await;
    let _worker = settings.set("max_inflight", 1).start().await;
    until("all are called", async || nats.counts().await == [0, 0, 0]).await;

    assert_eq!(left, EACH as u64, "some came due before they were to be counted");
    let calls = gateway.calls()[begun..].to_vec();
    assert_eq!((calls.len(), gateway.count() - begun), (2 * EACH, 2 * EACH));
    let order: String = calls.iter().map(|call| if call.function() == "due" { 'd' } else { 'f' }).collect();
    println!("     in order: {order}");
    let due = calls[..EACH].iter().filter(|call: &&Call| call.function() == "due").count();
    println!("     of the first {EACH} calls {due} are due, {} are fresh", EACH - due);
    assert!((EACH * 2 / 5..=EACH * 3 / 5).contains(&due), "{due} of {EACH}");
}
