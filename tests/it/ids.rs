//! Call ids as callers choose them: in any characters, long, and given twice.

use serde_json::json;

use crate::support::{Answer, Gateway, Invocation, Nats, QUEUE, Settings, Worker, eventually};

/// A gateway at which `no` is refused and all else is retried.
async fn gateway() -> Gateway {
    Gateway::start(|call| Answer::status(if call.function() == "no" { 400 } else { 500 })).await
}

fn patient(nats: &Nats, gateway: &Gateway) -> Settings {
    Worker::of(nats, gateway).set("initial_retry_wait", "1h").set("max_retry_wait", "1h")
}

async fn words(settings: &Settings, words: &[&str]) -> serde_json::Value {
    settings.run_words(&[words, &["--output", "json"]].concat()).await.json()
}

#[tokio::test]
async fn a_call_is_found_and_cancelled_by_its_id_as_the_caller_wrote_it_and_as_lists_have_it() {
    let nats = Nats::start().await;
    let gateway = gateway().await;
    let settings = patient(&nats, &gateway);
    let _worker = settings.start().await;
    let long = "x".repeat(300);
    for (n, id) in ["\u{fc}/\u{65e5}", &long, "a b"].into_iter().enumerate() {
        let (dead, parked) = (format!("dead-{id}"), format!("parked-{id}"));
        nats.publish(&Invocation::of("no").call_id(&dead)).await;
        nats.publish(&Invocation::of("bad").call_id(&parked)).await;
        nats.await_counts([0, 1, 2 * n as u64 + 1]).await;
        let listed = |command: &'static str| {
            let settings = &settings;
            async move { words(settings, &[command, "list", "--function", "bad"]).await["items"][0].clone() }
        };
        let in_list = listed("retries").await["callId"].as_str().unwrap().to_owned();
        for id in [&parked, &in_list] {
            assert_eq!(words(&settings, &["calls", "show", id]).await["state"], "parked", "{id}");
        }
        assert_eq!(words(&settings, &["calls", "show", &dead]).await["state"], "dead", "{dead}");
        // Whichever of the two is told to the workers, they know whom it means.
        let told = if n % 2 == 0 { &in_list } else { &parked };
        let cancelled = words(&settings, &["calls", "cancel", told, "--yes"]).await;
        assert_eq!(cancelled["state"], "cancelled", "{told}: {cancelled}");
        assert_eq!(gateway.calls_of(&parked).len(), 1, "{parked}");
    }
}

#[tokio::test]
async fn of_two_long_ids_that_begin_alike_one_is_cancelled() {
    let nats = Nats::start().await;
    let gateway = gateway().await;
    let settings = patient(&nats, &gateway);
    let _worker = settings.start().await;
    let [one, other] = ["1", "2"].map(|end| format!("{}{end}", "x".repeat(400)));
    for id in [&one, &other] {
        nats.publish(&Invocation::of("bad").call_id(id)).await;
    }
    nats.await_counts([0, 2, 0]).await;
    assert_eq!(words(&settings, &["calls", "cancel", &one, "--yes"]).await["state"], "cancelled");
    nats.await_counts([0, 1, 1]).await;
    assert_eq!(words(&settings, &["calls", "show", &other]).await["state"], "parked");
    assert_eq!([&one, &other].map(|id| gateway.calls_of(id).len()), [1, 1]);
}

#[tokio::test]
async fn a_call_that_is_waited_for_is_found_by_a_long_id() {
    let nats = Nats::start().await;
    let gateway = gateway().await;
    let settings = patient(&nats, &gateway);
    let _worker = settings.start().await;
    let header = format!("X-Call-Id: {}", "x".repeat(300));
    let ended = settings.run_words(&["invoke", "no", "--header", &header, "--wait"]).await;
    assert_eq!(ended.code, 1, "{ended:?}");
}

#[tokio::test]
async fn what_is_told_of_a_cancel_is_not_of_a_call_of_the_same_id_that_died_before() {
    let nats = Nats::start().await;
    let gateway = gateway().await;
    let settings = patient(&nats, &gateway);
    let _worker = settings.start().await;
    nats.publish(&Invocation::of("no").call_id("twice")).await;
    nats.await_counts([0, 0, 1]).await;
    nats.publish(&Invocation::of("bad").call_id("twice")).await;
    nats.await_counts([0, 1, 1]).await;
    let cancelled = words(&settings, &["calls", "cancel", "twice", "--yes"]).await;
    assert_eq!(
        cancelled,
        json!({
            "callId": "twice", "state": "cancelled", "queue": QUEUE, "function": "bad", "sequence": 2,
        })
    );
    eventually("both are shown", async || {
        let shown = words(&settings, &["calls", "show", "twice"]).await;
        shown["state"] == "cancelled" && shown["others"][0]["state"] == "dead"
    })
    .await;
}
