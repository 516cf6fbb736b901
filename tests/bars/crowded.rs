//! A crowded level: what waits in it comes in time, whatever it waits beside.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use async_nats::{HeaderMap, jetstream::consumer};
use tokio::time::{Instant, sleep};

use crate::{
    bar,
    cost::ticks,
    percentile, size,
    support::{Answer, Gateway, Invocation, Nats, RETRIES, Worker},
    until,
};

/// The level that is crowded, in the short and in the full form: its waits are as many seconds as two to its
/// power, and up to twice that.
const LEVEL: (u32, u32) = (2, 5);

/// Parks so many retries with waits of all lengths that the level has; returns when each is due.
async fn park(nats: &Nats, retries: usize, level: u32) -> HashMap<String, SystemTime> {
    let (js, shortest) = (nats.js(), 1_000 << level);
    let (mut dues, mut sent) = (HashMap::new(), Vec::new());
    for n in 0..retries {
        // The golden ratio spreads them evenly, and no two neighbours are alike.
        let spread = (n as u64).wrapping_mul(11_400_714_819_323_198_485) >> 32;
        let due = SystemTime::now() + Duration::from_millis(shortest + spread * shortest / (1 << 32));
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("Queue-Worker-Hop", "1"),
            ("Queue-Worker-Attempts", "1"),
            ("Queue-Worker-Due", &humantime::format_rfc3339_nanos(due).to_string()),
            ("Queue-Worker-Original-Id", &format!("faas-request:{n}-{n}")),
        ] {
            headers.insert(name, value);
        }
        let call = format!("call-{n}");
        let payload = Invocation::of("f").call_id(&call).body(vec![b'x'; 500]).to_bytes();
        sent.push(
            js.publish_with_headers(format!("{RETRIES}.l{level}.f.{n}-{n}.1"), headers, payload.into())
                .await
                .unwrap(),
        );
        dues.insert(call, due);
        if sent.len() == 500 || n + 1 == retries {
            for sent in sent.drain(..) {
                sent.await.unwrap();
            }
        }
    }
    dues
}

/// Small consumers take the place of many retries in the short form.
async fn narrow(nats: &Nats, level: u32) {
    let stream = nats.js().get_stream(RETRIES).await.unwrap();
    let found = nats.consumer(RETRIES, &format!("l{level}")).await.config;
    stream.create_consumer(consumer::Config { max_ack_pending: 200, ..found }).await.unwrap();
}

/// How late retries of a crowded level are called, in seconds.
async fn lateness(nats: &mut Nats, killed: bool) -> Vec<f64> {
    let (retries, level) = (size(2_000, 100_000), size(LEVEL.0, LEVEL.1));
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let settings = Worker::of(nats, &gateway).set("retry_timer", "levels").set("max_inflight", 200);
    let worker = settings.start().await;
    if size(true, false) {
        narrow(nats, level).await;
    }
    let start = Instant::now();
    let dues = park(nats, retries, level).await;
    println!(
        "     {retries} parked with {} s to {} s to wait, in {:.1} s",
        1 << level,
        2 << level,
        start.elapsed().as_secs_f64()
    );
    if killed {
        nats.restart().await;
    }
    // The same moment by both clocks.
    let (instant, wall) = (Instant::now(), SystemTime::now());
    idle(nats, &worker, level).await;
    until("all are called", async || gateway.count() >= retries).await;
    let late = |called: Instant, due: SystemTime| {
        (wall + (called - instant)).duration_since(due).map(|late| late.as_secs_f64())
    };
    let calls = gateway.calls();
    calls
        .iter()
        .map(|call| {
            late(call.arrived, dues[call.id()])
                .unwrap_or_else(|early| panic!("{} came {early:?} early", call.id()))
        })
        .collect()
}

/// What broker and worker need while all is handed back and nothing is due yet.
async fn idle(nats: &Nats, worker: &Worker, level: u32) {
    let seconds = size(1, 4);
    until("all are read", async || nats.consumer(RETRIES, &format!("l{level}")).await.num_pending == 0).await;
    // The broker notes it down.
    sleep(Duration::from_secs(1)).await;
    let before = [ticks(nats.id()), ticks(worker.id())];
    sleep(Duration::from_secs(seconds)).await;
    let [broker, own] =
        [ticks(nats.id()) - before[0], ticks(worker.id()) - before[1]].map(|ticks| ticks / seconds);
    let [store, memory] = [nats.rss(), worker.rss()].map(|bytes| bytes >> 20);
    println!(
        "     parked: the broker takes {broker} % of a core and {store} MiB, the worker {own} % and {memory} \
            MiB"
    );
}

fn report(late: &mut [f64]) -> f64 {
    let [p50, p99, most] = [0.5, 0.99, 1.0].map(|share| percentile(late, share));
    println!("     called p50 {p50:.3} s, p99 {p99:.3} s, at most {most:.3} s after they were due");
    p99
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowded_level_makes_nobody_late() {
    let mut late = lateness(&mut Nats::start().await, false).await;
    bar("lateness of a retry in a crowded level, p99, in seconds", report(&mut late), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowded_level_is_in_time_when_the_broker_was_killed() {
    let mut late = lateness(&mut Nats::start().await, true).await;
    bar(
        "lateness of a retry in a crowded level, the broker killed meanwhile, p99, in seconds",
        report(&mut late),
        2.0,
    );
}
