//! The timer that needs nothing of the server: retries wait in levels and are moved by the workers. Each
//! scenario asks for it by name, so that it runs on servers of every age.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use async_nats::{
    HeaderMap,
    jetstream::{
        consumer,
        stream::{Config, DiscardPolicy, RetentionPolicy},
    },
};
use futures_util::future::join_all;

use crate::support::{
    Answer, Call, Gateway, Invocation, Latch, Nats, QUEUE, RETRIES, Scratch, Worker, eventually,
    eventually_is,
};

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_nanos(time).to_string()
}

/// Stores a retry as a worker would have, `place` being a level, `at` or `due`.
async fn store(nats: &Nats, place: &str, n: usize, id: &str, due: SystemTime) {
    let mut headers = HeaderMap::new();
    let due = rfc3339(due);
    for (name, value) in [
        ("Nats-Msg-Id", id),
        ("Queue-Worker-Hop", "1"),
        ("Queue-Worker-Attempts", "1"),
        ("Queue-Worker-Due", &due),
        ("Queue-Worker-Original-Id", &format!("{QUEUE}:{n}-{n}")),
    ] {
        headers.insert(name, value);
    }
    let payload = Invocation::of("f").call_id(&format!("call-{n}")).to_bytes();
    nats.publish_raw(&format!("{RETRIES}.{place}.f.{n}-{n}.1"), headers, payload).await;
}

/// How many messages a level's consumer has not settled.
async fn held(nats: &Nats, level: &str) -> u64 {
    let info = nats.consumer(RETRIES, level).await;
    info.num_pending + info.num_ack_pending as u64
}

#[tokio::test]
async fn a_retry_waits_in_the_level_of_its_delay_and_is_brought_when_it_is_due() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|call| Answer::status(if call.nth == 1 { 500 } else { 200 })).await;
    let worker = Worker::of(&nats, &gateway)
        .set("retry_timer", "levels")
        .set("initial_retry_wait", "2500ms")
        .start()
        .await;
    worker.await_log(&["Ready", "timer=levels", "retry_timer=levels"]).await;
    assert!(!nats.stream(RETRIES).await.config.allow_message_schedules, "levels turn no schedules on");
    let mut due = nats.watch(&format!("{RETRIES}.due.>")).await;
    nats.publish(&Invocation::of("f.ns").call_id("a").body("hello")).await;
    nats.await_counts([0, 1, 0]).await;
    let parked = nats.messages(RETRIES).await.remove(0);
    let id = parked.expect("Queue-Worker-Original-Id").split_once(':').unwrap().1.to_owned();
    assert_eq!(parked.subject, format!("{RETRIES}.l1.f%2Ens.{id}.1"));
    assert_eq!(parked.nats_headers(), ["Nats-Msg-Id"]);

    let moved = due.next().await;
    assert!(moved.time >= parked.time_in("Queue-Worker-Due"), "moved before it was due");
    assert_eq!(moved.subject, format!("{RETRIES}.due.f%2Ens.{id}.1"));
    assert_eq!(
        (moved.nats_headers(), moved.expect("Nats-Msg-Id")),
        (vec!["Nats-Msg-Id".to_owned()], &*format!("{id}.1.due"))
    );
    assert_eq!(moved.names_with("Queue-Worker-"), parked.names_with("Queue-Worker-"));
    assert_eq!(moved.payload, parked.payload);
    let calls = gateway.await_ended(2).await;
    assert!(calls[1].arrived - calls[0].end.unwrap().0 >= Duration::from_millis(2500), "called early");
    nats.await_counts([0, 0, 0]).await;
}

#[tokio::test]
async fn what_is_read_before_its_time_is_handed_back_and_counts_as_parked() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let worker = Worker::of(&nats, &gateway).set("retry_timer", "levels").start().await;
    // A level says nothing about the due time: these have hours and seconds to wait in the lowest.
    let (now, soon) = (SystemTime::now(), Duration::from_secs(6));
    store(&nats, "l0", 1, "1-1.1", now + 1000 * soon).await;
    store(&nats, "l0", 2, "2-2.1", now + soon).await;
    eventually_is("handed back", 2, async || nats.consumer(RETRIES, "l0").await.num_ack_pending).await;
    let parked = async || worker.metrics().await.value("queue_worker_retries_parked", &[]);
    eventually("both are parked", async || parked().await == 2.0).await;
    let call = gateway.await_calls(1).await.remove(0);
    assert_eq!(call.id(), "call-2");
    assert!(now.elapsed().unwrap() >= soon, "called early");
    eventually("one is left", async || parked().await == 1.0).await;
    nats.await_counts([0, 1, 0]).await;
    assert_eq!(gateway.count(), 1);
}

