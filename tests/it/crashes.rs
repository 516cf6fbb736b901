//! Workers that die, stall or lose their lease in the middle of a call.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::support::{
    Answer, Call, End, Gateway, Invocation, Latch, Nats, Proxy, QUEUE, RETRIES, Worker, eventually,
    eventually_is,
};

#[tokio::test]
async fn a_call_whose_worker_was_killed_is_made_again_as_the_same_attempt() {
    let latch = Latch::new();
    let held = latch.clone();
    let nats = Nats::start().await;
    let gateway = Gateway::start(move |call| match call.nth {
        1 => Answer::silence(),
        2 => Answer::status(500).held_by(&held),
        _ => Answer::ok(),
    })
    .await;
    let settings = Worker::of(&nats, &gateway).set("ack_wait", "2s").set("initial_retry_wait", "10ms");
    let mut killed = settings.start().await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    gateway.await_calls(1).await;
    killed.kill().await;
    let _worker = settings.start().await;

    gateway.await_calls(2).await;
    let interrupted = nats.messages(RETRIES).await.remove(0);
    assert_eq!(
        (interrupted.expect("Queue-Worker-Interruptions"), interrupted.expect("Queue-Worker-Hop")),
        ("1", "1")
    );
    assert_eq!(
        interrupted.header("Queue-Worker-Attempts").unwrap_or("0"),
        "0",
        "an interrupted call is no attempt"
    );
    latch.open();
    gateway.await_calls(3).await;
    nats.await_counts([0, 0, 0]).await;
    assert_eq!(gateway.calls().iter().map(Call::retry).collect::<Vec<_>>(), [0, 0, 1]);
}

#[tokio::test]
async fn what_kills_five_workers_is_dead_lettered_after_five_calls() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::silence()).await;
    let settings = Worker::of(&nats, &gateway).set("ack_wait", "2s");
    let mut worker = settings.start().await;
    nats.publish(&Invocation::of("killer").call_id("a")).await;
    for n in 1..=5 {
        gateway.await_calls(n).await;
        worker.kill().await;
        worker = settings.start().await;
    }
    let dead = nats.dead_letter().await;
    assert_eq!(
        (dead.expect("Queue-Worker-Cause"), dead.expect("Queue-Worker-Interruptions")),
        ("interrupted", "5")
    );
    assert_eq!(gateway.count(), 5);
}

#[tokio::test]
async fn a_call_longer_than_the_lease_runs_once() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok().after(Duration::from_secs(12))).await;
    let settings = Worker::of(&nats, &gateway).set("ack_wait", "3s");
    let _workers = [settings.start().await, settings.start().await];
    nats.publish(&Invocation::of("f").call_id("a")).await;
    gateway.await_ended(1).await;
    nats.await_counts([0, 0, 0]).await;
    assert_eq!((gateway.count(), gateway.calls()[0].fate()), (1, Some(End::Answered)));
}

#[tokio::test]
async fn a_worker_that_stalls_for_three_leases_gives_way_to_another() {
    let latch = Latch::new();
    let held = latch.clone();
    let nats = Nats::start().await;
    let gateway = Gateway::start(move |_| Answer::ok().held_by(&held)).await;
    let settings = Worker::of(&nats, &gateway).set("ack_wait", "2s");
    let stalled = settings.start().await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    gateway.await_calls(1).await;
    stalled.pause();
    let _other = settings.start().await;
    sleep(Duration::from_secs(6)).await;
    stalled.resume();
    gateway.await_calls(2).await;

    // The one that stalled hangs up without having been answered, and the other's call is the one that
    // counts.
    gateway.await_ended(1).await;
    assert_eq!(gateway.calls()[0].fate(), Some(End::Cut));
    latch.open();
    nats.await_counts([0, 0, 0]).await;
    assert_eq!(
        gateway.calls().iter().map(|call| (call.retry(), call.fate())).collect::<Vec<_>>(),
        [(0, Some(End::Cut)), (0, Some(End::Answered))]
    );
    assert!(stalled.metrics().await.value("queue_worker_lease_lost_total", &[]) >= 1.0);
}

#[tokio::test]
async fn a_lost_lease_is_told_with_the_call_whose_it_was_begun_or_not() {
    let mut nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::silence()).await;
    let worker = Worker::of(&nats, &gateway).set("ack_wait", "2s").set("max_inflight", 1).start().await;
    nats.publish(&Invocation::of("f").call_id("runs")).await;
    gateway.await_calls(1).await;
    nats.publish(&Invocation::of("g").call_id("waits")).await;
    eventually_is("deliveries held", 2, async || nats.consumer(QUEUE, "faas-workers").await.num_ack_pending)
        .await;
    nats.kill().await;
    for (call, function) in [("runs", "f"), ("waits", "g")] {
        worker.await_log(&["Lease lost", &format!("callId={call} "), &format!("function={function}")]).await;
    }
}

#[tokio::test]
async fn a_worker_cut_off_from_the_broker_hangs_up_before_another_may_call() {
    let nats = Nats::start().await;
    let proxy = Proxy::start(nats.port()).await;
    let gateway = Gateway::start(|call| if call.nth == 1 { Answer::silence() } else { Answer::ok() }).await;
    let settings = Worker::of(&nats, &gateway).set("ack_wait", "4s");
    let behind_proxy = settings.clone().set("nats_url", format!("nats://127.0.0.1:{}", proxy.port()));
    let _cut_off = behind_proxy.start().await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    gateway.await_calls(1).await;
    let dark = Instant::now();
    proxy.black_hole();
    let _other = settings.start().await;

    let calls = gateway.await_ended(2).await;
    nats.await_counts([0, 0, 0]).await;
    let (hung_up, fate) = calls[0].end.unwrap();
    assert_eq!((fate, calls[1].fate()), (End::Cut, Some(End::Answered)));
    assert!(hung_up - dark <= Duration::from_secs(4), "hung up only after {:?}", hung_up - dark);
    assert!(hung_up <= calls[1].arrived, "both ran at once for {:?}", hung_up - calls[1].arrived);
    assert_eq!(gateway.count(), 2);
    proxy.pass();
}

#[tokio::test]
async fn a_cut_connection_to_the_broker_does_not_disturb_a_running_call() {
    let latch = Latch::new();
    let held = latch.clone();
    let nats = Nats::start().await;
    let proxy = Proxy::start(nats.port()).await;
    let gateway = Gateway::start(move |_| Answer::ok().held_by(&held)).await;
    let settings = Worker::of(&nats, &gateway).set("ack_wait", "10s");
    let worker = settings.set("nats_url", format!("nats://127.0.0.1:{}", proxy.port())).start().await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    gateway.await_calls(1).await;
    proxy.cut();
    eventually("the worker connects again", async || {
        worker.metrics().await.value("queue_worker_nats_reconnect_total", &[]) >= 1.0
    })
    .await;
    latch.open();
    nats.await_counts([0, 0, 0]).await;
    assert_eq!(gateway.count(), 1);
}
