//! How redriven calls end: canaries, other functions, callbacks, and accounts with few rights.

use serde_json::json;

use super::{calls, counts, house, letter, letters, show};
use crate::{
    rights::{OPERATING, restricted, rights},
    support::{Answer, DEAD, Gateway, Invocation, Worker, eventually},
};

#[tokio::test]
async fn canaries_that_die_stop_the_others() {
    let (nats, gateway, settings) = house(|_| Answer::status(400)).await;
    letters(&nats, "f", 1_000).await;
    let _worker = settings.start().await;
    let line = "dead-letters redrive --all --canary 10 --require 90 --yes --output json";
    let ran = settings.run(line).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    let stopped = ran.json();
    assert_eq!(counts(&stopped), [&json!("stopped"), &json!(1_000), &json!(10), &json!(0), &json!(0)]);
    assert!(ran.err.contains("of 10 canaries 0 succeeded, and 90 % had to"), "{ran:?}");
    assert_eq!(gateway.count(), 10);
    let dead = nats.dead_letters(1_000).await;
    let redriven: Vec<_> = dead.iter().filter_map(|letter| letter.header("Queue-Worker-Redrives")).collect();
    assert_eq!(redriven, ["1"; 10]);
}

#[tokio::test]
async fn canaries_that_succeed_let_the_others_follow() {
    // The second attempt succeeds, so that a canary is awaited while it is parked.
    let (nats, gateway, settings) = house(|call| Answer::status(if call.nth == 1 { 500 } else { 200 })).await;
    let settings = settings.set("initial_retry_wait", "1s");
    letters(&nats, "f", 12).await;
    let _worker = settings.start().await;
    let line = "dead-letters redrive --all --canary 3 --yes --output json";
    let ran = settings.run(line).await.done();
    assert_eq!(counts(&ran), [&json!("done"), &json!(12), &json!(12), &json!(0), &json!(0)]);
    nats.await_counts([0, 0, 0]).await;
    let made = calls(&gateway);
    assert_eq!((made.len(), made.values().sum::<usize>()), (12, 24));
    let ends: Vec<_> = gateway.calls().iter().map(|call| call.id().to_owned()).collect();
    let mut canaries = ends[..6].to_vec();
    canaries.sort();
    canaries.dedup();
    assert_eq!(canaries, ["f-0", "f-1", "f-2"], "{ends:?}");
}

#[tokio::test]
async fn letters_may_go_to_another_function() {
    let (nats, gateway, settings) = house(|_| Answer::ok()).await;
    let invocation = Invocation::of("f").path("/p").body(*b"body").header("X-Seen", "yes");
    letter(&nats, "f", 0, &[], &invocation).await;
    letter(&nats, "_undecodable", 1, &[("Cause", "undecodable")], &Invocation::of("../f")).await;
    nats.publish_raw(&format!("{DEAD}.f"), async_nats::HeaderMap::new(), "garbage").await;
    let _worker = settings.start().await;
    let ran = settings.run("dead-letters redrive --all --to g.ns --yes --output json").await.done();
    assert_eq!(counts(&ran), [&json!("done"), &json!(3), &json!(2), &json!(1), &json!(0)]);
    let mut made: Vec<_> = gateway.await_ended(2).await.iter().map(|call| call.target().to_owned()).collect();
    made.sort();
    assert_eq!(made, ["/function/g.ns", "/function/g.ns/p"]);
    let call = gateway.calls().into_iter().find(|call| call.id() == "f-0").unwrap();
    assert_eq!((call.header("x-seen"), &*call.request.body), (Some("yes"), &b"body"[..]));
    nats.await_counts([0, 0, 1]).await;
}

