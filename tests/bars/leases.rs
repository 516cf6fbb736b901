//! Calls that outlast the lease, and workers that stand still.

use std::time::Duration;

use tokio::time::sleep;

use crate::{
    size,
    support::{Answer, Call, DEAD, End, Gateway, Invocation, Nats, Worker},
    until,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_outlasts_its_lease_four_times_runs_once() {
    let (call, ack_wait) = size((8, 2), (20, 5));
    let nats = Nats::start().await;
    let gateway = Gateway::start(move |_| Answer::ok().after(Duration::from_secs(call))).await;
    let settings = Worker::of(&nats, &gateway).set("ack_wait", format!("{ack_wait}s"));
    let _workers = [settings.start().await, settings.start().await];
    nats.publish_all((0..5).map(|n| Invocation::of("f").call_id(&format!("call-{n}")))).await;
    until("all are settled", async || gateway.count() >= 5 && nats.counts().await == [0, 0, 0]).await;
    let fates: Vec<_> = gateway.calls().iter().filter_map(Call::fate).collect();
    println!("     5 calls of {call} s under an ack_wait of {ack_wait} s: {} calls", fates.len());
    assert_eq!(fates, [End::Answered; 5]);
}

/// A worker stands still for three leases. Meanwhile its calls are answered, and the same calls are made by
/// another worker, with the opposite result.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stalled_worker_knows_when_it_goes_on_changes_nothing() {
    const EACH: usize = 10;
    let ack_wait = size(2, 5);
    let nats = Nats::start().await;
    let gateway = Gateway::start(move |call| {
        let status = match (call.function(), call.nth) {
            ("retried-then-done", 1) => 500,
            ("dead-then-done", 1) | ("done-then-dead", 2) => 400,
            _ => 200,
        };
        // The first answers find the worker stopped.
        Answer::status(status).after(if call.nth == 1 {
            Duration::from_secs(ack_wait) / 2
        } else {
            Duration::ZERO
        })
    })
    .await;
    let settings = Worker::of(&nats, &gateway)
        .set("ack_wait", format!("{ack_wait}s"))
        .set("initial_retry_wait", "100ms");
    let mut stalled = settings.start().await;
    let functions = ["retried-then-done", "dead-then-done", "done-then-dead"];
    let invocations = functions.iter().flat_map(|function| (0..EACH).map(move |n| (function, n)));
    nats.publish_all(
        invocations.map(|(function, n)| Invocation::of(function).call_id(&format!("{function}-{n}"))),
    )
    .await;
    let all = EACH * functions.len();
    gateway.await_calls(all).await;
    stalled.pause();
    let _other = settings.start().await;
    sleep(Duration::from_secs(3 * ack_wait)).await;
    until("the other worker makes the calls", async || gateway.count() >= 2 * all).await;
    until("the other worker settles them", async || nats.counts().await == [0, 0, EACH as u64]).await;
    stalled.resume();
    // A drain awaits whatever it is still about to do.
    assert_eq!(stalled.drain().await, 0);
    let lost = stalled.log_with("Lease lost").len();

    assert_eq!((nats.counts().await, gateway.count()), ([0, 0, EACH as u64], 2 * all));
    let dead = nats.messages(DEAD).await;
    assert!(dead.iter().all(|dead| dead.expect("Queue-Worker-Function") == "done-then-dead"), "{dead:?}");
    println!(
        "     {all} messages, {} calls, {} dead letters; {lost} leases lost after {} s",
        gateway.count(),
        dead.len(),
        3 * ack_wait
    );
}