/// Parks so many retries in one level, which have an hour to wait and carry no call that could be made.
async fn crowd(nats: &Nats, level: &str, retries: usize) {
    let due = rfc3339(SystemTime::now() + Duration::from_secs(3600));
    let js = nats.js();
    for batch in (0..retries).collect::<Vec<_>>().chunks(500) {
        let sent = batch.iter().map(|n| {
            let mut headers = HeaderMap::new();
            headers.insert("Queue-Worker-Due", due.as_str());
            js.publish_with_headers(format!("{RETRIES}.{level}.f.{n}-z.1"), headers, "".into())
        });
        for sent in join_all(sent).await {
            sent.unwrap().await.unwrap();
        }
    }
}

#[tokio::test]
async fn more_retries_than_a_level_s_consumer_held_before_make_nobody_late() {
    const MORE: usize = 10_100;
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let worker = Worker::of(&nats, &gateway).set("retry_timer", "levels").start().await;
    crowd(&nats, "l11", MORE).await;
    store(&nats, "l11", 1, "1-1.1", SystemTime::now()).await;
    assert_eq!(gateway.await_calls(1).await[0].id(), "call-1");
    worker.await_log(&["max_ack_pending", "consumer=l11", "from=10000"]).await;
    eventually_is("handed back", MORE, async || nats.consumer(RETRIES, "l11").await.num_ack_pending).await;
    assert_eq!(
        nats.consumer(RETRIES, "l10").await.config.max_ack_pending,
        10_000,
        "no other level is given room"
    );
}

#[tokio::test]
async fn a_full_level_gets_as_much_room_as_the_broker_grants_and_all_else_of_it_stays() {
    let scratch = Scratch::new();
    let mut nats = Nats::absent_in(scratch.path(), "limits { max_ack_pending: 20000 }");
    nats.boot().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let settings = Worker::of(&nats, &gateway).set("retry_timer", "levels");
    assert_eq!(settings.start().await.drain().await, 0);
    let stream = nats.js().get_stream(RETRIES).await.unwrap();
    let found = nats.consumer(RETRIES, "l11").await.config;
    let narrow =
        || consumer::Config { max_ack_pending: 20, description: Some("mine".to_owned()), ..found.clone() };
    stream.create_consumer(narrow()).await.unwrap();
    let before = nats.consumer(RETRIES, "l11").await.config;
    // Parked before this worker, by one that made no room.
    crowd(&nats, "l11", 30).await;
    store(&nats, "l11", 1, "1-1.1", SystemTime::now()).await;
    let mut worker = settings.start().await;
    gateway.await_calls(1).await;
    assert_eq!(
        nats.consumer(RETRIES, "l11").await.config,
        consumer::Config { max_ack_pending: 20_000, ..before }
    );

    // Where it may change nothing, it says what follows.
    assert_eq!(worker.drain().await, 0);
    stream.create_consumer(narrow()).await.unwrap();
    let worker = settings.set("nats_manage", "false").start().await;
    worker.await_log(&["max_ack_pending", "consumer=l11", "nats_manage=false"]).await;
    assert_eq!(nats.consumer(RETRIES, "l11").await.config.max_ack_pending, 20);
}

#[tokio::test]
async fn retries_come_in_the_order_of_their_due_times_whatever_their_levels() {
    const EACH: usize = 16;
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let _worker =
        Worker::of(&nats, &gateway).set("retry_timer", "levels").set("max_inflight", 1).start().await;
    // All are stored before the first is due, and each level's promoter may be late by less than lies between
    // two.
    let start = SystemTime::now() + Duration::from_secs(6);
    // Seven is prime to sixteen: each is stored once, and the order of storing is not that of the due times.
    for n in (0..EACH).map(|n| n * 7 % EACH) {
        let wait = Duration::from_millis(500) * u32::try_from(n).unwrap();
        let level = wait.as_secs().checked_ilog2().unwrap_or(0);
        store(&nats, &format!("l{level}"), n, &format!("{n}-{n}.1"), start + wait).await;
    }
    let calls = gateway.await_calls(EACH).await;
    let order: Vec<_> = calls.iter().map(Call::id).collect();
    assert_eq!(order, (0..EACH).map(|n| format!("call-{n}")).collect::<Vec<_>>());
}

