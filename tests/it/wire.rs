//! What the connection to NATS can carry at once, and what it loses.

use crate::support::{
    Answer, Flow, Gateway, Hole, Invocation, Latch, Nats, Proxy, QUEUE, Settings, Way, Worker, eventually,
};

fn through(proxy: &Proxy, settings: Settings) -> Settings {
    settings.set("nats_url", format!("nats://127.0.0.1:{}", proxy.port()))
}

#[tokio::test]
async fn more_large_messages_than_the_server_keeps_for_a_connection_come_without_a_cut() {
    let nats = Nats::start_with("max_pending: 24MB").await;
    nats.make_queue().await;
    let proxy = Proxy::start(nats.port()).await;
    proxy.flow(Way::ToClient, Flow { bytes_per_second: Some(30 << 20), ..Flow::default() });
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let body = vec![7; 700 << 10];
    for n in 0..45 {
        nats.publish(&Invocation::of("f").call_id(&n.to_string()).body(&body)).await;
    }
    let worker = through(&proxy, Worker::of(&nats, &gateway)).set("max_inflight", 200).start().await;
    let calls = gateway.await_ended(45).await;
    nats.await_counts([0, 0, 0]).await;
    assert_eq!(gateway.count(), 45);
    assert!(calls.iter().all(|call| call.request.body.len() == body.len()));
    assert_eq!(worker.metrics().await.value("queue_worker_nats_reconnect_total", &[]), 0.0);
}

#[tokio::test]
async fn a_delivery_that_is_lost_on_its_way_was_not_interrupted() {
    let nats = Nats::start().await;
    let proxy = Proxy::start(nats.port()).await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let worker = through(&proxy, Worker::of(&nats, &gateway)).set("ack_wait", "2s").start().await;
    proxy.flow(Way::ToClient, Flow { hole: Some(Hole::Swallows), ..Flow::default() });
    nats.publish(&Invocation::of("f").call_id("a")).await;
    eventually("the broker has delivered it", async || {
        nats.consumer(QUEUE, "faas-workers").await.delivered.consumer_sequence == 1
    })
    .await;
    proxy.pass();
    proxy.cut();
    gateway.await_calls(1).await;
    nats.await_counts([0, 0, 0]).await;
    assert_eq!(gateway.count(), 1);
    assert!(worker.log_with("Interrupted").is_empty());
}

#[tokio::test]
async fn what_waited_for_a_permit_until_its_lease_ended_was_not_interrupted_and_what_ran_was() {
    let latch = Latch::new();
    let held = latch.clone();
    let nats = Nats::start().await;
    let proxy = Proxy::start(nats.port()).await;
    let gateway = Gateway::start(move |call| {
        if call.nth == 1 && call.id() == "runs" { Answer::ok().held_by(&held) } else { Answer::ok() }
    })
    .await;
    let worker = through(&proxy, Worker::of(&nats, &gateway))
        .set("ack_wait", "6s")
        .set("max_inflight", 1)
        .start()
        .await;
    nats.publish(&Invocation::of("f").call_id("runs")).await;
    gateway.await_calls(1).await;
    let mut heartbeats = nats.watch(&format!("$JS.ACK.{QUEUE}.faas-workers.1.2.>")).await;
    nats.publish(&Invocation::of("f").call_id("waits")).await;
    heartbeats.next().await;
    proxy.refuse();
    worker.await_log(&["Lease lost", "runs"]).await;
    worker.await_log(&["Lease lost", "waits"]).await;
    proxy.pass();
    gateway.await_ended(3).await;
    nats.await_counts([0, 0, 0]).await;
    let interrupted = worker.log_with("Interrupted");
    assert!(interrupted.len() == 1 && interrupted[0].contains("runs"), "{interrupted:#?}");
    assert_eq!((gateway.calls_of("runs").len(), gateway.calls_of("waits").len()), (2, 1));
}
