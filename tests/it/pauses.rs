//! Pauses: of a queue and of a function, over all replicas and over restarts of everything.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::{Value, json};

use crate::support::{
    Answer, Gateway, Invocation, Latch, Nats, QUEUE, RETRIES, Settings, Worker, eventually, eventually_is,
};

/// The amounts of the queue.
async fn stats(settings: &Settings) -> Value {
    settings.run("queue stats --output json").await.done()["queues"][0].clone()
}

/// Awaits that a worker knows whether something is paused.
async fn await_known(worker: &Worker, function: &str, paused: bool) {
    let labels = [("queue_name", QUEUE), ("function_name", function)];
    let expected = f64::from(u8::from(paused));
    eventually("a worker knows what is paused", async || {
        worker.metrics().await.get("queue_worker_paused", &labels).unwrap_or(0.0) == expected
    })
    .await;
}

async fn await_held(settings: &Settings, many: u64) {
    eventually_is("messages are held", json!(many), async || stats(settings).await["held"].clone()).await;
}

async fn publish(nats: &Nats, function: &str, from: u32, many: u32) {
    for n in from..from + many {
        nats.publish(&Invocation::of(function).call_id(&format!("{function}-{n}"))).await;
    }
}

fn called(gateway: &Gateway, function: &str) -> Vec<String> {
    let calls = gateway.calls();
    calls.iter().filter(|call| call.function() == function).map(|call| call.id().to_owned()).collect()
}

#[tokio::test]
async fn a_paused_function_begins_no_call_on_any_replica_until_it_is_resumed_and_stops_no_other() {
    let mut nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let settings = Worker::of(&nats, &gateway).set("max_inflight", 3);
    let mut workers = vec![settings.start().await, settings.start().await];
    let paused = settings.run("queue pause --function f --reason broken --output json").await.done();
    assert_eq!((&paused["queue"], &paused["paused"]), (&json!(QUEUE), &json!(false)), "{paused}");
    let functions = paused["pausedFunctions"].as_array().unwrap();
    let names: Vec<_> = functions.iter().map(|function| &function["function"]).collect();
    assert_eq!(names, ["f", "f.openfaas-fn"]);
    assert!(functions.iter().all(|one| one["reason"] == "broken" && one["since"].is_string()));
    for worker in &workers {
        await_known(worker, "f.openfaas-fn", true).await;
    }

    publish(&nats, "f", 0, 20).await;
    publish(&nats, "f.openfaas-fn", 0, 2).await;
    publish(&nats, "g", 0, 20).await;
    eventually_is("the other's calls", 20, async || called(&gateway, "g").len()).await;
    await_held(&settings, 22).await;
    // One write each, however long it lasts and whatever is started anew.
    assert_eq!(nats.stream(RETRIES).await.state.last_sequence, 22);
    for worker in &mut workers {
        assert_eq!(worker.readyz().await.unwrap().0, 200);
        assert_eq!(worker.drain().await, 0);
    }
    nats.restart().await;
    let mut workers = vec![settings.start().await, settings.start().await];
    publish(&nats, "f", 20, 5).await;
    publish(&nats, "g", 20, 5).await;
    eventually_is("the other's calls", 25, async || called(&gateway, "g").len()).await;
    await_held(&settings, 27).await;
    assert_eq!(nats.stream(RETRIES).await.state.last_sequence, 27);
    assert_eq!(called(&gateway, "f").len() + called(&gateway, "f.openfaas-fn").len(), 0);

    let resumed = settings.run("queue resume --function f.openfaas-fn --output json").await.done();
    assert_eq!(resumed["pausedFunctions"], json!([]));
    nats.await_counts([0, 0, 0]).await;
    let ids = called(&gateway, "f");
    assert_eq!((ids.len(), ids.into_iter().collect::<BTreeSet<_>>().len()), (25, 25));
    assert_eq!(called(&gateway, "f.openfaas-fn").len(), 2);
    // A held message begins with the attempts that it had, and nothing was written on its way out.
    assert!(gateway.calls().iter().all(|call| call.retry() == 0));
    assert_eq!(nats.stream(RETRIES).await.state.last_sequence, 27);
    for worker in &mut workers {
        await_known(worker, "f.openfaas-fn", false).await;
        assert_eq!(worker.drain().await, 0);
    }
}

