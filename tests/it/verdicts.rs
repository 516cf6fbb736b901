//! Which answers are retried, which are not, and when.

use std::time::{Duration, SystemTime};

use crate::support::{Answer, Call, DEAD, End, Gateway, Invocation, Nats, Worker, eventually};

/// The first call of each function gets this answer and every later one a success; what became of it is
/// returned.
async fn check(
    first: fn(&Call) -> Answer,
    settings: &[(&str, &str)],
    invocation: Invocation,
) -> (usize, Option<String>) {
    let nats = Nats::start().await;
    let gateway = Gateway::start(move |call| if call.nth == 1 { first(call) } else { Answer::ok() }).await;
    let worker = Worker::of(&nats, &gateway).set("initial_retry_wait", "10ms");
    let worker = settings.iter().fold(worker, |worker, (name, value)| worker.set(name, value));
    let _worker = worker.start().await;
    nats.publish(&invocation).await;
    gateway.await_ended(1).await;
    eventually("the invocation ends", async || {
        let [queued, parked, _] = nats.counts().await;
        queued + parked == 0
    })
    .await;
    let dead = if nats.count(DEAD).await == 0 { None } else { Some(nats.dead_letter().await) };
    (gateway.count(), dead.map(|dead| dead.expect("Queue-Worker-Cause").to_owned()))
}

fn refused() -> (usize, Option<String>) {
    (1, Some("refused".to_owned()))
}

fn retried() -> (usize, Option<String>) {
    (2, None)
}

#[tokio::test]
async fn a_client_error_is_refused_at_once() {
    assert_eq!(check(|_| Answer::status(400), &[], Invocation::of("f")).await, refused());
}

#[tokio::test]
async fn the_retry_codes_are_the_operators_choice() {
    let codes = &[("http_retry_codes", "418, 420-422")];
    assert_eq!(check(|_| Answer::status(421), codes, Invocation::of("f")).await, retried());
    assert_eq!(check(|_| Answer::status(500), codes, Invocation::of("f")).await, refused());
}

#[tokio::test]
async fn an_internal_error_of_the_platform_is_retried_whatever_the_codes_say() {
    let codes = &[("http_retry_codes", "418")];
    let internal = |_: &Call| Answer::status(500).header("X-OpenFaaS-Internal", "proxy");
    assert_eq!(check(internal, codes, Invocation::of("f")).await, retried());
    let unauthorized = |_: &Call| Answer::status(401).header("X-OpenFaaS-Internal", "faas-middleware");
    assert_eq!(check(unauthorized, codes, Invocation::of("f")).await, refused());
}

#[tokio::test]
async fn a_redirect_is_refused_and_not_followed() {
    let away = |_: &Call| Answer::status(307).header("Location", "/function/g");
    assert_eq!(check(away, &[], Invocation::of("f")).await, refused());
}

#[tokio::test]
async fn the_gateways_own_404_is_retried_and_a_functions_is_not() {
    let gateways = |_: &Call| Answer::status(404).body("error finding function f.openfaas-fn: not found");
    assert_eq!(check(gateways, &[], Invocation::of("f")).await, retried());
    let functions = |_: &Call| Answer::status(404).header("X-Call-Id", "a").body("error finding function f");
    assert_eq!(check(functions, &[], Invocation::of("f")).await, refused());
}

#[tokio::test]
async fn a_broken_connection_and_a_broken_body_are_retried() {
    assert_eq!(check(|_| Answer::hang_up(), &[], Invocation::of("f")).await, retried());
    assert_eq!(
        check(|_| Answer::ok().body("half of").broken_off(), &[], Invocation::of("f")).await,
        retried()
    );
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_cut_off_and_retried() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|call| if call.nth == 1 { Answer::silence() } else { Answer::ok() }).await;
    let settings =
        Worker::of(&nats, &gateway).set("initial_retry_wait", "10ms").set("upstream_timeout", "300ms");
    let _worker = settings.start().await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    let calls = gateway.await_ended(2).await;
    nats.await_counts([0, 0, 0]).await;
    assert_eq!(calls[0].fate(), Some(End::Cut));
    let took = calls[0].end.unwrap().0 - calls[0].arrived;
    assert!(took >= Duration::from_millis(250), "cut off after {took:?}");
}

#[tokio::test]
async fn a_readable_retry_after_sets_the_wait_within_its_bounds() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|call| match (call.nth, call.function()) {
        (1, "seconds") => Answer::status(429).header("Retry-After", "2"),
        // A date has whole seconds, so up to one of these three is lost.
        (1, "date") => Answer::status(503)
            .header("Retry-After", &httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3))),
        (1, "eternity") => Answer::status(429).header("Retry-After", "99999999"),
        (1, "at-once") => Answer::status(429).header("Retry-After", "0"),
        (1, "garbage") => Answer::status(429).header("Retry-After", "soon"),
        (1, "elsewhere") => Answer::status(500).header("Retry-After", "3000"),
        _ => Answer::ok(),
    })
    .await;
    let settings =
        Worker::of(&nats, &gateway).set("initial_retry_wait", "400ms").set("max_retry_after", "2500ms");
    let _worker = settings.start().await;
    let cases = [
        ("seconds", 2000),
        ("date", 1900),
        ("eternity", 2500),
        ("at-once", 400),
        ("garbage", 400),
        ("elsewhere", 400),
    ];
    for (function, _) in cases {
        nats.publish(&Invocation::of(function).call_id(function)).await;
    }
    gateway.await_calls(12).await;
    nats.await_counts([0, 0, 0]).await;
    for (function, least) in cases {
        let calls = gateway.calls_of(function);
        let waited = calls[1].arrived - calls[0].end.unwrap().0;
        assert!(waited >= Duration::from_millis(least), "{function} waited only {waited:?}");
    }
}

