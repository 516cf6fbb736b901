//! Calls that are cancelled while they are parked, wait and run.

use std::collections::BTreeMap;

use super::{NEWER, OLDER, PERMITS, Site, is_of, is_older, told};
use crate::{
    size,
    support::{Call, QUEUE, Stored},
    until,
};

/// How the calls of this name, which were cancelled, ended. Of those that were called again, or at all, none
/// was by the newer worker.
fn check(site: &Site, ends: &BTreeMap<String, Option<Stored>>, name: &str, again: impl Fn(&Call) -> bool) {
    let called = |n: usize| site.calls_of(n, |call| is_of(call.id(), name) && again(call));
    let (mut causes, mut many) = (BTreeMap::<&str, usize>::new(), 0);
    for (_, letter) in ends.iter().filter(|(id, _)| is_of(id, name)) {
        let cause = letter.as_ref().map_or("done", |letter| letter.expect("Queue-Worker-Cause"));
        *causes.entry(cause).or_default() += 1;
        many += 1;
    }
    told(&format!("cancelled while {name}"), many, called(OLDER), &format!("{causes:?}"));
    assert_eq!(called(NEWER), 0, "the newer worker called what was cancelled while {name}");
    assert!(is_older() || causes.keys().eq(["cancelled"].iter()), "{name}: {causes:?}");
}

/// Publishes as many calls as there are permits, and awaits that they take them all.
async fn fill(site: &Site, name: &str, function: &str) {
    site.publish(name, &[function], 0..2 * PERMITS).await;
    let running = |calls: &[Call]| calls.iter().filter(|call| is_of(call.id(), name)).count();
    site.gateway.await_that("all permits are taken", |calls| running(calls) == 2 * PERMITS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_cancelled_beside_an_older_worker_comes_to_one_end() {
    let (few, many) = (size(4, 24), size(20, 400));
    // What the older one parks again comes back while there is patience for it.
    let mut site = Site::open(if is_older() { "30s" } else { "1h" }, 3).await;
    site.publish("parked", &["bad"], 0..few).await;
    site.publish("swept", &["bad-one"], 0..many).await;
    until("all are parked", async || site.nats.counts().await == [0, (few + many) as u64, 0]).await;
    let swept = site.run("retries cancel --function bad-one --yes").await;
    assert_eq!(swept["cancelled"], many, "{swept}");
    site.cancel("parked", few).await;

    fill(&site, "busy", "busy").await;
    site.publish("waiting", &["good"], 0..few).await;
    site.cancel("waiting", few).await;
    site.busy.open();
    until("none waits", async || site.nats.count(QUEUE).await == 0).await;

    fill(&site, "running", "held").await;
    site.cancel("running", 2 * PERMITS).await;
    if is_older() {
        // The broker gives its calls to whoever comes first, also to itself when it runs again.
        site.kill(OLDER).await;
    }
    site.held.open();
    site.ended().await;
    let ends = site.ends(2 * few + many + 4 * PERMITS).await;
    check(&site, &ends, "parked", |call| call.retry() > 0);
    check(&site, &ends, "swept", |call| call.retry() > 0);
    check(&site, &ends, "waiting", |_| true);
    check(&site, &ends, "running", |call| call.nth > 1);
}
