//! Retries come when they are due: never before, and not long after.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use tokio::time::{Instant, sleep_until};

use crate::{
    bar, percentile, size,
    support::{Answer, Gateway, Invocation, Nats, Worker},
    until,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_are_never_early_and_seldom_late() {
    let (retries, within, wait) = (size(1_000, 20_000), size(2, 20), Duration::from_secs(size(4, 25)));
    let nats = Nats::start().await;
    let gateway = Gateway::start(|call| Answer::status(if call.nth == 1 { 500 } else { 200 })).await;
    let settings = Worker::of(&nats, &gateway).set("initial_retry_wait", format!("{}s", wait.as_secs()));
    let _worker = settings.set("max_inflight", 200).start().await;
    let mut holders = nats.watch_parked().await;
    // The same moment by both clocks.
    let (instant, wall) = (Instant::now(), SystemTime::now());

    let promised = tokio::spawn(async move {
        let mut due = HashMap::new();
        for holder in holders.take(retries).await {
            due.insert(holder.expect("Queue-Worker-Call-Id").to_owned(), holder.time_in("Queue-Worker-Due"));
        }
        due
    });
    let ticks = within * 50;
    let start = Instant::now();
    for tick in 0..ticks {
        sleep_until(start + Duration::from_millis(20) * tick).await;
        let share = |tick: u32| retries * tick as usize / ticks as usize;
        nats.publish_all(
            (share(tick)..share(tick + 1)).map(|n| Invocation::of("f").call_id(&format!("call-{n}"))),
        )
        .await;
    }
    until("all are called twice", async || gateway.count() >= 2 * retries).await;
    let due = promised.await.unwrap();
    until("all are settled", async || nats.counts().await == [0, 0, 0]).await;

    let calls = gateway.calls();
    assert_eq!(calls.len(), 2 * retries);
    let ended: HashMap<_, _> =
        calls.iter().filter(|call| call.nth == 1).map(|call| (call.id(), call.end.unwrap().0)).collect();
    let (mut by_gateway, mut by_header) = (Vec::new(), Vec::new());
    for second in calls.iter().filter(|call| call.nth == 2) {
        let earliest = ended[second.id()] + wait;
        assert!(second.arrived >= earliest, "{} came {:?} early", second.id(), earliest - second.arrived);
        by_gateway.push((second.arrived - earliest).as_secs_f64());
        let arrived = wall + (second.arrived - instant);
        let late = arrived.duration_since(due[second.id()]);
        by_header.push(
            late.unwrap_or_else(|early| panic!("{} came {early:?} before it was due", second.id()))
                .as_secs_f64(),
        );
    }
    assert_eq!(by_gateway.len(), retries);
    let spread = (percentile(&mut by_gateway, 0.0), percentile(&mut by_gateway, 1.0));
    println!(
        "     {retries} retries within {within} s: {:.3} s to {:.3} s after the answer and the wait",
        spread.0, spread.1
    );
    println!(
        "     after Queue-Worker-Due: p50 {:.3} s, p99 {:.3} s",
        percentile(&mut by_header, 0.5),
        percentile(&mut by_header, 0.99)
    );
    bar("lateness of a retry, p50, in seconds", percentile(&mut by_gateway, 0.5), 0.3);
    bar("lateness of a retry, p99, in seconds", percentile(&mut by_gateway, 0.99), 0.6);
}
