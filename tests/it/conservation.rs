//! Nothing lies in a stream for nobody, parked retries leave in time, what waits is told: and where it is not
//! so, `/metrics` says it.

use std::time::{Duration, SystemTime};

use async_nats::{
    HeaderMap,
    jetstream::{consumer, stream},
};

use futures_util::StreamExt;

use crate::support::{
    Answer, Gateway, Invocation, Latch, Nats, QUEUE, RETRIES, Worker, eventually, eventually_is,
};

const ORPHANS: &str = "queue_worker_orphaned_messages";
const OVERDUE: &str = "queue_worker_overdue_holders";
const OLDEST: &str = "queue_worker_oldest_pending_age_seconds";

async fn shows(worker: &Worker, metric: &str, expected: f64) {
    eventually_is(metric, Some(expected), async || {
        worker.metrics().await.get(metric, &[("queue_name", QUEUE)])
    })
    .await;
}

async fn grows(worker: &Worker) {
    eventually("the oldest message grows older", async || {
        worker.metrics().await.get(OLDEST, &[]).is_some_and(|age| age > 1.0)
    })
    .await;
}

fn due(at: SystemTime) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Queue-Worker-Due", humantime::format_rfc3339_nanos(at).to_string());
    headers
}

/// Parks a retry for an hour, whose own due time is this.
async fn park(nats: &Nats, at: SystemTime, message: Invocation) {
    let mut headers = due(at);
    if nats.schedules() {
        let hour = humantime::format_rfc3339_nanos(SystemTime::now() + Duration::from_secs(3_600));
        headers.insert("Nats-Schedule", format!("@at {hour}"));
        headers.insert("Nats-Schedule-Target", format!("{RETRIES}.due.f.0-0.1"));
    }
    let place = nats.place(Duration::from_secs(3_600));
    nats.publish_raw(&format!("{RETRIES}.{place}.f.0-0.1"), headers, message.to_bytes()).await;
}

/// A queue whose stream takes more than its consumer.
async fn wide() -> Nats {
    let nats = Nats::start().await;
    let subjects = [QUEUE, "faas-request.>"].map(str::to_owned).to_vec();
    nats.make_stream(stream::Config {
        subjects,
        retention: stream::RetentionPolicy::WorkQueue,
        ..Default::default()
    })
    .await;
    nats
}

#[tokio::test]
async fn what_no_consumer_takes_is_an_orphan_until_it_is_gone() {
    let nats = wide().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let worker = Worker::of(&nats, &gateway).start().await;
    let strange = nats.publish_raw("faas-request.strange", HeaderMap::new(), "x").await;
    shows(&worker, ORPHANS, 1.0).await;
    // Beside a retry that has its time.
    park(&nats, SystemTime::now() + Duration::from_secs(3_600), Invocation::of("f")).await;
    let stranger = nats.publish_raw(&format!("{RETRIES}.elsewhere.f"), HeaderMap::new(), "x").await;
    shows(&worker, ORPHANS, 2.0).await;
    // What passes by is none.
    nats.publish(&Invocation::of("f")).await;
    gateway.await_ended(1).await;
    for (stream, sequence) in [(QUEUE, strange), (RETRIES, stranger)] {
        nats.js().get_stream(stream).await.unwrap().delete_message(sequence).await.unwrap();
    }
    shows(&worker, ORPHANS, 0.0).await;
    assert_eq!(worker.metrics().await.get(OVERDUE, &[]), Some(0.0));
    assert_eq!(nats.stream(RETRIES).await.state.messages, 1);
}

#[tokio::test]
async fn what_a_consumer_passed_over_is_an_orphan_on_a_busy_queue_as_well() {
    let nats = wide().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let worker = Worker::of(&nats, &gateway).start().await;
    let mut strange = Vec::new();
    for _ in 0..3 {
        strange.push(nats.publish_raw("faas-request.strange", HeaderMap::new(), "x").await);
    }
    let busy = async {
        loop {
            nats.publish_all((0..50).map(|_| Invocation::of("f"))).await;
            // Busy, and no more than the worker can keep up with.
            eventually("a short backlog", async || nats.count(QUEUE).await < 100).await;
        }
    };
    tokio::select! {
        () = shows(&worker, ORPHANS, 3.0) => {}
        () = busy => {}
    }
    for sequence in strange {
        nats.js().get_stream(QUEUE).await.unwrap().delete_message(sequence).await.unwrap();
    }
    shows(&worker, ORPHANS, 0.0).await;
}

