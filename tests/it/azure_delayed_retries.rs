//! Recoverability as people build it by hand on other brokers: immediate retries, then delayed ones, each
//! with its immediate ones again, then the error queue; all of it correlated by the original message's id.

use std::time::Duration;

use crate::support::{Answer, Call, Gateway, Invocation, Nats, QUEUE, Worker, base36};

/// Five tries at once, twice more after a wait, as in docs/behaviour.md.
const TRIES: usize = 5;
const DELAYED: usize = 2;
const WAIT: Duration = Duration::from_millis(500);

#[tokio::test]
async fn azure_delayed_retries_are_immediate_then_delayed_then_the_error_queue() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::status(500)).await;
    let settings = Worker::of(&nats, &gateway)
        .set("immediate_retries", TRIES - 1)
        .set("max_retry_attempts", TRIES * (DELAYED + 1))
        .set("initial_retry_wait", "500ms")
        .set("max_retry_wait", "500ms");
    let _worker = settings.start().await;
    let mut parked = nats.watch_parked().await;
    let sequence = nats.publish(&Invocation::of("f").call_id("order-7")).await;
    let mut original = None;
    for delayed in 1..=DELAYED {
        let clone = parked.next().await;
        let attempts = (TRIES * delayed).to_string();
        assert_eq!(clone.expect("Queue-Worker-Attempts"), attempts);
        let id = original.get_or_insert_with(|| clone.expect("Queue-Worker-Original-Id").to_owned());
        assert_eq!(clone.expect("Queue-Worker-Original-Id"), id.as_str());
    }
    let letter = nats.dead_letter().await;
    let original = original.unwrap();
    assert_eq!(letter.expect("Queue-Worker-Original-Id"), original);
    let stored = letter.time_in("Queue-Worker-First-Seen");
    let nanoseconds = stored.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap().as_nanos();
    assert_eq!(original, format!("{QUEUE}:{sequence}-{}", base36(nanoseconds)));
    assert_eq!(
        (letter.expect("Queue-Worker-Cause"), letter.expect("Queue-Worker-Attempts")),
        ("exhausted", "15")
    );

    let calls = gateway.calls();
    assert_eq!(calls.iter().map(Call::retry).collect::<Vec<_>>(), (0..15).collect::<Vec<_>>());
    assert!(calls.iter().all(|call| call.id() == "order-7"));
    for (n, pair) in calls.windows(2).enumerate() {
        let between = pair[1].arrived - pair[0].end.unwrap().0;
        // How soon an immediate one is depends on the machine; that a delayed one waits does not.
        assert!((n + 1) % TRIES != 0 || between >= WAIT, "{n}: {between:?}");
    }
}
