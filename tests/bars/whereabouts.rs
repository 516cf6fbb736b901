//! Where a call is, among a million parked messages and a million records of the audit; and what the index
//! costs the broker.

use async_nats::HeaderMap;
use queue_worker::message::names::Names;
use tokio::time::Instant;

use crate::{
    bar, full, median, size,
    support::{Answer, DEAD, Gateway, Invocation, Latch, Nats, QUEUE, RETRIES, Settings, Worker},
    until,
};

/// Publishes so many messages, each as `made` says.
async fn fill(nats: &Nats, many: u32, made: impl Fn(u32) -> (String, HeaderMap, Vec<u8>)) {
    let (js, mut acks) = (nats.js(), Vec::new());
    for n in 0..many {
        let (subject, headers, payload) = made(n);
        acks.push(js.publish_with_headers(subject, headers, payload.into()).await.unwrap());
        if acks.len() == 1_000 {
            for ack in acks.drain(..) {
                ack.await.unwrap();
            }
        }
    }
    for ack in acks {
        ack.await.unwrap();
    }
}

fn headers(n: u32) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("Hop", "1"),
        ("Attempts", "1"),
        ("Call-Id", &format!("call-{n}")),
        ("Due", "2100-01-01T00:00:00Z"),
        ("Original-Id", &format!("{QUEUE}:{n}-1k2j3h4g5f6d")),
        ("History", "1:502:1200:queue-worker-7d9f8b6c5-x2x9z"),
    ] {
        headers.insert(format!("Queue-Worker-{name}").as_str(), value);
    }
    headers
}

async fn took(settings: &Settings, call_id: &str, state: &str) -> f64 {
    let begin = Instant::now();
    let shown = settings.run(&format!("calls show {call_id} --output json")).await;
    let took = begin.elapsed().as_secs_f64();
    assert_eq!(shown.json()["state"], state, "{shown:?}");
    took
}

/// So many parked messages and records of the audit, and some dead letters.
async fn fill_all(nats: &Nats, many: u32) {
    let letters = size(500, 100_000);
    let payload = |n: u32| Invocation::of("f").call_id(&format!("call-{n}")).to_bytes();
    fill(nats, many, |n| (format!("{RETRIES}.l16.f.{n}-1k2j3h4g5f6d.1"), headers(n), payload(n))).await;
    fill(nats, letters, |n| (format!("{DEAD}.f"), headers(n), payload(n))).await;
    let (before, names) = (nats.rss(), Names::new(QUEUE, QUEUE));
    // Calls that died, were sent round again, and are parked: what waits is known better than what ended.
    let record = |n: u32| {
        let id = format!("call-{n}");
        let record = serde_json::json!({
            "record": "call", "at": "2026-11-26T08:00:00.123456789Z", "queue": QUEUE, "function": "resize",
            "callId": id, "originalId": format!("{QUEUE}:{n}-1k2j3h4g5f6d"), "outcome": "exhausted",
            "attempts": [{ "n": 1, "status": 200, "milliseconds": 12,
                "worker": "queue-worker-7d9f8b6c5-x2x9z", "at": "2026-11-26T08:00:00.111000000Z" }],
            "attemptsMade": 1, "firstSeen": "2026-11-26T08:00:00.101456789Z", "queueWaitMilliseconds": 10,
            "milliseconds": 22, "worker": "queue-worker-7d9f8b6c5-x2x9z", "redrives": 0,
        });
        (names.audit_of(&id), HeaderMap::new(), serde_json::to_vec(&record).unwrap())
    };
    fill(nats, many, record).await;
    println!("     {many} records: the broker takes {} MiB, {} before", nats.rss() >> 20, before >> 20);
}

#[tokio::test]
async fn a_call_is_found_at_once_among_very_many() {
    let many = size(2_000, 1_000_000);
    let nats = Nats::start().await;
    let latch = Latch::new();
    let held = latch.clone();
    let gateway = Gateway::start(move |call| match call.function() {
        "good" => Answer::ok(),
        "no" => Answer::status(400),
        "held" => Answer::ok().held_by(&held),
        _ => Answer::status(500),
    })
    .await;
    let settings = Worker::of(&nats, &gateway).set("audit", "all").set("audit_max_bytes", "0");
    let settings = settings.set("initial_retry_wait", "10h").set("max_retry_wait", "10h");
    let mut worker = settings.start().await;
    until("there is an audit", async || nats.streams().await.contains(&format!("{QUEUE}-audit"))).await;
    assert_eq!(worker.drain().await, 0);

    fill_all(&nats, many).await;
    let worker = settings.start().await;
    for function in ["good", "bad", "no", "held"] {
        nats.publish(&Invocation::of(function).call_id(&format!("of-{function}"))).await;
    }
    gateway.await_that("all are called", |calls| calls.len() == 4).await;
    // One that the audit does not know yet is looked for among all that are parked, which takes its time.
    let recorded = async || nats.stream(&format!("{QUEUE}-audit")).await.state.messages;
    until("the ends of two and the wait of one are recorded", async || {
        recorded().await == u64::from(many) + 3
    })
    .await;
    let limit = if nats.schedules() { 0.1 } else { 1.0 };
    for (id, state) in [
        ("of-good", "done"),
        ("of-bad", "parked"),
        ("of-no", "dead"),
        ("of-held", "running"),
        (&*format!("call-{}", many / 2), "parked"),
    ] {
        let mut figures = Vec::new();
        for _ in 0..size(1, 9) {
            figures.push(took(&settings, id, state).await);
        }
        bar(&format!("seconds to find a call that is {state}"), median(&mut figures), limit);
    }
    if full() {
        println!("     the broker takes {} MiB after that", nats.rss() >> 20);
    }
    latch.open();
    drop(worker);
}
