//! Calls that wait for a worker, taken away on purpose: `queue purge`.

use std::{collections::BTreeSet, process::Command};

use async_nats::{HeaderMap, jetstream::stream::DiscardPolicy};
use serde_json::{Value, json};

use crate::{
    rights::{OPERATING, restricted, rights, subject},
    support::{
        Answer, DEAD, Gateway, Invocation, Latch, Nats, QUEUE, Settings, Worker, eventually, eventually_is,
        patiently,
    },
};

/// What is paused of the queue.
const PAUSES: &str = "faas-request-operations._pauses";

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
    let ended = settings.run("audit search --function f --outcome cancelled --output json").await.done();
    assert_eq!(ended["items"].as_array().unwrap().len(), 60, "{ended}");
    let shown = settings.run("calls show f-07 --output json").await.done();
    assert_eq!((&shown["state"], &shown["redrives"]), (&json!("cancelled"), &json!(0)), "{shown}");

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
        ("queue purge --all", 64),
        ("queue purge --yes", 64),
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
    let rest = settings.run("queue purge --all --yes --output json").await.done();
    assert_eq!((&rest["matched"], &rest["cancelled"]), (&json!(5), &json!(5)), "{rest}");
    assert_eq!(cancelled(&nats).await.len(), 10);
    let after = stats(&settings).await;
    let amounts = ["pending", "due", "held", "running", "parked"].map(|amount| &after[amount]);
    assert_eq!(amounts, [0; 5].map(|none| json!(none)).each_ref(), "{after}");
    assert_eq!(after["paused"], json!(true), "it was paused before");
    assert_eq!(settings.run("queue purge --all --yes").await.code, 3);
}

#[tokio::test]
async fn what_is_dropped_leaves_no_trace_but_in_the_audit() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let settings = Worker::of(&nats, &gateway).set("audit", "all");
    let early = settings.run("queue purge --all --yes").await;
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
    let shown = settings.run("calls show 1500 --output json").await.done();
    assert_eq!((&shown["state"], &shown["sequence"]), (&json!("cancelled"), &Value::Null), "{shown}");
    let _worker = settings.start().await;
    eventually("it serves", async || settings.run("invoke f --wait").await.code == 0).await;
    assert_eq!(gateway.count(), 1);
}

/// A queue that is served by nobody any more, and calls that wait there.
async fn waiting(nats: &Nats, settings: &Settings, many: u32) {
    assert_eq!(settings.start().await.drain().await, 0);
    publish(nats, "f", many).await;
}

/// Whether a pause is on record.
async fn is_paused(nats: &Nats) -> bool {
    let Ok(stream) = nats.js().get_stream("faas-request-operations").await else { return false };
    let record = stream.get_last_raw_message_by_subject(PAUSES).await;
    record.is_ok_and(|record| !serde_json::from_slice::<Value>(&record.payload).unwrap()["queue"].is_null())
}

#[tokio::test]
async fn what_cannot_be_stored_stays_and_nothing_is_both_a_letter_and_a_call() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let settings = Worker::of(&nats, &gateway);
    waiting(&nats, &settings, 1).await;
    // The letter of the second call is refused, and those behind it are on their way.
    nats.publish(&Invocation::of("f").call_id("second")).await;
    for n in 0..60 {
        publish(&nats, &format!("g{n}"), 1).await;
    }
    let mut dead = nats.stream(DEAD).await.config;
    (dead.max_messages_per_subject, dead.discard) = (1, DiscardPolicy::New);
    dead.discard_new_per_subject = true;
    nats.js().update_stream(dead).await.unwrap();
    let purged = settings.run("queue purge --all --yes --output json").await;
    assert!(purged.code == 1 && purged.err.contains("maximum messages per subject"), "{purged:?}");
    let letters = cancelled(&nats).await;
    let calls = nats.messages(QUEUE).await;
    assert_eq!((letters.len() + calls.len(), &purged.json()["cancelled"]), (62, &json!(letters.len())));
    for call in calls {
        let body: Value = serde_json::from_slice(&call.payload).unwrap();
        let id = body["Header"]["X-Call-Id"][0].as_str().unwrap();
        assert!(!letters.iter().any(|letter| letter == id), "{id}");
    }
    assert!(!is_paused(&nats).await);
}

