//! Where a call is: `calls show`.

use serde_json::{Value, json};

use crate::support::{
    Answer, Gateway, Invocation, Latch, Nats, QUEUE, RETRIES, Settings, Worker, eventually,
};

async fn show(settings: &Settings, line: &str) -> Value {
    let ran = settings.run(&format!("calls show {line} --output json")).await;
    assert!([0, 3].contains(&ran.code), "{ran:?}");
    let shown = ran.json();
    assert_eq!(ran.code == 3, shown["state"] == "unknown", "{shown}");
    shown
}

/// A gateway at which `good` is done, `bad` is retried, `no` is refused, and `held` runs until the latch
/// opens.
async fn gateway(latch: &Latch) -> Gateway {
    let held = latch.clone();
    Gateway::start(move |call| match call.function() {
        "good" => Answer::ok(),
        "no" => Answer::status(400),
        "held" => Answer::ok().held_by(&held),
        _ => Answer::status(500),
    })
    .await
}

async fn calls_are_found(nats: &Nats, audit: bool) {
    let latch = Latch::new();
    let gateway = gateway(&latch).await;
    let settings = Worker::of(nats, &gateway).set("initial_retry_wait", "1h").set("max_retry_wait", "1h");
    let settings = settings.set("audit", if audit { "all" } else { "off" });
    let worker = settings.start().await;
    let others = settings.clone().called("another").start().await;
    for function in ["good", "bad", "no", "held"] {
        nats.publish(&Invocation::of(function).call_id(&format!("of-{function}"))).await;
    }
    nats.await_counts([1, 1, 1]).await;
    gateway.await_that("all are called", |calls| calls.len() == 4).await;

    let running = show(&settings, "of-held").await;
    assert_eq!((&running["state"], &running["function"]), (&json!("running"), &json!("held")), "{running}");
    assert_eq!((&running["queue"], &running["attempts"]), (&json!(QUEUE), &json!([])));
    let parked = show(&settings, "of-bad").await;
    assert_eq!((&parked["state"], &parked["function"]), (&json!("parked"), &json!("bad")), "{parked}");
    let clone = nats.messages(RETRIES).await.remove(0);
    assert_eq!(parked["due"], clone.expect("Queue-Worker-Due"));
    let attempt = &parked["attempts"][0];
    assert_eq!((&attempt["n"], &attempt["status"]), (&json!(1), &json!(500)));
    assert!(attempt["milliseconds"].is_u64() && attempt["worker"].is_string() && attempt["at"].is_string());
    let dead = show(&settings, "of-no").await;
    assert_eq!((&dead["state"], &dead["cause"]), (&json!("dead"), &json!("refused")), "{dead}");
    assert_eq!(dead["attempts"][0]["status"], 400);
    if audit {
        eventually("it is recorded", async || show(&settings, "of-good").await["state"] == "done").await;
        assert_eq!(show(&settings, "of-good").await["attempts"][0]["status"], 200);
    } else {
        assert_eq!(show(&settings, "of-good").await["state"], "unknown");
        assert_eq!(dead["sequence"], 1);
    }
    let table = settings.run("calls show of-bad").await;
    assert!(table.code == 0 && table.out.contains("parked") && table.out.contains("ATTEMPT"), "{table:?}");
    latch.open();
    drop((worker, others));
}

#[tokio::test]
async fn a_call_is_found_where_it_is_without_an_audit() {
    calls_are_found(&Nats::start().await, false).await;
}

#[tokio::test]
async fn a_call_is_found_where_it_is_and_where_it_was_with_an_audit() {
    calls_are_found(&Nats::start().await, true).await;
}

#[tokio::test]
async fn a_call_that_waits_is_found_by_a_look_at_all_that_wait_by_its_own_id_or_the_one_that_it_gets() {
    let nats = Nats::start().await;
    let latch = Latch::new();
    let gateway = gateway(&latch).await;
    let settings = Worker::of(&nats, &gateway).set("max_inflight", 1);
    let worker = settings.start().await;
    nats.publish(&Invocation::of("held").call_id("first")).await;
    gateway.await_calls(1).await;
    for n in 0..150 {
        nats.publish(&Invocation::of("good").call_id(&format!("w-{n}"))).await;
    }
    assert_eq!(show(&settings, "w-149").await["state"], "unknown");
    let waiting = show(&settings, "w-149 --scan").await;
    assert_eq!((&waiting["state"], &waiting["function"]), (&json!("waiting"), &json!("good")), "{waiting}");
    assert_eq!(show(&settings, "first --scan").await["state"], "running");
    assert_eq!(show(&settings, "nobody --scan").await["state"], "unknown");
    latch.open();
    drop(worker);
}

#[tokio::test]
async fn two_calls_of_one_id_are_both_shown() {
    let nats = Nats::start().await;
    let latch = Latch::new();
    let gateway = gateway(&latch).await;
    let settings = Worker::of(&nats, &gateway).set("audit", "all").set("initial_retry_wait", "1h");
    let worker = settings.set("max_retry_wait", "1h");
    let running = worker.start().await;
    nats.publish(&Invocation::of("good").call_id("twice")).await;
    nats.publish(&Invocation::of("bad").call_id("twice")).await;
    nats.await_counts([0, 1, 0]).await;
    eventually("both are recorded", async || {
        show(&worker, "twice").await["others"].as_array().is_some_and(|others| others.len() == 1)
    })
    .await;
    let shown = show(&worker, "twice").await;
    let other = &shown["others"][0];
    assert_eq!((&shown["state"], &other["state"]), (&json!("parked"), &json!("done")), "{shown}");
    assert_eq!((&shown["function"], &other["function"]), (&json!("bad"), &json!("good")));
    drop(running);
}
