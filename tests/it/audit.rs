//! The audit: what became of calls, and what operators did, as it is written and read.

use std::time::Duration;

use async_nats::HeaderMap;
use serde_json::{Value, json};

use crate::support::{Answer, Gateway, Invocation, Nats, QUEUE, Settings, Worker, eventually, eventually_is};

const AUDIT: &str = "faas-request-audit";

async fn gateway() -> Gateway {
    Gateway::start(|call| Answer::status(if call.function() == "bad" { 500 } else { 200 })).await
}

async fn items(settings: &Settings, line: &str) -> Vec<Value> {
    let ran = settings.run(&format!("{line} --output json")).await;
    if ran.code == 0 { ran.json()["items"].as_array().unwrap().clone() } else { Vec::new() }
}

async fn written(worker: &Worker) -> Option<f64> {
    worker.metrics().await.get("queue_worker_audit_records_total", &[("result", "written")])
}

#[tokio::test]
async fn the_end_of_each_call_is_a_record_with_its_attempts_and_without_what_callers_sent() {
    let (nats, gateway) = (Nats::start().await, gateway().await);
    let settings = Worker::of(&nats, &gateway).set("audit", "all");
    let settings = settings.set("initial_retry_wait", "10ms").set("max_retry_attempts", 2);
    let worker = settings.start().await;
    let invocation = Invocation::of("good").call_id("one").body(*b"hidden").header("X-Key", "hidden");
    nats.publish(&invocation).await;
    nats.publish(&Invocation::of("bad").call_id("two").header("Authorization", "hidden")).await;
    nats.publish_raw(QUEUE, HeaderMap::new(), b"no invocation".to_vec()).await;
    nats.dead_letters(2).await;
    eventually("all is written", async || items(&settings, "audit search").await.len() == 3).await;

    let [good] = &items(&settings, "audit search --call-id one").await[..] else { panic!() };
    let expected = json!({ "record": "call", "queue": QUEUE, "function": "good", "callId": "one",
        "outcome": "completed", "attemptsMade": 1, "redrives": 0 });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(good[key], *value, "{key}: {good}");
    }
    let attempt = &good["attempts"][0];
    assert_eq!((&attempt["n"], &attempt["status"]), (&json!(1), &json!(200)));
    assert!(attempt["milliseconds"].is_u64() && attempt["worker"].is_string() && attempt["at"].is_string());
    assert!(good["queueWaitMilliseconds"].is_u64() && good["originalId"].as_str().unwrap().contains(':'));

    let [bad] = &items(&settings, "audit search --outcome exhausted").await[..] else { panic!() };
    let statuses: Vec<_> = bad["attempts"].as_array().unwrap().iter().map(|one| &one["status"]).collect();
    assert_eq!((&bad["callId"], statuses), (&json!("two"), vec![&json!(500), &json!(500)]));
    assert!(bad["attempts"].as_array().unwrap().iter().all(|one| one["at"].is_string()), "{bad}");
    assert_eq!(items(&settings, "audit search --outcome undecodable").await.len(), 1);
    assert_eq!(items(&settings, "audit search --function good").await.len(), 1);
    assert_eq!(items(&settings, "audit tail --limit 2").await.len(), 2);
    let table = settings.run("audit tail").await;
    assert!(table.code == 0 && table.out.contains("completed") && table.out.contains("two"), "{table:?}");
    assert_eq!(settings.run("audit search --function nobody").await.code, 3);
    assert_eq!(settings.run("audit search --outcome exhuasted").await.code, 64);
    assert!(!format!("{good}{bad}{table:?}").contains("hidden"));

    let age = worker.metrics().await.get("queue_worker_audit_oldest_age_seconds", &[("queue_name", QUEUE)]);
    assert!(age.is_some_and(|age| age >= 0.0), "{age:?}");
    let config = nats.stream(AUDIT).await.config;
    assert_eq!((config.max_bytes, config.max_age), (1 << 30, Duration::from_secs(168 * 3600)));
}

