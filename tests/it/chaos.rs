//! Everything dies, and nothing is lost.

use std::{collections::HashSet, time::Duration};

use tokio::time::sleep;

use crate::support::{Answer, End, Gateway, Invocation, Nats, Proxy, Worker};

const CALLS: usize = 200;

#[tokio::test]
async fn every_invocation_ends_whatever_is_killed_meanwhile() {
    let mut nats = Nats::start().await;
    let proxy = Proxy::start(nats.port()).await;
    let mut gateway = Gateway::start(|call| {
        let status = if call.nth < 3 { 500 } else { 200 };
        Answer::status(status).after(Duration::from_millis(50))
    })
    .await;
    let settings = Worker::of(&nats, &gateway).set("ack_wait", "2s").set("initial_retry_wait", "200ms");
    let settings =
        settings.set("max_retry_wait", "1s").set("max_retry_attempts", 1000).set("max_inflight", 5);
    let behind_proxy = settings.clone().set("nats_url", format!("nats://127.0.0.1:{}", proxy.port()));
    let (mut first, second) = tokio::join!(settings.start(), behind_proxy.start());
    let name = |n: usize| format!("call-{n}");
    nats.publish_all((0..CALLS).map(|n| Invocation::of("f").call_id(&name(n)))).await;

    // Fewer kills than would make an invocation look like the killer.
    for round in 1..=3 {
        gateway.await_calls(CALLS / 2 * round).await;
        first.kill().await;
        proxy.cut();
        first = settings.start().await;
        nats.restart().await;
        gateway.close().await;
        proxy.black_hole();
        // Long enough for a lease to be lost: the fault is the duration itself.
        sleep(Duration::from_secs(3)).await;
        gateway.open().await;
        proxy.pass();
    }

    assert!(nats.dead_letters(0).await.is_empty());
    let answered =
        gateway.calls().into_iter().filter(|call| call.nth >= 3 && call.fate() == Some(End::Answered));
    let completed: HashSet<String> = answered.map(|call| call.id().to_owned()).collect();
    let lost: Vec<_> = (0..CALLS).map(name).filter(|id| !completed.contains(id)).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    drop((first, second));
}
