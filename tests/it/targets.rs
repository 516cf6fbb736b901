//! Any message to any HTTP service: `input=http`, and targets.

use std::time::Duration;

use async_nats::HeaderMap;

use crate::support::{Answer, Call, Door, End, Gateway, Latch, Nats, Settings, Worker, eventually_is};

/// The settings that a user without OpenFaaS needs, and short waits.
pub fn settings(nats: &Nats, gateway: &Gateway, target: &str) -> Settings {
    Worker::bare()
        .set("nats_url", nats.url())
        .set("queue_name", "orders")
        .set("input", "http")
        .set("target_url", format!("{}{target}", gateway.url()))
        .set("initial_retry_wait", "10ms")
}

/// The same where the subjects have a region.
pub fn by_region(nats: &Nats, gateway: &Gateway, target: &str) -> Settings {
    settings(nats, gateway, target).set("nats_filter_subject", "orders.*.created")
}

pub fn headers(of: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    of.iter().for_each(|(name, value)| headers.append(*name, *value));
    headers
}

/// The values of a header of a call, in their order.
pub fn values<'c>(call: &'c Call, name: &str) -> Vec<&'c str> {
    let named = call.request.headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.as_str()).collect()
}

async fn await_nothing_left(nats: &Nats) {
    for stream in ["orders", "orders-retries"] {
        eventually_is(stream, 0, async || nats.count(stream).await).await;
    }
}

#[tokio::test]
async fn a_message_becomes_a_post_with_the_message_as_it_is() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let worker = settings(&nats, &gateway, "/hooks?source=nats").start().await;
    nats.publish_raw("orders", HeaderMap::new(), "{\"id\":1}").await;

    let call = gateway.await_ended(1).await.remove(0);
    assert_eq!(call.request.start, "POST /hooks?source=nats HTTP/1.1");
    assert_eq!(&*call.request.body, b"{\"id\":1}");
    assert_eq!(call.header("content-type"), Some("application/octet-stream"));
    let id: uuid::Uuid = call.id().parse().unwrap();
    assert_eq!((id.get_version_num(), call.retry(), call.header("x-retry-max")), (5, 0, Some("9")));
    await_nothing_left(&nats).await;
    let line = worker.await_log(&["Invoke ", "/hooks"]).await;
    assert!(line.contains("function=orders") && line.contains("bytes=8"), "{line}");
    assert!(!line.contains("source"), "the query is in the log: {line}");
    let labels = [("queue_name", "orders"), ("function_name", "orders"), ("outcome", "success")];
    assert_eq!(worker.metrics().await.value("queue_worker_attempts_total", &labels), 1.0);
}

#[tokio::test]
async fn headers_go_through_and_what_is_no_http_header_is_named_and_left_out() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let worker = settings(&nats, &gateway, "/hooks").start().await;
    let sent = headers(&[
        ("X-Many", "1"),
        ("X-Many", "2, 3"),
        ("x-case", "y"),
        ("X-Umlaut", "ä"),
        ("X-Empty", ""),
        ("Content-Type", "application/json; charset=utf-8"),
        ("Authorization", "Bearer of-the-caller"),
        ("Nats-Expected-Stream", "orders"),
        ("Nats-Msg-Id", "7"),
        ("Queue-Worker-Attempts", "9"),
        ("Connection", "x-hop"),
        ("X-Hop", "1"),
        ("Keep-Alive", "1"),
        ("TE", "trailers"),
        ("Transfer-Encoding", "chunked"),
        ("Content-Length", "3"),
        ("Host", "elsewhere"),
        ("X-Bad-Value", "a\u{1}b"),
        ("X(Bad)Name", "1"),
    ]);
    nats.publish_raw("orders", sent, "body").await;

    let call = gateway.await_ended(1).await.remove(0);
    for (name, expected) in [
        ("x-many", &["1", "2, 3"][..]),
        ("x-case", &["y"]),
        ("x-empty", &[""]),
        ("content-type", &["application/json; charset=utf-8"]),
        ("authorization", &["Bearer of-the-caller"]),
        ("content-length", &["4"]),
        ("host", &[&*gateway.address().to_string()]),
        ("x-retry", &["0"]),
    ] {
        assert_eq!(values(&call, name), expected, "{name}");
    }
    assert_eq!(values(&call, "x-umlaut").len(), 1);
    for gone in ["nats-", "queue-worker-", "x-hop", "keep-alive", "te", "transfer-encoding", "x-bad", "x("] {
        let names = call.request.headers.iter().map(|(name, _)| name.to_lowercase());
        let found: Vec<_> =
            names.filter(|name| if gone.len() > 2 { name.starts_with(gone) } else { name == gone }).collect();
        assert!(found.is_empty(), "{found:?}");
    }
    for name in ["x-bad-value", "X(Bad)Name"] {
        worker.await_log(&["WARN", name, "not passed on"]).await;
    }
}

