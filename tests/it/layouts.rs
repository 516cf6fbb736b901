//! How gateways lay a queue out: older ones publish on the queue's name, newer ones put the function's name
//! behind it.

use async_nats::{
    HeaderMap,
    jetstream::stream::{Config, RetentionPolicy},
};

use crate::support::{
    Answer, DEAD, Gateway, Invocation, Latch, Nats, QUEUE, RETRIES, Settings, Worker, eventually,
    eventually_is,
};

/// The stream of newer gateways.
const STREAM: &str = "OF_faas-request";

/// Settings of a worker beside a newer gateway.
fn newer(nats: &Nats, gateway: &Gateway) -> Settings {
    let settings = Worker::of(nats, gateway).set("queue_name", QUEUE).set("nats_stream", STREAM);
    settings.set("nats_filter_subject", "faas-request.>")
}

/// Publishes as newer gateways do. The message names a function, too.
async fn publish(nats: &Nats, token: &str, function: &str) {
    nats.publish_raw(&format!("{QUEUE}.{token}"), HeaderMap::new(), Invocation::of(function).to_bytes())
        .await;
}

/// The pending messages that a worker shows, by function.
async fn pending(worker: &Worker) -> Vec<(&'static str, Option<f64>)> {
    let metrics = worker.metrics().await;
    ["echo.openfaas-fn", "resize.dev", "other", "all-functions"]
        .map(|function| {
            (
                function,
                metrics.get(
                    "queue_worker_pending_messages",
                    &[("queue_name", QUEUE), ("function_name", function)],
                ),
            )
        })
        .into()
}

#[tokio::test]
async fn a_stream_of_a_newer_gateway_is_used_as_it_is() {
    let nats = Nats::start().await;
    let subjects = vec![format!("{QUEUE}.>")];
    let config = Config {
        name: STREAM.to_owned(),
        subjects,
        retention: RetentionPolicy::WorkQueue,
        ..Default::default()
    };
    let before = nats.make_stream(config).await.cached_info().config.clone();
    publish(&nats, "f", "f").await;
    let gateway = Gateway::start(|call| Answer::status(if call.function() == "f" { 200 } else { 400 })).await;
    let worker = newer(&nats, &gateway).start().await;
    gateway.await_calls(1).await;
    // The message has the last word on what is called, not its subject.
    publish(&nats, "f", "g.dev").await;
    let calls = gateway.await_calls(2).await;
    assert_eq!((calls[0].function(), calls[1].function()), ("f", "g.dev"));
    eventually_is("queued and dead", [0, 1], async || [nats.count(STREAM).await, nats.count(DEAD).await])
        .await;
    let letter = nats.messages(DEAD).await.remove(0);
    assert_eq!(letter.subject, "faas-request-dead.g%2Edev");
    assert_eq!(nats.stream(STREAM).await.config, before);
    assert_eq!(nats.streams().await, [STREAM, DEAD, RETRIES]);
    assert!(worker.log_with("does not take").is_empty());
}

#[tokio::test]
async fn a_stream_that_is_missing_is_made_for_what_the_consumer_takes() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let _worker = newer(&nats, &gateway).start().await;
    let made = nats.stream(STREAM).await.config;
    assert_eq!((made.subjects, made.retention), (vec![format!("{QUEUE}.>")], RetentionPolicy::WorkQueue));
    publish(&nats, "f.openfaas-fn", "f.openfaas-fn").await;
    gateway.await_calls(1).await;
}

#[tokio::test]
async fn a_filter_that_takes_the_queues_subject_changes_nothing() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let worker = Worker::of(&nats, &gateway).set("nats_filter_subject", "*").start().await;
    assert_eq!(nats.stream(QUEUE).await.config.subjects, [QUEUE]);
    let shown: Vec<_> = pending(&worker).await.into_iter().map(|(_, messages)| messages).collect();
    assert_eq!(shown, [None, None, None, Some(0.0)]);
}

#[tokio::test]
async fn every_worker_shows_the_same_backlog_of_each_function() {
    let latch = Latch::new();
    let held = latch.clone();
    let nats = Nats::start().await;
    let gateway = Gateway::start(move |_| Answer::ok().held_by(&held)).await;
    let settings = newer(&nats, &gateway).set("max_inflight", 1);
    let workers = tokio::join!(settings.start(), settings.start());
    for (token, messages) in [("echo", 3), ("echo.openfaas-fn", 1), ("resize%2Edev", 2), ("é", 1)] {
        for _ in 0..messages {
            publish(&nats, token, "f").await;
        }
    }
    gateway.await_calls(2).await;
    let shown = [Some(4.0), Some(2.0), Some(1.0), None];
    for worker in [&workers.0, &workers.1] {
        eventually_is("pending messages", shown.to_vec(), async || {
            pending(worker).await.into_iter().map(|(_, messages)| messages).collect::<Vec<_>>()
        })
        .await;
    }
    assert_eq!(pending(&workers.0).await, pending(&workers.1).await);

    latch.open();
    for worker in [&workers.0, &workers.1] {
        eventually("no function has a backlog", async || {
            pending(worker).await.into_iter().map(|(_, messages)| messages).eq([
                Some(0.0),
                Some(0.0),
                Some(0.0),
                None,
            ])
        })
        .await;
    }
}

#[tokio::test]
async fn what_is_no_work_queue_shows_what_is_pending_of_all_functions() {
    let nats = Nats::start().await;
    nats.make_stream(Config {
        name: STREAM.to_owned(),
        subjects: vec![format!("{QUEUE}.>")],
        ..Default::default()
    })
    .await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let worker = newer(&nats, &gateway).set("nats_deliver", "all").start().await;
    publish(&nats, "echo", "echo").await;
    gateway.await_calls(1).await;
    // The message stays in the stream when it is settled, so that what is stored says nothing.
    eventually("the figures are read", async || {
        let submitted =
            worker.metrics().await.get("queue_worker_messages_submitted_total", &[("queue_name", QUEUE)]);
        submitted == Some(1.0)
    })
    .await;
    let shown: Vec<_> = pending(&worker).await.into_iter().map(|(_, messages)| messages).collect();
    assert_eq!(shown, [None, None, None, Some(0.0)]);
}
