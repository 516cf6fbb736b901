//! Several queues in one worker: apart in everything but the permits.

use async_nats::HeaderMap;

use crate::support::{
    Answer, DEAD, End, Gateway, Invocation, Latch, Nats, QUEUE, Worker, eventually, eventually_is,
};

/// Publishes to a queue.
async fn publish(nats: &Nats, queue: &str, function: &str, id: &str) {
    nats.publish_raw(queue, HeaderMap::new(), Invocation::of(function).call_id(id).to_bytes()).await;
}

/// Awaits what `/readyz` says.
async fn await_readiness(worker: &Worker, status: u16, text: &str) {
    eventually(&format!("/readyz says {status} {text}"), async || {
        worker.readyz().await.is_some_and(|(found, reason)| found == status && reason.contains(text))
    })
    .await;
}

#[tokio::test]
async fn each_queue_has_its_own_streams_and_figures() {
    let nats = Nats::start().await;
    let gateway =
        Gateway::start(|call| Answer::status(if call.function() == "bad" { 500 } else { 200 })).await;
    let settings = Worker::of(&nats, &gateway).set("queue_name", "a, team.b").set("max_retry_attempts", 2);
    let worker = settings.set("initial_retry_wait", "10ms").start().await;
    assert_eq!(nats.streams().await, ["a", "a-dead", "a-retries", "team_b", "team_b-dead", "team_b-retries"]);

    publish(&nats, "a", "bad", "bad-a").await;
    for (queue, function, id) in
        [("team.b", "bad", "bad-b1"), ("team.b", "bad", "bad-b2"), ("team.b", "good", "good-b")]
    {
        publish(&nats, queue, function, id).await;
    }
    gateway.await_calls(7).await;
    for (queue, stream, dead) in [("a", "a", 1), ("team.b", "team_b", 2)] {
        let counts = async || [nats.count(stream).await, nats.count(&format!("{stream}-retries")).await];
        eventually_is("queued and parked", [0, 0], counts).await;
        let letters = nats.messages(&format!("{stream}-dead")).await;
        assert_eq!(letters.len(), dead);
        for letter in letters {
            assert_eq!(letter.subject, format!("{queue}-dead.bad"));
            assert!(
                letter.expect("Queue-Worker-Original-Id").starts_with(&format!("{stream}:")),
                "{letter:?}"
            );
        }
    }

    eventually("the broker's figures are read", async || {
        let metrics = worker.metrics().await;
        metrics.get("queue_worker_dead_letters", &[("queue_name", "team.b")]) == Some(2.0)
    })
    .await;
    let metrics = worker.metrics().await;
    for (name, a, b) in [
        ("queue_worker_messages_submitted_total", 1.0, 3.0),
        ("queue_worker_messages_processed_total", 1.0, 3.0),
        ("queue_worker_attempts_total", 2.0, 5.0),
        ("queue_worker_attempt_duration_seconds_count", 2.0, 5.0),
        ("queue_worker_retries_total", 1.0, 2.0),
        ("queue_worker_dead_letters", 1.0, 2.0),
        ("queue_worker_dead_letters_total", 1.0, 2.0),
        ("queue_worker_pending_messages", 0.0, 0.0),
    ] {
        let values = ["a", "team.b"].map(|queue| metrics.value(name, &[("queue_name", queue)]));
        assert_eq!(values, [a, b], "{name}");
    }
}

