//! Accounts that may do no more than they must, and JetStream behind a leaf node.

use std::{fs, path::Path};

use async_nats::jetstream::{
    AckKind,
    consumer::pull,
    stream::{Config, RetentionPolicy},
};
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::support::{
    Answer, Call, DEAD, Gateway, Invocation, Nats, QUEUE, RETRIES, Settings, Worker, binary, eventually,
    free_port, has_schedules, refuses_to_start,
};

use Right::{Publish, Subscribe};

/// A subject that an account may use.
pub enum Right {
    Publish(&'static str),
    Subscribe(&'static str),
}

/// What a worker needs, what for, and whether it does so with `nats_manage=false`, too: the rows of the table
/// in docs/operating.md.
const RIGHTS: &[(Right, &str, bool)] = &[
    (Subscribe("{nats_inbox_prefix}.>"), "reading answers and deliveries", true),
    (Publish("$JS.API.STREAM.INFO.*"), "looking for the streams", true),
    (Publish("$JS.API.STREAM.CREATE.*"), "making those that are missing", false),
    (Publish("$JS.API.STREAM.UPDATE.*"), "schedules on, duplicate window up", false),
    (
        Publish("$JS.API.STREAM.MSG.GET.*"),
        "looking for what followed from a message, for overdue retries, and at what the client cannot read",
        true,
    ),
    (Publish("$JS.API.CONSUMER.INFO.*.*"), "looking for the consumers", true),
    (Publish("$JS.API.CONSUMER.LIST.faas-request-retries"), "looking for levels that hold something", true),
    (Publish("$JS.API.CONSUMER.DURABLE.CREATE.*.*"), "making them, and keeping their ack_wait", false),
    (Publish("$JS.API.CONSUMER.MSG.NEXT.*.*"), "pulling", true),
    (Publish("$JS.ACK.>"), "acknowledging", true),
    (Publish("faas-request-retries.>"), "parking retries", true),
    (Publish("faas-request-dead.>"), "dead letters", true),
];

/// What commands and redrives need beside, and what for: the rows of the second table there.
pub const OPERATING: &[(Right, &str)] = &[
    (
        Publish("$JS.API.CONSUMER.CREATE.faas-request-dead"),
        "reading many dead letters quickly; without it they are read one by one",
    ),
    (Publish("$JS.API.STREAM.MSG.DELETE.faas-request-dead"), "taking out what is redriven or discarded"),
    (Publish("faas-request-operations.>"), "the records of redrives, discards and pauses"),
    (
        Publish("$JS.API.STREAM.MSG.DELETE.faas-request-operations"),
        "forgetting all but the last hundred of those that ended",
    ),
    (Subscribe("faas-request-calls.running"), "being asked for the calls that run"),
    (Publish("{nats_inbox_prefix}.>"), "answering whoever asks for them"),
    (Publish("faas-request-calls.running"), "asking workers for them"),
    (Subscribe("faas-request-calls.cancelled"), "hearing at once that a call is cancelled"),
    (Publish("faas-request-calls.cancelled"), "saying so"),
    (Publish("faas-request-cancels.>"), "cancelling a call"),
    (Publish("faas-request-audit.>"), "the audit: with `audit`, and what commands did"),
    (
        Publish("$JS.API.DIRECT.GET.faas-request-audit"),
        "finding the records of a call at once; without it they are read one by one",
    ),
    (
        Publish("$JS.API.CONSUMER.CREATE.faas-request-audit"),
        "reading many records quickly; without it they are read one by one",
    ),
    (
        Publish("$JS.API.STREAM.MSG.DELETE.faas-request-retries"),
        "calling or cancelling retries before their time, with levels, and cancelling what a pause holds; \
            `queue purge`",
    ),
    (Publish("$JS.API.STREAM.MSG.DELETE.faas-request"), "`queue purge`"),
    (
        Publish("$JS.API.CONSUMER.DELETE.faas-request-retries.*"),
        "removing the places of functions that were paused, when there are 200",
    ),
    (
        Publish("$JS.API.CONSUMER.DELETE.faas-request-dead.*"),
        "ending the reading of a part of a list by the [API](#the-api); without it the reader goes by \
            itself after half a minute",
    ),
    (Publish("$JS.API.CONSUMER.DELETE.faas-request-audit.*"), "the same of the audit"),
    (Subscribe("$SRV.>"), "being listed by `nats micro`; without it the log says so once"),
];

/// The rows of the table in the documentation that begins so.
fn table(title: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operating.md");
    let document = fs::read_to_string(path).unwrap();
    let lines = document.lines().skip_while(|line| !line.starts_with(title)).skip(2);
    lines.take_while(|line| line.starts_with('|')).map(str::to_owned).collect()
}

#[test]
fn the_documentation_lists_the_rights_of_commands() {
    let expected = OPERATING.iter().map(|(right, what)| match right {
        Publish(subject) => format!("| publish | `{subject}` | {what} |"),
        Subscribe(subject) => format!("| subscribe | `{subject}` | {what} |"),
    });
    assert_eq!(table("| to | the subject of commands |"), expected.collect::<Vec<_>>());
}

#[test]
fn the_documentation_lists_the_rights() {
    let rows = table("| to | the subject |");
    let expected = RIGHTS.iter().map(|(right, what, always)| {
        let (verb, subject) = match right {
            Publish(subject) => ("publish", subject),
            Subscribe(subject) => ("subscribe", subject),
        };
        format!("| {verb} | `{subject}` | {what} | {} |", if *always { "yes" } else { "no" })
    });
    assert_eq!(rows, expected.collect::<Vec<_>>());
}

/// What the worker may do with this setting of `nats_manage`.
pub fn rights(manage: bool) -> Vec<&'static Right> {
    RIGHTS.iter().filter(|(_, _, always)| manage || *always).map(|(right, ..)| right).collect()
}

/// The subject, as the settings of these scenarios make it.
pub fn subject(right: &Right) -> String {
    let (Publish(subject) | Subscribe(subject)) = right;
    subject.replace("{nats_inbox_prefix}", "_INBOX_worker")
}

/// A broker where the user `worker` has these rights, and no others.
pub async fn restricted(rights: &[&Right]) -> Nats {
    // A list without an entry would allow everything.
    let (mut publish, mut subscribe) = (vec!["nothing".to_owned()], vec!["nothing".to_owned()]);
    for right in rights {
        match right {
            Publish(_) => publish.push(subject(right)),
            Subscribe(_) => subscribe.push(subject(right)),
        }
    }
    Nats::start_with(&format!(
        "authorization {{ users = [ {{ user: observer, password: observer }}, \
         {{ user: worker, password: secret, permissions: {{ \
         publish: {{ allow: {publish:?} }}, subscribe: {{ allow: {subscribe:?} }} }} }} ] }}"
    ))
    .await
}

fn answer(call: &Call) -> Answer {
    match call.function() {
        "flaky" => Answer::status(if call.nth == 1 { 500 } else { 200 }),
        "bad" => Answer::status(400),
        _ => Answer::ok(),
    }
}

fn settings(nats: &Nats, gateway: &Gateway) -> Settings {
    let settings =
        Worker::of(nats, gateway).set("initial_retry_wait", "1s").set("nats_inbox_prefix", "_INBOX_worker");
    settings.set("nats_user", "worker").file("nats_password_file", "secret")
}

/// Leaves something to do for every right: a stream to make and one to change, a consumer to make, and a
/// message that was delivered before.
async fn half_made(nats: &Nats) {
    nats.make_stream(Config {
        name: RETRIES.to_owned(),
        subjects: vec![format!("{RETRIES}.>")],
        retention: RetentionPolicy::WorkQueue,
        ..Default::default()
    })
    .await;
    let queue = nats.make_queue().await;
    let durable = pull::Config { durable_name: Some("faas-workers".to_owned()), ..Default::default() };
    let consumer = queue.create_consumer(durable).await.unwrap();
    delivered_before(nats, &consumer).await;
}

async fn delivered_before(nats: &Nats, consumer: &async_nats::jetstream::consumer::PullConsumer) {
    nats.publish(&Invocation::of("good").call_id("again")).await;
    let message = consumer.batch().max_messages(1).messages().await.unwrap().next().await.unwrap().unwrap();
    message.ack_with(AckKind::Nak(None)).await.unwrap();
}

/// Everything that a worker does in its life: fresh calls, a retry, a dead letter, a redelivery, a scrape, a
/// drain, a new start, a restart of the broker.
async fn live(nats: &mut Nats, gateway: &Gateway, settings: &Settings) {
    let mut worker = settings.start().await;
    for function in ["good", "flaky", "bad"] {
        nats.publish(&Invocation::of(function).call_id(function)).await;
    }
    nats.await_counts([0, 0, 1]).await;
    worker.metrics().await;
    assert_eq!(worker.drain().await, 0);

    let consumer = nats.js().get_stream(QUEUE).await.unwrap().get_consumer("faas-workers").await.unwrap();
    delivered_before(nats, &consumer).await;
    let mut worker = settings.start().await;
    nats.publish(&Invocation::of("flaky").call_id("later")).await;
    nats.await_counts([0, 1, 1]).await;
    nats.restart().await;
    nats.await_counts([0, 0, 1]).await;
    eventually("ready again", async || worker.readyz().await.is_some_and(|(status, _)| status == 200)).await;
    nats.publish(&Invocation::of("good").call_id("last")).await;
    gateway
        .await_that("the last call", |calls| {
            calls.iter().any(|call| call.id() == "last" && call.end.is_some())
        })
        .await;
    nats.await_counts([0, 0, 1]).await;
    assert_eq!(worker.drain().await, 0);
    assert!(worker.log_with("iolation").is_empty());
}

#[tokio::test]
async fn the_rights_are_enough_for_a_whole_life() {
    let mut nats = restricted(&rights(true)).await;
    let gateway = Gateway::start(answer).await;
    half_made(&nats).await;
    let settings = settings(&nats, &gateway);
    live(&mut nats, &gateway, &settings).await;
}

#[tokio::test]
async fn fewer_rights_are_enough_where_an_operator_makes_the_streams() {
    let mut nats = restricted(&rights(false)).await;
    let gateway = Gateway::start(answer).await;
    let operator =
        Worker::of(&nats, &gateway).set("nats_user", "observer").file("nats_password_file", "observer");
    assert_eq!(operator.start().await.drain().await, 0);
    let settings = settings(&nats, &gateway).set("nats_manage", "false");
    live(&mut nats, &gateway, &settings).await;
}

#[tokio::test]
async fn each_right_is_needed_and_named_when_it_is_missing() {
    for missing in rights(true) {
        let rest: Vec<_> = rights(true).into_iter().filter(|right| !std::ptr::eq(*right, missing)).collect();
        let nats = restricted(&rest).await;
        let gateway = Gateway::start(answer).await;
        half_made(&nats).await;
        // What cannot be settled for want of a right would take up the whole grace.
        let settings = settings(&nats, &gateway).set("shutdown_grace", "100ms");
        let mut worker = settings.spawn();
        for function in ["flaky", "bad"] {
            nats.publish(&Invocation::of(function).call_id(function)).await;
        }
        let missing = subject(missing);
        assert_eq!(worker.exit().await, 1, "without {missing}");
        let named = missing.trim_end_matches(['*', '>', '.']);
        let errors = worker.log_with(" error ");
        assert!(
            errors.iter().any(|line| line.contains("Permissions Violation") && line.contains(named)),
            "{missing}: {errors:?}"
        );
    }
}

#[tokio::test]
async fn what_is_missing_is_described_so_that_an_operator_can_make_it() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(answer).await;
    let settings = Worker::of(&nats, &gateway).set("nats_manage", "false").set("initial_retry_wait", "10ms");
    let streams = ["faas-request", "faas-request-retries", "faas-request-dead"];
    let streams = streams.map(|stream| (format!("STREAM.CREATE.{stream}"), format!("no stream {stream},")));
    let mut consumers = vec![(QUEUE, "faas-workers".to_owned()), (RETRIES, "due".to_owned())];
    if !nats.schedules() {
        consumers.extend((0..=16).map(|k| (RETRIES, format!("l{k}"))));
    }
    let consumers = consumers.iter().map(|(stream, consumer)| {
        (
            format!("CONSUMER.DURABLE.CREATE.{stream}.{consumer}"),
            format!("stream {stream} has no consumer {consumer},"),
        )
    });
    for (call, said) in streams.into_iter().chain(consumers) {
        let before = nats.streams().await;
        let mut worker = settings.spawn();
        let line = worker.await_log(&[" error ", &said, "nats_manage=false"]).await;
        assert_eq!(worker.exit().await, 1);
        assert_eq!(nats.streams().await, before, "something was made");

        // The operator does as told.
        let told = line.split("create it as ").nth(1).unwrap();
        let config: Value = serde_json::from_str(told).unwrap_or_else(|error| panic!("{told}: {error}"));
        let stream = call.split('.').rev().nth(1).unwrap();
        let question = if call.starts_with("CONSUMER") {
            json!({ "stream_name": stream, "config": config })
        } else {
            config
        };
        let answer =
            nats.client().request(format!("$JS.API.{call}"), question.to_string().into()).await.unwrap();
        let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
        assert!(answer["error"].is_null(), "{answer}");
    }
    let _worker = settings.start().await;
    for function in ["good", "flaky", "bad"] {
        nats.publish(&Invocation::of(function).call_id(function)).await;
    }
    gateway.await_ended(4).await;
    assert_eq!(nats.dead_letter().await.expect("Queue-Worker-Function"), "bad");
}

