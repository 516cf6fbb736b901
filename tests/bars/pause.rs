//! A function that is paused with a backlog: it begins nothing, on no replica and over restarts, costs one
//! write a message, and does not slow the other down.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    bar, median, size,
    support::{Answer, Gateway, Invocation, Nats, QUEUE, RETRIES, Settings, Worker},
    until,
};

const REPLICAS: usize = 3;
const ROUNDS: usize = 6;

fn called(gateway: &Gateway, function: &str) -> usize {
    gateway.calls().iter().filter(|call| call.function() == function).count()
}

async fn workers(settings: &Settings) -> Vec<Worker> {
    let mut workers = Vec::new();
    for _ in 0..REPLICAS {
        workers.push(settings.start().await);
    }
    workers
}

/// How long a batch of the other function's calls takes, in seconds.
async fn flow(nats: &Nats, gateway: &Gateway, batch: usize) -> f64 {
    let end = gateway.count() + batch;
    let start = Instant::now();
    nats.publish_all((0..batch).map(|_| Invocation::of("other"))).await;
    until("the batch is called", async || gateway.count() >= end).await;
    let took = start.elapsed().as_secs_f64();
    until("the batch is settled", async || nats.count(QUEUE).await == 0).await;
    took
}

/// The time of batches beside what is held to that of batches in a house where nothing is: the median of
/// rounds, which take turns in who goes first.
async fn slowed(nats: &Nats, gateway: &Gateway, batch: usize) -> f64 {
    let (other, answers) = (Nats::start().await, Gateway::start(|_| Answer::ok()).await);
    let _workers = workers(&Worker::of(&other, &answers).set("max_inflight", 10)).await;
    let mut ratios = Vec::new();
    for round in 0..ROUNDS {
        let (beside, alone);
        if round % 2 == 0 {
            beside = flow(nats, gateway, batch).await;
            alone = flow(&other, &answers, batch).await;
        } else {
            alone = flow(&other, &answers, batch).await;
            beside = flow(nats, gateway, batch).await;
        }
        println!("     {batch} calls take {alone:.3} s alone, {beside:.3} s beside what is held");
        ratios.push(beside / alone);
    }
    median(&mut ratios)
}

async fn stats(settings: &Settings) -> Value {
    settings.run("queue stats --output json").await.done()["queues"][0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_function_with_a_backlog_begins_nothing_and_slows_no_other() {
    let (many, batch) = (size(300, 100_000), size(50, 3_000));
    let mut nats = Nats::start().await;
    // The first calls take long, so that most wait when it is paused.
    let slow = Arc::new(AtomicBool::new(true));
    let gateway = Gateway::start({
        let slow = slow.clone();
        move |call| {
            let long = call.function() == "f" && slow.load(Ordering::Relaxed);
            Answer::ok().after(Duration::from_millis(if long { 500 } else { 0 }))
        }
    })
    .await;
    let settings = Worker::of(&nats, &gateway).set("max_inflight", 10);
    assert_eq!(settings.start().await.drain().await, 0);
    nats.publish_all((0..many).map(|n| Invocation::of("f").call_id(&format!("f-{n}")))).await;

    let mut running = workers(&settings).await;
    until("it is being called", async || called(&gateway, "f") > 0).await;
    assert_eq!(settings.run("queue pause --function f").await.code, 0);
    sleep(Duration::from_secs(1)).await;
    let before = called(&gateway, "f");
    slow.store(false, Ordering::Relaxed);
    let left = (many - before) as u64;
    assert!(left > 0, "all were called before it was paused");
    until("the others are held", async || stats(&settings).await["held"] == json!(left)).await;
    let after = called(&gateway, "f") - before;
    println!("     {before} of {many} were called by a second after the pause, {after} later");
    assert_eq!(after, 0);
    let writes = nats.stream(RETRIES).await.state.last_sequence;
    println!("     {writes} writes for {left} messages");
    assert!(writes <= left, "{writes} writes for {left} messages");

    for worker in &mut running {
        assert_eq!(worker.drain().await, 0);
    }
    nats.restart().await;
    let _running = workers(&settings).await;
    let slowed = slowed(&nats, &gateway, batch).await;
    bar("the time of the other function's calls beside held ones, to that alone", slowed, 1.0 / 0.9);
    assert_eq!(called(&gateway, "f"), before, "it was called after a restart");
    assert_eq!(nats.stream(RETRIES).await.state.last_sequence, writes, "it was written again");

    let start = Instant::now();
    assert_eq!(settings.run("queue resume --function f").await.code, 0);
    until("all are called and gone", async || nats.counts().await == [0, 0, 0]).await;
    println!("     {left} held ones are called {:.1} s after the resume", start.elapsed().as_secs_f64());
    let calls = gateway.calls();
    let ids: Vec<_> = calls.iter().filter(|call| call.function() == "f").map(|call| call.id()).collect();
    assert_eq!((ids.len(), ids.iter().collect::<BTreeSet<_>>().len()), (many, many));
}