#[tokio::test]
async fn nothing_is_stored_where_nothing_may_be_deleted() {
    const DELETE: &str = "$JS.API.STREAM.MSG.DELETE.faas-request";
    let operating = OPERATING.iter().map(|(right, _)| right).filter(|right| subject(right) != DELETE);
    let nats = restricted(&rights(true).into_iter().chain(operating).collect::<Vec<_>>()).await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let settings = Worker::of(&nats, &gateway).set("nats_inbox_prefix", "_INBOX_worker");
    let settings = settings.set("nats_user", "worker").file("nats_password_file", "secret");
    waiting(&nats, &settings, 3).await;
    let purged = settings.run("queue purge --all --yes").await;
    assert!(purged.code == 1 && purged.err.contains(&format!("the right to {DELETE}")), "{purged:?}");
    nats.await_counts([3, 0, 0]).await;
    assert!(!is_paused(&nats).await);
}

#[tokio::test]
async fn one_purge_goes_on_at_a_time_and_one_that_was_killed_stops_no_other() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let settings = Worker::of(&nats, &gateway);
    waiting(&nats, &settings, 3).await;
    assert_eq!(settings.run("queue pause").await.code, 0);
    let record = |word: &str| {
        let pause = json!({ "since": "2020-01-01T00:00:00Z", "by": "another", "purging": word });
        json!({ "queue": pause, "functions": {} }).to_string()
    };
    nats.publish_raw(PAUSES, HeaderMap::new(), record("2999-01-01T00:00:00Z")).await;
    let second = settings.run("queue purge --all --yes").await;
    assert!(second.code == 1 && second.err.contains("by another"), "{second:?}");
    nats.await_counts([3, 0, 0]).await;
    assert!(is_paused(&nats).await, "the other's pause is not ended");
    // An operator's pause lasts longer than a purge.
    let paused = settings.run("queue pause --reason repairs --output json").await.done();
    assert_eq!(paused["pause"]["reason"], "repairs");
    nats.publish_raw(PAUSES, HeaderMap::new(), record("2020-01-01T00:00:00Z")).await;
    let purged = settings.run("queue purge --all --yes --output json").await.done();
    assert_eq!(purged["cancelled"], 3);
    assert!(!is_paused(&nats).await, "nobody else would end it");
}

#[tokio::test]
async fn a_purge_stops_when_its_pause_is_ended_and_ends_its_pause_when_a_signal_stops_it() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let settings = Worker::of(&nats, &gateway);
    waiting(&nats, &settings, 3).await;
    for signal in [None, Some("-HUP"), Some("-TERM"), Some("-INT")] {
        let purge = settings.begin(&["queue", "purge", "--all", "--yes"]);
        eventually("it is paused", async || is_paused(&nats).await).await;
        // It waits until all workers know the pause.
        let reason = if let Some(signal) = signal {
            let id = purge.id().unwrap().to_string();
            assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
            "ended before its time"
        } else {
            nats.publish_raw(PAUSES, HeaderMap::new(), r#"{"functions":{}}"#).await;
            "resumed meanwhile"
        };
        let ended = patiently("it ends", purge.wait_with_output()).await.unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.code() == Some(1) && said.contains(reason), "{signal:?}: {ended:?}");
        assert!(!is_paused(&nats).await, "{signal:?}");
    }
    nats.await_counts([3, 0, 0]).await;
}

#[tokio::test]
async fn what_cannot_be_read_stays_for_the_settings_may_be_another_queues() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let settings = Worker::of(&nats, &gateway);
    waiting(&nats, &settings, 2).await;
    nats.publish_raw(QUEUE, HeaderMap::new(), "no invocation").await;
    let purged = settings.run("queue purge --all --yes --output json").await;
    let told = purged.json();
    assert_eq!(
        (purged.code, &told["cancelled"], &told["failed"], &told["skipped"]),
        (1, &json!(2), &json!(1), &json!(0))
    );
    assert!(purged.err.contains("input"), "{purged:?}");
    nats.await_counts([1, 0, 2]).await;
    assert_eq!(settings.run("queue purge --all --drop --yes").await.code, 0);
    nats.await_counts([0, 0, 2]).await;
}
