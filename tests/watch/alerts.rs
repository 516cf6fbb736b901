//! Each alert fires when it should, alive; and none does while all is well. The rules are the real ones with
//! shorter times: what the real times do, promtool says (rules.rs).

use std::time::Duration;

use async_nats::{HeaderMap, jetstream::stream};
use serde_json::json;
use tokio::time::interval;

use crate::{
    ALERTS,
    prometheus::{Labels, Prometheus},
    read,
    support::{
        Answer, Call, DEAD, Faults, Gateway, Invocation, Latch, Nats, Proxy, QUEUE, RETRIES, Settings,
        Worker, eventually, patiently, stan::Peer,
    },
};

/// The rules with windows of seconds. Each text must be there, and no longer window may be left.
fn hurried() -> String {
    let mut rules = read(ALERTS);
    for (long, short) in [
        ("[15m]", "[8s]"),
        ("[10m]", "[8s]"),
        ("[5m]", "[8s]"),
        ("offset 15m", "offset 8s"),
        ("for: 15m", "for: 3s"),
        ("for: 10m", "for: 3s"),
        ("for: 5m", "for: 3s"),
    ] {
        rules = replace(&rules, long, short);
    }
    for left in ["m]", "offset 1m", "for: 1m"] {
        assert!(!rules.contains(left), "{left} is left");
    }
    rules
}

fn replace(rules: &str, old: &str, new: &str) -> String {
    assert!(rules.contains(old), "{old} is in no rule any more");
    rules.replace(old, new)
}

/// Awaits that the alert fires, with these labels among others and where they are any with its namespace, and
/// returns what it says.
async fn fires(prometheus: &Prometheus, alert: &str, wanted: &[(&str, &str)]) -> Labels {
    let mut said = None;
    eventually(&format!("{alert} fires with {wanted:?}"), async || {
        let firing = prometheus.firing().await;
        let mut matching = firing.into_iter().filter(|(name, labels, _)| {
            let in_namespace =
                wanted.is_empty() || labels.get("namespace").is_some_and(|namespace| namespace == "openfaas");
            in_namespace
                && name == alert
                && wanted.iter().all(|(name, value)| labels.get(*name).is_some_and(|label| label == value))
        });
        said = matching.next().map(|(.., annotations)| annotations);
        said.is_some()
    })
    .await;
    let said = said.unwrap();
    println!("{alert}: {}: {}", said["summary"], said["description"]);
    for text in said.values() {
        assert!(
            !text.is_empty()
                && !["<error", "<no value>", "%!", "NaN", "  "].iter().any(|flaw| text.contains(flaw)),
            "{text}"
        );
    }
    said
}

/// The alert fires while such messages arrive, ten a second.
async fn fires_under(
    nats: &Nats,
    message: &Invocation,
    prometheus: &Prometheus,
    alert: &str,
    wanted: &[(&str, &str)],
) {
    let arriving = async {
        let mut ticks = interval(Duration::from_millis(100));
        loop {
            ticks.tick().await;
            nats.publish(message).await;
        }
    };
    tokio::select! {
        _ = fires(prometheus, alert, wanted) => {}
        () = arriving => {}
    }
}

const JOB: (&str, &str) = ("job", "openfaas/queue-worker");
const FAAS_REQUEST: (&str, &str) = ("queue_name", QUEUE);

