//! Calls that wait for a worker, taken away on purpose: `queue purge`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{
    Answer, DEAD, Gateway, Invocation, Latch, Nats, QUEUE, Settings, Worker, eventually, eventually_is,
};

async fn stats(settings: &Settings) -> Value {
    settings.run("queue stats --output json").await.done()["queues"][0].clone()
}

async fn publish(nats: &Nats, function: &str, many: u32) {
    for n in 0..many {
        nats.publish(&Invocation::of(function).call_id(&format!("{function}-{n}"))).await;
    }
}

/// The call ids of the dead letters, which are all cancelled.
async fn cancelled(nats: &Nats) -> Vec<String> {
    let letters = nats.messages(DEAD).await;
    assert!(letters.iter().all(|letter| letter.expect("Queue-Worker-Cause") == "cancelled"), "{letters:?}");
    letters.iter().map(|letter| letter.expect("Queue-Worker-Call-Id").to_owned()).collect()
}

fn called(gateway: &Gateway) -> BTreeSet<String> {
    gateway.calls().iter().map(|call| call.id().to_owned()).collect()
}

#[tokio::test]
async fn what_waits_is_taken_away_with_a_trace_and_what_runs_and_other_functions_are_not() {
    let (nats, latch) = (Nats::start().await, Latch::new());
    let gateway = Gateway::start({
        let latch = latch.clone();
        move |call| if call.id() == "run-0" { Answer::ok().held_by(&latch) } else { Answer::ok() }
    })
    .await;
    let receiver = Gateway::start(|_| Answer::ok()).await;
    let settings = Worker::of(&nats, &gateway).set("max_inflight", 1).set("audit", "all");
    let _worker = settings.start().await;
    nats.publish(&Invocation::of("f").call_id("run-0")).await;
    gateway.await_calls(1).await;
    // Another may be in the worker's hands already.
    publish(&nats, "g", 4).await;
    for n in 0..60 {
        let call = Invocation::of("f").call_id(&format!("f-{n:02}")).body(*b"hello");
        nats.publish(&if n == 7 { call.callback(&receiver.url()) } else { call }).await;
    }
    let line = "queue purge --function f --reason mistake --yes --output json";
    let purged = settings.run(line).await.done();
    let expected = json!({
        "queue": QUEUE, "function": "f", "state": "done", "matched": 60, "cancelled": 60, "skipped": 0,
        "failed": 0
    });
    assert_eq!(purged, expected);
    assert_eq!(cancelled(&nats).await, (0..60).map(|n| format!("f-{n:02}")).collect::<Vec<_>>());
    let letter = nats.messages(DEAD).await.remove(0);
    assert!(letter.expect("Queue-Worker-Last-Error").ends_with(": mistake"), "{letter:?}");
    assert_eq!(
        (letter.expect("Queue-Worker-Attempts"), letter.subject.as_str()),
        ("0", "faas-request-dead.f")
    );
    let told = settings.run("audit search --action purge --output json").await.done();
    let action = &told["items"][0];
    assert_eq!((&action["count"], &action["reason"]), (&json!(60), &json!("mistake")), "{told}");
    assert!(action["by"].is_string() && action["filter"]["function"] == "f", "{told}");

    assert_eq!(stats(&settings).await["paused"], json!(false), "the pause is over with it");
    latch.open();
    let told = receiver.await_calls(1).await;
    assert_eq!((told[0].id(), told[0].header("x-function-status")), ("f-07", Some("499")));
    publish(&nats, "later", 1).await;
    nats.await_counts([0, 0, 60]).await;
    let others = ["g-0", "g-1", "g-2", "g-3", "later-0", "run-0"].map(str::to_owned);
    assert_eq!(called(&gateway), BTreeSet::from(others));
    // A letter is a call that can be made after all.
    settings.run("dead-letters redrive 1 --yes").await;
    gateway.await_that("it is called", |calls| calls.iter().any(|call| call.id() == "f-00")).await;
}