#[tokio::test]
async fn only_failures_are_records_where_only_those_are_wanted_and_none_where_none_are() {
    let (nats, gateway) = (Nats::start().await, gateway().await);
    let settings = Worker::of(&nats, &gateway).set("max_retry_attempts", 1);
    let mut worker = settings.start().await;
    nats.publish(&Invocation::of("bad").call_id("unseen")).await;
    nats.dead_letters(1).await;
    worker.drain().await;
    let none = settings.run("audit tail").await;
    assert!(none.code == 1 && none.err.contains("audit=failures or audit=all"), "{none:?}");

    let settings = settings.set("audit", "failures");
    let mut worker = settings.start().await;
    for n in 0..3 {
        nats.publish(&Invocation::of("good").call_id(&format!("good-{n}"))).await;
    }
    nats.publish(&Invocation::of("bad").call_id("seen")).await;
    nats.dead_letters(2).await;
    // What is left in its hands is written before it ends.
    assert_eq!(worker.drain().await, 0);
    let calls: Vec<_> =
        items(&settings, "audit search").await.iter().map(|one| one["callId"].clone()).collect();
    assert_eq!(calls, [json!("seen")]);
}

#[tokio::test]
async fn what_operators_do_is_a_record() {
    let (nats, gateway) = (Nats::start().await, gateway().await);
    let settings = Worker::of(&nats, &gateway).set("audit", "failures").set("max_retry_attempts", 1);
    let _worker = settings.start().await;
    for n in 0..3 {
        nats.publish(&Invocation::of("bad").call_id(&format!("{n}"))).await;
    }
    nats.dead_letters(3).await;
    let words =
        ["dead-letters", "discard", "--function", "bad", "--yes", "--reason", "old ones", "--output", "json"];
    let done = settings.run_words(&words).await.done();
    let [action] = &items(&settings, "audit search --action discard").await[..] else { panic!() };
    assert_eq!(action["operation"], done["operation"]);
    assert_eq!((&action["count"], &action["reason"]), (&json!(3), &json!("old ones")));
    assert_eq!(action["filter"], json!({ "function": "bad" }));
    assert!(action["by"].as_str().is_some_and(|by| !by.is_empty()), "{action}");
    let table = settings.run("audit search --action any").await;
    for said in ["3 meant, waiting, old ones, --function bad", "3 done, done, old ones, --function bad"] {
        assert!(table.out.contains(said), "{table:?}");
    }
    let by = action["by"].as_str().unwrap();
    assert_eq!(items(&settings, &format!("audit search --by {by} --action discard")).await.len(), 1);
}

#[tokio::test]
async fn an_audit_that_takes_nothing_stops_no_call_and_is_counted() {
    let (nats, gateway) = (Nats::start().await, gateway().await);
    let settings = Worker::of(&nats, &gateway).set("audit", "all");
    let mut worker = settings.start().await;
    eventually("the stream is made", async || nats.streams().await.contains(&AUDIT.to_owned())).await;
    // Somebody's hands: a stream that takes no message as large as a record.
    let mut config = nats.stream(AUDIT).await.config;
    config.max_message_size = 1;
    nats.js().update_stream(&config).await.unwrap();
    for n in 0..20 {
        nats.publish(&Invocation::of("good").call_id(&format!("{n}"))).await;
    }
    eventually_is("all are dropped", Some(20.0), async || {
        worker.metrics().await.get("queue_worker_audit_records_total", &[("result", "dropped")])
    })
    .await;
    assert_eq!(gateway.calls().len(), 20);
    nats.js().delete_stream(AUDIT).await.unwrap();
    for n in 20..40 {
        nats.publish(&Invocation::of("good").call_id(&format!("{n}"))).await;
    }
    eventually("calls go on", async || gateway.calls().len() == 40).await;
    assert_eq!(worker.drain().await, 0);
    let told = worker.log_with("the audit is not written").len();
    assert!((1..=2).contains(&told), "{told}");
}

#[tokio::test]
async fn records_wait_for_a_broker_that_is_away() {
    let (mut nats, gateway) = (Nats::start().await, gateway().await);
    let settings = Worker::of(&nats, &gateway).set("audit", "all");
    let worker = settings.start().await;
    nats.publish(&Invocation::of("good").call_id("before")).await;
    eventually_is("it is written", Some(1.0), async || written(&worker).await).await;
    nats.restart().await;
    nats.publish(&Invocation::of("good").call_id("after")).await;
    eventually_is("both are written", Some(2.0), async || written(&worker).await).await;
    assert_eq!(items(&settings, "audit search").await.len(), 2);
}
