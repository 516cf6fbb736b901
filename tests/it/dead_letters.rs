//! What stays of an invocation that ended without success.

use std::time::{Duration, SystemTime};

use async_nats::HeaderMap;
use serde_json::json;

use crate::support::{Answer, DEAD, Gateway, Invocation, Nats, QUEUE, RETRIES, Worker, eventually};

#[tokio::test]
async fn a_dead_letter_tells_the_whole_story_and_keeps_the_payload() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::status(500).body("secret answer")).await;
    let settings = Worker::of(&nats, &gateway).set("initial_retry_wait", "10ms").set("max_retry_attempts", 3);
    let _worker = settings.start().await;
    let before = SystemTime::now();
    let invocation =
        Invocation::of("f").call_id("call/ü").header("Authorization", "Bearer secret").body([0, 255, 10]);
    let sequence = nats.publish(&invocation).await;

    let dead = nats.dead_letter().await;
    assert_eq!(dead.subject, format!("{DEAD}.f"));
    assert_eq!(dead.payload, invocation.to_bytes(), "the payload is kept byte for byte");
    let original = dead.expect("Queue-Worker-Original-Id");
    let id = original.strip_prefix(&format!("{QUEUE}:{sequence}-")).unwrap_or_else(|| panic!("{original}"));
    assert!(u128::from_str_radix(id, 36).is_ok(), "no base-36 number: {id}");
    assert!(dead.header("Nats-Msg-Id").is_some(), "a repeated publish would be stored twice: {dead:?}");
    let fixed = [
        ("Attempts", "3"),
        ("Call-Id", "call/%C3%BC"),
        ("Function", "f"),
        ("Last-Status", "500"),
        ("Cause", "exhausted"),
    ];
    for (name, value) in fixed {
        assert_eq!(dead.expect(&format!("Queue-Worker-{name}")), value, "{name}");
    }
    // Two clones lie between; whether the dead letter counts itself as well is its own affair.
    assert!(["2", "3"].contains(&dead.expect("Queue-Worker-Hop")), "{dead:?}");
    for name in ["Queue-Worker-First-Seen", "Queue-Worker-Failed-At"] {
        let time = dead.time_in(name);
        let early = before - Duration::from_secs(1);
        assert!(time >= early && time <= SystemTime::now() + Duration::from_secs(1), "{name}: {dead:?}");
    }
    assert!(dead.time_in("Queue-Worker-First-Seen") <= dead.time_in("Queue-Worker-Failed-At"));
    for name in ["Interruptions", "Redrives", "Kind", "Encoding"] {
        assert_eq!(
            dead.header(&format!("Queue-Worker-{name}")),
            None,
            "{name} is absent when there is nothing to say"
        );
    }
    let error = dead.header("Queue-Worker-Last-Error").unwrap_or_default();
    assert!(error.len() <= 1024 && !error.contains("secret") && !error.contains("http://"), "{error}");
    let history = dead.expect("Queue-Worker-History");
    let attempts: Vec<_> = history.split([' ', ',', ';']).filter(|attempt| !attempt.is_empty()).collect();
    assert_eq!(attempts.len(), 3, "{history}");
    for (n, attempt) in attempts.iter().enumerate() {
        let parts: Vec<_> = attempt.splitn(4, ':').collect();
        assert_eq!(parts[..2], [&*(n + 1).to_string(), "500"], "{history}");
        assert!(parts[2].parse::<u64>().is_ok() && !parts[3].is_empty(), "{history}");
    }
}

#[tokio::test]
async fn each_time_that_a_dead_letter_is_sent_round_again_it_dies_a_death_of_its_own() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::status(400)).await;
    let _worker = Worker::of(&nats, &gateway).start().await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    for redrives in 1..4 {
        let dead = nats.dead_letters(redrives).await.pop().unwrap();
        let mut headers = dead.headers.clone();
        headers.insert("Queue-Worker-Redrives", redrives.to_string());
        // More than is carried on.
        (0..20).for_each(|n| headers.insert(format!("X-Note-{n}"), "n".repeat(1_000)));
        // As somebody would by hand: the broker's own headers go, the rest stays.
        let headers = headers.iter().filter(|(name, _)| !name.to_string().starts_with("Nats-"));
        let headers = headers.map(|(name, values)| (name.clone(), values[0].clone())).collect();
        nats.publish_raw(&format!("{RETRIES}.due.f.again.{redrives}"), headers, dead.payload).await;
    }
    let dead = nats.dead_letters(4).await;
    let ends: Vec<_> =
        dead.iter().map(|dead| dead.expect("Nats-Msg-Id").split_once(".dead").unwrap().1).collect();
    assert_eq!(ends, ["", ".1", ".2", ".3"]);
    assert_eq!(dead[3].expect("Queue-Worker-Redrives"), "3");
    nats.await_counts([0, 0, 4]).await;
    assert_eq!(gateway.count(), 4);
}

#[tokio::test]
async fn what_is_no_message_is_dead_lettered_whole_and_not_called() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let _worker = Worker::of(&nats, &gateway).start().await;
    let payloads: [&[u8]; 6] = [b"", b"garbage", b"{}", b"[]", b"{\"Function\":7}", b"\xff\x00\r\n{"];
    for payload in payloads {
        nats.publish_raw(QUEUE, HeaderMap::new(), payload).await;
    }
    let dead = nats.dead_letters(6).await;
    for (dead, payload) in dead.iter().zip(payloads) {
        let text = String::from_utf8_lossy(payload);
        assert_eq!(dead.expect("Queue-Worker-Cause"), "undecodable", "{text}");
        assert_eq!(dead.subject, format!("{DEAD}._undecodable"), "{text}");
    }
    let mut kept: Vec<_> = dead.iter().map(|dead| dead.payload.to_vec()).collect();
    let mut sent = payloads.map(<[u8]>::to_vec);
    kept.sort();
    sent.sort();
    assert_eq!(kept, sent);
    assert_eq!(gateway.count(), 0);
}

