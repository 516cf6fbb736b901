//! What calls cost the worker: processor time for each, and memory for those that run at once.

use std::{fs, time::Duration};

use tokio::time::Instant;

use crate::{
    bar, median, size,
    support::{Answer, Gateway, Invocation, Nats, QUEUE, Worker},
    until,
};

/// User and system time of a process so far, in clock ticks, of which Linux shows 100 a second on every
/// architecture.
pub fn ticks(process: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The second field is the program's name, in brackets, and may contain anything.
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    [11, 12].iter().map(|n| fields[*n].parse::<u64>().unwrap()).sum()
}

/// Each round is a new worker that finds the queue full, so that nothing else runs meanwhile but the broker
/// and the gateway.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
async fn a_call_costs_little_processor_time() {
    let (calls, rounds) = (size(500, 20_000), size(1, 5));
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    nats.make_queue().await;
    let settings = Worker::of(&nats, &gateway).set("max_inflight", 64);
    let mut costs = Vec::new();
    for _ in 0..rounds {
        nats.publish_all((0..calls).map(|_| Invocation::of("f").body(vec![b'x'; 1000]))).await;
        let made = gateway.count();
        let start = Instant::now();
        let mut worker = settings.start().await;
        until("all are settled", async || gateway.count() >= made + calls && nats.count(QUEUE).await == 0)
            .await;
        let cost = ticks(worker.id()) as f64 * 1e4 / calls as f64;
        let rate = calls as f64 / start.elapsed().as_secs_f64();
        let memory = worker.most_rss() >> 20;
        println!(
            "     {calls} calls, 64 at once, log and all: {cost:.1} µs each, {rate:.0} a second, at most \
                {memory} MiB resident"
        );
        costs.push(cost);
        assert_eq!(worker.drain().await, 0);
    }
    bar("processor time of a call, in µs, median", median(&mut costs), 150.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::cast_precision_loss, reason = "a worker has not so many bytes")]
async fn a_thousand_calls_at_once_need_little_memory() {
    let calls = size(100, 1_000);
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok().after(Duration::from_secs(3))).await;
    let worker = Worker::of(&nats, &gateway).set("max_inflight", calls).start().await;
    let before = worker.rss();
    nats.publish_all((0..calls).map(|_| Invocation::of("f").body(vec![b'x'; 1000]))).await;
    until("all are settled", async || gateway.count() >= calls && nats.count(QUEUE).await == 0).await;
    let each = (worker.most_rss() - before) as f64 / 1024.0 / calls as f64;
    let most = worker.most_rss() >> 20;
    println!("     {calls} calls of 1 kB at once: {each:.1} KiB each, at most {most} MiB resident");
    bar("memory of a running call, in KiB", each, 100.0);
}