#[tokio::test]
async fn the_tokens_of_the_subject_are_in_the_url_and_name_the_calls() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::status(500)).await;
    let settings = by_region(&nats, &gateway, "/{1}/new?of={1}").set("max_retry_attempts", 2);
    let worker = settings.start().await;
    let regions = [("eu", "eu"), ("a%2Eb", "a%252Eb"), ("ü&c=d", "%C3%BC%26c%3Dd")];
    for (n, (region, name)) in regions.into_iter().enumerate() {
        let mut parked = nats.watch(&format!("orders-retries.*.{name}.>")).await;
        nats.publish_raw(&format!("orders.{region}.created"), HeaderMap::new(), "x").await;
        assert_eq!(parked.next().await.expect("Queue-Worker-Function"), name);
        eventually_is("letters", n as u64 + 1, async || nats.count("orders-dead").await).await;
        let target = format!("/{name}/new?of={name}");
        let calls = gateway.calls();
        assert_eq!(calls.iter().skip(2 * n).map(Call::target).collect::<Vec<_>>(), [&*target; 2]);
        let letter = nats.messages("orders-dead").await.pop().unwrap();
        assert_eq!(letter.subject, format!("orders-dead.{name}"));
        let labels = [("queue_name", "orders"), ("function_name", name), ("cause", "exhausted")];
        assert_eq!(worker.metrics().await.value("queue_worker_dead_letters_total", &labels), 1.0, "{region}");
        worker.await_log(&["Dead letter", &format!("function={name}"), "exhausted"]).await;
    }
}

#[tokio::test]
async fn a_retry_is_the_same_call_on_either_timer_and_ends_as_a_whole_letter() {
    for timer in ["auto", "levels"] {
        let nats = Nats::start().await;
        let gateway = Gateway::start(|_| Answer::status(500)).await;
        let _worker = by_region(&nats, &gateway, "/{1}")
            .set("max_retry_attempts", 3)
            .set("retry_timer", timer)
            .start()
            .await;
        let long = "v".repeat(20_000);
        let body: Vec<u8> = (0..=255).cycle().take(900_000).collect();
        let sent = headers(&[("X-Long", &long), ("X-A", "1"), ("X-A", "2"), ("Content-Type", "a/b")]);
        nats.publish_raw("orders.eu.created", sent, body.clone()).await;

        eventually_is("letters", 1, async || nats.count("orders-dead").await).await;
        let calls = gateway.calls();
        assert_eq!(calls.iter().map(Call::retry).collect::<Vec<_>>(), [0, 1, 2]);
        for call in &calls {
            assert_eq!((call.target(), call.id()), ("/eu", calls[0].id()));
            assert_eq!((values(call, "x-a"), call.header("content-type")), (vec!["1", "2"], Some("a/b")));
            assert_eq!(call.header("x-long"), Some(&*long));
            assert!(*call.request.body == *body, "another body");
        }
        let letter = nats.messages("orders-dead").await.remove(0);
        assert_eq!(letter.subject, "orders-dead.eu");
        assert_eq!(letter.expect("Queue-Worker-Cause"), "exhausted");
        assert_eq!(letter.expect("Queue-Worker-Subject"), "orders.eu.created");
        assert_eq!((letter.expect("X-Long"), letter.expect("Content-Type")), (&*long, "a/b"));
        assert!(*letter.payload == *body, "another payload");
        await_nothing_left(&nats).await;
    }
}