#[tokio::test]
async fn a_name_or_a_path_that_leads_elsewhere_is_not_called() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let _worker = Worker::of(&nats, &gateway).start().await;
    let names = [
        "",
        ".",
        "..",
        "a..b",
        ".a",
        "a.",
        "../system/functions",
        "a/b",
        "a b",
        "a%2fb",
        "a?b",
        "a#b",
        "ä",
        "a\nb",
        "*",
        ">",
    ];
    let paths = ["/..", "/../g", "/a/../b", "/.", "/./a", "/a/.."];
    for name in names {
        nats.publish(&Invocation::of(name)).await;
    }
    for path in paths {
        nats.publish(&Invocation::of("f").path(path)).await;
    }
    let dead = nats.dead_letters(22).await;
    for dead in dead {
        let text = String::from_utf8_lossy(&dead.payload);
        assert_eq!(dead.header("Queue-Worker-Cause"), Some("undecodable"), "{text}");
    }
    assert_eq!(gateway.count(), 0);
}

#[tokio::test]
async fn what_no_request_can_carry_is_refused_with_its_measure_and_called_back() {
    let nats = Nats::start_with("max_payload: 8388608").await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let receiver = Gateway::start(|_| Answer::ok()).await;
    let _worker = Worker::of(&nats, &gateway).start().await;
    let many =
        (0..20_001).fold(Invocation::of("f"), |invocation, n| invocation.header(&format!("X-{n}"), "y"));
    // The most that is sent, and then one byte more.
    let room = 65_534 - gateway.url().len() - "/function/f".len();
    let fits = Invocation::of("f").call_id("fits").path(&format!("/{}", "a".repeat(room - 1)));
    nats.publish(&fits).await;
    assert_eq!(gateway.await_ended(1).await[0].id(), "fits");
    for (nth, (id, invocation, said)) in [
        (
            "path",
            Invocation::of("f").path(&format!("/{}", "a".repeat(room))),
            "its URL has 65535 bytes, and 65534 are the most",
        ),
        (
            "query",
            Invocation::of("f").field("QueryString", "a".repeat(70_000).into()),
            "bytes, and 65534 are the most that can be sent",
        ),
        ("headers", many, "it has 20003 headers, and 20000 are the most that can be sent"),
    ]
    .into_iter()
    .enumerate()
    {
        nats.publish(&invocation.call_id(id).callback(&receiver.url())).await;
        let call = receiver
            .await_that(id, |calls| calls.iter().any(|call| call.id() == id && call.end.is_some()))
            .await
            .pop()
            .unwrap();
        assert_eq!((call.header("x-function-status"), &*call.request.body), (Some("503"), &b""[..]), "{id}");
        let letter = nats.dead_letters(nth as u64 + 1).await.pop().unwrap();
        assert_eq!(
            (letter.expect("Queue-Worker-Cause"), letter.expect("Queue-Worker-Function")),
            ("refused", "f"),
            "{id}"
        );
        assert!(letter.expect("Queue-Worker-Last-Error").contains(said), "{letter:?}");
    }
    assert_eq!(gateway.count(), 1);
}

#[tokio::test]
async fn a_message_with_fields_of_other_times_is_called() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let _worker = Worker::of(&nats, &gateway).start().await;
    let old = Invocation::of("old")
        .field("Path", json!(""))
        .field("QueryString", json!(""))
        .field("Body", json!(null));
    nats.publish(
        &old.field("QueueName", json!("")).field("CallbackUrl", json!(null)).field("Header", json!(null)),
    )
    .await;
    let new = Invocation::of("new")
        .field("Labels", json!({"a": "b"}))
        .field("Environment", json!({}))
        .field("Later", json!([1]));
    nats.publish(&new).await;
    let mut called: Vec<_> =
        gateway.await_calls(2).await.iter().map(|call| call.target().to_owned()).collect();
    called.sort();
    assert_eq!(called, ["/function/new", "/function/old"]);
    nats.await_counts([0, 0, 0]).await;
}

#[tokio::test]
async fn without_dead_letters_what_fails_is_dropped_with_a_warning_and_a_count() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::status(400)).await;
    let worker = Worker::of(&nats, &gateway).set("dead_letters", "false").start().await;
    nats.publish(&Invocation::of("f").call_id("dropped-call")).await;
    nats.publish_raw(QUEUE, HeaderMap::new(), "garbage").await;
    nats.await_counts([0, 0, 0]).await;
    eventually("two drops are counted", async || {
        worker.metrics().await.value("queue_worker_dead_letters_dropped_total", &[]) == 2.0
    })
    .await;
    worker.await_log(&["WARN", "dropped-call"]).await;
}

#[tokio::test]
async fn a_dotted_name_is_one_token_of_the_subject() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::status(400)).await;
    let _worker = Worker::of(&nats, &gateway).start().await;
    nats.publish(&Invocation::of("f.openfaas-fn").call_id("a")).await;
    let dead = nats.dead_letter().await;
    assert_eq!(dead.subject, format!("{DEAD}.f%2Eopenfaas-fn"));
    assert_eq!(dead.expect("Queue-Worker-Function"), "f.openfaas-fn");
}
