//! The way in by HTTP: `ingress_addr`.

use std::{
    collections::HashSet,
    time::{Duration, SystemTime},
};

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};

use crate::{
    support::{
        Answer, Door, Gateway, Latch, Nats, QUEUE, Scratch, Worker, eventually, eventually_is, http,
        patiently,
    },
    targets::by_region,
};

#[tokio::test]
async fn a_function_is_called_as_behind_openfaas_own_gateway() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok().body("done")).await;
    let (door, settings) = Door::to(Worker::of(&nats, &gateway));
    let worker = settings.start().await;
    let back = format!("{}/back?x=1", gateway.url());
    let sent = [
        ("X-Callback-Url", back.as_str()),
        ("X-Call-Id", "mine"),
        ("X-A", "1"),
        ("X-A", "2"),
        ("Nats-Rollup", "all"),
        ("Queue-Worker-Hop", "9"),
    ];
    let reply = door.post("/async-function/echo.dev/a%20b?q=%2F", &sent, "hello").await;
    assert_eq!(
        (reply.status, reply.header("x-call-id"), &*reply.message.body),
        (202, Some("mine"), &b""[..])
    );

    let calls = gateway.await_ended(2).await;
    assert_eq!(calls[0].request.start, "POST /function/echo.dev/a%20b?q=%2F HTTP/1.1");
    assert_eq!((calls[0].id(), &*calls[0].request.body), ("mine", &b"hello"[..]));
    let values = calls[0].request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("x-a"));
    assert_eq!(values.map(|(_, value)| value.as_str()).collect::<Vec<_>>(), ["1", "2"]);
    assert!(calls[0].header("nats-rollup").is_none() && calls[0].header("queue-worker-hop").is_none());
    assert_eq!((calls[1].target(), &*calls[1].request.body), ("/back?x=1", &b"done"[..]));
    nats.await_counts([0, 0, 0]).await;
    let metrics = worker.metrics().await;
    assert_eq!(metrics.value("queue_worker_ingress_accepted_total", &[("queue_name", QUEUE)]), 1.0);
    assert_eq!(metrics.value("queue_worker_ingress_store_seconds_count", &[]), 1.0);
    // Without an id the caller is told one, and the function knows the call by it.
    let reply = door.post("/async-function/echo", &[], "").await;
    let id = reply.header("x-call-id").unwrap().to_owned();
    assert_eq!(gateway.await_ended(3).await[2].id(), id);
}

#[tokio::test]
async fn a_body_is_enqueued_for_any_queue() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let (door, settings) = Door::to(by_region(&nats, &gateway, "/{1}"));
    let _worker = settings.start().await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let sent =
        [("Content-Type", "a/b"), ("X-Hop", "1"), ("Connection", "x-hop, close"), ("traceparent", trace)];
    let reply = door.post("/queues/orders/messages?subject=orders.eu.created", &sent, "{\"id\":1}").await;
    assert_eq!(reply.status, 202);
    let told = reply.json();
    assert_eq!((&told["sequence"], &told["duplicate"]), (&1.into(), &false.into()));
    let call = gateway.await_ended(1).await.remove(0);
    assert_eq!(
        (call.target(), call.id(), &*call.request.body),
        ("/eu", told["callId"].as_str().unwrap(), &b"{\"id\":1}"[..])
    );
    assert_eq!((call.header("content-type"), call.header("x-hop")), (Some("a/b"), None));
    assert_eq!(call.header("traceparent"), Some(trace));
    // OpenFaaS's routes lead to queues of functions only.
    assert_eq!(door.post("/async-function/echo", &[], "").await.status, 404);
}