#[tokio::test]
async fn a_consumer_with_a_narrower_filter_makes_orphans_of_the_rest() {
    let nats = wide().await;
    let filter = |subject: &str| consumer::pull::Config {
        durable_name: Some("faas-workers".to_owned()),
        filter_subject: subject.to_owned(),
        max_ack_pending: 10_000,
        ..Default::default()
    };
    let stream = nats.js().get_stream(QUEUE).await.unwrap();
    stream.create_consumer(filter("faas-request.narrow")).await.unwrap();
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let mut worker = Worker::of(&nats, &gateway).start().await;
    for _ in 0..3 {
        nats.publish(&Invocation::of("f")).await;
    }
    shows(&worker, ORPHANS, 3.0).await;
    assert_eq!(worker.drain().await, 0);
    // The mend: the consumer is made anew, and takes what is there.
    stream.delete_consumer("faas-workers").await.unwrap();
    let worker = Worker::of(&nats, &gateway).start().await;
    gateway.await_ended(3).await;
    shows(&worker, ORPHANS, 0.0).await;
}

#[tokio::test]
async fn in_a_shared_stream_what_ones_own_consumer_gave_up_is_an_orphan() {
    let nats = wide().await;
    let stream = nats.js().get_stream(QUEUE).await.unwrap();
    let theirs = consumer::pull::Config {
        durable_name: Some("theirs".to_owned()),
        filter_subject: "faas-request.theirs".to_owned(),
        ..Default::default()
    };
    stream.create_consumer(theirs).await.unwrap();
    let ours = consumer::pull::Config {
        durable_name: Some("faas-workers".to_owned()),
        filter_subject: QUEUE.to_owned(),
        max_deliver: 1,
        ack_wait: Duration::from_secs(1),
        ..Default::default()
    };
    let ours = stream.create_consumer(ours).await.unwrap();
    for _ in 0..3 {
        nats.publish_raw("faas-request.theirs", HeaderMap::new(), "x").await;
        nats.publish_raw("faas-request.nobodys", HeaderMap::new(), "x").await;
    }
    let given_up = nats.publish(&Invocation::of("f")).await;
    let mut taken = ours.fetch().max_messages(1).messages().await.unwrap();
    assert!(taken.next().await.is_some());
    // Nobody acknowledges it.
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let worker = Worker::of(&nats, &gateway).set("ack_wait", "1s").start().await;
    nats.publish(&Invocation::of("f")).await;
    gateway.await_ended(1).await;
    shows(&worker, ORPHANS, 1.0).await;
    stream.delete_message(given_up).await.unwrap();
    shows(&worker, ORPHANS, 0.0).await;
}

#[tokio::test]
async fn a_retry_that_cannot_leave_is_overdue_until_it_can() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let settings = Worker::of(&nats, &gateway);
    // It makes the streams.
    assert_eq!(settings.start().await.drain().await, 0);
    park(&nats, SystemTime::now() - Duration::from_secs(180), Invocation::of("f").body("x".repeat(2_000)))
        .await;
    let limited = async |on: bool| {
        let mut config = nats.stream(RETRIES).await.config;
        config.allow_message_schedules = nats.schedules();
        if nats.schedules() {
            config.max_message_size = if on { 1_000 } else { -1 };
        } else {
            config.max_messages = if on { 1 } else { -1 };
            config.discard = if on { stream::DiscardPolicy::New } else { stream::DiscardPolicy::Old };
        }
        nats.js().update_stream(config).await.unwrap();
    };
    limited(true).await;
    let worker = settings.start().await;
    shows(&worker, OVERDUE, 1.0).await;
    assert_eq!(gateway.calls().len(), 0);
    limited(false).await;
    gateway.await_ended(1).await;
    shows(&worker, OVERDUE, 0.0).await;
    assert_eq!(worker.metrics().await.get(ORPHANS, &[]), Some(0.0));
}

