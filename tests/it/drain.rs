//! What SIGTERM does to calls that run and to deliveries that wait.

use crate::support::{
    Answer, End, Gateway, Invocation, Latch, Nats, QUEUE, RETRIES, Worker, eventually, eventually_is,
};

/// Awaits that the worker has noticed its SIGTERM.
async fn worker_drains(worker: &Worker) {
    eventually("/readyz says no", async || worker.readyz().await.is_some_and(|(status, _)| status == 503))
        .await;
}

#[tokio::test]
async fn a_drain_lets_running_calls_end() {
    let latch = Latch::new();
    let held = latch.clone();
    let nats = Nats::start().await;
    let gateway = Gateway::start(move |_| Answer::ok().held_by(&held)).await;
    let mut worker = Worker::of(&nats, &gateway).start().await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    gateway.await_calls(1).await;
    worker.terminate();
    worker_drains(&worker).await;
    nats.publish(&Invocation::of("f").call_id("late")).await;
    latch.open();
    assert_eq!(worker.exit().await, 0);
    nats.await_counts([1, 0, 0]).await;
    assert_eq!((gateway.count(), gateway.calls()[0].fate()), (1, Some(End::Answered)));
}

#[tokio::test]
async fn a_call_longer_than_the_grace_is_handed_back_and_made_again_at_once() {
    let latch = Latch::new();
    let held = latch.clone();
    let nats = Nats::start().await;
    let gateway = Gateway::start(
        move |call| if call.nth == 1 { Answer::silence() } else { Answer::ok().held_by(&held) },
    )
    .await;
    let settings = Worker::of(&nats, &gateway).set("shutdown_grace", "300ms").set("ack_wait", "10m");
    let mut worker = settings.start().await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    gateway.await_calls(1).await;
    assert_eq!(worker.drain().await, 0);
    assert_eq!(gateway.await_ended(1).await[0].fate(), Some(End::Cut));

    // A lease of ten minutes would outlast the test, so that what is called now was handed back.
    let _worker = settings.start().await;
    assert_eq!(gateway.await_calls(2).await[1].retry(), 0);
    let stored = [nats.messages(QUEUE).await, nats.messages(RETRIES).await].concat();
    for message in &stored {
        assert_eq!(message.header("Queue-Worker-Interruptions"), None, "{message:?}");
    }
    latch.open();
    nats.await_counts([0, 0, 0]).await;
}

#[tokio::test]
async fn a_delivery_that_waits_for_a_permit_is_handed_back_untouched() {
    let latch = Latch::new();
    let held = latch.clone();
    let nats = Nats::start().await;
    let gateway = Gateway::start(move |_| Answer::ok().held_by(&held)).await;
    let settings = Worker::of(&nats, &gateway).set("max_inflight", 1).set("ack_wait", "10m");
    let mut worker = settings.start().await;
    nats.publish(&Invocation::of("f").call_id("first")).await;
    gateway.await_calls(1).await;
    nats.publish(&Invocation::of("f").call_id("second")).await;
    eventually_is("deliveries held", 2, async || nats.consumer(QUEUE, "faas-workers").await.num_ack_pending)
        .await;
    worker.terminate();
    worker_drains(&worker).await;
    latch.open();
    assert_eq!(worker.exit().await, 0);
    assert_eq!(gateway.count(), 1);
    // How it is handed back is the worker's affair, but no attempt and no interruption may be written on it.
    let handed_back = [nats.messages(QUEUE).await, nats.messages(RETRIES).await].concat();
    assert_eq!(handed_back.len(), 1, "{handed_back:?}");
    assert_eq!(handed_back[0].header("Queue-Worker-Interruptions"), None);
    assert_eq!(handed_back[0].header("Queue-Worker-Attempts").unwrap_or("0"), "0");

    let _worker = settings.start().await;
    let calls = gateway.await_calls(2).await;
    assert_eq!((calls[1].id(), calls[1].retry()), ("second", 0));
    nats.await_counts([0, 0, 0]).await;
}

#[tokio::test]
async fn a_second_sigterm_ends_the_grace_and_what_runs_is_handed_back() {
    let latch = Latch::new();
    let held = latch.clone();
    let nats = Nats::start().await;
    let gateway = Gateway::start(
        move |call| if call.nth == 1 { Answer::silence() } else { Answer::ok().held_by(&held) },
    )
    .await;
    let settings = Worker::of(&nats, &gateway).set("shutdown_grace", "1h").set("ack_wait", "10m");
    let mut worker = settings.start().await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    gateway.await_calls(1).await;
    worker.terminate();
    worker_drains(&worker).await;
    assert_eq!(gateway.calls()[0].fate(), None, "one SIGTERM leaves a call alone");
    worker.terminate();
    assert_eq!(worker.exit().await, 0);
    assert_eq!(gateway.await_ended(1).await[0].fate(), Some(End::Cut));

    // A lease of ten minutes would outlast the test, so that what is called now was handed back.
    let _worker = settings.start().await;
    assert_eq!(gateway.await_calls(2).await[1].retry(), 0);
    latch.open();
    nats.await_counts([0, 0, 0]).await;
}
