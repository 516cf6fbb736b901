//! Where a message carries no annotations, the gateway is asked for the function's. Whatever it answers,
//! calls go on.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{Answer, Call, Door, Gateway, Invocation, Latch, Nats, Scratch, Worker, eventually};

/// What asking for `f` looks like.
const ASKED: &str = "GET /system/function/f HTTP/1.1";
/// No call waits longer for a look-up. Half a second is promised; the rest is a busy machine's.
const LIMIT: Duration = Duration::from_secs(5);

fn is_question(call: &Call) -> bool {
    call.target().contains("/system/")
}

/// How the gateway tells that a function is tried so often.
fn described(attempts: &str) -> Answer {
    let annotations = json!({"com.openfaas.retry.attempts": attempts, "com.openfaas.queue": "slow"});
    description(&json!({"name": "f", "image": "x", "namespace": "openfaas-fn", "annotations": annotations,
            "labels": {}}))
}

fn description(status: &Value) -> Answer {
    Answer::ok().header("Content-Type", "application/json").body(status.to_string())
}

/// A gateway whose functions all fail, and that answers questions by this script.
async fn failing(questions: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Gateway {
    Gateway::start(move |call| if is_question(call) { questions(call) } else { Answer::status(500) }).await
}

/// A worker that asks, for messages that are tried three times unless something else is known.
async fn asking(nats: &Nats, gateway: &Gateway) -> Worker {
    let settings = Worker::of(nats, gateway).set("initial_retry_wait", "10ms").set("max_retry_attempts", 3);
    settings.set("function_lookup", true).set("function_lookup_ttl", "1h").start().await
}

/// The `X-Retry-Max` of the first call with this id, once it is there.
async fn retry_max(gateway: &Gateway, id: &str) -> String {
    let calls =
        gateway.await_that(&format!("a call {id}"), |calls| calls.iter().any(|call| call.id() == id)).await;
    let call = calls.into_iter().find(|call| call.id() == id).unwrap();
    call.header("x-retry-max").unwrap().to_owned()
}

fn questions(gateway: &Gateway) -> Vec<Call> {
    gateway.calls().into_iter().filter(is_question).collect()
}

/// `f` is tried three times, because nothing was learned from this answer.
async fn check_useless(answer: fn(&Call) -> Answer, result: &str) {
    let nats = Nats::start().await;
    let gateway = failing(answer).await;
    let worker = asking(&nats, &gateway).await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    assert_eq!(nats.dead_letter().await.expect("Queue-Worker-Attempts"), "3");
    // Also what is useless is remembered.
    assert_eq!(questions(&gateway).len(), 1, "{result}");
    assert_eq!(
        worker.metrics().await.value("queue_worker_function_lookups_total", &[("result", result)]),
        1.0
    );
    let said = worker.log_with("Look-ups of functions fail").len();
    assert_eq!(said, usize::from(result == "failed"));
}

#[tokio::test]
async fn a_functions_annotations_hold_where_the_message_carries_none() {
    let nats = Nats::start().await;
    let gateway = failing(|_| described("2")).await;
    let worker = asking(&nats, &gateway).await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    assert_eq!(nats.dead_letter().await.expect("Queue-Worker-Attempts"), "2");
    for (field, value) in [("Annotations", Value::Null), ("Annotations", json!({}))] {
        nats.publish(&Invocation::of("f").call_id("b").field(field, value)).await;
    }
    for dead in nats.dead_letters(3).await {
        assert_eq!(
            (dead.expect("Queue-Worker-Attempts"), dead.expect("Queue-Worker-Cause")),
            ("2", "exhausted")
        );
    }
    let questions = questions(&gateway);
    assert_eq!(questions.iter().map(|call| call.request.start.as_str()).collect::<Vec<_>>(), [ASKED]);
    assert_eq!(questions[0].header("authorization"), None);
    assert_eq!(
        worker.metrics().await.value("queue_worker_function_lookups_total", &[("result", "found")]),
        1.0
    );
}

#[tokio::test]
async fn the_messages_own_annotations_win_and_nobody_is_asked() {
    let nats = Nats::start().await;
    let gateway = failing(|_| described("2")).await;
    let _worker = asking(&nats, &gateway).await;
    nats.publish(&Invocation::of("f").call_id("a").retry_annotation("attempts", "4")).await;
    assert_eq!(nats.dead_letter().await.expect("Queue-Worker-Attempts"), "4");
    // Whoever sends one annotation would have sent the others too.
    nats.publish(
        &Invocation::of("f").call_id("b").field("Annotations", json!({"com.openfaas.queue": "slow"})),
    )
    .await;
    nats.dead_letters(2).await;
    assert_eq!((gateway.calls_of("b").len(), questions(&gateway).len()), (3, 0));
}

#[tokio::test]
async fn nobody_is_asked_unless_the_settings_speak_of_a_gateway_that_sends_no_annotations() {
    let nats = Nats::start().await;
    let gateway = failing(|_| described("1")).await;
    let settings = Worker::of(&nats, &gateway).set("initial_retry_wait", "10ms").set("max_retry_attempts", 3);
    for (n, (more, expected)) in [
        (vec![], "2"),
        (vec![("faas_nats_cluster_name", "c")], "0"),
        (vec![("basic_auth", "true"), ("function_lookup", "false")], "2"),
    ]
    .into_iter()
    .enumerate()
    {
        let settings =
            more.iter().fold(settings.clone(), |settings, (name, value)| settings.set(name, value));
        let mut worker = settings.start().await;
        let id = format!("call-{n}");
        nats.publish(&Invocation::of("f").call_id(&id)).await;
        assert_eq!(retry_max(&gateway, &id).await, expected, "{more:?}");
        assert_eq!(worker.drain().await, 0);
    }
}

#[tokio::test]
async fn a_namespace_goes_into_the_question_and_the_login_too() {
    let nats = Nats::start().await;
    let expected = format!("Basic {}", BASE64_STANDARD.encode("admin:s3cret-pass"));
    let gateway = failing(move |call| {
        let allowed = call.header("authorization") == Some(&expected);
        if allowed { described("1") } else { Answer::status(401) }
    })
    .await;
    let settings = Worker::of(&nats, &gateway)
        .login("admin", "s3cret-pass\n")
        .set("debug", true)
        .set("RUST_LOG", "trace");
    let worker = settings.start().await;
    nats.publish(&Invocation::of("a.b.dev").call_id("a")).await;
    assert_eq!(nats.dead_letter().await.expect("Queue-Worker-Attempts"), "1");
    let question = questions(&gateway).remove(0);
    assert_eq!(question.target(), "/system/function/a.b?namespace=dev");
    // The function itself is called without the worker's login.
    assert_eq!(gateway.calls_of("a")[0].header("authorization"), None);
    for secret in ["s3cret-pass", &BASE64_STANDARD.encode("admin:s3cret-pass")] {
        assert_eq!(worker.log_with(secret), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_login_that_cannot_be_read_is_warned_about_and_done_without() {
    let nats = Nats::start().await;
    let gateway = failing(|_| described("1")).await;
    let settings =
        Worker::of(&nats, &gateway).set("basic_auth", true).set("secret_mount_path", "/nowhere/at-all");
    let worker = settings.start().await;
    worker.await_log(&["warn", "/nowhere/at-all", "without a login"]).await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    assert_eq!(nats.dead_letter().await.expect("Queue-Worker-Attempts"), "1");
}

#[tokio::test]
async fn an_answer_without_annotations_leaves_the_workers_policy() {
    check_useless(|_| Answer::status(404), "not_found").await;
    check_useless(|_| description(&json!({"name": "f", "annotations": null})), "found").await;
}

#[tokio::test]
async fn an_answer_that_is_none_leaves_the_workers_policy() {
    check_useless(|_| Answer::status(401), "failed").await;
    check_useless(|_| Answer::status(502), "failed").await;
    check_useless(|_| Answer::status(302).header("Location", "/system/function/g"), "failed").await;
    check_useless(|_| Answer::ok().body("<html>"), "failed").await;
    check_useless(|_| Answer::hang_up(), "failed").await;
    check_useless(|_| described("1").broken_off(), "failed").await;
    let huge = |_: &Call| {
        description(
            &json!({"filler": "x".repeat(1 << 20), "annotations": {"com.openfaas.retry.attempts": "1"}}),
        )
    };
    check_useless(huge, "failed").await;
}

#[tokio::test]
async fn a_function_is_asked_for_once_however_many_wait() {
    let nats = Nats::start().await;
    let asked = Latch::new();
    let held = asked.clone();
    let gateway = failing(move |_| described("1").held_by(&held)).await;
    nats.make_queue().await;
    nats.publish_all((0..50).map(|n| Invocation::of("f").call_id(&n.to_string()))).await;
    let _worker = asking(&nats, &gateway).await;
    gateway.await_that("a question", |calls| calls.iter().any(is_question)).await;
    asked.open();
    nats.await_counts([0, 0, 50]).await;
    assert_eq!(questions(&gateway).len(), 1);
}

#[tokio::test]
async fn a_gateway_that_does_not_answer_holds_nobody_up_for_long() {
    let nats = Nats::start().await;
    let gateway = failing(|_| Answer::silence()).await;
    let _worker = asking(&nats, &gateway).await;
    let began = Instant::now();
    nats.publish(&Invocation::of("f").call_id("a")).await;
    assert_eq!(retry_max(&gateway, "a").await, "2");
    // While that look-up is still under way, the next call does not even wait for it.
    nats.publish(&Invocation::of("f").call_id("b")).await;
    assert_eq!(retry_max(&gateway, "b").await, "2");
    assert!(began.elapsed() < LIMIT, "{:?}", began.elapsed());
    nats.await_counts([0, 0, 2]).await;
}

#[tokio::test]
async fn what_is_learned_too_late_for_one_call_serves_the_next() {
    let nats = Nats::start().await;
    let answered = Latch::new();
    let held = answered.clone();
    let gateway = failing(move |_| described("1").held_by(&held)).await;
    let worker = asking(&nats, &gateway).await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    assert_eq!(retry_max(&gateway, "a").await, "2");
    answered.open();
    let learned = [("result", "found")];
    eventually("it is learned", async || {
        worker.metrics().await.get("queue_worker_function_lookups_total", &learned) == Some(1.0)
    })
    .await;
    nats.publish(&Invocation::of("f").call_id("b")).await;
    assert_eq!(retry_max(&gateway, "b").await, "0");
}

#[tokio::test]
async fn an_answer_that_is_too_old_is_asked_for_again() {
    let nats = Nats::start().await;
    let gateway = failing(|call| described(if call.nth == 1 { "1" } else { "7" })).await;
    let _worker = Worker::of(&nats, &gateway)
        .set("function_lookup", true)
        .set("function_lookup_ttl", "200ms")
        .start()
        .await;
    let mut calls = 0;
    eventually("the new annotation holds", async || {
        calls += 1;
        let id = format!("call-{calls}");
        nats.publish(&Invocation::of("f").call_id(&id)).await;
        retry_max(&gateway, &id).await == "6"
    })
    .await;
    assert_eq!(retry_max(&gateway, "call-1").await, "0");
}

#[tokio::test]
async fn an_answer_that_is_too_old_is_used_while_the_gateway_fails() {
    let nats = Nats::start().await;
    // It knows the function, then fails three times in three ways, then says something new.
    let gateway = failing(|call| match call.nth {
        1 => described("4"),
        2 => Answer::status(500),
        3 => Answer::hang_up(),
        4 => Answer::silence(),
        _ => described("9"),
    })
    .await;
    let settings =
        Worker::of(&nats, &gateway).set("function_lookup", true).set("function_lookup_ttl", "200ms");
    let worker = settings.set("initial_retry_wait", "1h").start().await;
    let mut seen = Vec::new();
    eventually("the new annotation holds", async || {
        let id = format!("call-{}", seen.len());
        nats.publish(&Invocation::of("f").call_id(&id)).await;
        seen.push(retry_max(&gateway, &id).await);
        seen.last().is_some_and(|last| last == "8")
    })
    .await;
    let old = seen.len() - 1;
    assert!(old > 3 && seen[..old].iter().all(|seen| seen == "3"), "{seen:?}");
    assert_eq!(nats.counts().await[2], 0, "none was refused");
    assert_eq!(worker.log_with("Look-ups of functions fail").len(), 1);
    worker.await_log(&["info", "Look-ups of functions work again"]).await;
}

#[tokio::test]
async fn a_callback_waits_as_the_function_asks_though_its_message_says_nothing() {
    let nats = Nats::start().await;
    let annotations = json!({"com.openfaas.retry.min_wait": "10ms", "com.openfaas.retry.attempts": "7"});
    let gateway = Gateway::start(move |call| match is_question(call) {
        true => description(&json!({"name": "f", "annotations": annotations})),
        false => Answer::ok(),
    })
    .await;
    let receiver = Gateway::start(|call| Answer::status(if call.nth == 1 { 500 } else { 200 })).await;
    let settings = Worker::of(&nats, &gateway).set("initial_retry_wait", "1h").set("max_retry_wait", "1h");
    let _worker = settings.set("function_lookup", true).start().await;
    nats.publish(&Invocation::of("f").call_id("a").callback(&receiver.url())).await;
    let posts = receiver.await_calls(2).await;
    assert_eq!(posts.iter().map(|post| post.header("x-retry-max")).collect::<Vec<_>>(), [Some("6"); 2]);
    nats.await_counts([0, 0, 0]).await;
}

#[tokio::test]
async fn the_api_asks_about_a_function_for_those_who_have_a_token_only() {
    let nats = Nats::start().await;
    let gateway = failing(|_| described("2")).await;
    let scratch = Scratch::new();
    let bare = Worker::of(&nats, &gateway).set("max_retry_attempts", 3).set("function_lookup", true);
    let with_token = bare.clone().set("api_token_file", scratch.write("tokens", "t").display());
    for (settings, attempts, asked) in [(bare, 3, 0), (with_token, 2, 1)] {
        let (door, settings) = Door::to_api(settings);
        let _worker = settings.start().await;
        let token = [("Authorization", "Bearer t")];
        let policy = door.ask("GET", "/api/v1/policy/f", &token, b"").await.json();
        assert_eq!((&policy["maxAttempts"], questions(&gateway).len()), (&json!(attempts), asked));
    }
}
