//! Dead letters that are sent round again: by an operation that any worker carries out and another goes on
//! with.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_nats::HeaderMap;
use serde_json::{Value, json};

use crate::support::{
    Answer, Call, DEAD, Gateway, Invocation, Latch, Nats, RETRIES, Settings, Worker, eventually,
};

mod ends;

/// A letter as a worker writes it, the nth of its function.
pub async fn letter(nats: &Nats, function: &str, nth: u32, more: &[(&str, &str)], invocation: &Invocation) {
    let original = format!("faas-request:{nth}-1k2j3h4g{}", function.trim_matches(['_', '.']));
    let call = format!("{function}-{nth}");
    let mut told = BTreeMap::from([
        ("Cause", "exhausted"),
        ("Attempts", "3"),
        ("Hop", "3"),
        ("Last-Status", "502"),
        ("Last-Error", "the function answered 502"),
        ("History", "1:502:7:w,2:502:7:w,3:502:7:w"),
        ("First-Seen", "2026-11-20T08:00:00.000000000Z"),
        ("Failed-At", "2026-11-20T08:10:00.000000000Z"),
        ("Original-Id", original.as_str()),
        ("Call-Id", call.as_str()),
        ("Function", function),
    ]);
    told.extend(more.iter().copied());
    let mut headers = HeaderMap::new();
    told.iter().for_each(|(name, value)| headers.insert(format!("Queue-Worker-{name}").as_str(), *value));
    let payload = invocation.clone().call_id(&call).to_bytes();
    nats.publish_raw(&format!("{DEAD}.{function}"), headers, payload).await;
}

/// So many letters of a function.
pub async fn letters(nats: &Nats, function: &str, many: u32) {
    for nth in 0..many {
        letter(nats, function, nth, &[], &Invocation::of(function)).await;
    }
}

