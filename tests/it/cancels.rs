//! Calls that somebody cancels: parked, waiting and running, on whichever worker they are.

use serde_json::json;

use crate::support::{Answer, End, Gateway, Invocation, Latch, Nats, Settings, Worker};

/// A gateway at which `good` is done, `bad` is retried, and `held` runs until the latch opens.
async fn gateway(latch: &Latch) -> Gateway {
    let held = latch.clone();
    Gateway::start(move |call| match call.function() {
        "good" => Answer::ok(),
        "held" => Answer::ok().held_by(&held),
        _ => Answer::status(500),
    })
    .await
}

fn patient(nats: &Nats, gateway: &Gateway) -> Settings {
    let settings = Worker::of(nats, gateway).set("initial_retry_wait", "1h").set("max_retry_wait", "1h");
    settings.set("max_inflight", 1)
}

#[tokio::test]
async fn a_call_that_is_parked_waits_or_runs_ends_as_cancelled_whichever_of_three_workers_has_it() {
    let nats = Nats::start().await;
    let latch = Latch::new();
    let gateway = gateway(&latch).await;
    let receiver = Gateway::start(|_| Answer::ok()).await;
    let settings = patient(&nats, &gateway);
    let mut workers = Vec::new();
    for name in ["one", "two", "three"] {
        workers.push(settings.clone().called(name).start().await);
    }
    nats.publish(&Invocation::of("bad").call_id("parked").callback(&receiver.url())).await;
    nats.await_counts([0, 1, 0]).await;
    let words = ["calls", "cancel", "parked", "--yes", "--reason", "too late", "--output", "json"];
    let cancelled = settings.run_words(&words).await.done();
    assert_eq!((&cancelled["callId"], &cancelled["state"]), (&json!("parked"), &json!("cancelled")));
    let letter = nats.dead_letter().await;
    assert_eq!(letter.expect("Queue-Worker-Cause"), "cancelled");
    assert!(letter.expect("Queue-Worker-Last-Error").contains("too late"), "{letter:?}");
    assert_eq!(letter.expect("Queue-Worker-Attempts"), "1");
    let told = receiver.await_calls(1).await;
    assert_eq!(told[0].header("x-function-status"), Some("499"));

    for n in 0..3 {
        nats.publish(&Invocation::of("held").call_id(&format!("held-{n}"))).await;
    }
    gateway.await_that("all workers are busy", |calls| calls.len() == 4).await;
    nats.publish(&Invocation::of("good").call_id("waiting")).await;
    let marked = settings.run("calls cancel waiting --yes --output json").await.done();
    assert_eq!(marked["state"], "cancelling");
    let cancelled = settings.run("calls cancel held-1 --yes --output json").await.done();
    assert_eq!((&cancelled["state"], &cancelled["function"]), (&json!("cancelled"), &json!("held")));
    assert_eq!(gateway.calls_of("held-1").len(), 1);
    let cut = gateway.await_that("it is cut off", |calls| {
        calls.iter().any(|call| call.id() == "held-1" && call.fate().is_some())
    });
    let cut = cut.await;
    let of_held = cut.iter().find(|call| call.id() == "held-1").unwrap();
    assert!(matches!(of_held.fate(), Some(End::Cut)), "{:?}", of_held.fate());
    latch.open();
    // Whichever worker takes the one that waits, now that it is free or as it was before.
    let letters = nats.dead_letters(3).await;
    assert!(letters.iter().all(|letter| letter.expect("Queue-Worker-Cause") == "cancelled"));
    assert_eq!(gateway.calls_of("waiting").len(), 0);

    let shown = settings.run("calls show held-1 --output json").await.done();
    assert_eq!((&shown["state"], &shown["cause"]), (&json!("cancelled"), &json!("cancelled")));
    let again = settings.run("calls cancel held-1 --yes").await;
    assert!(again.code == 1 && again.err.contains("cancelled"), "{again:?}");
    drop(workers);
}

#[tokio::test]
async fn what_is_cancelled_while_no_worker_runs_is_not_called_and_a_later_call_of_the_same_id_is() {
    let nats = Nats::start().await;
    let latch = Latch::new();
    let gateway = gateway(&latch).await;
    let settings = patient(&nats, &gateway);
    assert_eq!(settings.start().await.drain().await, 0);
    nats.publish(&Invocation::of("good").call_id("a")).await;
    let marked = settings.run("calls cancel a --yes --output json").await;
    assert_eq!(marked.done()["state"], "cancelling");
    assert!(marked.err.contains("no worker has heard"), "{marked:?}");
    nats.publish(&Invocation::of("good").call_id("a").body("later")).await;
    nats.publish(&Invocation::of("good").call_id("b")).await;
    let mut worker = settings.start().await;
    nats.await_counts([0, 0, 1]).await;
    assert_eq!(nats.dead_letter().await.expect("Queue-Worker-Cause"), "cancelled");
    assert_eq!((gateway.calls_of("a").len(), gateway.calls_of("b").len()), (1, 1));
    assert_eq!(worker.drain().await, 0);
    // Sent round again afterwards, it is called.
    let worker = settings.start().await;
    settings.run("dead-letters redrive --all --yes --output json").await.done();
    gateway
        .await_that("it is called", |calls| calls.iter().filter(|call| call.id() == "a").count() == 2)
        .await;
    drop(worker);
}

#[tokio::test]
async fn nothing_is_cancelled_without_a_yes() {
    let nats = Nats::start().await;
    let latch = Latch::new();
    let gateway = gateway(&latch).await;
    let settings = patient(&nats, &gateway);
    let worker = settings.start().await;
    nats.publish(&Invocation::of("bad").call_id("a")).await;
    nats.await_counts([0, 1, 0]).await;
    let asked = settings.run("calls cancel a").await;
    assert!(asked.code == 64 && asked.err.contains("--yes"), "{asked:?}");
    nats.await_counts([0, 1, 0]).await;
    drop(worker);
}