#[tokio::test]
async fn a_held_call_that_is_cancelled_ends_while_the_pause_lasts() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let settings = Worker::of(&nats, &gateway);
    let worker = settings.start().await;
    settings.run("queue pause --function f --output json").await.done();
    await_known(&worker, "f.openfaas-fn", true).await;
    publish(&nats, "f", 0, 2).await;
    await_held(&settings, 2).await;
    let cancelled = settings.run("calls cancel f-0 --yes --output json").await.done();
    assert_eq!(
        (&cancelled["state"], &cancelled["sequence"]),
        (&json!("cancelled"), &json!(1)),
        "{cancelled}"
    );
    assert_eq!(stats(&settings).await["held"], 1);
    settings.run("queue resume --function f --output json").await.done();
    let letter = nats.dead_letter().await;
    assert_eq!(letter.expect("Queue-Worker-Cause"), "cancelled");
    assert_eq!(called(&gateway, "f"), ["f-1"]);
}

#[tokio::test]
async fn a_paused_queue_leaves_everything_where_it_is_and_running_calls_end() {
    let (nats, latch) = (Nats::start().await, Latch::new());
    let gateway = Gateway::start({
        let latch = latch.clone();
        move |call| if call.id() == "f-0" { Answer::ok().held_by(&latch) } else { Answer::ok() }
    })
    .await;
    let settings = Worker::of(&nats, &gateway);
    let workers = [settings.start().await, settings.start().await];
    publish(&nats, "f", 0, 1).await;
    gateway.await_calls(1).await;
    assert_eq!(settings.run("queue pause").await.code, 0);
    for worker in &workers {
        await_known(worker, "all-functions", true).await;
    }
    publish(&nats, "f", 1, 10).await;
    // One for each worker may have been on its way just then: it is handed back, and is due again.
    let unsettled = async || {
        let stats = stats(&settings).await;
        ["pending", "running", "due", "parked"]
            .iter()
            .filter_map(|amount| stats[amount].as_u64())
            .sum::<u64>()
    };
    eventually_is("they wait beside the call that runs", 11, unsettled).await;
    latch.open();
    eventually_is("the running call ends", 10, unsettled).await;
    assert_eq!(gateway.count(), 1);
    for worker in &workers {
        assert_eq!(worker.readyz().await.unwrap().0, 200);
    }
    // A worker that comes meanwhile begins nothing either.
    let late = settings.start().await;
    await_known(&late, "all-functions", true).await;
    assert_eq!((gateway.count(), stats(&settings).await["paused"].clone()), (1, json!(true)));
    assert_eq!(settings.run("queue resume").await.code, 0);
    nats.await_counts([0, 0, 0]).await;
    assert_eq!(gateway.count(), 11);
}

