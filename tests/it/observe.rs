//! What dashboards, probes and people with grep see.

use serde_json::Value;

use crate::support::{Answer, Gateway, Invocation, Latch, Nats, QUEUE, Worker, eventually, eventually_is};

const METRICS: [&str; 39] = [
    "queue_worker_attempt_duration_seconds",
    "queue_worker_attempts_total",
    "queue_worker_audit_oldest_age_seconds",
    "queue_worker_audit_records_total",
    "queue_worker_build_info",
    "queue_worker_callbacks_total",
    "queue_worker_dead_letters",
    "queue_worker_dead_letters_dropped_total",
    "queue_worker_dead_letters_total",
    "queue_worker_end_to_end_seconds",
    "queue_worker_function_invocation_inflight",
    "queue_worker_function_lookups_total",
    "queue_worker_held_messages",
    "queue_worker_ingress_accepted_total",
    "queue_worker_ingress_refused_total",
    "queue_worker_ingress_store_seconds",
    "queue_worker_lease_lost_total",
    "queue_worker_messages_processed_total",
    "queue_worker_messages_submitted_total",
    "queue_worker_nats_reconnect_total",
    "queue_worker_oldest_pending_age_seconds",
    "queue_worker_operations_ended_total",
    "queue_worker_operations_letters_left",
    "queue_worker_operations_open",
    "queue_worker_orphaned_messages",
    "queue_worker_overdue_holders",
    "queue_worker_part_restarts_total",
    "queue_worker_paused",
    "queue_worker_paused_seconds",
    "queue_worker_pending_messages",
    "queue_worker_queue_wait_seconds",
    "queue_worker_ready",
    "queue_worker_retries_parked",
    "queue_worker_retries_total",
    "queue_worker_retry_lateness_seconds",
    "queue_worker_stan_messages_total",
    "queue_worker_unsettled",
    "queue_worker_unsettled_oldest_seconds",
    "queue_worker_unstorable_messages_total",
];

#[tokio::test]
async fn the_metrics_count_what_happened() {
    let latch = Latch::new();
    let held = latch.clone();
    let nats = Nats::start().await;
    let gateway = Gateway::start(move |call| match call.function() {
        "bad" | "bad.ns" => Answer::status(500),
        "held" => Answer::ok().held_by(&held),
        _ => Answer::ok(),
    })
    .await;
    let receiver = Gateway::start(|_| Answer::ok()).await;
    let settings = Worker::of(&nats, &gateway).set("initial_retry_wait", "10ms").set("max_retry_attempts", 2);
    let worker = settings.set("max_inflight", 1).start().await;
    for n in 0..3 {
        nats.publish(&Invocation::of("good").call_id(&format!("good-{n}")).callback(&receiver.url())).await;
    }
    nats.publish(&Invocation::of("bad.ns").call_id("bad")).await;
    nats.publish(&Invocation::of("bad").call_id("worse")).await;
    nats.dead_letters(2).await;

    let queue = ("queue_name", QUEUE);
    let good = ("function_name", "good.openfaas-fn");
    eventually_is("dead letters in the gauge", Some(2.0), async || {
        worker.metrics().await.get("queue_worker_dead_letters", &[queue])
    })
    .await;
    let metrics = worker.metrics().await;
    for (name, labels, expected) in [
        ("queue_worker_messages_submitted_total", &[queue][..], 5.0),
        ("queue_worker_attempts_total", &[queue], 7.0),
        ("queue_worker_attempts_total", &[queue, good], 3.0),
        ("queue_worker_attempts_total", &[queue, ("function_name", "bad.ns")], 2.0),
        ("queue_worker_attempt_duration_seconds_count", &[queue], 7.0),
        ("queue_worker_queue_wait_seconds_count", &[queue], 5.0),
        ("queue_worker_end_to_end_seconds_count", &[queue], 5.0),
        ("queue_worker_retries_total", &[queue], 2.0),
        ("queue_worker_retry_lateness_seconds_count", &[], 2.0),
        ("queue_worker_retries_parked", &[queue], 0.0),
        ("queue_worker_dead_letters_total", &[queue, ("cause", "exhausted")], 2.0),
        ("queue_worker_dead_letters_total", &[queue, ("function_name", "bad.ns")], 1.0),
        ("queue_worker_callbacks_total", &[queue], 3.0),
        ("queue_worker_dead_letters_dropped_total", &[], 0.0),
        ("queue_worker_lease_lost_total", &[], 0.0),
        ("queue_worker_unstorable_messages_total", &[], 0.0),
        ("queue_worker_nats_reconnect_total", &[], 0.0),
        ("queue_worker_ready", &[], 1.0),
        ("queue_worker_build_info", &[], 1.0),
    ] {
        assert_eq!(metrics.value(name, labels), expected, "{name} {labels:?}");
    }
    assert!(metrics.value("queue_worker_messages_processed_total", &[queue]) >= 5.0);
    for name in METRICS {
        assert!(metrics.names().contains(name), "{name} is missing in {:?}", metrics.names());
    }
    let ours = metrics.names().into_iter().filter(|name| name.starts_with("queue_worker_"));
    let strange: Vec<_> = ours.filter(|name| !METRICS.contains(name)).collect();
    assert!(strange.is_empty(), "not in the contract: {strange:?}");
    assert!(!metrics.labels().contains("call_id"));

    assert_shows_held_calls(&worker, &nats, &gateway).await;
    latch.open();
    nats.await_counts([0, 0, 2]).await;
}