#[tokio::test]
async fn what_cannot_be_enqueued_is_refused() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let (door, settings) = Door::to(by_region(&nats, &gateway, "/{1}").set("ingress_max_body", 1_000));
    let worker = settings.start().await;
    let good = "/queues/orders/messages?subject=orders.eu.created";
    for (target, sent, status) in [
        ("/queues/other/messages", &[][..], 404),
        ("/queues/orders", &[], 404),
        ("/", &[], 404),
        ("/queues/orders/messages", &[], 400),
        ("/queues/orders/messages?subject=elsewhere", &[], 400),
        ("/queues/orders/messages?subject=orders.*.created", &[], 400),
        ("/queues/orders/messages?subject=orders..created", &[], 400),
        (good, &[("X-Delay", "soon")], 400),
        (good, &[("X-Delay", "721h")], 400),
        (good, &[("X-Not-Before", "tomorrow")], 400),
        (good, &[("Idempotency-Key", "")], 400),
    ] {
        assert_eq!(door.post(target, sent, "x").await.status, status, "{target} {sent:?}");
    }
    for target in [good, "/queues/orders/messages", "/async-function/f"] {
        assert_eq!(door.ask("GET", target, &[], b"").await.status, 405, "{target}");
    }
    // What no retry of the caller's would change.
    let many = [("X-A", &*"a".repeat(21_800)), ("X-B", &*"b".repeat(21_800)), ("X-C", &*"c".repeat(21_800))];
    assert_eq!(door.post(good, &many, "x").await.status, 413);
    assert_eq!(door.post(good, &[], &"x".repeat(1_001)).await.status, 413);
    assert_eq!(door.post(good, &[], &"x".repeat(1_000)).await.status, 202);
    // It is not read to its end: of this one most never comes.
    let mut stream = door.connect().await;
    let head = format!("POST {good} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let message = patiently("an answer", http::read(&mut BufReader::new(stream))).await.unwrap().unwrap();
    assert!(message.start.contains(" 413 "), "{}", message.start);
    gateway.await_ended(1).await;
    let refused =
        worker.metrics().await.value("queue_worker_ingress_refused_total", &[("reason", "too_large")]);
    assert_eq!(refused, 3.0);
}

#[tokio::test]
async fn a_token_lets_a_caller_in_and_goes_no_further() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let scratch = Scratch::new();
    let file = scratch.write("tokens", "first\nsecond\n");
    let (door, settings) = Door::to(Worker::of(&nats, &gateway).set("ingress_token_file", file.display()));
    let _worker = settings.start().await;
    for (sent, status) in [
        (&[][..], 401),
        (&[("Authorization", "Basic first")], 401),
        (&[("Authorization", "Bearer third")], 403),
        (&[("Authorization", "Bearer first")], 202),
        (&[("Authorization", "bearer second")], 202),
    ] {
        assert_eq!(door.post("/async-function/f", sent, "x").await.status, status, "{sent:?}");
    }
    let calls = gateway.await_ended(2).await;
    assert!(calls.iter().all(|call| call.header("authorization").is_none()));
}

#[tokio::test]
async fn the_same_key_is_stored_once_and_told_the_same_id() {
    let latch = Latch::new();
    let held = latch.clone();
    let nats = Nats::start().await;
    let gateway = Gateway::start(move |_| Answer::ok().held_by(&held)).await;
    let (door, settings) = Door::to(by_region(&nats, &gateway, "/{1}"));
    let mut worker = settings.start().await;
    let target = "/queues/orders/messages?subject=orders.eu.created";
    let first = door.post(target, &[("Idempotency-Key", "k")], "1").await.json();
    let again = door.post(target, &[("Idempotency-Key", "k"), ("X-Call-Id", "other")], "2").await.json();
    assert_eq!((&first["duplicate"], &again["duplicate"]), (&false.into(), &true.into()));
    assert_eq!((&first["callId"], &first["sequence"]), (&again["callId"], &again["sequence"]));
    latch.open();
    gateway.await_ended(1).await;
    worker.kill().await;
    let _second = settings.start().await;
    let last = door.post(target, &[("Idempotency-Key", "k")], "3").await.json();
    assert_eq!((&last["duplicate"], &last["callId"]), (&true.into(), &first["callId"]));
    let other = door.post(target, &[("Idempotency-Key", "l")], "4").await.json();
    assert_ne!(other["callId"], first["callId"]);
    let calls = gateway
        .await_that("the other key's call", |calls| calls.iter().any(|call| &*call.request.body == b"4"))
        .await;
    let bodies: HashSet<_> = calls.iter().map(|call| call.request.body.to_vec()).collect();
    assert_eq!(bodies, HashSet::from([b"1".to_vec(), b"4".to_vec()]));
}

#[tokio::test]
async fn what_is_put_off_and_cancelled_is_never_called() {
    for timer in ["auto", "levels"] {
        let nats = Nats::start().await;
        let gateway = Gateway::start(|_| Answer::ok()).await;
        let (door, settings) = Door::to(Worker::of(&nats, &gateway).set("retry_timer", timer));
        let worker = settings.start().await;
        let later = [("X-Delay", "1h"), ("X-Call-Id", "later")];
        assert_eq!(door.post("/async-function/f", &later, "x").await.status, 202);
        let cancelled = settings.run("calls cancel later --yes --output json").await.done();
        assert_eq!(cancelled["state"], "cancelled", "{timer}");
        assert_eq!(nats.dead_letter().await.expect("Queue-Worker-Cause"), "cancelled");
        // A mark means what had arrived by then, and this comes after it.
        let again = [("X-Delay", "1s"), ("X-Call-Id", "later")];
        assert_eq!(door.post("/async-function/f", &again, "again").await.status, 202);
        let called = gateway.await_ended(1).await.remove(0);
        assert_eq!(&*called.request.body, b"again", "{timer}");
        drop(worker);
    }
}

