//! A function's answer and the infrastructure's: each is played to a worker as its producer writes it.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use async_nats::HeaderMap;

use crate::support::{Answer, Call, Gateway, Invocation, Nats, RETRIES, Worker};

type Played = fn() -> Answer;

fn served(status: u16) -> Answer {
    Answer::status(status)
        .header("X-Start-Time", "1795303291416000271")
        .header("X-Served-By", "openfaas-ce/0.27.12")
}

fn internal(status: u16, by: &str, body: &str) -> Answer {
    served(status)
        .header("X-OpenFaaS-Internal", by)
        .header("Content-Type", "text/plain")
        .body(body.to_owned())
}

fn missing(status: u16) -> Answer {
    let body = "error finding function f.openfaas-fn: Get \"http://127.0.0.1:8081/system/function/f\": \
        connection refused";
    Answer::status(status).header("Content-Type", "text/plain; charset=utf-8").body(body)
}

/// What follows an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// It is called again.
    Retried,
    /// It is a dead letter.
    Refused,
    /// That was all.
    Done,
}
use Fate::{Done, Refused, Retried};

/// Each producer's first answer, what follows it by default, and what follows where its status is not among
/// the codes.
const PRODUCERS: &[(&str, Played, Fate, Fate)] = &[
    ("gateway-time-limit", || served(502), Retried, Refused),
    ("gateway-cannot-ask", || missing(404), Retried, Retried),
    ("gateway-cannot-scale", || missing(500), Retried, Refused),
    ("gateway-gave-up-scaling", || Answer::status(200), Done, Done),
    ("provider-no-endpoints", || internal(503, "proxy", "No endpoints available for: f."), Retried, Retried),
    ("provider-no-answer", || internal(500, "proxy", "Can't reach service for: f."), Retried, Retried),
    ("provider-no-address", || internal(500, "proxy", "Failed to resolve service: f."), Retried, Retried),
    (
        "provider-bad-path",
        || internal(400, "proxy", "Provide function name in the request path"),
        Refused,
        Refused,
    ),
    (
        "watchdog-full",
        || internal(429, "faas-middleware", "Concurrent request limit exceeded. Max concurrent requests: 1"),
        Retried,
        Retried,
    ),
    ("watchdog-out-of-time", || internal(504, "of-watchdog", ""), Retried, Retried),
    ("watchdog-crashed", || internal(500, "of-watchdog", ""), Retried, Retried),
    ("watchdog-no-token", || internal(401, "faas-middleware", ""), Refused, Refused),
    ("watchdog-bad-token", || internal(403, "faas-middleware", ""), Refused, Refused),
    ("function-429", || served(429), Retried, Refused),
    ("function-500", || served(500), Retried, Refused),
    ("function-503", || served(503).body("No endpoints available for: f."), Refused, Refused),
    ("function-504", || served(504), Retried, Refused),
    ("function-401", || served(401), Refused, Refused),
    ("function-404", || missing(404).header("X-Served-By", "openfaas-ce/0.27.12"), Refused, Refused),
    ("function-302", || served(302).header("Location", "/function/function-200"), Refused, Refused),
    ("function-200", || served(200), Done, Done),
];

/// What became of one message of each producer: its calls, and the cause of its dead letter.
async fn fates(codes: &str) -> BTreeMap<String, (usize, Option<String>)> {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|call| match PRODUCERS.iter().find(|(name, ..)| *name == call.function()) {
        Some((_, played, ..)) if call.nth == 1 => played(),
        _ => Answer::ok(),
    })
    .await;
    let settings =
        Worker::of(&nats, &gateway).set("initial_retry_wait", "10ms").set("http_retry_codes", codes);
    let _worker = settings.start().await;
    nats.publish_all(PRODUCERS.iter().map(|(name, ..)| Invocation::of(name).call_id(name))).await;
    gateway
        .await_that("a call of each", |calls| {
            PRODUCERS.iter().all(|(name, ..)| calls.iter().any(|call| call.id() == *name))
        })
        .await;
    let refused = PRODUCERS.iter().filter(|(_, _, by_default, by_choice)| {
        Refused == if codes == "418" { *by_choice } else { *by_default }
    });
    let dead = nats.dead_letters(refused.count() as u64).await;
    let cause = |name: &str| {
        let dead = dead.iter().find(|dead| dead.expect("Queue-Worker-Function") == name)?;
        Some(dead.expect("Queue-Worker-Cause").to_owned())
    };
    PRODUCERS
        .iter()
        .map(|(name, ..)| ((*name).to_owned(), (gateway.calls_of(name).len(), cause(name))))
        .collect()
}