/// A hub with JetStream, more lines in its configuration, and what makes a broker its leaf.
async fn hub(extra: &str) -> (Nats, String) {
    let port = free_port();
    let hub =
        Nats::start_in_domain("hub", &format!("leafnodes {{ listen: \"127.0.0.1:{port}\" }}\n{extra}")).await;
    (hub, format!("leafnodes {{ remotes: [ {{ url: \"nats-leaf://127.0.0.1:{port}\" }} ] }}"))
}

/// A worker at the leaf calls what was published there, parks a retry and keeps a dead letter, all in the
/// hub's domain.
async fn works_in_the_hub(hub: &mut Nats, leaf: &Nats) {
    let gateway = Gateway::start(answer).await;
    let settings = Worker::of(leaf, &gateway)
        .set("nats_js_domain", "hub")
        .set("initial_retry_wait", "1s")
        .set("ack_wait", "2s");
    let mut worker = settings.start().await;
    assert_eq!(hub.streams().await, [QUEUE, DEAD, RETRIES]);
    for function in ["good", "flaky", "bad"] {
        leaf.client()
            .publish(QUEUE, Invocation::of(function).call_id(function).to_bytes().into())
            .await
            .unwrap();
    }
    gateway.await_ended(4).await;
    assert_eq!(hub.dead_letter().await.expect("Queue-Worker-Function"), "bad");

    hub.publish(&Invocation::of("flaky").call_id("later")).await;
    hub.await_counts([0, 1, 1]).await;
    hub.restart().await;
    gateway.await_ended(6).await;
    hub.await_counts([0, 0, 1]).await;
    let metrics = worker.metrics().await;
    assert_eq!(metrics.value("queue_worker_messages_submitted_total", &[("queue_name", QUEUE)]), 4.0);
    assert_eq!(worker.drain().await, 0);
    assert_eq!(gateway.count(), 6);
}

