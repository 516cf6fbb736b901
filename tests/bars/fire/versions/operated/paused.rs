//! A function that is paused, and then the whole queue.

use tokio::time::{Instant, sleep};

use super::{CALL, NEWER, OLDER, Site, is_older, told};
use crate::{
    size,
    support::{Call, QUEUE},
    until,
};

/// So long after a pause a worker may begin a call.
const GRACE: std::time::Duration = std::time::Duration::from_secs(1);

/// Awaits that workers have learned of a pause that was just made, and says when that was.
async fn learned() -> Instant {
    sleep(GRACE + CALL).await;
    Instant::now()
}

fn is_paused(call: &Call, since: Instant) -> bool {
    call.arrived > since && super::is_of(call.id(), "paused")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_paused_beside_an_older_worker_is_all_called_in_the_end() {
    let (some, many) = (size(20, 200), size(100, 2_000));
    let mut site = Site::open("1s", 1_000).await;
    site.run("queue pause --function twice").await;
    let since = learned().await;
    // One in two fails at first, so that some of what the older worker calls is parked.
    site.publish("paused", &["twice"], 0..many).await;
    site.publish("free", &["good"], 0..many).await;
    until("some are called", async || site.gateway.count() > some).await;
    site.kill(NEWER).await;
    until("more are called", async || site.gateway.count() > 2 * some).await;
    site.kill(OLDER).await;
    let free = || site.gateway.count_that(|call| super::is_of(call.id(), "free"));
    until("the others are called", async || free() >= many && site.nats.count(QUEUE).await == 0).await;
    let stats = site.run("queue stats").await["queues"][0].clone();
    let called = |n| site.calls_of(n, |call| is_paused(call, since));
    let [by_older, by_newer] = [called(OLDER), called(NEWER)];
    told("of a paused function", many, by_older, &format!("{} held by then", stats["held"]));
    assert_eq!(by_newer, 0, "the newer worker called what is paused");
    assert!(is_older() || by_older == 0 && stats["held"] == many, "{by_older} called, {stats}");
    site.run("queue resume --function twice").await;
    site.ended().await;
    site.ends(2 * many).await;

    site.run("queue pause").await;
    let since = learned().await;
    site.publish("stopped", &["good"], 0..many).await;
    let called = |n| site.calls_of(n, |call| call.arrived > since);
    let waits = || is_older() && called(OLDER) < many;
    until("the older worker has called them", async || !waits()).await;
    _ = learned().await;
    told("of a paused queue", many, called(OLDER), "");
    assert_eq!(called(NEWER), 0, "the newer worker called what is paused");
    assert!(is_older() || called(OLDER) == 0);
    site.run("queue resume").await;
    site.ended().await;
    site.ends(3 * many).await;
}