#[tokio::test]
async fn a_body_nearly_as_large_as_the_broker_takes_is_called_and_retried() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|call| Answer::status(if call.nth == 1 { 500 } else { 200 })).await;
    let _worker = settings(&nats, &gateway, "/hooks").start().await;
    let body = vec![b'z'; (1 << 20) - 100];
    nats.publish_raw("orders", HeaderMap::new(), body.clone()).await;
    let calls = gateway.await_ended(2).await;
    assert!(calls.iter().all(|call| *call.request.body == *body), "another body");
    await_nothing_left(&nats).await;
}

#[tokio::test]
async fn a_callers_id_and_callback_are_kept_and_ends_are_posted() {
    let nats = Nats::start().await;
    let gateway =
        Gateway::start(|call| Answer::status(if call.target() == "/eu" { 418 } else { 200 }).body("tea"))
            .await;
    let _worker = by_region(&nats, &gateway, "/{1}").start().await;
    let back = format!("{}/back?x=%2F", gateway.url());
    let sent = headers(&[("X-Call-Id", "mine"), ("X-Callback-Url", &back)]);
    nats.publish_raw("orders.eu.created", sent, "x").await;

    let calls = gateway.await_ended(2).await;
    assert_eq!(calls.iter().map(Call::target).collect::<Vec<_>>(), ["/eu", "/back?x=%2F"]);
    assert!(calls.iter().all(|call| call.id() == "mine"));
    assert_eq!(calls[0].header("x-callback-url"), None);
    assert_eq!((calls[1].header("x-function-name"), &*calls[1].request.body), (Some("eu"), &b"tea"[..]));
    assert_eq!(calls[1].header("x-function-status"), Some("418"));
    await_nothing_left(&nats).await;
    let letter = nats.messages("orders-dead").await.remove(0);
    assert_eq!(
        (letter.expect("Queue-Worker-Cause"), letter.expect("Queue-Worker-Call-Id")),
        ("refused", "mine")
    );
}

#[tokio::test]
async fn a_callback_that_fails_is_parked_under_a_name_of_any_token() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|call| {
        Answer::status(if call.target() == "/back" && call.retry() == 0 && call.nth == 2 { 503 } else { 200 })
    })
    .await;
    let _worker = by_region(&nats, &gateway, "/{1}").start().await;
    let back = format!("{}/back", gateway.url());
    let sent = headers(&[("X-Call-Id", "mine"), ("X-Callback-Url", &back)]);
    nats.publish_raw("orders.a/b.created", sent, "x").await;
    let calls = gateway.await_ended(3).await;
    assert_eq!(calls.iter().map(Call::target).collect::<Vec<_>>(), ["/a%2Fb", "/back", "/back"]);
    assert_eq!(calls[2].header("x-function-name"), Some("a%2Fb"));
    await_nothing_left(&nats).await;
}

#[tokio::test]
async fn operators_name_calls_of_any_token_as_lists_have_them() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::status(400)).await;
    let (door, settings) = Door::to_api(by_region(&nats, &gateway, "/{1}"));
    let worker = settings.start().await;
    nats.publish_raw("orders.user:1.created", HeaderMap::new(), "x").await;
    eventually_is("letters", 1, async || nats.count("orders-dead").await).await;
    let listed = settings.run("dead-letters list --output json").await.done();
    let name = listed["items"][0]["function"].as_str().unwrap();
    assert_eq!(name, "user%3A1");
    let found = door.get(&format!("/queues/orders/dead-letters?function={}", "user%253A1")).await;
    assert_eq!(found["items"].as_array().map(Vec::len), Some(1), "{found}");
    let paused = settings.run(&format!("queue pause --function {name} --output json")).await.done();
    assert_eq!(paused["pausedFunctions"][0]["function"], name);
    let labels = [("queue_name", "orders"), ("function_name", name)];
    let known = async || worker.metrics().await.get("queue_worker_paused", &labels);
    eventually_is("the worker knows", Some(1.0), known).await;
    nats.publish_raw("orders.user:1.created", HeaderMap::new(), "held").await;
    eventually_is("held", 1, async || nats.count("orders-retries").await).await;
    assert_eq!(gateway.count(), 1);
    assert_eq!(settings.run(&format!("queue resume --function {name}")).await.code, 0);
    gateway.await_ended(2).await;
}

