//! A function that kills whoever calls it.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use crate::{
    size,
    support::{Answer, End, Gateway, Invocation, Nats, Worker},
    until,
};

const CALLS: usize = 5;

/// The killer and some slow innocents in one worker, which is started again whenever it was killed.
async fn check(max_inflight: usize, innocents: usize) {
    let slow = Duration::from_secs(size(3, 8));
    let mut nats = Nats::start().await;
    nats.make_queue().await;
    let victim = Arc::new(AtomicU32::new(0));
    let prey = Arc::clone(&victim);
    let gateway = Gateway::start(move |call| {
        if call.function() != "killer" {
            return Answer::ok().after(slow);
        }
        let pid = prey.load(Ordering::SeqCst).to_string();
        assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
        Answer::silence()
    })
    .await;
    let settings = Worker::of(&nats, &gateway).set("ack_wait", "2s").set("max_inflight", max_inflight);
    let start = || {
        let worker = settings.spawn();
        victim.store(worker.id(), Ordering::SeqCst);
        worker
    };
    let names = (0..=innocents)
        .map(|n| if n == innocents / 2 { "killer".to_owned() } else { format!("innocent-{n}") });
    nats.publish_all(names.map(|name| Invocation::of(name.split('-').next().unwrap()).call_id(&name))).await;

    let mut worker = start();
    let mut kills = 0;
    until("all have ended", async || {
        let killed = gateway.calls_of("killer").len();
        if killed > kills {
            kills = killed;
            worker.kill().await;
            worker = start();
        }
        killed >= CALLS && nats.counts().await == [0, 0, 1]
    })
    .await;

    let dead = nats.dead_letter().await;
    let story = (
        dead.expect("Queue-Worker-Call-Id"),
        dead.expect("Queue-Worker-Cause"),
        dead.expect("Queue-Worker-Interruptions"),
    );
    let calls = gateway.calls();
    println!(
        "     max_inflight {max_inflight}: {innocents} innocents, {kills} kills, {} calls, dead: {story:?}",
        calls.len()
    );
    assert_eq!(story, ("killer", "interrupted", "5"));
    // Old servers may give a message that is being worked on to somebody else, as if for the first time, and
    // then the call before counts as no interruption. When a message is to be delivered again and only the
    // request of a worker that died is waiting, `loopAndGatherMsgs` in consumer.go puts the message back ("We
    // will redo this one") by stepping back in the stream, though it did not come from there: 2.9.10 to
    // 2.10.0; 2.10.29 asks first. Tried on 2.9.10: the next request got `$JS.ACK.S.C.1.…`.
    let tolerated = if nats.schedules() { 0 } else { 1 };
    assert!((CALLS..=CALLS + tolerated).contains(&kills), "{kills} kills");
    for name in (0..=innocents).filter(|n| *n != innocents / 2).map(|n| format!("innocent-{n}")) {
        let fates: Vec<_> =
            calls.iter().filter(|call| call.id() == name).map(|call| call.fate().unwrap()).collect();
        let answered = fates.iter().filter(|fate| **fate == End::Answered).count();
        assert_eq!((answered, fates.last()), (1, Some(&End::Answered)), "{name}: {fates:?}");
    }
    nats.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_kills_its_workers_ends_after_five_calls_and_takes_none_with_it() {
    check(10, 9).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_kills_its_workers_takes_none_with_it_where_one_call_runs_at_a_time() {
    check(1, 4).await;
}