#[tokio::test]
async fn queues_share_a_single_permit() {
    let latch = Latch::new();
    let held = latch.clone();
    let nats = Nats::start().await;
    let gateway =
        Gateway::start(
            move |call| if call.function() == "door" { Answer::ok().held_by(&held) } else { Answer::ok() },
        )
        .await;
    let _worker =
        Worker::of(&nats, &gateway).set("queue_name", "busy,quiet").set("max_inflight", 1).start().await;
    // One call keeps the permit until both queues have a backlog behind it.
    publish(&nats, "busy", "door", "door").await;
    gateway.await_calls(1).await;
    for n in 0..40 {
        publish(&nats, "busy", "busy", &format!("busy-{n}")).await;
    }
    for n in 0..10 {
        publish(&nats, "quiet", "quiet", &format!("quiet-{n}")).await;
    }
    latch.open();
    gateway.await_ended(51).await;
    assert_eq!(gateway.most_at_once(), 1);
    // While both wait each gets every other call; a delivery in the hand may shift that by one or two.
    let calls = gateway.calls();
    let shared: Vec<_> = calls[1..].iter().take(23).map(|call| call.function()).collect();
    assert_eq!(shared.iter().filter(|function| **function == "quiet").count(), 10, "{shared:?}");
    let starved = shared.windows(4).any(|calls| calls.iter().all(|function| *function == "quiet"));
    assert!(!starved, "the busy queue starves: {shared:?}");
}

#[tokio::test]
async fn a_queue_that_is_late_is_waited_for_while_the_other_is_served() {
    // Questions about the late queue's stream go where nobody answers.
    let nats = Nats::start_with("mappings: { \"$JS.API.STREAM.INFO.late\": \"nowhere\" }").await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let worker = Worker::of(&nats, &gateway).set("queue_name", "early,late").spawn();
    await_readiness(&worker, 503, "queue late: ").await;
    eventually("the early queue is there", async || nats.streams().await.contains(&"early-dead".to_owned()))
        .await;
    publish(&nats, "early", "f", "a").await;
    gateway.await_ended(1).await;
    eventually_is("queued", 0, async || nats.count("early").await).await;
    assert_eq!(worker.readyz().await.map(|(status, _)| status), Some(503));

    nats.reconfigure("nowhere", "$JS.API.STREAM.INFO.late");
    nats.reload().await;
    worker.ready().await;
    publish(&nats, "late", "f", "b").await;
    gateway.await_calls(2).await;
}

#[tokio::test]
async fn a_stream_that_vanishes_stops_its_own_queue_only() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let worker = Worker::of(&nats, &gateway).set("queue_name", "a,b").start().await;
    nats.js().delete_stream("b").await.unwrap();
    worker.await_log(&["b is gone", "made ready again"]).await;
    publish(&nats, "a", "f", "a").await;
    gateway.await_calls(1).await;
    eventually("the stream is there again", async || nats.streams().await.contains(&"b".to_owned())).await;
    worker.ready().await;
    publish(&nats, "b", "f", "b").await;
    gateway.await_calls(2).await;
    for stream in ["a", "b"] {
        eventually_is("queued", 0, async || nats.count(stream).await).await;
    }
}

/// A stream that no queue can be served from: it keeps what is settled, and nobody said where to begin in it.
async fn make_unusable(nats: &Nats, stream: &str) {
    nats.make_stream(async_nats::jetstream::stream::Config { name: stream.to_owned(), ..Default::default() })
        .await;
}

#[tokio::test]
async fn a_queue_that_cannot_be_served_is_tried_again_while_the_others_are_served() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    make_unusable(&nats, "b").await;
    let mut worker = Worker::of(&nats, &gateway).set("queue_name", "a,b").spawn();
    worker.await_log(&["ERROR", "stream b is no work queue", "tried again"]).await;
    await_readiness(&worker, 503, "queue b: stream b is no work queue").await;
    publish(&nats, "a", "f", "a").await;
    gateway.await_calls(1).await;

    nats.js().delete_stream("b").await.unwrap();
    worker.ready().await;
    publish(&nats, "b", "f", "b").await;
    gateway.await_calls(2).await;
    assert_eq!(worker.drain().await, 0);
}

#[tokio::test]
async fn a_worker_that_can_serve_no_queue_at_all_ends() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    for stream in ["a", "b"] {
        make_unusable(&nats, stream).await;
    }
    let mut worker = Worker::of(&nats, &gateway).set("queue_name", "a,b").spawn();
    worker
        .await_log(&[
            "ERROR",
            "nothing can be served",
            "queue a: stream a is no work queue",
            "queue b: stream b is no",
        ])
        .await;
    assert_eq!(worker.exit().await, 1);
}