#[tokio::test]
async fn a_call_and_its_callback_that_died_go_their_own_ways() {
    let (nats, gateway, settings) = house(|_| Answer::status(500)).await;
    let receiver = Gateway::start(|call| Answer::status(if call.nth == 1 { 400 } else { 200 })).await;
    let settings = settings.set("initial_retry_wait", "10ms").set("max_retry_attempts", 3);
    let _worker = settings.start().await;
    nats.publish(&Invocation::of("f").call_id("a").callback(&receiver.url())).await;
    let dead = nats.dead_letters(2).await;
    let causes: Vec<_> = dead.iter().map(|letter| letter.expect("Queue-Worker-Cause")).collect();
    assert_eq!(causes, ["exhausted", "callback"]);
    let ran = settings.run("dead-letters redrive --all --yes --output json").await.done();
    assert_eq!(counts(&ran), [&json!("done"), &json!(2), &json!(2), &json!(0), &json!(0)]);
    // The callback is posted; the call fails thrice more, and has a callback of its own.
    let posts = receiver.await_ended(3).await;
    let attempts: Vec<_> = posts.iter().map(|post| post.header("x-function-status")).collect();
    assert_eq!((attempts, gateway.count()), (vec![Some("500"); 3], 6));
    let dead = nats.dead_letters(1).await;
    assert_eq!(dead[0].expect("Queue-Worker-Cause"), "exhausted");
    assert_eq!(dead[0].expect("Queue-Worker-Redrives"), "1");
}

#[tokio::test]
async fn a_worker_without_the_rights_for_operations_serves_its_queue() {
    let nats = restricted(&rights(true)).await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let settings = Worker::of(&nats, &gateway).set("nats_inbox_prefix", "_INBOX_worker");
    let operator =
        Worker::of(&nats, &gateway).set("nats_user", "observer").file("nats_password_file", "observer");
    let settings = settings.set("nats_user", "worker").file("nats_password_file", "secret");
    let worker = settings.start().await;
    letters(&nats, "f", 3).await;
    // Without a right to a consumer they are read one by one.
    let listed = settings.run("dead-letters list --output json").await.done();
    assert_eq!(listed["items"].as_array().unwrap().len(), 3);
    let line = "dead-letters redrive --all --yes --detach --output json";
    let id = operator.run(line).await.done()["operation"].as_str().unwrap().to_owned();
    worker.await_log(&["warn", "an operation cannot be taken up"]).await;
    nats.publish(&Invocation::of("f").call_id("fresh")).await;
    gateway.await_that("fresh", |calls| calls.iter().any(|call| call.id() == "fresh")).await;
    assert_eq!(worker.readyz().await.map(|(status, _)| status), Some(200));
    nats.await_counts([0, 0, 3]).await;
    // One that has them goes on.
    let _other = operator.start().await;
    eventually("it is done", async || show(&operator, &id).await["state"] == "done").await;
    nats.await_counts([0, 0, 0]).await;
}

#[tokio::test]
async fn the_listed_rights_are_enough_for_everything_that_operators_do() {
    let all: Vec<_> = rights(true).into_iter().chain(OPERATING.iter().map(|(right, _)| right)).collect();
    let nats = restricted(&all).await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let settings = Worker::of(&nats, &gateway).set("nats_inbox_prefix", "_INBOX_worker");
    let settings = settings.set("nats_user", "worker").file("nats_password_file", "secret");
    let worker = settings.start().await;
    letters(&nats, "f", 3).await;
    letters(&nats, "g", 3).await;
    assert_eq!(settings.run("dead-letters list").await.code, 0);
    let ran = settings.run("dead-letters redrive --function f --canary 1 --yes --output json").await.done();
    assert_eq!(ran["redriven"], 3);
    let ran = settings.run("dead-letters discard --function g --yes --output json").await.done();
    assert_eq!((&ran["state"], &ran["discarded"]), (&json!("done"), &json!(3)));
    nats.await_counts([0, 0, 0]).await;
    let (code, text) = settings.doctor(&[]).await;
    assert!(code == 0 && text.contains("there, and may be written"), "{text}");
    assert!(worker.log_with("iolation").is_empty());
}
