//! A worker whose machine is short of files: that is nobody's failure but its own.

use std::{fs, process::Command};

use crate::support::{Answer, Gateway, Invocation, Latch, Nats, Settings, Worker};

/// A worker that may have so many files open, and so many if it asks.
fn limited(nats: &Nats, gateway: &Gateway, soft: u32, hard: u32) -> Settings {
    let limits = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" \"$@\"");
    Worker::of(nats, gateway).set("initial_retry_wait", "10ms").through(&["sh", "-c", &limits])
}

async fn publish(nats: &Nats, count: usize) {
    nats.publish_all((0..count).map(|n| Invocation::of("f").call_id(&n.to_string()))).await;
}

#[tokio::test]
async fn a_worker_takes_as_many_files_as_it_may_have() {
    const CALLS: usize = 150;
    let (nats, open) = (Nats::start().await, Latch::new());
    let held = open.clone();
    let gateway = Gateway::start(move |_| Answer::ok().held_by(&held)).await;
    let worker = limited(&nats, &gateway, 64, 4_096).set("max_inflight", CALLS).start().await;
    publish(&nats, CALLS).await;
    gateway.await_calls(CALLS).await;
    assert_eq!(gateway.running(), CALLS);
    open.open();
    nats.await_counts([0, 0, 0]).await;
    assert!(worker.log_with("max_inflight").is_empty());
}

#[tokio::test]
async fn no_more_calls_run_at_once_than_there_are_files_for() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let worker = limited(&nats, &gateway, 104, 104).set("max_inflight", 2_000).start().await;
    let line = worker.await_log(&["max_inflight", "limit=104"]).await;
    assert!(
        line.contains("maxInflight=2000") && line.contains("calls=20") && line.contains("needed=4064"),
        "{line}"
    );
    publish(&nats, 300).await;
    gateway.await_ended(300).await;
    nats.await_counts([0, 0, 0]).await;
    assert_eq!(gateway.count_that(|call| call.retry() == 0), 300);
    assert!(gateway.most_at_once() <= 20, "{}", gateway.most_at_once());
}

#[tokio::test]
async fn a_worker_without_files_for_a_single_call_says_so_and_ends() {
    let (nats, gateway) = (Nats::start().await, Gateway::start(|_| Answer::ok()).await);
    let mut worker = limited(&nats, &gateway, 60, 60).spawn();
    assert_eq!(worker.exit().await, 1);
    worker.await_log(&["60 files open", "expected at least 66", "max_inflight"]).await;
}

/// Sets how many files a running process may have open.
fn limit(process: u32, files: usize) {
    let status =
        Command::new("prlimit").args(["--pid", &process.to_string(), &format!("--nofile={files}:")]).status();
    assert!(status.unwrap().success());
}

/// The first number that none of its files has: the next one would get it.
fn next_file(process: u32) -> usize {
    (0..).find(|number| !fs::exists(format!("/proc/{process}/fd/{number}")).unwrap()).unwrap()
}

/// How many calls and callbacks were handed back.
async fn not_made(worker: &Worker) -> f64 {
    let metrics = worker.metrics().await;
    let calls = metrics.get("queue_worker_attempts_total", &[("outcome", "short_of_files")]);
    calls.unwrap_or_default()
        + metrics.get("queue_worker_callbacks_total", &[("result", "handed_back")]).unwrap_or_default()
}

/// Nothing of what is published to a worker whose files are used up counts as a failure, and its pages answer
/// all the while.
async fn survives(gateway_host: &str, receiver: Option<&Gateway>) {
    const CALLS: usize = 100;
    const FREE: usize = 6;
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let url = format!("http://{gateway_host}:{}", gateway.address().port());
    let settings = Worker::of(&nats, &gateway)
        .set("gateway_url", url)
        .set("max_retry_attempts", 1)
        .set("callback_attempts", 1);
    let worker = settings.set("max_inflight", CALLS).start().await;
    limit(worker.id(), next_file(worker.id()) + FREE);
    nats.publish_all((0..CALLS).map(|n| {
        let invocation = Invocation::of("f").call_id(&n.to_string());
        receiver.map_or(invocation.clone(), |receiver| invocation.callback(&receiver.url()))
    }))
    .await;
    worker.await_log(&["short of what calls take", "shortOf=files"]).await;
    for _ in 0..5 {
        assert_eq!(worker.get("/healthz").await.expect("an answer").0, 200);
        assert_eq!(worker.readyz().await.expect("an answer").0, 200);
    }
    assert!(not_made(&worker).await >= 1.0);
    limit(worker.id(), 4_096);
    nats.await_counts([0, 0, 0]).await;
    assert_eq!(gateway.count_that(|call| call.retry() == 0), CALLS);
    // Handed back once or a few times each, and not as fast as it goes.
    let not_made = not_made(&worker).await;
    assert!(not_made <= 10.0 * CALLS as f64, "{not_made}");
    if let Some(receiver) = receiver {
        assert_eq!(receiver.await_ended(CALLS).await.len(), CALLS);
    }
}

#[tokio::test]
async fn a_call_that_no_file_is_left_for_is_handed_back_and_the_pages_answer() {
    survives("127.0.0.1", None).await;
}

#[tokio::test]
async fn a_name_that_cannot_be_looked_up_without_files_is_no_unreachable_gateway() {
    survives("localhost", None).await;
}

#[tokio::test]
async fn a_callback_that_no_file_is_left_for_is_no_failed_one() {
    let receiver = Gateway::start(|_| Answer::ok()).await;
    survives("127.0.0.1", Some(&receiver)).await;
}