#[tokio::test]
async fn a_worker_at_a_leaf_works_in_the_hubs_domain() {
    let (mut hub, remote) = hub("").await;
    let leaf = Nats::start_without_jetstream_with(&remote).await;
    works_in_the_hub(&mut hub, &leaf).await;
}

#[tokio::test]
async fn a_leaf_with_a_domain_of_its_own_keeps_out_of_it() {
    let (mut hub, remote) = hub("").await;
    let leaf = Nats::start_in_domain("leaf", &remote).await;
    works_in_the_hub(&mut hub, &leaf).await;
    assert!(leaf.streams().await.is_empty());
}

#[tokio::test]
async fn acknowledgements_may_carry_their_domain() {
    if !has_schedules(binary()) {
        return refuses_to_start("feature_flags { js_ack_fc_v2: true }", "feature_flags").await;
    }
    let (mut hub, remote) = hub("feature_flags { js_ack_fc_v2: true }").await;
    let leaf = Nats::start_without_jetstream_with(&remote).await;
    let mut acks = hub.watch("$JS.ACK.hub.>").await;
    works_in_the_hub(&mut hub, &leaf).await;
    assert!(acks.next().await.subject.split('.').count() >= 11);
}

#[tokio::test]
async fn a_domain_that_is_away_is_waited_for() {
    let (mut hub, remote) = hub("").await;
    hub.kill().await;
    let leaf = Nats::start_without_jetstream_with(&remote).await;
    let gateway = Gateway::start(answer).await;
    let worker = Worker::of(&leaf, &gateway).set("nats_js_domain", "hub").spawn();
    worker.await_log(&["cannot be set up yet"]).await;
    // Longer than a server without JetStream is believed to be still starting.
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    hub.boot().await;
    worker.ready().await;
}
