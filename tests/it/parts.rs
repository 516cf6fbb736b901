//! The parts that a worker lives on: each is ended in turn, and is mended or ends the worker. Nothing ends in
//! silence.

use queue_worker::tasks::supervisor::Part;

use crate::support::{Answer, End, Faults, Gateway, Invocation, Latch, Nats, Worker, eventually, stan::Peer};

const RESTARTS: &str = "queue_worker_part_restarts_total";

/// Awaits what `/readyz` says.
async fn await_readiness(worker: &Worker, status: u16, text: &str) {
    eventually(&format!("/readyz says {status} {text}"), async || {
        worker.readyz().await.is_some_and(|(found, reason)| found == status && reason.contains(text))
    })
    .await;
}

/// A part that is ended so is named by `/readyz` while it is not there, then mended, told of and counted.
async fn is_mended(worker: &Worker, faults: &Faults, part: Part, fault: &str, provoke: impl AsyncFn()) {
    let before = worker.metrics().await.value(RESTARTS, &[("part", part.name())]);
    let hold = format!("{part}.hold");
    faults.add(&hold);
    faults.add(fault);
    provoke().await;
    if part == Part::Pages {
        // Whoever asks now is answered when it is there again.
        eventually("the pages are away", async || faults.has_struck(fault)).await;
        faults.remove(&hold);
    } else {
        await_readiness(worker, 503, &format!("{part}")).await;
        faults.remove(&hold);
    }
    await_readiness(worker, 200, "ready").await;
    assert_eq!(worker.metrics().await.value(RESTARTS, &[("part", part.name())]), before + 1.0, "{part}");
    let how = if fault.ends_with("panic") { "panicked" } else { "ended" };
    worker
        .await_log(&["warn", "a part of the worker was lost", &format!("{part}"), how, "started again"])
        .await;
}

#[tokio::test]
async fn each_part_that_ends_or_panics_is_mended_and_the_worker_works_on() {
    let nats = Nats::start().await;
    let receiver = Gateway::start(|_| Answer::ok()).await;
    let gateway =
        Gateway::start(|call| Answer::status(if call.function() == "bad" { 400 } else { 200 })).await;
    let faults = Faults::new();
    let settings = Worker::of(&nats, &gateway)
        .set("retry_timer", "levels")
        .set("stan_bridge", true)
        .set("ingress_addr", "127.0.0.1:0")
        .set("api_addr", "127.0.0.1:0")
        .set("audit", "all")
        .set("function_lookup", true);
    let worker = settings.mortal(&faults).start().await;
    // A callback starts the thread that posts them.
    let calls = async |id: &str| {
        let invocation = Invocation::of("f").call_id(id).callback(&format!("{}/{id}", receiver.url()));
        nats.publish(&invocation).await;
        receiver
            .await_that("the callback", |calls| calls.iter().any(|call| call.target() == format!("/{id}")))
            .await;
    };
    calls("before").await;
    for (nth, part) in Part::ALL.iter().enumerate() {
        // The thread of the log looks when it has a line to write, and can end by a panic only.
        let panics = nth % 2 == 0 || *part == Part::Log;
        let fault = if panics { format!("{part}.panic") } else { part.to_string() };
        is_mended(&worker, &faults, *part, &fault, async || {
            if *part == Part::Log {
                calls("logged").await;
            }
        })
        .await;
        calls(&format!("after-{part}")).await;
    }
    let mut peer = Peer::connect(&nats).await;
    peer.publish("faas-request", Invocation::of("bad").call_id("by-stan").to_bytes()).await.unwrap();
    assert_eq!(nats.dead_letter().await.expect("Queue-Worker-Call-Id"), "by-stan");
    worker.terminate();
}

/// A part that ends whenever it runs ends the worker, which lets a running call end first.
async fn ends_the_worker(part: Part) {
    let latch = Latch::new();
    let held = latch.clone();
    let nats = Nats::start().await;
    let gateway = Gateway::start(move |_| Answer::ok().held_by(&held)).await;
    let faults = Faults::new();
    let mut worker = Worker::of(&nats, &gateway).mortal(&faults).start().await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    gateway.await_calls(1).await;
    faults.add(&format!("{part}.always"));
    worker.await_log(&[" error ", "nothing can be served", &format!("{part}"), "4 times in a row"]).await;
    await_readiness(&worker, 503, "draining").await;
    latch.open();
    assert_eq!(worker.exit().await, 1);
    assert_eq!(gateway.calls()[0].fate(), Some(End::Answered));
    nats.await_counts([0, 0, 0]).await;
}

#[tokio::test]
async fn a_worker_whose_link_cannot_be_followed_drains_and_ends() {
    ends_the_worker(Part::Link).await;
}

#[tokio::test]
async fn a_worker_whose_only_queue_cannot_be_pulled_from_drains_and_ends() {
    ends_the_worker(Part::Lane).await;
}