#[tokio::test]
async fn the_oldest_message_waits_fresh_or_due() {
    let latch = Latch::new();
    let held = latch.clone();
    let nats = Nats::start().await;
    let gateway =
        Gateway::start(
            move |call| if call.function() == "held" { Answer::ok().held_by(&held) } else { Answer::ok() },
        )
        .await;
    let worker = Worker::of(&nats, &gateway).set("max_inflight", 1).start().await;
    shows(&worker, OLDEST, 0.0).await;
    // One is called, one waits in the worker's hands, and one in the queue.
    nats.publish_all((0..3).map(|_| Invocation::of("held"))).await;
    grows(&worker).await;
    latch.open();
    shows(&worker, OLDEST, 0.0).await;
    gateway.await_ended(3).await;

    let latch = Latch::new();
    let held = latch.clone();
    let nats = Nats::start().await;
    let gateway = Gateway::start(move |_| Answer::ok().held_by(&held)).await;
    let worker = Worker::of(&nats, &gateway).set("max_inflight", 1).start().await;
    for n in 0..3 {
        let due = due(SystemTime::now());
        nats.publish_raw(&format!("{RETRIES}.due.f.0-{n}.1"), due, Invocation::of("f").to_bytes()).await;
    }
    grows(&worker).await;
    latch.open();
    shows(&worker, OLDEST, 0.0).await;
}

#[tokio::test]
async fn what_is_not_known_without_a_broker_is_not_shown() {
    let mut nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let worker = Worker::of(&nats, &gateway).start().await;
    let all = [ORPHANS, OVERDUE, OLDEST];
    for metric in all {
        shows(&worker, metric, 0.0).await;
    }
    nats.pause();
    eventually("a hanging broker's figures are gone", async || {
        let metrics = worker.metrics().await;
        [ORPHANS, OLDEST].iter().all(|metric| metrics.get(metric, &[]).is_none())
    })
    .await;
    nats.kill().await;
    eventually("all figures are gone", async || {
        let metrics = worker.metrics().await;
        all.iter().all(|metric| metrics.get(metric, &[]).is_none())
    })
    .await;
    nats.boot().await;
    for metric in all {
        shows(&worker, metric, 0.0).await;
    }
}

/// Waves of calls, a third of which fail at first, while somebody looks all the time; the queue's stream
/// keeps what is settled, or not.
async fn stays_silent(retention: stream::RetentionPolicy) {
    const WAVES: usize = 24;
    let nats = Nats::start().await;
    nats.make_stream(stream::Config { retention, ..Default::default() }).await;
    let gateway = Gateway::start(|call| {
        Answer::status(if call.nth == 1 && call.id().ends_with(['0', '3', '6']) { 500 } else { 200 })
    })
    .await;
    let settings = Worker::of(&nats, &gateway).set("initial_retry_wait", "500ms").set("nats_deliver", "all");
    let (one, other) = (settings.start().await, settings.start().await);
    let load = async {
        for wave in 0..WAVES {
            nats.publish_all((0..25).map(|n| Invocation::of("f").call_id(&format!("{wave}-{n}")))).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        eventually("nothing is parked", async || nats.count(RETRIES).await == 0).await;
    };
    let watch = async {
        loop {
            for worker in [&one, &other] {
                let metrics = worker.metrics().await;
                for metric in [ORPHANS, OVERDUE] {
                    let shown = metrics.get(metric, &[]).unwrap_or_default();
                    assert!(shown < 1.0, "{metric} {shown}\n{}", nats.books().await);
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = load => {}
        () = watch => {}
    }
    assert_eq!(gateway.calls().len(), WAVES * (25 + 8));
    for metric in [ORPHANS, OVERDUE, OLDEST] {
        shows(&one, metric, 0.0).await;
    }
}

#[tokio::test]
async fn a_healthy_queue_shows_neither() {
    tokio::join!(
        stays_silent(stream::RetentionPolicy::WorkQueue),
        stays_silent(stream::RetentionPolicy::Limits)
    );
}