fn expected(fate: Fate) -> (usize, Option<String>) {
    match fate {
        Retried => (2, None),
        Refused => (1, Some("refused".to_owned())),
        Done => (1, None),
    }
}

#[tokio::test]
async fn every_producer_of_a_status_is_told_apart() {
    let fates = fates("429,502,500,504,408").await;
    for (name, _, fate, _) in PRODUCERS {
        assert_eq!(fates[*name], expected(*fate), "{name}");
    }
}

#[tokio::test]
async fn the_codes_are_about_functions_and_not_about_the_platform() {
    let fates = fates("418").await;
    for (name, _, _, fate) in PRODUCERS {
        assert_eq!(fates[*name], expected(*fate), "{name}");
    }
}

#[tokio::test]
async fn no_message_is_lost_to_a_provider_that_is_away_for_a_while() {
    const MESSAGES: usize = 20;
    const TRIES: usize = 4;
    let nats = Nats::start().await;
    // It stays away until it was asked so often for every message, and while it is away the gateway says now
    // this, now that.
    let tries = std::sync::Mutex::new(BTreeMap::<String, usize>::new());
    let gateway = Gateway::start(move |call: &Call| {
        let mut tries = tries.lock().unwrap();
        if tries.len() == MESSAGES && tries.values().all(|tried| *tried >= TRIES) {
            return Answer::ok();
        }
        *tries.entry(call.id().to_owned()).or_default() += 1;
        match call.nth % 4 {
            1 => missing(404),
            2 => served(502),
            3 => missing(500),
            _ => Answer::hang_up(),
        }
    })
    .await;
    let worker = Worker::of(&nats, &gateway).set("initial_retry_wait", "50ms").start().await;
    nats.publish_all((0..MESSAGES).map(|n| Invocation::of("f").call_id(&n.to_string()))).await;
    gateway
        .await_that("a success of each", |calls| {
            (0..MESSAGES).all(|n| calls.iter().filter(|call| call.id() == n.to_string()).count() > TRIES)
        })
        .await;
    nats.await_counts([0, 0, 0]).await;
    let metrics = worker.metrics().await;
    assert_eq!(metrics.get("queue_worker_dead_letters_total", &[]), None);
    assert_eq!(metrics.value("queue_worker_attempts_total", &[("outcome", "success")]), 20.0);
}

/// What a worker does with a retry of long ago, of which five attempts were made, when the gateway does not
/// find its function once, and then does.
async fn check_old(not_found: Option<(u32, Duration)>, calls: usize, cause: Option<&str>) {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|call| if call.nth == 1 { missing(404) } else { Answer::ok() }).await;
    let _worker = Worker::of(&nats, &gateway).set("initial_retry_wait", "1ms").start().await;
    let ago = |time: Duration| humantime::format_rfc3339_nanos(SystemTime::now() - time).to_string();
    let mut headers = HeaderMap::new();
    headers.insert("Queue-Worker-Attempts", "5");
    headers.insert("Queue-Worker-First-Seen", ago(Duration::from_secs(3600)));
    if let Some((attempts, since)) = not_found {
        headers.insert("Queue-Worker-Not-Found", format!("{attempts}:{}", ago(since)));
    }
    nats.publish_raw(
        &format!("{RETRIES}.due.f.7-abc.5"),
        headers,
        Invocation::of("f").call_id("a").to_bytes(),
    )
    .await;
    gateway.await_calls(calls).await;
    let dead = nats.dead_letters(cause.iter().count() as u64).await;
    assert_eq!(dead.first().map(|dead| dead.expect("Queue-Worker-Cause")), cause, "{not_found:?}");
    assert_eq!(gateway.count(), calls, "{not_found:?}");
}

#[tokio::test]
async fn only_a_function_that_stays_missing_is_given_up() {
    // However old a message is and however often it failed otherwise, the provider may have gone this moment.
    check_old(None, 2, None).await;
    check_old(Some((4, Duration::from_secs(60))), 2, None).await;
    check_old(Some((3, Duration::from_secs(180))), 2, None).await;
    check_old(Some((4, Duration::from_secs(180))), 1, Some("refused")).await;
}