#[tokio::test]
async fn the_words_of_openfaas_own_gateway_are_a_targets_like_any_others() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::status(404).body("error finding function x")).await;
    let _worker = settings(&nats, &gateway, "/hooks").start().await;
    nats.publish_raw("orders", HeaderMap::new(), "x").await;
    eventually_is("letters", 1, async || nats.count("orders-dead").await).await;
    let letter = nats.messages("orders-dead").await.remove(0);
    assert_eq!(
        (letter.expect("Queue-Worker-Cause"), letter.expect("Queue-Worker-Last-Status")),
        ("refused", "404")
    );
    assert_eq!(gateway.count(), 1);
}

#[tokio::test]
async fn a_target_that_says_when_is_believed() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|call| match call.nth {
        1 => Answer::status(429).header("Retry-After", "2"),
        _ => Answer::ok(),
    })
    .await;
    let _worker = settings(&nats, &gateway, "/hooks").start().await;
    nats.publish_raw("orders", headers(&[("X-Call-Id", "a")]), "x").await;
    let calls = gateway.await_ended(2).await;
    let waited = calls[1].arrived - calls[0].end.unwrap().0;
    // The broker's clock counts whole milliseconds.
    assert!(waited >= Duration::from_millis(1_990), "{waited:?}");
}

#[tokio::test]
async fn a_subject_without_the_token_is_a_dead_letter_that_says_so() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let _worker = settings(&nats, &gateway, "/{1}/{2}").set("nats_filter_subject", "orders.>").start().await;
    nats.publish_raw("orders.eu", headers(&[("X-A", "1")]), "lost?").await;
    nats.publish_raw("orders.eu.new", HeaderMap::new(), "x").await;
    assert_eq!(gateway.await_ended(1).await[0].target(), "/eu/new");
    eventually_is("letters", 1, async || nats.count("orders-dead").await).await;
    let letter = nats.messages("orders-dead").await.remove(0);
    assert_eq!(
        (letter.expect("Queue-Worker-Cause"), letter.subject.as_str()),
        ("undecodable", "orders-dead.eu")
    );
    assert!(letter.expect("Queue-Worker-Last-Error").contains("{2}"), "{letter:?}");
    assert_eq!((letter.expect("X-A"), &*letter.payload), ("1", &b"lost?"[..]));
}

#[tokio::test]
async fn a_call_that_is_cut_off_is_made_again_the_same() {
    let latch = Latch::new();
    let held = latch.clone();
    let nats = Nats::start().await;
    let gateway =
        Gateway::start(move |call| if call.nth == 1 { Answer::ok().held_by(&held) } else { Answer::ok() })
            .await;
    let settings = by_region(&nats, &gateway, "/{1}").set("ack_wait", "2s");
    let mut worker = settings.start().await;
    nats.publish_raw("orders.eu.created", headers(&[("X-A", "1"), ("X-Call-Id", "a")]), "x").await;
    gateway.await_calls(1).await;
    worker.kill().await;
    let _second = settings.start().await;
    let calls = gateway.await_that("the call is made again", |calls| {
        calls.iter().any(|call| call.nth == 2 && call.end.is_some())
    });
    let calls = calls.await;
    let again = calls.iter().find(|call| call.nth == 2).unwrap();
    assert_eq!((again.target(), again.header("x-a"), again.id(), again.retry()), ("/eu", Some("1"), "a", 0));
    assert_eq!(again.fate(), Some(End::Answered));
    await_nothing_left(&nats).await;
}