#[tokio::test]
async fn what_is_put_off_is_parked_until_then_and_never_early() {
    for timer in ["auto", "levels"] {
        let nats = Nats::start().await;
        let gateway = Gateway::start(|_| Answer::ok()).await;
        let settings = by_region(&nats, &gateway, "/{1}").set("retry_timer", timer);
        let (door, settings) = Door::to(settings);
        let mut worker = settings.start().await;
        let target = "/queues/orders/messages?subject=orders.eu.created";
        let began = SystemTime::now();
        let sent = [("X-Delay", "8s"), ("Idempotency-Key", "k"), ("X-A", "1")];
        let first = door.post(target, &sent, "later").await.json();
        let again = door.post(target, &sent, "later").await.json();
        assert_eq!((&again["duplicate"], &again["callId"]), (&true.into(), &first["callId"]));
        assert_eq!(nats.count("orders").await, 0);
        // An age counts from when it may be called; it arrived before.
        let parked = nats.messages("orders-retries").await.remove(0);
        let due = parked.time_in("Queue-Worker-Due");
        assert_eq!(parked.time_in("Queue-Worker-Not-Before"), due);
        let arrived = parked.time_in("Queue-Worker-First-Seen");
        let apart = due.duration_since(arrived).unwrap();
        assert!(apart > Duration::from_secs(7), "{timer}: {apart:?}");
        // It outlives whoever took it.
        worker.kill().await;
        let _second = settings.start().await;
        let call = gateway.await_ended(1).await.remove(0);
        let waited = SystemTime::now().duration_since(began).unwrap();
        assert!(waited >= Duration::from_secs(8), "{timer}: {waited:?}");
        assert_eq!((call.target(), call.retry(), call.header("x-a")), ("/eu", 0, Some("1")));
        assert_eq!((call.id(), &*call.request.body), (first["callId"].as_str().unwrap(), &b"later"[..]));
        assert!(call.header("x-delay").is_none());
        eventually_is("parked", 0, async || nats.count("orders-retries").await).await;
        assert_eq!((gateway.count(), nats.count("orders-dead").await), (1, 0));
        // What is in the past is not put off.
        let sent = [("X-Not-Before", "2020-01-01T00:00:00Z")];
        assert_eq!(door.post(target, &sent, "now").await.status, 202);
        gateway.await_ended(2).await;
    }
}

#[tokio::test]
async fn a_broker_that_is_away_is_said_and_what_was_accepted_is_called() {
    let mut nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let (door, settings) = Door::to(Worker::of(&nats, &gateway));
    let worker = settings.start().await;
    let mut accepted = HashSet::new();
    for n in 0..20 {
        let id = format!("before-{n}");
        assert_eq!(door.post("/async-function/f", &[("X-Call-Id", &id)], "x").await.status, 202);
        accepted.insert(id);
    }
    nats.kill().await;
    let reply = door.post("/async-function/f", &[("X-Call-Id", "lost")], "x").await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
    nats.boot().await;
    worker.ready().await;
    eventually("a request is accepted again", async || {
        door.post("/async-function/f", &[("X-Call-Id", "after")], "x").await.status == 202
    })
    .await;
    accepted.insert("after".to_owned());
    gateway
        .await_that("what was accepted is called", |calls| {
            let called: HashSet<_> =
                calls.iter().filter(|call| call.end.is_some()).map(|call| call.id().to_owned()).collect();
            accepted.is_subset(&called)
        })
        .await;
}

#[tokio::test]
async fn clients_that_say_nothing_keep_nobody_out() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let (door, settings) = Door::to(Worker::of(&nats, &gateway));
    let mut worker = settings.start().await;
    let mut silent = Vec::new();
    for n in 0..700 {
        let mut stream = door.connect().await;
        if n % 2 == 0 {
            let head = b"POST /async-function/f HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\nx";
            let _ = stream.write_all(head).await;
        }
        silent.push(stream);
    }
    for n in 1..=5 {
        assert_eq!(door.post("/async-function/f", &[], "x").await.status, 202);
        gateway.await_ended(n).await;
    }
    // A drain waits for none of them that has nothing under way.
    assert_eq!(worker.drain().await, 0);
    let mut rest = Vec::new();
    let _ = silent.pop().unwrap().read_to_end(&mut rest).await;
}