/// Running and waiting messages show as well: one call holds the permit, one delivery waits for it, one is
/// still in the queue.
async fn assert_shows_held_calls(worker: &Worker, nats: &Nats, gateway: &Gateway) {
    let queue = ("queue_name", QUEUE);
    for _ in 0..3 {
        nats.publish(&Invocation::of("held")).await;
    }
    gateway
        .await_that("a held call", |calls| calls.last().is_some_and(|call| call.function() == "held"))
        .await;
    let held = [queue, ("function_name", "held.openfaas-fn")];
    eventually_is("calls in flight", Some(1.0), async || {
        worker.metrics().await.get("queue_worker_function_invocation_inflight", &held)
    })
    .await;
    let all = [queue, ("function_name", "all-functions")];
    eventually("pending messages", async || {
        worker
            .metrics()
            .await
            .get("queue_worker_pending_messages", &all)
            .is_some_and(|pending| pending >= 1.0)
    })
    .await;
}

#[tokio::test]
async fn log_lines_keep_the_names_that_people_grep_for() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|call| {
        Answer::status(if call.function() == "f" && call.nth == 2 { 200 } else { 500 })
    })
    .await;
    let receiver = Gateway::start(|_| Answer::ok()).await;
    let settings = Worker::of(&nats, &gateway).set("initial_retry_wait", "10ms").set("max_retry_attempts", 2);
    let worker = settings.set("log_encoding", "json").start().await;
    let secret =
        Invocation::of("f").call_id("call-a").header("Authorization", "Bearer hunter2").body("hunter3");
    let secret = secret.field("QueryString", "token=hunter4".into());
    nats.publish(&secret.callback(&format!("http://user:hunter5@{}/back?token=hunter6", receiver.address())))
        .await;
    nats.publish(&Invocation::of("g").call_id("call-b")).await;
    nats.dead_letters(1).await;

    for (message, level, keys) in [
        ("Invoke", "INFO", &["callId", "function", "delivery", "bytes", "url"][..]),
        ("Invoked", "INFO", &["callId", "function", "delivery", "status", "duration"]),
        (
            "Retry scheduled",
            "WARN",
            &["callId", "function", "delivery", "maxAttempts", "wait", "at", "status"],
        ),
        ("Posted result", "INFO", &["callId", "function", "url", "status"]),
        ("Dead letter", "ERROR", &["callId", "function", "attempts", "cause", "status"]),
    ] {
        let call = if message == "Dead letter" { "call-b" } else { "call-a" };
        let line = worker.await_log(&[&format!("\"{message}\""), call]).await;
        let event: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(line.to_uppercase().contains(&format!("\"{level}\"")), "not {level}: {line}");
        for key in keys {
            let there = [&event[key], &event["fields"][key]].into_iter().any(|value| !value.is_null());
            assert!(there, "{message} has no {key}: {line}");
        }
    }
    let leaks = worker.log_with("hunter");
    assert!(leaks.is_empty(), "secrets in the log: {leaks:?}");
}

#[tokio::test]
async fn an_idle_worker_is_healthy_and_ready() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let worker = Worker::of(&nats, &gateway).start().await;
    assert_eq!(worker.get("/healthz").await.map(|(status, _)| status), Some(200));
    assert_eq!(worker.get("/nonsense").await.map(|(status, _)| status), Some(404));
}
