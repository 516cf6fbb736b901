//! Callbacks whose worker or broker dies or drains.

use crate::support::{Answer, DEAD, End, Gateway, Invocation, Latch, Nats, QUEUE, RETRIES, Worker};

#[tokio::test]
async fn a_callback_longer_than_the_grace_is_parked_and_posted_again_and_the_call_is_not_repeated() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok().body("hello")).await;
    let receiver = Gateway::start(|call| if call.nth <= 2 { Answer::silence() } else { Answer::ok() }).await;
    let settings = Worker::of(&nats, &gateway).set("shutdown_grace", "300ms").set("ack_wait", "10m");
    // First in place, then from the message that it was parked as.
    nats.make_queue().await;
    nats.publish(&Invocation::of("f").call_id("a").callback(&receiver.url())).await;
    for n in 1..=2 {
        let mut worker = settings.start().await;
        receiver.await_calls(n).await;
        assert_eq!(worker.drain().await, 0);
        assert_eq!(receiver.await_ended(n).await[n - 1].fate(), Some(End::Cut));
        nats.await_counts([0, 1, 0]).await;
        let parked = nats.messages(RETRIES).await.remove(0);
        let figures =
            ["Kind", "Attempts", "Hop"].map(|name| parked.expect(&format!("Queue-Worker-{name}")).to_owned());
        assert_eq!(figures, ["callback", "0", &n.to_string()], "what was cut off counts as nothing");
        assert_eq!(parked.header("Queue-Worker-Interruptions"), None);
    }
    let _worker = settings.start().await;
    assert_eq!(&*receiver.await_calls(3).await[2].request.body, b"hello");
    nats.await_counts([0, 0, 0]).await;
    assert_eq!((gateway.count(), receiver.count()), (1, 3));
}

#[tokio::test]
async fn a_parked_callback_whose_workers_die_is_posted_again_and_given_up_after_five() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let receiver =
        Gateway::start(|call| if call.nth == 1 { Answer::status(500) } else { Answer::silence() }).await;
    let settings = Worker::of(&nats, &gateway).set("ack_wait", "2s").set("initial_retry_wait", "10ms");
    let mut worker = settings.start().await;
    nats.publish(&Invocation::of("f").call_id("a").callback(&receiver.url())).await;
    for n in 2..=6 {
        receiver.await_calls(n).await;
        worker.kill().await;
        worker = settings.start().await;
    }
    let dead = nats.dead_letter().await;
    let figures =
        ["Cause", "Interruptions", "Attempts"].map(|name| dead.expect(&format!("Queue-Worker-{name}")));
    assert_eq!(figures, ["callback", "5", "1"]);
    assert_eq!((gateway.count(), receiver.count()), (1, 6));
}

#[tokio::test]
async fn a_worker_that_dies_between_a_dead_letter_and_its_callback_leaves_the_callback_to_the_next() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::status(400).body("no")).await;
    let receiver = Gateway::start(|call| if call.nth == 1 { Answer::silence() } else { Answer::ok() }).await;
    let settings = Worker::of(&nats, &gateway).set("ack_wait", "2s");
    let mut killed = settings.start().await;
    nats.publish(&Invocation::of("f").call_id("a").callback(&receiver.url())).await;
    receiver.await_calls(1).await;
    killed.kill().await;
    assert_eq!((nats.count(QUEUE).await, nats.count(DEAD).await), (1, 1));
    let _worker = settings.start().await;
    let calls = receiver.await_calls(2).await;
    let dead = nats.dead_letter().await;
    assert_eq!(dead.expect("Queue-Worker-Cause"), "refused");
    for (name, value) in
        [("x-function-status", "400"), ("x-retry", "0"), ("x-retry-max", "9"), ("x-body-truncated", "true")]
    {
        assert_eq!(calls[1].header(name), Some(value), "{name}");
    }
    assert_eq!((&*calls[0].request.body, &*calls[1].request.body), (&b"no"[..], &b""[..]));
    assert_eq!((gateway.count(), receiver.count()), (1, 2), "the call has ended and is not made again");
}

#[tokio::test]
async fn a_worker_that_dies_in_the_first_callback_of_a_success_takes_the_outcome_with_it() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let receiver = Gateway::start(|call| if call.nth == 1 { Answer::silence() } else { Answer::ok() }).await;
    let settings = Worker::of(&nats, &gateway).set("ack_wait", "2s");
    let mut killed = settings.start().await;
    nats.publish(&Invocation::of("f").call_id("a").callback(&receiver.url())).await;
    receiver.await_calls(1).await;
    killed.kill().await;
    let _worker = settings.start().await;
    receiver.await_calls(2).await;
    nats.await_counts([0, 0, 0]).await;
    assert_eq!((gateway.count(), receiver.count()), (2, 2));
}

#[tokio::test]
async fn a_parked_callback_outlives_the_broker() {
    let mut nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let receiver = Gateway::start(|call| Answer::status(if call.nth == 1 { 500 } else { 200 })).await;
    let _worker = Worker::of(&nats, &gateway).set("initial_retry_wait", "3s").start().await;
    nats.publish(&Invocation::of("f").call_id("a").callback(&receiver.url())).await;
    nats.await_counts([0, 1, 0]).await;
    nats.restart().await;
    receiver.await_calls(2).await;
    nats.await_counts([0, 0, 0]).await;
    assert_eq!((gateway.count(), receiver.count()), (1, 2));
}

#[tokio::test]
async fn a_callback_that_fails_while_the_broker_is_down_is_parked_when_it_is_back() {
    let latch = Latch::new();
    let held = latch.clone();
    let mut nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let receiver =
        Gateway::start(
            move |call| if call.nth == 1 { Answer::status(500).held_by(&held) } else { Answer::ok() },
        )
        .await;
    let _worker = Worker::of(&nats, &gateway).set("initial_retry_wait", "10ms").start().await;
    nats.publish(&Invocation::of("f").call_id("a").callback(&receiver.url())).await;
    receiver.await_calls(1).await;
    nats.kill().await;
    latch.open();
    receiver.await_ended(1).await;
    nats.boot().await;
    receiver.await_calls(2).await;
    nats.await_counts([0, 0, 0]).await;
    assert_eq!((gateway.count(), receiver.count()), (1, 2));
}