/// A broker, a function that answers so, and the settings of workers; the streams are there.
pub async fn house(answer: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> (Nats, Gateway, Settings) {
    let nats = Nats::start().await;
    let gateway = Gateway::start(answer).await;
    let settings = Worker::of(&nats, &gateway);
    assert_eq!(settings.start().await.drain().await, 0);
    (nats, gateway, settings)
}

/// How often each call was made.
pub fn calls(gateway: &Gateway) -> BTreeMap<String, usize> {
    let mut calls = BTreeMap::new();
    gateway.calls().iter().for_each(|call| *calls.entry(call.id().to_owned()).or_insert(0) += 1);
    calls
}

/// The state of an operation.
pub async fn show(settings: &Settings, id: &str) -> Value {
    settings.run(&format!("operations show {id} --output json")).await.done()
}

/// Awaits that an operation has done at least so much.
pub async fn await_done(settings: &Settings, id: &str, least: u64) {
    eventually("it has done so much", async || {
        show(settings, id).await["redriven"].as_u64().unwrap() >= least
    })
    .await;
}

fn counts(ran: &Value) -> [&Value; 5] {
    ["state", "matched", "redriven", "skipped", "failed"].map(|key| &ran[key])
}

#[tokio::test]
async fn letters_are_sent_round_again_with_a_life_of_their_own() {
    let fails = Arc::new(AtomicBool::new(true));
    let (nats, gateway, settings) = house({
        let fails = fails.clone();
        move |_| Answer::status(if fails.load(Ordering::Relaxed) { 400 } else { 200 })
    })
    .await;
    // Its age counts from the redrive.
    let settings = settings.set("max_message_age", "1h");
    letters(&nats, "f", 3).await;
    let _worker = settings.start().await;
    let ran = settings.run("dead-letters redrive --all --yes --reason mended --output json").await;
    assert_eq!(counts(&ran.done()), [&json!("done"), &json!(3), &json!(3), &json!(0), &json!(0)], "{ran:?}");
    let id = ran.json()["operation"].as_str().unwrap().to_owned();
    // They fail once more.
    let again = nats.dead_letters(3).await;
    let first = again.iter().find(|letter| letter.expect("Queue-Worker-Call-Id") == "f-0").unwrap();
    for (name, value) in [
        ("Redrives", "1"),
        ("Attempts", "1"),
        ("Original-Id", "faas-request:0-1k2j3h4gf"),
        ("First-Seen", "2026-11-20T08:00:00.000000000Z"),
        ("Cause", "refused"),
    ] {
        assert_eq!(first.expect(&format!("Queue-Worker-{name}")), value, "{name}");
    }
    assert!(first.expect("Nats-Msg-Id").ends_with(".dead.1"), "{first:?}");
    assert!(first.expect("Queue-Worker-History").starts_with("1:400:"), "{first:?}");
    assert_eq!(gateway.count(), 3);

    let shown = show(&settings, &id).await;
    assert_eq!((&shown["reason"], &shown["kind"]), (&json!("mended"), &json!("redrive")));
    assert!(shown["by"].is_string() && shown["cutoff"] == 3, "{shown:#}");
    let listed = settings.run("operations list --output json").await.done();
    assert_eq!(listed["items"][0], shown);
    assert!(settings.run("operations list").await.out.contains(&id));
    assert!(settings.run(&format!("operations show {id}")).await.out.contains("mended"));

    fails.store(false, Ordering::Relaxed);
    let ran = settings.run("dead-letters redrive --cause refused --yes --output json").await.done();
    assert_eq!(counts(&ran), [&json!("done"), &json!(3), &json!(3), &json!(0), &json!(0)]);
    nats.await_counts([0, 0, 0]).await;
    assert_eq!(calls(&gateway).into_values().collect::<Vec<_>>(), [2, 2, 2]);
}

#[tokio::test]
async fn nothing_is_sent_that_nobody_named_and_a_look_sends_nothing() {
    let (nats, gateway, settings) = house(|_| Answer::ok()).await;
    letters(&nats, "f", 4).await;
    letters(&nats, "g", 2).await;
    for (line, code) in [
        ("dead-letters redrive --yes", 64),
        ("dead-letters redrive --yes --rate 5 --canary 1", 64),
        ("dead-letters redrive --all", 64),
        ("dead-letters redrive --function f", 64),
        ("dead-letters redrive 1 --function f --yes", 64),
        ("dead-letters redrive --all --to ../f --yes", 64),
        ("dead-letters redrive --function nobody --yes", 3),
        ("dead-letters redrive 99 --yes", 3),
        ("operations list", 3),
        ("operations show none", 3),
    ] {
        let ran = settings.run(line).await;
        assert_eq!((ran.code, ran.err.is_empty()), (code, false), "{line}: {ran:?}");
    }
    let ran = settings.run("dead-letters redrive --function f --dry-run --output json").await.done();
    let expected = json!({
        "operation": null, "state": "dry-run", "matched": 4, "redriven": 0, "skipped": 0, "failed": 0
    });
    assert_eq!(ran, expected);
    assert_eq!((nats.count(DEAD).await, gateway.count()), (6, 0));
    assert!(!nats.streams().await.contains(&"faas-request-operations".to_owned()));

    // These two, and no others.
    let detached = settings.run("dead-letters redrive 2 5 77 --yes --detach --output json").await.done();
    assert_eq!(counts(&detached), [&json!("waiting"), &json!(2), &json!(0), &json!(0), &json!(0)]);
    let _worker = settings.start().await;
    gateway.await_ended(2).await;
    nats.await_counts([0, 0, 4]).await;
    assert_eq!(calls(&gateway).into_keys().collect::<Vec<_>>(), ["f-1", "g-0"]);
}

#[tokio::test]
async fn what_dies_while_letters_are_sent_is_not_sent_again() {
    let (nats, gateway, settings) = house(|_| Answer::status(400)).await;
    letters(&nats, "f", 30).await;
    let _worker = settings.start().await;
    let ran = settings.run("dead-letters redrive --function f --rate 20 --yes --output json").await.done();
    assert_eq!(counts(&ran), [&json!("done"), &json!(30), &json!(30), &json!(0), &json!(0)]);
    let again = nats.dead_letters(30).await;
    assert!(again.iter().all(|letter| letter.expect("Queue-Worker-Redrives") == "1"));
    assert_eq!(calls(&gateway).into_values().max(), Some(1));
}

#[tokio::test]
async fn two_who_redrive_at_once_send_each_letter_once_and_in_their_order() {
    let (nats, gateway, settings) = house(|_| Answer::ok()).await;
    letters(&nats, "f", 60).await;
    let settings = settings.set("max_inflight", 1);
    let line = "dead-letters redrive --all --yes --detach --output json";
    let (one, other) = tokio::join!(settings.run(line), settings.run(line));
    let mut codes = [one.code, other.code];
    codes.sort();
    assert_eq!(codes, [0, 1], "{one:?} {other:?}");
    let _worker = settings.start().await;
    gateway.await_ended(60).await;
    nats.await_counts([0, 0, 0]).await;
    let made: Vec<_> = gateway.calls().iter().map(|call| call.id().to_owned()).collect();
    assert_eq!(made, (0..60).map(|nth| format!("f-{nth}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn letters_are_in_one_open_operation_only() {
    let (nats, gateway, settings) = house(|_| Answer::ok()).await;
    letters(&nats, "f", 10).await;
    letters(&nats, "g", 5).await;
    // Nobody carries it out yet.
    let first = settings.run("dead-letters redrive --function f --yes --detach --output json").await.done();
    let id = first["operation"].as_str().unwrap();
    let twice = settings.run("dead-letters redrive --function f --yes --output json").await;
    assert!(twice.code == 1 && twice.err.contains(id) && twice.err.contains("all of these 10"), "{twice:?}");
    let rest = settings.run("dead-letters redrive --all --yes --detach --output json").await;
    let counted = rest.done();
    assert_eq!(counts(&counted), [&json!("waiting"), &json!(15), &json!(0), &json!(10), &json!(0)]);
    assert!(rest.err.contains(id), "{rest:?}");
    let _worker = settings.start().await;
    gateway.await_ended(15).await;
    nats.await_counts([0, 0, 0]).await;
    let other = counted["operation"].as_str().unwrap().to_owned();
    for (id, redriven) in [(id, 10), (other.as_str(), 5)] {
        eventually("it is done", async || show(&settings, id).await["state"] == "done").await;
        assert_eq!(show(&settings, id).await["redriven"], redriven, "{id}");
    }
    assert_eq!(calls(&gateway).into_values().max(), Some(1));
}

#[tokio::test]
async fn an_operation_is_ended_and_gone_on_with() {
    let (nats, gateway, settings) = house(|_| Answer::ok()).await;
    letters(&nats, "f", 40).await;
    let _worker = settings.start().await;
    let line = "dead-letters redrive --all --rate 5 --yes --detach --output json";
    let id = settings.run(line).await.done()["operation"].as_str().unwrap().to_owned();
    await_done(&settings, &id, 5).await;
    let aborted = settings.run(&format!("operations abort {id} --output json")).await.done();
    assert_eq!(aborted["state"], "aborted");
    let done = aborted["redriven"].as_u64().unwrap();
    assert!((5..40).contains(&done), "{aborted}");
    nats.await_counts([0, 0, 40 - done]).await;
    for (line, said) in [("abort", "aborted already"), ("show", "")] {
        let ran = settings.run(&format!("operations {line} {id}")).await;
        assert!((ran.code == 0) == said.is_empty() && ran.err.contains(said), "{ran:?}");
    }
    assert_eq!(settings.run(&format!("operations resume {id} --detach")).await.code, 0);
    eventually("it is done", async || show(&settings, &id).await["state"] == "done").await;
    assert_eq!(show(&settings, &id).await["redriven"], 40);
    nats.await_counts([0, 0, 0]).await;
    assert_eq!(calls(&gateway).into_values().collect::<Vec<_>>(), vec![1; 40]);
    let ran = settings.run(&format!("operations resume {id}")).await;
    assert!(ran.code == 1 && ran.err.contains("it is done"), "{ran:?}");
}

#[tokio::test]
async fn another_worker_goes_on_where_one_was_killed() {
    let gate = Latch::new();
    let (nats, gateway, settings) = house({
        let gate = gate.clone();
        move |_| Answer::ok().held_by(&gate)
    })
    .await;
    let settings = settings.set("max_inflight", 1).set("ack_wait", "2s");
    letters(&nats, "f", 300).await;
    let line = "dead-letters redrive --all --rate 60 --yes --detach --output json";
    let id = settings.run(line).await.done()["operation"].as_str().unwrap().to_owned();
    let mut worker = settings.start().await;
    // Of so many calls it is not known how they ended.
    let mut unknown = 0;
    for kills in 1..=2 {
        await_done(&settings, &id, kills * 60).await;
        worker.kill().await;
        unknown += 1 + worker.log_with("Lease lost").len();
        worker = settings.start().await;
    }
    eventually("it is done", async || show(&settings, &id).await["state"] == "done").await;
    let shown = show(&settings, &id).await;
    assert_eq!(counts(&shown), [&json!("done"), &json!(300), &json!(300), &json!(0), &json!(0)]);
    assert_eq!(nats.count(DEAD).await, 0);
    gate.open();
    nats.await_counts([0, 0, 0]).await;
    unknown += worker.log_with("Lease lost").len();
    let calls = calls(&gateway);
    let twice: usize = calls.values().map(|made| made - 1).sum();
    assert!(calls.len() == 300 && twice <= unknown, "{} calls, {twice} of them again", calls.len());
}

#[tokio::test]
async fn a_message_that_was_stored_before_its_letter_went_is_called_once() {
    let (nats, gateway, settings) = house(|_| Answer::ok()).await;
    letters(&nats, "f", 2).await;
    // As a worker leaves it that dies just then: the message is stored, the letter is there.
    let dead = nats.messages(DEAD).await.remove(0);
    let own = dead.headers.iter().filter(|(name, _)| !name.to_string().starts_with("Nats-"));
    let mut headers: HeaderMap = own.map(|(name, values)| (name.clone(), values[0].clone())).collect();
    let hop = "1000000";
    for (name, value) in [("Hop", hop), ("Redrives", "1"), ("Attempts", "0")] {
        headers.insert(format!("Queue-Worker-{name}").as_str(), value);
    }
    let id = dead.expect("Queue-Worker-Original-Id").split_once(':').unwrap().1;
    headers.insert("Nats-Msg-Id", format!("{id}.redrive.1.{}", dead.sequence).as_str());
    nats.publish_raw(&format!("{RETRIES}.due.f.{id}.{hop}"), headers, dead.payload).await;

    let _worker = settings.start().await;
    let ran = settings.run("dead-letters redrive --all --yes --output json").await.done();
    assert_eq!(ran["redriven"], 2);
    nats.await_counts([0, 0, 0]).await;
    assert_eq!(calls(&gateway).into_values().collect::<Vec<_>>(), [1, 1]);
}
