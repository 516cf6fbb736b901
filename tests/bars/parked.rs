//! Parked retries and fresh messages: the ones do not delay the others.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{
    bar, median, size,
    support::{Answer, Gateway, Invocation, Nats, QUEUE, RETRIES, Worker, free_port, http},
    until,
};

const MAX_INFLIGHT: u64 = 50;
const CONSUMERS: u64 = 2;
/// What a worker holds at most while its calls run.
const HELD: u64 = MAX_INFLIGHT + CONSUMERS;
/// And what the broker counts at most, with what is asked for ahead and the acknowledgements that are on
/// their way: no more of each than there are permits.
const BOUND: u64 = HELD + 2 * MAX_INFLIGHT;

/// A broker, a gateway and a worker that has nothing to do with any other.
struct House {
    nats: Nats,
    gateway: Gateway,
    /// The port of the broker's monitoring.
    watched: u16,
    _worker: Worker,
}

impl House {
    async fn open() -> Self {
        let watched = free_port();
        let nats = Nats::start_with(&format!("http: \"127.0.0.1:{watched}\"")).await;
        let gateway = Gateway::start(|call| match (call.function(), call.nth) {
            ("parked", _) | ("flaky", 1) => Answer::status(500),
            ("slow", _) => Answer::ok().after(Duration::from_secs(30)),
            _ => Answer::ok(),
        })
        .await;
        let settings =
            Worker::of(&nats, &gateway).set("initial_retry_wait", "10m").set("max_retry_wait", "10m");
        let worker = settings.set("max_inflight", MAX_INFLIGHT).start().await;
        Self { nats, gateway, watched, _worker: worker }
    }

    /// How many messages of either stream are unacknowledged, by the broker's monitoring: it reads all
    /// consumers in one go, while messages go from one to the other between two questions to the API. What a
    /// level has handed back is parked, and no call.
    async fn unacknowledged(&self) -> [u64; 2] {
        let (_, text) = http::get(self.watched, "/jsz?consumers=1").await.unwrap();
        let jsz: Value = serde_json::from_str(&text).unwrap();
        let streams = jsz["account_details"][0]["stream_detail"].as_array().unwrap();
        [QUEUE, RETRIES].map(|name| {
            let stream = streams.iter().find(|stream| stream["name"] == name).unwrap();
            let consumers = stream["consumer_detail"].as_array().unwrap();
            let calls = consumers
                .iter()
                .filter(|consumer| ["faas-workers", "due"].iter().any(|name| consumer["name"] == *name));
            calls.map(|consumer| consumer["num_ack_pending"].as_u64().unwrap()).sum()
        })
    }

    /// How long a batch of fresh messages takes, in seconds.
    async fn flow(&self, batch: usize) -> f64 {
        let end = self.gateway.count() + batch;
        let start = Instant::now();
        self.nats.publish_all((0..batch).map(|_| Invocation::of("fresh"))).await;
        until("the batch is called", async || self.gateway.count() >= end).await;
        let took = start.elapsed().as_secs_f64();
        until("the batch is settled", async || self.nats.count(QUEUE).await == 0).await;
        took
    }

    /// Fresh and due work at once, under the eyes of the broker: the most unacknowledged messages seen, how
    /// often they were more than allowed, and in how many looks.
    async fn mixed_flow(&self, batch: usize) -> (u64, u32, u32) {
        let over = AtomicBool::new(false);
        let (mut most, mut excess, mut looks) = (0, 0, 0);
        let watch = async {
            while !over.load(Ordering::Relaxed) {
                let [fresh, due] = self.unacknowledged().await;
                most = most.max(fresh + due);
                excess += u32::from(fresh + due > BOUND);
                looks += 1;
            }
        };
        let flow = async {
            let end = self.gateway.count() + 3 * batch;
            let flaky = || {
                Invocation::of("flaky")
                    .retry_annotation("min_wait", "100ms")
                    .retry_annotation("max_wait", "100ms")
            };
            let mixed = (0..2 * batch).map(|n| if n % 2 == 0 { Invocation::of("fresh") } else { flaky() });
            self.nats
                .publish_all(mixed.enumerate().map(|(n, call)| call.call_id(&format!("mixed-{n}"))))
                .await;
            until("fresh and due are called", async || self.gateway.count() >= end).await;
            over.store(true, Ordering::Relaxed);
        };
        tokio::join!(watch, flow);
        (most, excess, looks)
    }
}

