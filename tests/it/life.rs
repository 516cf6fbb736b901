//! From the queue to a success, or through all retries to the dead letters.

use std::time::Duration;

use crate::support::{Answer, Call, Gateway, Invocation, Nats, Worker};

/// From the end of each call to the arrival of the next.
fn waits(calls: &[Call]) -> Vec<Duration> {
    calls.windows(2).map(|pair| pair[1].arrived - pair[0].end.expect("the call has ended").0).collect()
}

#[tokio::test]
async fn a_call_that_succeeds_leaves_nothing_behind() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let _worker = Worker::of(&nats, &gateway).start().await;
    nats.publish(&Invocation::of("f").call_id("a").body("hello")).await;

    let calls = gateway.await_calls(1).await;
    assert_eq!((calls[0].function(), &*calls[0].request.body), ("f", &b"hello"[..]));
    nats.await_counts([0, 0, 0]).await;
    assert_eq!(gateway.count(), 1);
}

#[tokio::test]
async fn each_wait_is_twice_the_last_up_to_the_maximum_and_never_cut_short() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|call| Answer::status(if call.nth < 6 { 500 } else { 200 })).await;
    let settings =
        Worker::of(&nats, &gateway).set("initial_retry_wait", "200ms").set("max_retry_wait", "700ms");
    let _worker = settings.start().await;
    let mut clones = nats.watch_parked().await;
    nats.publish(&Invocation::of("f").call_id("a")).await;

    let calls = gateway.await_ended(6).await;
    nats.await_counts([0, 0, 0]).await;
    assert_eq!(gateway.count(), 6);
    let expected = [200, 400, 700, 700, 700].map(Duration::from_millis);
    for (n, (waited, least)) in waits(&calls).into_iter().zip(expected).enumerate() {
        assert!(waited >= least, "wait {}: {waited:?} is shorter than {least:?}", n + 1);
    }
    // The timer may be late, so that the maximum shows in what it was set to.
    for (clone, most) in clones.take(5).await.iter().zip(expected) {
        let set_to = clone.time_in("Queue-Worker-Due").duration_since(clone.time).unwrap_or_default();
        assert!(set_to <= most + Duration::from_millis(50), "parked for {set_to:?}, more than {most:?}");
    }
}

#[tokio::test]
async fn what_keeps_failing_is_called_exactly_so_often_and_then_dead_lettered() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::status(504)).await;
    let settings = Worker::of(&nats, &gateway).set("initial_retry_wait", "10ms").set("max_retry_attempts", 4);
    let _worker = settings.start().await;
    nats.publish(&Invocation::of("f").call_id("a")).await;

    assert_eq!(nats.dead_letter().await.expect("Queue-Worker-Cause"), "exhausted");
    let retries: Vec<_> = gateway.calls().iter().map(Call::retry).collect();
    assert_eq!(retries, [0, 1, 2, 3]);
    assert!(gateway.calls().iter().all(|call| call.header("x-retry-max") == Some("3")));
}

#[tokio::test]
async fn a_failing_function_that_is_repaired_completes_what_waits_for_it() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|call| Answer::status(if call.nth == 1 { 500 } else { 202 })).await;
    let _worker = Worker::of(&nats, &gateway).set("initial_retry_wait", "100ms").start().await;
    for n in 0..20 {
        nats.publish(&Invocation::of("f").call_id(&format!("call-{n}"))).await;
    }
    gateway.await_calls(40).await;
    nats.await_counts([0, 0, 0]).await;
    for n in 0..20 {
        assert_eq!(gateway.calls_of(&format!("call-{n}")).len(), 2, "call-{n}");
    }
}

#[tokio::test]
async fn a_call_without_an_id_gets_one_that_stays_over_its_retries() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::status(500)).await;
    let settings = Worker::of(&nats, &gateway).set("initial_retry_wait", "10ms").set("max_retry_attempts", 3);
    let _worker = settings.start().await;
    nats.publish(&Invocation::of("f")).await;

    let dead = nats.dead_letter().await;
    let ids: Vec<_> = gateway.calls().iter().map(|call| call.id().to_owned()).collect();
    let id: uuid::Uuid = ids[0].parse().unwrap_or_else(|error| panic!("{}: {error}", ids[0]));
    assert_eq!(id.get_version_num(), 5);
    assert_eq!(ids, vec![id.to_string(); 3]);
    assert_eq!(dead.expect("Queue-Worker-Call-Id"), id.to_string());
}

#[tokio::test]
async fn two_calls_that_share_an_id_are_two_calls() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::status(500)).await;
    let settings = Worker::of(&nats, &gateway).set("initial_retry_wait", "10ms").set("max_retry_attempts", 3);
    let _worker = settings.start().await;
    nats.publish(&Invocation::of("f").call_id("same")).await;
    nats.publish(&Invocation::of("f").call_id("same")).await;

    let dead = nats.dead_letters(2).await;
    assert_eq!(gateway.count(), 6);
    assert_ne!(dead[0].expect("Queue-Worker-Original-Id"), dead[1].expect("Queue-Worker-Original-Id"));
}

#[tokio::test]
async fn one_attempt_or_none_means_no_retry() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::status(500)).await;
    for (n, attempts) in [(1, "1"), (2, "0")] {
        let mut worker = Worker::of(&nats, &gateway).set("max_retry_attempts", attempts).start().await;
        nats.publish(&Invocation::of("f").call_id(attempts)).await;
        nats.dead_letters(n).await;
        let calls = gateway.calls_of(attempts);
        assert_eq!((calls.len(), calls[0].header("x-retry-max")), (1, Some("0")));
        assert_eq!(worker.drain().await, 0);
    }
}

#[tokio::test]
async fn a_gateway_that_is_down_is_tried_again_until_it_is_up() {
    let nats = Nats::start().await;
    let mut gateway = Gateway::start(|_| Answer::ok()).await;
    let settings =
        Worker::of(&nats, &gateway).set("initial_retry_wait", "100ms").set("max_retry_wait", "300ms");
    let _worker = settings.set("max_retry_attempts", 1000).start().await;
    gateway.close().await;
    let mut clones = nats.watch_parked().await;
    nats.publish(&Invocation::of("f").call_id("a")).await;

    let clone = clones.take(2).await.remove(1);
    assert_eq!(clone.header("Queue-Worker-Last-Status"), None);
    let error = clone.expect("Queue-Worker-Last-Error");
    assert!(!error.is_empty() && !error.contains("http"), "{error}");
    gateway.open().await;
    gateway.await_calls(1).await;
    nats.await_counts([0, 0, 0]).await;
    assert_eq!(gateway.count(), 1);
}