#[tokio::test]
async fn nothing_is_taken_away_that_nobody_asked_for() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let settings = Worker::of(&nats, &gateway);
    assert_eq!(settings.start().await.drain().await, 0);
    publish(&nats, "f", 60).await;
    for (line, code) in [
        ("queue purge", 64),
        ("queue purge --function f", 64),
        ("queue purge --drop --yes", 64),
        ("queue purge --function .. --yes", 64),
        ("queue purge --function f --all --yes", 64),
        ("queue purge --function nobody --yes", 3),
    ] {
        let ran = settings.run(line).await;
        assert_eq!((ran.code, ran.err.is_empty()), (code, false), "{line}: {ran:?}");
    }
    let dry = settings.run("queue purge --function f --dry-run --output json").await.done();
    assert_eq!(
        (&dry["state"], &dry["matched"], &dry["cancelled"]),
        (&json!("dry-run"), &json!(60), &json!(0))
    );
    nats.await_counts([60, 0, 0]).await;
}

#[tokio::test]
async fn what_is_due_or_held_is_taken_away_too_and_what_is_parked_is_not() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::status(500)).await;
    let settings = Worker::of(&nats, &gateway).set("initial_retry_wait", "2s").set("max_retry_wait", "1h");
    let _worker = settings.start().await;
    assert_eq!(settings.run("queue pause --function held").await.code, 0);
    publish(&nats, "bad", 3).await;
    publish(&nats, "held", 5).await;
    eventually_is("messages are held", json!(5), async || stats(&settings).await["held"].clone()).await;
    gateway.await_that("all are called", |calls| calls.len() >= 3).await;
    assert_eq!(settings.run("queue pause").await.code, 0);
    eventually_is("retries come due", json!(3), async || stats(&settings).await["due"].clone()).await;
    publish(&nats, "fresh", 2).await;
    let held = settings.run("queue purge --function held --yes --output json").await.done();
    assert_eq!((&held["matched"], &held["cancelled"]), (&json!(5), &json!(5)), "{held}");
    let rest = settings.run("queue purge --yes --output json").await.done();
    assert_eq!((&rest["matched"], &rest["cancelled"]), (&json!(5), &json!(5)), "{rest}");
    assert_eq!(cancelled(&nats).await.len(), 10);
    let after = stats(&settings).await;
    let amounts = ["pending", "due", "held", "running", "parked"].map(|amount| &after[amount]);
    assert_eq!(amounts, [0; 5].map(|none| json!(none)).each_ref(), "{after}");
    assert_eq!(after["paused"], json!(true), "it was paused before");
    assert_eq!(settings.run("queue purge --yes").await.code, 3);
}

#[tokio::test]
async fn what_is_dropped_leaves_no_trace_but_in_the_audit() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let settings = Worker::of(&nats, &gateway).set("audit", "all");
    let early = settings.run("queue purge --yes").await;
    assert_eq!(early.code, 1, "{early:?}");
    let mut worker = settings.start().await;
    assert_eq!(settings.run("queue pause").await.code, 0);
    assert_eq!(worker.drain().await, 0);
    nats.publish_all((0..2_000).map(|n| Invocation::of("f").call_id(&n.to_string()))).await;
    nats.publish_all((0..10).map(|n| Invocation::of("g").call_id(&n.to_string()))).await;
    let dropped = settings.run("queue purge --function f --drop --yes --output json").await.done();
    assert_eq!((&dropped["dropped"], &dropped["matched"]), (&json!(2_000), &json!(2_000)), "{dropped}");
    nats.await_counts([10, 0, 0]).await;
    let dropped = settings.run("queue purge --drop --all --yes").await;
    assert!(dropped.code == 0 && dropped.out.contains("10 dropped"), "{dropped:?}");
    nats.await_counts([0, 0, 0]).await;
    assert_eq!(settings.run("queue resume").await.code, 0);
    let told = settings.run("audit search --action purge-drop --output json").await.done();
    assert_eq!(told["items"].as_array().unwrap().len(), 2, "{told}");
    let _worker = settings.start().await;
    eventually("it serves", async || settings.run("invoke f --wait").await.code == 0).await;
    assert_eq!(gateway.count(), 1);
}