/// A promoter died after it had brought a retry and before it could acknowledge it, and the copy still waits
/// for its permit.
async fn check_brought_twice(id_of_the_copy: &str) {
    let latch = Latch::new();
    let held_by = latch.clone();
    let nats = Nats::start().await;
    let gateway =
        Gateway::start(
            move |call| if call.function() == "door" { Answer::ok().held_by(&held_by) } else { Answer::ok() },
        )
        .await;
    let _worker =
        Worker::of(&nats, &gateway).set("retry_timer", "levels").set("max_inflight", 1).start().await;
    nats.publish(&Invocation::of("door").call_id("door")).await;
    gateway.await_calls(1).await;
    let past = SystemTime::now() - Duration::from_secs(1);
    store(&nats, "due", 1, id_of_the_copy, past).await;
    store(&nats, "l0", 1, "1-1.1", past).await;
    eventually_is("in the level", 0, async || held(&nats, "l0").await).await;
    latch.open();
    nats.await_counts([0, 0, 0]).await;
    assert_eq!(gateway.calls_of("call-1").len(), 1);
}

#[tokio::test]
async fn a_retry_that_was_brought_by_a_mover_that_died_is_called_once() {
    check_brought_twice("1-1.1.due").await;
}

#[tokio::test]
async fn a_retry_that_was_brought_so_long_ago_that_its_id_is_forgotten_is_called_once() {
    check_brought_twice("forgotten").await;
}

#[tokio::test]
async fn a_retry_that_was_called_before_its_mover_could_acknowledge_it_is_called_once() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let _worker = Worker::of(&nats, &gateway).set("retry_timer", "levels").start().await;
    let past = SystemTime::now() - Duration::from_secs(1);
    store(&nats, "due", 1, "1-1.1.due", past).await;
    gateway.await_ended(1).await;
    nats.await_counts([0, 0, 0]).await;
    // Only the id of the copy is left to tell.
    store(&nats, "l0", 1, "1-1.1", past).await;
    eventually_is("in the level", 0, async || held(&nats, "l0").await).await;
    nats.await_counts([0, 0, 0]).await;
    assert_eq!(gateway.count(), 1);
}

#[tokio::test]
async fn parked_retries_outlive_workers_that_are_killed_while_they_move_them() {
    const EACH: usize = 300;
    let nats = Nats::start().await;
    let gateway = Gateway::start(|call| Answer::status(if call.nth == 1 { 500 } else { 200 })).await;
    let settings = Worker::of(&nats, &gateway)
        .set("retry_timer", "levels")
        .set("initial_retry_wait", "2s")
        .set("ack_wait", "2s");
    let mut worker = settings.start().await;
    nats.publish_all((0..EACH).map(|n| Invocation::of("f").call_id(&format!("call-{n}")))).await;
    gateway.await_calls(EACH).await;
    eventually("all are parked", async || nats.count(QUEUE).await == 0).await;
    // The moving has begun when the first is called again.
    gateway.await_calls(EACH + 1).await;
    worker.kill().await;
    let _worker = settings.start().await;
    nats.await_counts([0, 0, 0]).await;
    let twice = gateway.calls().iter().filter(|call| call.nth == 2).count();
    assert_eq!(twice, EACH, "a retry is lost");
    // A call that was cut off with the worker is made again; what was only being moved is called once.
    let cut = gateway.calls().iter().filter(|call| call.fate() == Some(crate::support::End::Cut)).count();
    let again = gateway.count() - 2 * EACH;
    assert!(
        again <= cut + 50,
        "{again} were called once more, {cut} were cut off, and 50 may have been answered just then"
    );
}

#[tokio::test]
async fn what_another_timer_parked_is_called_once_after_the_timer_was_changed_and_changed_back() {
    const EACH: usize = 500;
    let nats = Nats::start().await;
    let gateway = Gateway::start(|call| Answer::status(if call.nth == 1 { 500 } else { 200 })).await;
    let timers =
        if nats.schedules() { ["schedules", "levels", "schedules"] } else { ["levels", "auto", "levels"] };
    for (round, timer) in timers.iter().enumerate() {
        let settings = Worker::of(&nats, &gateway).set("retry_timer", timer).set("initial_retry_wait", "10s");
        let mut worker = settings.start().await;
        if round == 2 {
            gateway.await_calls(4 * EACH).await;
            nats.await_counts([0, 0, 0]).await;
            break;
        }
        nats.publish_all((0..EACH).map(|n| Invocation::of("f").call_id(&format!("{round}-{n}")))).await;
        gateway.await_calls((round + 1) * EACH).await;
        eventually("all are parked", async || nats.count(QUEUE).await == 0).await;
        assert_eq!(worker.drain().await, 0);
    }
    assert!(gateway.calls().iter().all(|call| call.nth <= 2), "some call was made thrice");
    assert_eq!(gateway.count(), 4 * EACH);
}

