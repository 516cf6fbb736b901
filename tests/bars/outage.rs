//! The gateway's provider is away for half a minute, and no message is the worse for it.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use crate::{
    bar, size,
    support::{Answer, Call, DEAD, Gateway, Invocation, Nats, Worker},
    until,
};

static AWAY: AtomicBool = AtomicBool::new(true);

/// What the gateway of OpenFaaS answers while its provider is away: that it finds no function, or nothing at
/// all.
fn without_a_provider(call: &Call) -> Answer {
    match call.nth % 3 {
        1 => Answer::status(404).body("error finding function f.openfaas-fn: connection refused"),
        2 => Answer::status(502).header("X-Served-By", "openfaas-ce/0.27"),
        _ => Answer::status(500).body("error finding function f.openfaas-fn: connection refused"),
    }
}

/// In full size under the default settings; the short form has a tenth of all times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_is_away_for_half_a_minute_costs_no_message() {
    let (messages, away) = (size(100, 3_000), Duration::from_secs(size(3, 30)));
    let nats = Nats::start().await;
    let gateway =
        Gateway::start(
            |call| if AWAY.load(Ordering::Relaxed) { without_a_provider(call) } else { Answer::ok() },
        )
        .await;
    let settings = Worker::of(&nats, &gateway);
    let settings = if crate::full() {
        settings
    } else {
        settings.set("initial_retry_wait", "1s").set("max_retry_wait", "12s")
    };
    let worker = settings.start().await;

    let (start, ticks) = (Instant::now(), 100);
    for tick in 0..ticks {
        sleep_until(start + away * tick / ticks).await;
        let share = |tick: u32| messages * tick as usize / ticks as usize;
        nats.publish_all(
            (share(tick)..share(tick + 1)).map(|n| Invocation::of("f").call_id(&format!("call-{n}"))),
        )
        .await;
    }
    sleep_until(start + away).await;
    AWAY.store(false, Ordering::Relaxed);
    let back = Instant::now();
    let metrics = async || worker.metrics().await;
    until("all are done", async || {
        #[allow(clippy::cast_precision_loss, reason = "a small number")]
        let all = messages as f64;
        metrics()
            .await
            .get("queue_worker_attempts_total", &[("outcome", "success")])
            .is_some_and(|done| done >= all)
    })
    .await;
    until("all are settled", async || nats.counts().await == [0, 0, 0]).await;
    let most = gateway.calls().iter().map(|call| call.nth).max().unwrap();
    println!(
        "     {messages} messages over {} s without a provider: {} calls, at most {most} of one",
        away.as_secs(),
        gateway.count()
    );
    assert_eq!(nats.count(DEAD).await, 0, "none was refused, none exhausted");
    // The third attempt may come in the last moment of the outage, and the fourth is 40 s after it.
    bar(
        "all are done so long after the provider came back, in seconds",
        back.elapsed().as_secs_f64(),
        size(5, 45).into(),
    );
}
