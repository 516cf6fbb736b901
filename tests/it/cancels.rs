//! Calls that somebody cancels: parked, waiting and running, on whichever worker they are.

use serde_json::json;

use crate::support::{
    Answer, DEAD, End, Gateway, Invocation, Latch, Nats, RETRIES, Settings, Worker, eventually,
};

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
async fn those_that_run_beside_a_call_that_is_cancelled_go_on() {
    let nats = Nats::start().await;
    let latch = Latch::new();
    let gateway = gateway(&latch).await;
    let settings = patient(&nats, &gateway).set("max_inflight", 3);
    let worker = settings.clone().start().await;
    for n in 0..3 {
        nats.publish(&Invocation::of("held").call_id(&format!("held-{n}"))).await;
    }
    gateway.await_calls(3).await;
    let cancelled = settings.run("calls cancel held-1 --yes --output json").await.done();
    assert_eq!(cancelled["state"], "cancelled");
    latch.open();
    let ended = gateway.await_that("all have ended", |calls| calls.iter().all(|call| call.fate().is_some()));
    for call in ended.await {
        let is_cut = matches!(call.fate(), Some(End::Cut));
        assert_eq!(is_cut, call.id() == "held-1", "{}", call.id());
    }
    nats.await_counts([0, 0, 1]).await;
    drop(worker);
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

/// Awaits that so many calls are parked.
async fn await_parked(settings: &Settings, many: usize) {
    eventually("calls are parked", async || {
        let listed = settings.run("retries list --output json").await.json();
        let items = listed["items"].as_array().unwrap();
        items.iter().filter(|item| item["state"] == "parked").count() == many
    })
    .await;
}

fn counts(ran: &serde_json::Value) -> [&serde_json::Value; 5] {
    ["state", "matched", "cancelled", "skipped", "failed"].map(|key| &ran[key])
}

#[tokio::test]
async fn parked_calls_are_cancelled_by_filter_without_being_called_and_their_callers_are_told() {
    for timer in ["auto", "levels"] {
        let nats = Nats::start().await;
        let gateway = gateway(&Latch::new()).await;
        let receiver = Gateway::start(|_| Answer::ok()).await;
        let settings = patient(&nats, &gateway).set("retry_timer", timer).set("audit", "all");
        let worker = settings.start().await;
        for n in 0..3 {
            let call = Invocation::of("bad").call_id(&format!("bad-{n}"));
            nats.publish(&call.callback(&receiver.url())).await;
        }
        nats.publish(&Invocation::of("worse").call_id("worse")).await;
        await_parked(&settings, 4).await;
        for (line, code) in [
            ("retries cancel --yes", 64),
            ("retries cancel --function bad", 64),
            ("retries cancel --all", 64),
            ("retries cancel 1 --function bad --yes", 64),
            ("retries cancel --function nobody --yes", 3),
            ("retries cancel 99 --yes", 3),
        ] {
            let ran = settings.run(line).await;
            assert_eq!((ran.code, ran.err.is_empty()), (code, false), "{line}: {ran:?}");
        }
        let dry = settings.run("retries cancel --function bad --dry-run --output json").await.done();
        assert_eq!(counts(&dry), [&json!("dry-run"), &json!(3), &json!(0), &json!(0), &json!(0)]);
        assert_eq!(nats.count(RETRIES).await, 4);

        let line = "retries cancel --function bad --reason mistake --yes --output json";
        let done = settings.run(line).await.done();
        assert_eq!(counts(&done), [&json!("done"), &json!(3), &json!(3), &json!(0), &json!(0)], "{timer}");
        nats.await_counts([0, 1, 3]).await;
        for letter in nats.messages(DEAD).await {
            assert_eq!(letter.expect("Queue-Worker-Cause"), "cancelled");
            assert_eq!(letter.expect("Queue-Worker-Attempts"), "1");
            assert!(letter.expect("Queue-Worker-Last-Error").ends_with(": mistake"), "{letter:?}");
            assert_eq!(letter.header("Queue-Worker-Cancelled"), None, "{letter:?}");
        }
        let told = receiver.await_calls(3).await;
        assert!(told.iter().all(|call| call.header("x-function-status") == Some("499")));
        assert_eq!((gateway.count(), nats.count(RETRIES).await), (4, 1));
        let shown = settings.run("operations list --output json").await.done();
        assert_eq!(
            (&shown["items"][0]["kind"], &shown["items"][0]["cancelled"]),
            (&json!("cancel"), &json!(3))
        );
        let told = settings.run("audit search --action cancel --output json").await.done();
        let (by, action) = (&told["items"][0]["by"], &told["items"][0]);
        assert_eq!((&action["count"], &action["reason"]), (&json!(3), &json!("mistake")), "{told}");
        assert!(by.is_string() && action["filter"]["function"] == "bad", "{told}");
        // Sent round again, they are calls as any others.
        settings.run("dead-letters redrive --cause cancelled --yes --output json").await.done();
        await_parked(&settings, 4).await;
        assert_eq!(gateway.count(), 7);
        drop(worker);
    }
}

#[tokio::test]
async fn a_cancel_that_is_left_alone_is_carried_out_by_a_worker_and_ends_calls_of_a_paused_function() {
    let nats = Nats::start().await;
    let gateway = gateway(&Latch::new()).await;
    let settings = patient(&nats, &gateway);
    let mut worker = settings.start().await;
    for n in 0..300 {
        nats.publish(&Invocation::of("bad").call_id(&format!("bad-{n}"))).await;
    }
    nats.await_counts([0, 300, 0]).await;
    assert_eq!(settings.run("queue pause --function bad").await.code, 0);
    assert_eq!(worker.drain().await, 0);
    let made = settings.run("retries cancel --all --yes --detach --output json").await.done();
    assert_eq!(counts(&made), [&json!("waiting"), &json!(300), &json!(0), &json!(0), &json!(0)]);
    // Another leaves its calls to it.
    let other = settings.run("retries cancel --function bad --yes").await;
    assert!(other.code == 1 && other.err.contains("open operation"), "{other:?}");
    let letters = settings.run("dead-letters redrive --all --yes").await;
    assert_eq!(letters.code, 3, "operations on dead letters have nothing to do with it: {letters:?}");
    let _worker = settings.start().await;
    nats.await_counts([0, 0, 300]).await;
    assert_eq!(gateway.count(), 300);
    let id = made["operation"].as_str().unwrap();
    eventually("it is done", async || {
        let shown = settings.run(&format!("operations show {id} --output json")).await.done();
        counts(&shown) == [&json!("done"), &json!(300), &json!(300), &json!(0), &json!(0)]
    })
    .await;
}