/// The ratio of the second house's time to the first's, over so many rounds, taking turns in who goes first.
async fn ratio(first: &House, second: &House, rounds: usize, batch: usize) -> f64 {
    let mut ratios = Vec::new();
    for round in 0..rounds {
        let (with, without);
        if round % 2 == 0 {
            without = first.flow(batch).await;
            with = second.flow(batch).await;
        } else {
            with = second.flow(batch).await;
            without = first.flow(batch).await;
        }
        println!("     {batch} fresh messages: {without:.3} s in one house, {with:.3} s in the other");
        ratios.push(with / without);
    }
    median(&mut ratios)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parked_retries_delay_no_fresh_message_and_take_no_slot() {
    let (parked, batch, rounds) = (size(2_000, 20_000), size(500, 2_000), size(3, 9));
    let (without, with) = tokio::join!(House::open(), House::open());
    let noise = ratio(&without, &with, rounds, batch).await;
    with.nats.publish_all((0..parked).map(|_| Invocation::of("parked"))).await;
    until("all are parked", async || with.nats.counts().await == [0, parked, 0]).await;
    println!("     with none parked in either house the ratio is {noise:.3}; now {parked} are parked in one");
    let ratio = ratio(&without, &with, rounds, batch).await;

    let (most, excess, looks) = with.mixed_flow(batch).await;
    println!("     at most {most} unacknowledged in {looks} looks, of which {excess} saw more than {BOUND}");
    assert_eq!(excess, 0, "{most} unacknowledged at once");
    until("what is parked stays so", async || with.nats.counts().await == [0, parked, 0]).await;
    bar(&format!("fresh messages beside {parked} parked ones, time over time beside none"), ratio, 1.2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_is_unacknowledged_than_calls_may_run_and_one_for_each_consumer() {
    let house = House::open().await;
    let (most, excess, looks) = house.mixed_flow(size(1_000, 10_000)).await;
    println!("     at most {most} unacknowledged in {looks} looks, of which {excess} saw more than {BOUND}");
    assert_eq!(excess, 0, "{most} unacknowledged at once");

    let backlog = (0..4 * MAX_INFLIGHT).map(|n| Invocation::of("slow").call_id(&format!("slow-{n}")));
    house.nats.publish_all(backlog).await;
    until("all permits are taken", async || house.gateway.running() as u64 == MAX_INFLIGHT).await;
    let mut most = 0;
    for _ in 0..100 {
        most = house.unacknowledged().await.iter().sum::<u64>().max(most);
    }
    println!("     at most {most} while {MAX_INFLIGHT} calls run and others wait");
    assert!((MAX_INFLIGHT..=HELD).contains(&most), "{most} unacknowledged at once");
}

/// What was due before the kill may be in flight then, and only such a call may be repeated: how many are due
/// by then depends on the machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parked_retries_outlive_the_broker_and_come_due_once_each() {
    let (parked, wait) = (size(2_000, 20_000), size(30, 60));
    let mut nats = Nats::start().await;
    let gateway = Gateway::start(|call| Answer::status(if call.nth == 1 { 500 } else { 200 })).await;
    let settings = Worker::of(&nats, &gateway).set("initial_retry_wait", format!("{wait}s"));
    let _worker = settings.start().await;
    let start = Instant::now();
    nats.publish_all((0..parked).map(|n| Invocation::of("f").call_id(&format!("call-{n}")))).await;
    until("all are called once", async || gateway.count() as u64 >= parked).await;
    until("all are parked or due", async || nats.count(QUEUE).await == 0).await;
    println!(
        "     {parked} parked in {:.1} s, due {wait} s after they failed",
        start.elapsed().as_secs_f64()
    );
    nats.restart().await;
    let restarted = Instant::now();
    let left = nats.count(RETRIES).await;
    println!(
        "     the broker was killed and has {left} of them after {:.1} s",
        start.elapsed().as_secs_f64()
    );
    until("all are settled", async || nats.counts().await == [0, 0, 0]).await;
    // A repeated call would come within the lease of a lost acknowledgement; what is settled is not delivered
    // again.
    sleep(Duration::from_secs(1)).await;
    let calls = gateway.calls();
    let second: HashMap<&str, Instant> =
        calls.iter().filter(|call| call.nth == 2).map(|call| (call.id(), call.arrived)).collect();
    let early = second.values().filter(|arrived| **arrived < restarted).count();
    let oftener: HashSet<&str> = calls.iter().filter(|call| call.nth > 2).map(|call| call.id()).collect();
    let excess: Vec<&&str> = oftener.iter().filter(|id| second[**id] >= restarted).collect();
    println!(
        "     {} of {parked} were called once more, {early} of them before the restart; {} oftener",
        second.len(),
        oftener.len()
    );
    assert_eq!(second.len() as u64, parked);
    assert!(excess.is_empty(), "called oftener, and not in flight when the broker was killed: {excess:?}");
}