#[tokio::test]
async fn a_503_with_retry_after_is_retried_though_it_is_no_retry_code() {
    let codes = &[("http_retry_codes", "429")];
    let busy = |_: &Call| Answer::status(503).header("Retry-After", "0");
    assert_eq!(check(busy, codes, Invocation::of("f")).await, retried());
    assert_eq!(check(|_| Answer::status(503), codes, Invocation::of("f")).await, refused());
}

#[tokio::test]
async fn annotations_overrule_the_workers_settings() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::status(418)).await;
    let _worker = Worker::of(&nats, &gateway).set("initial_retry_wait", "1h").start().await;
    let invocation =
        Invocation::of("f").call_id("a").retry_annotation("attempts", "4").retry_annotation("codes", "418");
    let invocation = invocation.retry_annotation("min_wait", "300ms").retry_annotation("max_wait", "500ms");
    nats.publish(&invocation).await;
    assert_eq!(nats.dead_letter().await.expect("Queue-Worker-Cause"), "exhausted");
    let calls = gateway.calls();
    assert_eq!(calls.iter().map(|call| call.header("x-retry-max").unwrap()).collect::<Vec<_>>(), ["3"; 4]);
    for (pair, least) in calls.windows(2).zip([300, 500, 500]) {
        let waited = pair[1].arrived - pair[0].end.unwrap().0;
        assert!(waited >= Duration::from_millis(least), "{waited:?} is shorter than {least} ms");
    }
}

#[tokio::test]
async fn an_invalid_annotation_is_warned_about_and_the_workers_setting_holds() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::status(500)).await;
    let settings = Worker::of(&nats, &gateway).set("initial_retry_wait", "10ms").set("max_retry_attempts", 2);
    let worker = settings.start().await;
    nats.publish(&Invocation::of("f").call_id("a").retry_annotation("attempts", "many")).await;
    nats.dead_letter().await;
    assert_eq!(gateway.count(), 2);
    worker.await_log(&["com.openfaas.retry.attempts"]).await;
}

#[tokio::test]
async fn immediate_retries_are_attempts_without_a_wait() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::status(500)).await;
    let settings = Worker::of(&nats, &gateway).set("initial_retry_wait", "1h").set("immediate_retries", 2);
    let _worker = settings.set("max_retry_attempts", 3).start().await;
    let mut clones = nats.watch_parked().await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    let dead = nats.dead_letter().await;
    assert_eq!(gateway.calls().iter().map(Call::retry).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!((dead.expect("Queue-Worker-Attempts"), dead.expect("Queue-Worker-Cause")), ("3", "exhausted"));

    // With one attempt more than that there is a wait, and its clone says that three were made.
    nats.publish(&Invocation::of("g").call_id("b").retry_annotation("attempts", "4")).await;
    let clone = clones.next().await;
    assert_eq!((clone.expect("Queue-Worker-Function"), clone.expect("Queue-Worker-Attempts")), ("g", "3"));
}

#[tokio::test]
async fn a_429_is_not_retried_at_once() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|call| Answer::status(if call.nth == 1 { 429 } else { 200 })).await;
    let settings = Worker::of(&nats, &gateway).set("initial_retry_wait", "500ms").set("immediate_retries", 2);
    let _worker = settings.start().await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    let calls = gateway.await_calls(2).await;
    assert!(calls[1].arrived - calls[0].end.unwrap().0 >= Duration::from_millis(500));
}

#[tokio::test]
async fn what_would_be_too_old_at_its_next_attempt_expires_now() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::status(500)).await;
    let _worker = Worker::of(&nats, &gateway).set("max_message_age", "8s").start().await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    let dead = nats.dead_letter().await;
    assert_eq!((dead.expect("Queue-Worker-Cause"), dead.expect("Queue-Worker-Attempts")), ("expired", "1"));
    assert_eq!(gateway.count(), 1);
}

#[tokio::test]
async fn what_has_grown_too_old_in_the_queue_is_not_called() {
    let nats = Nats::start().await;
    nats.make_queue().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let _worker = Worker::of(&nats, &gateway).set("max_message_age", "1s").start().await;
    assert_eq!(nats.dead_letter().await.expect("Queue-Worker-Cause"), "expired");
    assert_eq!(gateway.count(), 0);
}