#[tokio::test]
async fn retries_that_an_old_server_holds_are_called_once_when_a_newer_one_takes_its_place() {
    const EACH: usize = 200;
    let mut nats = Nats::start_old().await;
    let gateway = Gateway::start(|call| Answer::status(if call.nth == 1 { 500 } else { 200 })).await;
    let settings = Worker::of(&nats, &gateway).set("initial_retry_wait", "5s");
    let mut worker = settings.start().await;
    worker.await_log(&["Ready", "timer=levels"]).await;
    nats.publish_all((0..EACH).map(|n| Invocation::of("f").call_id(&format!("call-{n}")))).await;
    gateway.await_calls(EACH).await;
    eventually("all are parked", async || nats.count(QUEUE).await == 0).await;
    nats.replace().await;
    // One worker lived through it, and another begins with what the newer server offers.
    let other = settings.start().await;
    other.await_log(&["Ready", if nats.schedules() { "timer=schedules" } else { "timer=levels" }]).await;
    gateway.await_calls(EACH + 1).await;
    assert_eq!(worker.drain().await, 0);
    gateway.await_calls(2 * EACH).await;
    nats.await_counts([0, 0, 0]).await;
    assert!(gateway.calls().iter().all(|call| call.nth <= 2), "some call was made thrice");
}

#[tokio::test]
async fn holders_that_no_server_fires_any_more_are_brought_when_they_are_due() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let settings = Worker::of(&nats, &gateway).set("retry_timer", "levels");
    assert_eq!(settings.start().await.drain().await, 0);
    // As after a downgrade: the stream has no schedules, and nothing holds these but the message itself.
    let now = SystemTime::now();
    let soon = now + Duration::from_secs(4);
    store(&nats, "at", 1, "1-1.1", soon).await;
    store(&nats, "at", 2, "2-2.1", now).await;
    store(&nats, "at", 3, "3-3.1", now + Duration::from_secs(9999)).await;
    let _worker = settings.start().await;
    let calls = gateway.await_calls(2).await;
    assert!(SystemTime::now() >= soon, "called early");
    let ids: BTreeSet<_> = calls.iter().map(Call::id).collect();
    assert_eq!(ids, BTreeSet::from(["call-1", "call-2"]));
    nats.await_counts([0, 1, 0]).await;
    assert_eq!(nats.messages(RETRIES).await.pop().unwrap().subject, format!("{RETRIES}.at.f.3-3.1"));
}

#[tokio::test]
async fn a_stream_that_cannot_have_schedules_has_levels() {
    let nats = Nats::start().await;
    let stream = nats.make_stream(Config {
        name: RETRIES.to_owned(),
        subjects: vec![format!("{RETRIES}.>")],
        retention: RetentionPolicy::WorkQueue,
        discard: DiscardPolicy::New,
        ..Default::default()
    });
    stream.await;
    let gateway = Gateway::start(|call| Answer::status(if call.nth == 1 { 500 } else { 200 })).await;
    let settings = Worker::of(&nats, &gateway).set("initial_retry_wait", "10ms");
    let mut refused = settings.clone().set("retry_timer", "schedules").spawn();
    assert_eq!(refused.exit().await, 1);
    assert!(!refused.log_with("schedul").is_empty(), "no line speaks of schedules");
    let worker = settings.start().await;
    worker.await_log(&["Ready", "timer=levels"]).await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    gateway.await_calls(2).await;
    nats.await_counts([0, 0, 0]).await;
}

#[tokio::test]
async fn a_level_whose_consumer_was_deleted_gets_it_again() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let settings = Worker::of(&nats, &gateway).set("retry_timer", "levels");
    let worker = settings.start().await;
    nats.js().get_stream(RETRIES).await.unwrap().delete_consumer("l3").await.unwrap();
    store(&nats, "l3", 1, "1-1.1", SystemTime::now()).await;
    worker.await_log(&["consumer l3", "gone"]).await;
    gateway.await_calls(1).await;
    nats.await_counts([0, 0, 0]).await;

    // Where nothing may be made, it is missed at the start.
    drop(worker);
    nats.js().get_stream(RETRIES).await.unwrap().delete_consumer("l16").await.unwrap();
    let mut refused = settings.set("nats_manage", "false").spawn();
    assert_eq!(refused.exit().await, 1);
    assert!(!refused.log_with("l16").is_empty(), "no line names the consumer");
}