/// A broker, and a gateway that answers like this.
async fn parts(answer: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> (Nats, Gateway) {
    (Nats::start().await, Gateway::start(answer).await)
}

/// One worker with these settings, watched under the rules.
async fn watched(settings: Settings, rules: &str) -> (Worker, Prometheus) {
    let worker = settings.start().await;
    let prometheus = Prometheus::watching(&[&worker], rules).await;
    (worker, prometheus)
}

#[tokio::test]
async fn nothing_fires_while_all_is_well() {
    // One call in ten fails once, as calls do.
    let (nats, gateway) =
        parts(|call| Answer::status(if call.nth == 1 && call.id().ends_with('0') { 500 } else { 200 })).await;
    let receiver = Gateway::start(|_| Answer::ok()).await;
    let settings = Worker::of(&nats, &gateway).set("initial_retry_wait", "200ms");
    let (one, other) = (settings.start().await, settings.start().await);
    let prometheus = Prometheus::watching(&[&one, &other], &hurried()).await;
    let mut n = 0;
    eventually("twenty scrapes, more than any window holds", async || {
        n += 1;
        nats.publish(&Invocation::of("f").call_id(&format!("call-{n}")).callback(&receiver.url())).await;
        prometheus.query("min(count_over_time(queue_worker_ready[1m])) >= 20").await.len() == 1
    })
    .await;
    let fired = prometheus.query("max_over_time(ALERTS{alertstate=\"firing\"}[1m])").await;
    assert!(fired.is_empty(), "{fired:?}");
    let called = prometheus.query("sum(queue_worker_retries_total)").await;
    assert!(called[0].1 > 0.0, "nothing was retried: {called:?}");
}

#[tokio::test]
async fn workers_that_have_no_broker_are_down() {
    let (mut nats, gateway) = parts(|_| Answer::ok()).await;
    let (_worker, prometheus) = watched(Worker::of(&nats, &gateway), &hurried()).await;
    nats.kill().await;
    fires(&prometheus, "QueueWorkerDown", &[JOB]).await;
}

#[tokio::test]
async fn workers_that_are_gone_are_down() {
    let (nats, gateway) = parts(|_| Answer::ok()).await;
    let (mut worker, prometheus) = watched(Worker::of(&nats, &gateway), &hurried()).await;
    worker.kill().await;
    fires(&prometheus, "QueueWorkerDown", &[JOB]).await;
    fires(&prometheus, "QueueWorkerDown", &[]).await;
}

#[tokio::test]
async fn one_worker_of_two_that_hangs_is_told() {
    let (nats, gateway) = parts(|_| Answer::ok()).await;
    let settings = Worker::of(&nats, &gateway);
    let (well, hung) = (settings.start().await, settings.start().await);
    let prometheus = Prometheus::watching(&[&well, &hung], &hurried()).await;
    hung.pause();
    let said = fires(&prometheus, "QueueWorkerNotReady", &[JOB]).await;
    assert!(said["description"].starts_with("1 of the workers of openfaas"), "{said:?}");
    assert!(prometheus.firing().await.iter().all(|(name, ..)| name != "QueueWorkerDown"));
    hung.resume();
}

#[tokio::test]
async fn a_queue_whose_consumer_is_paused_stands_still() {
    let (nats, gateway) = parts(|_| Answer::ok()).await;
    let (_worker, prometheus) = watched(Worker::of(&nats, &gateway), &hurried()).await;
    let pause = json!({ "pause_until": "2099-01-01T00:00:00Z" }).to_string();
    let paused = nats.client().request(format!("$JS.API.CONSUMER.PAUSE.{QUEUE}.faas-workers"), pause.into());
    let paused = patiently("the broker pauses the consumer", paused).await.unwrap();
    assert!(String::from_utf8_lossy(&paused.payload).contains("\"paused\":true"), "{paused:?}");
    nats.publish(&Invocation::of("f")).await;
    // One message may go to the request that waited already.
    nats.publish(&Invocation::of("f")).await;
    fires(&prometheus, "QueueWorkerStalled", &[FAAS_REQUEST]).await;
}

#[tokio::test]
async fn a_message_that_waits_too_long_is_told() {
    let latch = Latch::new();
    let held = latch.clone();
    let (nats, gateway) = parts(move |_| Answer::ok().held_by(&held)).await;
    let rules = replace(&hurried(), "oldest_pending_age_seconds) > 600", "oldest_pending_age_seconds) > 1");
    let (_worker, prometheus) = watched(Worker::of(&nats, &gateway).set("max_inflight", 1), &rules).await;
    for _ in 0..3 {
        nats.publish(&Invocation::of("f")).await;
    }
    fires(&prometheus, "QueueWorkerBacklogOld", &[FAAS_REQUEST]).await;
    latch.open();
}

#[tokio::test]
async fn a_gateway_that_cannot_be_reached_is_told() {
    let (nats, mut gateway) = parts(|_| Answer::ok()).await;
    let (_worker, prometheus) = watched(Worker::of(&nats, &gateway), &hurried()).await;
    gateway.close().await;
    fires_under(&nats, &Invocation::of("f"), &prometheus, "QueueWorkerCallsFailing", &[FAAS_REQUEST]).await;
}

#[tokio::test]
async fn the_first_dead_letter_is_told() {
    let (nats, gateway) = parts(|_| Answer::status(400)).await;
    let (_worker, prometheus) = watched(Worker::of(&nats, &gateway), &hurried()).await;
    nats.publish(&Invocation::of("f")).await;
    fires(&prometheus, "QueueWorkerDeadLetters", &[FAAS_REQUEST, ("cause", "refused")]).await;
    nats.publish_raw(QUEUE, HeaderMap::new(), "no message").await;
    fires(&prometheus, "QueueWorkerDeadLetters", &[FAAS_REQUEST, ("cause", "undecodable")]).await;
}

#[tokio::test]
async fn a_dead_letter_that_is_dropped_is_told() {
    let (nats, gateway) = parts(|_| Answer::status(400)).await;
    let (_worker, prometheus) =
        watched(Worker::of(&nats, &gateway).set("dead_letters", false), &hurried()).await;
    nats.publish(&Invocation::of("f")).await;
    fires(&prometheus, "QueueWorkerDeadLettersDropped", &[JOB]).await;
}

#[tokio::test]
async fn what_fits_nowhere_is_told() {
    let (nats, gateway) = parts(|_| Answer::status(500)).await;
    let (_worker, prometheus) =
        watched(Worker::of(&nats, &gateway).set("initial_retry_wait", "100ms"), &hurried()).await;
    let mut config = nats.stream(RETRIES).await.config;
    config.max_message_size = 500;
    config.allow_message_schedules = true;
    nats.js().update_stream(config).await.unwrap();
    nats.publish(&Invocation::of("f").body(uuid::Uuid::new_v4().to_string().repeat(20))).await;
    fires(&prometheus, "QueueWorkerUnstorable", &[JOB]).await;
}

#[tokio::test]
async fn retries_that_find_no_permit_are_late() {
    let latch = Latch::new();
    let held = latch.clone();
    let (nats, gateway) = parts(move |call| match call.function() {
        "fails" => Answer::status(500),
        _ => Answer::ok().held_by(&held),
    })
    .await;
    let rules = replace(
        &hurried(),
        "retry_lateness_seconds_bucket[8s]))) > 30",
        "retry_lateness_seconds_bucket[8s]))) > 0.5",
    );
    let settings = Worker::of(&nats, &gateway).set("initial_retry_wait", "500ms").set("max_inflight", 1);
    let (_worker, prometheus) = watched(settings, &rules).await;
    nats.publish(&Invocation::of("fails")).await;
    gateway.await_ended(1).await;
    nats.publish(&Invocation::of("held")).await;
    let calls = gateway.await_calls(2).await;
    assert_eq!(calls[1].function(), "held");
    tokio::time::sleep(Duration::from_millis(2500)).await;
    latch.open();
    fires(&prometheus, "QueueWorkerRetriesLate", &[FAAS_REQUEST]).await;
}

#[tokio::test]
async fn a_parked_retry_that_cannot_leave_is_told() {
    let (nats, gateway) = parts(|_| Answer::status(500)).await;
    let settings = Worker::of(&nats, &gateway);
    // It makes the streams, and looks at what is parked in them only when all is in place.
    assert_eq!(settings.start().await.drain().await, 0);
    let mut headers = HeaderMap::new();
    headers.insert("Queue-Worker-Due", "2026-01-01T00:00:00Z");
    headers.insert("Nats-Schedule", "@at 2099-01-01T00:00:00Z");
    headers.insert("Nats-Schedule-Target", format!("{RETRIES}.due.f.0-0.1"));
    nats.publish_raw(
        &format!("{RETRIES}.at.f.0-0.1"),
        headers,
        Invocation::of("f").body("x".repeat(2_000)).to_bytes(),
    )
    .await;
    let mut config = nats.stream(RETRIES).await.config;
    config.max_message_size = 500;
    config.allow_message_schedules = true;
    nats.js().update_stream(config).await.unwrap();
    let (worker, prometheus) = watched(settings, &hurried()).await;
    fires(&prometheus, "QueueWorkerRetriesOverdue", &[FAAS_REQUEST]).await;
    worker.await_log(&["an overdue retry cannot be moved", "larger"]).await;
}

#[tokio::test]
async fn a_dead_letter_that_has_no_room_is_told() {
    let (nats, gateway) = parts(|_| Answer::status(400)).await;
    let letters = stream::Config {
        name: DEAD.to_owned(),
        subjects: vec![format!("{DEAD}.>")],
        max_messages: 1,
        discard: stream::DiscardPolicy::New,
        ..Default::default()
    };
    nats.make_stream(letters).await;
    let (worker, prometheus) = watched(Worker::of(&nats, &gateway), &hurried()).await;
    for id in ["a", "b"] {
        nats.publish(&Invocation::of("f").call_id(id)).await;
    }
    fires(&prometheus, "QueueWorkerUnsettled", &[FAAS_REQUEST]).await;
    worker.await_log(&["does not take what follows", "maximum messages exceeded"]).await;
}

#[tokio::test]
async fn a_message_that_no_consumer_takes_is_told() {
    let (nats, gateway) = parts(|_| Answer::ok()).await;
    let subjects = vec![QUEUE.to_owned(), format!("{QUEUE}.>")];
    nats.make_stream(stream::Config {
        subjects,
        retention: stream::RetentionPolicy::WorkQueue,
        ..Default::default()
    })
    .await;
    let (_worker, prometheus) = watched(Worker::of(&nats, &gateway), &hurried()).await;
    nats.publish_raw(&format!("{QUEUE}.strange"), HeaderMap::new(), "x").await;
    fires(&prometheus, "QueueWorkerOrphans", &[FAAS_REQUEST]).await;
}

#[tokio::test]
async fn a_lease_that_is_lost_is_told() {
    let (nats, gateway) = parts(|call| if call.nth == 1 { Answer::silence() } else { Answer::ok() }).await;
    let (worker, prometheus) = watched(Worker::of(&nats, &gateway).set("ack_wait", "1s"), &hurried()).await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    gateway.await_calls(1).await;
    worker.pause();
    tokio::time::sleep(Duration::from_secs(3)).await;
    worker.resume();
    fires(&prometheus, "QueueWorkerLeasesLost", &[JOB]).await;
}

#[tokio::test]
async fn a_connection_that_comes_and_goes_is_told() {
    let (nats, gateway) = parts(|_| Answer::ok()).await;
    let proxy = Proxy::start(nats.port()).await;
    let settings = Worker::of(&nats, &gateway).set("nats_url", format!("nats://127.0.0.1:{}", proxy.port()));
    let (worker, prometheus) = watched(settings, &hurried()).await;
    let coming_and_going = async {
        loop {
            proxy.cut();
            let before = worker.metrics().await.value("queue_worker_nats_reconnect_total", &[]);
            eventually("the worker connects again", async || {
                worker.metrics().await.value("queue_worker_nats_reconnect_total", &[]) > before
            })
            .await;
        }
    };
    tokio::select! {
        _ = fires(&prometheus, "QueueWorkerReconnecting", &[JOB]) => {}
        () = coming_and_going => {}
    }
}

#[tokio::test]
async fn a_part_of_a_worker_that_ends_is_told() {
    let (nats, gateway) = parts(|_| Answer::ok()).await;
    let faults = Faults::new();
    let (_worker, prometheus) = watched(Worker::of(&nats, &gateway).mortal(&faults), &hurried()).await;
    faults.add("janitor.panic");
    fires(&prometheus, "QueueWorkerPartLost", &[JOB, ("part", "janitor")]).await;
}

#[tokio::test]
async fn callbacks_that_fail_are_told() {
    let (nats, gateway) = parts(|_| Answer::ok()).await;
    let receiver = Gateway::start(|_| Answer::status(500)).await;
    let (_worker, prometheus) = watched(Worker::of(&nats, &gateway), &hurried()).await;
    let message = Invocation::of("f").callback(&receiver.url());
    fires_under(&nats, &message, &prometheus, "QueueWorkerCallbacksFailing", &[FAAS_REQUEST]).await;
}

#[tokio::test]
async fn a_message_that_the_bridge_does_not_take_is_told() {
    let (nats, gateway) = parts(|_| Answer::ok()).await;
    let (_worker, prometheus) =
        watched(Worker::of(&nats, &gateway).set("stan_bridge", true), &hurried()).await;
    Peer::connect(&nats).await.publish("other", "").await.unwrap_err();
    fires(&prometheus, "QueueWorkerBridgeRefuses", &[("result", "refused")]).await;
}

#[tokio::test]
async fn a_gateway_that_does_not_tell_of_its_functions_is_told() {
    let answer = |call: &Call| Answer::status(if call.target().contains("/system/") { 401 } else { 200 });
    let (nats, gateway) = parts(answer).await;
    let settings = Worker::of(&nats, &gateway).set("function_lookup", true).set("function_lookup_ttl", "1s");
    let (_worker, prometheus) = watched(settings, &hurried()).await;
    fires_under(&nats, &Invocation::of("f"), &prometheus, "QueueWorkerLookupsFailing", &[JOB]).await;
}

#[tokio::test]
async fn a_pause_that_lasts_is_told() {
    let (nats, gateway) = parts(|_| Answer::ok()).await;
    let settings = Worker::of(&nats, &gateway);
    let rules = replace(&hurried(), "paused_seconds) > 14400", "paused_seconds) > 1");
    let (_worker, prometheus) = watched(settings.clone(), &rules).await;
    assert_eq!(settings.run("queue pause --function f").await.code, 0);
    let forgotten = [FAAS_REQUEST, ("function_name", "f.openfaas-fn")];
    fires(&prometheus, "QueueWorkerPauseForgotten", &forgotten).await;
}