#[tokio::test]
async fn retries_that_come_due_in_a_pause_are_held_and_take_no_attempt() {
    let fails = Arc::new(AtomicBool::new(true));
    let nats = Nats::start().await;
    let gateway = Gateway::start({
        let fails = fails.clone();
        move |_| Answer::status(if fails.load(Ordering::Relaxed) { 500 } else { 200 })
    })
    .await;
    let settings = Worker::of(&nats, &gateway)
        .set("initial_retry_wait", "2s")
        .set("max_retry_wait", "2s")
        .set("max_message_age", "1h");
    let worker = settings.start().await;
    publish(&nats, "f", 0, 3).await;
    gateway.await_ended(3).await;
    assert_eq!(settings.run("queue pause --function f").await.code, 0);
    await_known(&worker, "f.openfaas-fn", true).await;
    await_held(&settings, 3).await;
    let call = settings.run("calls show f-0 --output json").await.done();
    assert_eq!(
        (&call["state"], &call["note"]),
        (&json!("parked"), &json!("it is held, for its function is paused"))
    );
    let before = gateway.count();
    fails.store(false, Ordering::Relaxed);
    assert_eq!(settings.run("queue resume --function f").await.code, 0);
    nats.await_counts([0, 0, 0]).await;
    let calls = gateway.calls();
    assert_eq!(calls.len(), before + 3);
    // Each goes on with the attempt that was its next.
    for id in ["f-0", "f-1", "f-2"] {
        let retries: Vec<_> = gateway.calls_of(id).iter().map(super::support::Call::retry).collect();
        assert_eq!(retries, (0..retries.len() as u32).collect::<Vec<_>>(), "{id}");
    }
}

#[tokio::test]
async fn what_is_paused_is_told_and_what_is_not_cannot_be_resumed() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let settings = Worker::of(&nats, &gateway);
    let early = settings.run("queue pause --function f").await;
    assert_eq!(early.code, 1, "{early:?}");
    assert_eq!(settings.run("queue stats").await.code, 3);
    let mut worker = settings.start().await;
    for line in ["queue resume", "queue resume --function f"] {
        assert_eq!(settings.run(line).await.code, 3, "{line}");
    }
    for line in ["queue", "queue pause --function ..", "queue pause f", "queue stop"] {
        assert_eq!(settings.run(line).await.code, 64, "{line}");
    }
    let table = settings.run("queue pause --function f.ns").await;
    assert!(table.code == 0 && table.out.contains("f.ns"), "{table:?}");
    await_known(&worker, "f.ns", true).await;
    let again = settings.run("queue pause --function f.ns --output json").await.done();
    assert_eq!(again["pausedFunctions"].as_array().unwrap().len(), 1);
    let hint = settings.run("queue resume").await;
    assert!(hint.code == 3 && hint.err.contains("f.ns"), "{hint:?}");
    let amounts = settings.run("queue stats").await;
    assert!(amounts.code == 0 && amounts.out.contains("1 function"), "{amounts:?}");
    assert!(amounts.out.contains("PAUSED  SINCE") && amounts.out.contains("f.ns  "), "{amounts:?}");
    let late = settings.run("queue pause --function f.ns --reason late").await;
    assert!(late.code == 0 && late.err.contains("paused already") && !late.out.contains("late"), "{late:?}");
    assert_eq!(settings.run("queue resume --function f.ns").await.code, 0);
    await_known(&worker, "f.ns", false).await;
    let told = |word| worker.log_with(word).iter().filter(|line| line.contains("f.ns")).count();
    eventually("it is told", async || told("Paused") == 1 && told("Resumed") == 1).await;
    worker.drain().await;
}

#[tokio::test]
async fn a_function_that_is_paused_while_it_fails_is_not_tried_again_in_place() {
    let (nats, latch) = (Nats::start().await, Latch::new());
    let held = latch.clone();
    let gateway = Gateway::start(move |call| match call.nth {
        1 => Answer::status(500).held_by(&held),
        _ => Answer::ok(),
    })
    .await;
    let settings = Worker::of(&nats, &gateway).set("immediate_retries", 1);
    let worker = settings.start().await;
    publish(&nats, "f", 0, 1).await;
    gateway.await_calls(1).await;
    assert_eq!(settings.run("queue pause --function f").await.code, 0);
    await_known(&worker, "f.openfaas-fn", true).await;
    latch.open();
    await_held(&settings, 1).await;
    assert_eq!(gateway.count(), 1);
    assert_eq!(settings.run("queue resume --function f").await.code, 0);
    nats.await_counts([0, 0, 0]).await;
    // The try that failed counts.
    assert_eq!(gateway.calls().iter().map(|call| call.retry()).collect::<Vec<_>>(), [0, 1]);
}
