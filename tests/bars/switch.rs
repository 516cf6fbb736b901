//! What one timer parked is called once, whichever timer and whichever server comes after.

use tokio::time::{Duration, Instant, sleep};

use crate::{
    size,
    support::{Answer, Gateway, Invocation, Nats, QUEUE, Worker},
    until,
};

/// Parks so many retries with the first settings, and serves them with the second after `change`.
async fn check(what: &str, mut nats: Nats, timers: [&str; 2], change: impl AsyncFnOnce(&mut Nats)) {
    let (parked, wait) = size((500, 8), (5_000, 30));
    let gateway = Gateway::start(|call| Answer::status(if call.nth == 1 { 500 } else { 200 })).await;
    let settings = Worker::of(&nats, &gateway).set("initial_retry_wait", format!("{wait}s"));
    let mut worker = settings.clone().set("retry_timer", timers[0]).start().await;
    nats.publish_all((0..parked).map(|n| Invocation::of("f").call_id(&format!("call-{n}")))).await;
    until("all are called once", async || gateway.count() >= parked).await;
    until("all are parked", async || nats.count(QUEUE).await == 0).await;
    assert_eq!(worker.drain().await, 0);
    let before = gateway.count() - parked;
    change(&mut nats).await;
    let start = Instant::now();
    let worker = settings.set("retry_timer", timers[1]).start().await;
    until("all are settled", async || nats.counts().await == [0, 0, 0]).await;
    println!(
        "     {what}: {parked} parked, {before} called before the change, all settled {:.1} s after it",
        start.elapsed().as_secs_f64()
    );
    // A repeated call would come within the lease of a lost acknowledgement; what is settled is not delivered
    // again.
    sleep(Duration::from_secs(1)).await;
    let calls = gateway.calls();
    let (twice, thrice) =
        (calls.iter().filter(|call| call.nth == 2).count(), calls.iter().filter(|call| call.nth > 2).count());
    assert_eq!((twice, thrice), (parked, 0), "{what}");
    drop(worker);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_retries_come_due_once_after_the_timer_was_changed() {
    let nats = Nats::start().await;
    let schedules = if nats.schedules() { "schedules" } else { "auto" };
    check("to levels", nats, [schedules, "levels"], async |_| {}).await;
    check("from levels", Nats::start().await, ["levels", schedules], async |_| {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_retries_come_due_once_after_a_newer_server_took_the_old_ones_place() {
    check("a newer server", Nats::start_old().await, ["auto", "auto"], async |nats| nats.replace().await)
        .await;
}