#[tokio::test]
async fn a_right_that_one_queue_lacks_stops_that_queue_only() {
    let nats = Nats::start_with(
        "authorization { users = [ { user: observer, password: observer }, \
         { user: worker, password: secret, permissions: { \
         publish: { deny: [\"$JS.API.CONSUMER.MSG.NEXT.b.>\"] } } } ] }",
    )
    .await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let settings = Worker::of(&nats, &gateway)
        .set("queue_name", "a,b")
        .set("nats_user", "worker")
        .file("nats_password_file", "secret");
    let worker = settings.spawn();
    await_readiness(&worker, 503, "queue b: NATS denies").await;
    let line = worker
        .await_log(&["ERROR", "Permissions Violation", "$JS.API.CONSUMER.MSG.NEXT.b.faas-workers"])
        .await;
    assert!(line.contains("queue=b"), "{line}");
    for id in ["1", "2"] {
        publish(&nats, "a", "f", id).await;
    }
    gateway.await_ended(2).await;

    nats.reconfigure("MSG.NEXT.b.>", "MSG.NEXT.c.>");
    nats.reload().await;
    worker.ready().await;
    publish(&nats, "b", "f", "b").await;
    gateway.await_calls(3).await;
}

#[tokio::test]
async fn a_worker_whose_queue_is_lost_lets_running_calls_end_before_it_does() {
    let latch = Latch::new();
    let held = latch.clone();
    let nats = Nats::start().await;
    let gateway = Gateway::start(move |_| Answer::ok().held_by(&held)).await;
    let settings = Worker::of(&nats, &gateway);
    assert_eq!(settings.start().await.drain().await, 0);
    let mut worker = settings.set("nats_manage", "false").start().await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    gateway.await_calls(1).await;
    nats.js().delete_stream(DEAD).await.unwrap();
    worker.await_log(&["ERROR", "nothing can be served", DEAD]).await;
    await_readiness(&worker, 503, "draining").await;
    latch.open();
    assert_eq!(worker.exit().await, 1);
    assert_eq!(gateway.calls()[0].fate(), Some(End::Answered));
    eventually_is("queued", 0, async || nats.count(QUEUE).await).await;
}

#[tokio::test]
async fn a_drain_is_the_drain_of_all_queues() {
    let latch = Latch::new();
    let held = latch.clone();
    let nats = Nats::start().await;
    let gateway = Gateway::start(move |_| Answer::ok().held_by(&held)).await;
    let settings =
        Worker::of(&nats, &gateway).set("queue_name", "a,b").set("max_inflight", 2).set("ack_wait", "10m");
    let mut worker = settings.start().await;
    let counts = async || {
        [
            nats.count("a").await + nats.count("a-retries").await,
            nats.count("b").await + nats.count("b-retries").await,
        ]
    };
    for queue in ["a", "b"] {
        publish(&nats, queue, "f", &format!("{queue}-running")).await;
    }
    gateway.await_calls(2).await;
    for queue in ["a", "b"] {
        publish(&nats, queue, "f", &format!("{queue}-waiting")).await;
        eventually_is("deliveries held", 2, async || {
            nats.consumer(queue, "faas-workers").await.num_ack_pending
        })
        .await;
    }
    worker.terminate();
    await_readiness(&worker, 503, "draining").await;
    latch.open();
    assert_eq!(worker.exit().await, 0);
    assert_eq!(gateway.count(), 2, "what waited is not begun");
    assert_eq!(counts().await, [1, 1]);

    // A lease of ten minutes would outlast the test, so that what is called now was handed back.
    let _worker = settings.start().await;
    gateway.await_calls(4).await;
    eventually_is("what is left", [0, 0], counts).await;
}

#[tokio::test]
async fn queues_whose_streams_would_be_the_same_are_refused() {
    let nats = Nats::absent();
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let mut worker = Worker::of(&nats, &gateway).set("queue_name", "team.b,team_b").spawn();
    assert_eq!(worker.exit().await, 64);
    let lines = worker.log_with("queue_name");
    assert!(lines.iter().any(|line| line.contains("team.b") && line.contains("team_b")), "{lines:?}");
}
