//! The way in by HTTP: what was accepted is called, the same key once, and nothing early.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use crate::{
    bar, full, percentile, size,
    support::{Answer, DEAD, Door, Gateway, Nats, QUEUE, Worker},
    until,
};

/// How many clients post at once.
const CLIENTS: usize = 32;

/// Posts a request of this name until it is accepted; says how often it was not. Each try has a name of its
/// own, for what was not acknowledged may be stored all the same.
async fn post(door: Door, name: &str, sent: &[(&str, &str)], accepted: &mut Vec<String>) -> usize {
    for refused in 0.. {
        let id = format!("{name}-{refused}");
        let reply =
            door.try_to_post("/async-function/f", &[sent, &[("X-Call-Id", &*id)]].concat(), "x").await;
        match reply.map(|reply| reply.status) {
            Some(202) => {
                accepted.push(id);
                return refused;
            }
            // NATS is away: the answer says when to come again, and that is a second.
            Some(503) | None => sleep(Duration::from_millis(100)).await,
            Some(status) => panic!("{name}: {status}"),
        }
    }
    unreachable!("each try is followed by another")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_accepted_is_called_though_the_broker_is_killed_twice() {
    let posts = size(300, 10_000);
    let mut nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let (door, settings) = Door::to(Worker::of(&nats, &gateway).set("ack_wait", "4s"));
    let _worker = settings.start().await;
    let begun = AtomicUsize::new(0);
    let client = async |_| {
        let (mut accepted, mut refused) = (Vec::new(), 0);
        loop {
            let number = begun.fetch_add(1, Ordering::Relaxed);
            if number >= posts {
                return (accepted, refused);
            }
            refused += post(door, &format!("call-{number}"), &[], &mut accepted).await;
        }
    };
    let kills = async {
        for third in 1..=2 {
            until("a third is posted", async || begun.load(Ordering::Relaxed) >= posts * third / 3).await;
            nats.restart().await;
        }
    };
    let (clients, ()) = tokio::join!(join_all((0..CLIENTS).map(client)), kills);
    let accepted: HashSet<String> = clients.iter().flat_map(|(accepted, _)| accepted.clone()).collect();
    assert_eq!(accepted.len(), posts);
    until("all are settled", async || nats.counts().await[..2] == [0, 0]).await;
    let mut called: HashMap<_, usize> = HashMap::new();
    gateway.calls().iter().for_each(|call| *called.entry(call.id().to_owned()).or_default() += 1);
    let lost: Vec<_> = accepted.iter().filter(|id| !called.contains_key(*id)).collect();
    assert!(lost.is_empty(), "accepted and not called: {lost:?}");
    assert_eq!(nats.count(DEAD).await, 0);
    let refused: usize = clients.iter().map(|(_, refused)| refused).sum();
    let repeated: usize = called.values().map(|calls| calls - 1).sum();
    println!(
        "     {posts} accepted with the broker killed twice: {} called, {refused} refused, of which {} were \
            called; {repeated} calls repeated",
        called.len(),
        called.len() - posts
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_key_around_the_deaths_of_broker_and_worker_is_called_once() {
    let keys = size(5, 100);
    let mut nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let (door, settings) = Door::to(Worker::of(&nats, &gateway));
    let mut worker = settings.start().await;
    let mut ids: HashMap<usize, HashSet<String>> = HashMap::new();
    let mut round = async |rounds: usize| {
        for key in (0..rounds).flat_map(|_| 0..keys) {
            let sent = format!("key-{key}");
            loop {
                let reply = door.try_to_post("/async-function/f", &[("Idempotency-Key", &*sent)], "x").await;
                if let Some(reply) = reply.filter(|reply| reply.status == 202) {
                    ids.entry(key).or_default().insert(reply.header("x-call-id").unwrap().to_owned());
                    break;
                }
                sleep(Duration::from_millis(20)).await;
            }
        }
    };
    let settled = async |nats: &Nats| {
        until("all are called", async || gateway.count() >= keys).await;
        until("all are settled", async || nats.counts().await == [0, 0, 0]).await;
    };
    round(3).await;
    // What is under way when its worker dies is called again, which is another matter.
    settled(&nats).await;
    worker.kill().await;
    let mut worker = settings.start().await;
    round(4).await;
    nats.restart().await;
    worker.ready().await;
    round(3).await;
    settled(&nats).await;
    assert_eq!(nats.stream(QUEUE).await.state.last_sequence, keys as u64, "each is stored once");
    assert!(ids.values().all(|ids| ids.len() == 1), "a key has one id");
    let mut called: HashMap<_, usize> = HashMap::new();
    gateway.calls().iter().for_each(|call| *called.entry(call.id().to_owned()).or_default() += 1);
    let calls: usize = called.values().sum();
    println!("     {keys} keys, each sent ten times around a worker's and a broker's death: {calls} calls");
    assert_eq!(called.len(), keys);
    assert!(!full() || calls == keys, "{called:?}");
    assert_eq!(worker.drain().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_put_off_outlives_worker_and_broker_and_is_never_early() {
    let (posts, delay) = (size(50, 1_000), Duration::from_secs(size(6, 30)));
    let mut nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let (door, settings) = Door::to(Worker::of(&nats, &gateway));
    let mut worker = settings.start().await;
    let (mut sent, mut accepted) = (HashMap::new(), Vec::new());
    let header = format!("{}s", delay.as_secs());
    for number in 0..posts {
        // The wait cannot begin before the request.
        let before = Instant::now();
        post(door, &format!("call-{number}"), &[("X-Delay", &header)], &mut accepted).await;
        sent.insert(accepted.last().unwrap().clone(), (before, Instant::now()));
    }
    worker.kill().await;
    nats.restart().await;
    worker = settings.start().await;
    until("all are called", async || gateway.count() >= posts).await;
    until("all are settled", async || nats.counts().await == [0, 0, 0]).await;
    let mut late = Vec::new();
    for call in gateway.calls() {
        let (before, after) = sent.remove(call.id()).expect("it is called once");
        assert!(call.arrived >= before + delay, "{} came early", call.id());
        late.push(call.arrived.saturating_duration_since(after + delay).as_secs_f64());
    }
    assert!(sent.is_empty(), "never called: {sent:?}");
    let (p50, p99) = (percentile(&mut late, 0.5), percentile(&mut late, 0.99));
    println!("     {posts} put off by {header}, over a restart of both: late p50 {p50:.3} s, p99 {p99:.3} s");
    bar("lateness of what was put off, p99, in seconds", p99, 1.0);
    drop(worker);
}
