//! The doctor: what it finds in set-ups that are well or broken on purpose, and that it leaves them as they
//! were.

use serde_json::{Value, json};

use crate::support::{Answer, DEAD, Gateway, Invocation, Nats, QUEUE, RETRIES, Settings, Worker, eventually};

mod surroundings;

/// The doctor's report, as machines read it.
struct Report {
    code: i32,
    read: Value,
}

impl Report {
    async fn of(settings: &Settings, arguments: &[&str]) -> Self {
        let (code, text) = settings.doctor(&[&["--json"], arguments].concat()).await;
        let read = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        Self { code, read }
    }

    /// What was looked at and is of this severity.
    fn with(&self, severity: &str) -> Vec<&str> {
        let findings = self.read["findings"].as_array().unwrap().iter();
        findings
            .filter(|finding| finding["severity"] == severity)
            .map(|finding| finding["what"].as_str().unwrap())
            .collect()
    }

    /// The first finding about this.
    fn of_what(&self, what: &str) -> &Value {
        let finding =
            self.read["findings"].as_array().unwrap().iter().find(|finding| finding["what"] == what);
        finding.unwrap_or_else(|| panic!("nothing about {what}: {:#}", self.read))
    }

    fn text(&self, what: &str, field: &str) -> &str {
        self.of_what(what)[field].as_str().unwrap_or_default()
    }

    /// Whether the invocations survive the event whose name contains this.
    fn survives(&self, event: &str) -> &str {
        let line = self.read["guaranteed"]
            .as_array()
            .unwrap()
            .iter()
            .find(|line| line["event"].as_str().unwrap().contains(event));
        line.unwrap()["survives"].as_str().unwrap()
    }
}

/// A question to JetStream's API.
async fn api(nats: &Nats, call: &str, question: Value) -> Value {
    let answer = nats.client().request(format!("$JS.API.{call}"), question.to_string().into()).await.unwrap();
    serde_json::from_slice(&answer.payload).unwrap()
}

async fn write(nats: &Nats, call: &str, question: Value) {
    let answer = api(nats, call, question).await;
    assert!(answer["error"].is_null(), "{call}: {answer}");
}

/// Everything in the broker that somebody could have changed: settings, messages, deliveries.
async fn books(nats: &Nats) -> Vec<Value> {
    let mut books = Vec::new();
    for name in nats.streams().await {
        let info = api(nats, &format!("STREAM.INFO.{name}"), json!({})).await;
        books.push(json!([info["config"], info["state"]]));
        for consumer in api(nats, &format!("CONSUMER.LIST.{name}"), json!({ "offset": 0 })).await["consumers"]
            .as_array()
            .unwrap()
        {
            books.push(json!([
                consumer["config"],
                consumer["num_pending"],
                consumer["num_ack_pending"],
                consumer["delivered"]["stream_seq"]
            ]));
        }
    }
    books
}

/// The report on a set-up, which is the same afterwards.
async fn examine(nats: &Nats, settings: &Settings, arguments: &[&str]) -> Report {
    let before = books(nats).await;
    let report = Report::of(settings, arguments).await;
    assert_eq!(books(nats).await, before, "the doctor has changed something");
    report
}

async fn gateway() -> Gateway {
    Gateway::start(|_| Answer::ok()).await
}

/// A broker in which a worker has made everything, and that worker's settings. Its server says that it writes
/// at once.
async fn made(nats: &Nats, gateway: &Gateway) -> Settings {
    let settings = Worker::of(nats, gateway).set("upstream_timeout", "20s");
    assert_eq!(settings.start().await.drain().await, 0);
    settings
}

async fn healthy(nats: &Nats) -> Report {
    let gateway = gateway().await;
    let settings = made(nats, &gateway).await;
    let _worker = settings.set("queue_name", "faas-request,slow").start().await;
    let settings =
        Worker::of(nats, &gateway).set("upstream_timeout", "20s").set("queue_name", "faas-request,slow");
    let report = examine(nats, &settings, &[]).await;
    assert_eq!((report.code, report.read["well"].as_bool()), (0, Some(true)), "{:#}", report.read);
    assert_eq!(report.with("fail"), [""; 0]);
    for what in
        ["stream slow", "stream faas-request-retries", "consumer due of slow-retries", "orphans in slow"]
    {
        assert_eq!(report.text(what, "severity"), "ok", "{:#}", report.read);
    }
    assert_eq!(
        (report.survives("a worker is killed"), report.survives("process"), report.survives("disk")),
        ("yes", "yes", "no")
    );
    let (code, text) = settings.doctor(&[]).await;
    assert_eq!(code, 0);
    assert!(
        text.contains("What is guaranteed here") && text.contains("The guarantee holds: 0 fail"),
        "{text}"
    );
    report
}

#[tokio::test]
async fn a_set_up_that_a_worker_has_made_is_well() {
    let nats = Nats::start().await;
    let report = healthy(&nats).await;
    assert_eq!(report.with("warn"), if nats.schedules() { vec![] } else { vec!["version of NATS"] });
    assert_eq!(report.text("NATS", "severity"), "ok");
}

#[tokio::test]
async fn an_old_server_is_warned_about_and_no_more() {
    let nats = Nats::start_old().await;
    let report = healthy(&nats).await;
    assert_eq!(report.with("warn"), ["version of NATS"]);
    assert!(report.text("timer of slow", "seen").starts_with("levels"), "{:#}", report.read);
    assert_eq!(report.text("levels of slow-retries", "seen"), "17 consumers");
}

#[tokio::test]
async fn what_is_set_in_a_stream_against_the_promises_is_found() {
    let (nats, gateway) = (Nats::start().await, gateway().await);
    let settings = made(&nats, &gateway).await;
    for (stream, found, severity, said) in [
        (QUEUE, json!({ "subjects": ["other"] }), "fail", "--subjects=other,faas-request"),
        (QUEUE, json!({ "max_age": 3_600_000_000_000_u64 }), "fail", "--max-age=0"),
        (QUEUE, json!({ "max_msgs": 100 }), "fail", "--max-msgs=-1"),
        (
            QUEUE,
            json!({ "max_msgs_per_subject": 100, "discard": "new" }),
            "fail",
            "--max-msgs-per-subject=-1",
        ),
        (QUEUE, json!({ "no_ack": true }), "fail", "--ack"),
        (RETRIES, json!({ "max_bytes": 1_000_000 }), "fail", "--max-bytes=-1"),
        (RETRIES, json!({ "duplicate_window": 1_000_000_000 }), "warn", "--dupe-window=10m"),
        (RETRIES, json!({ "max_msg_size": 1_000 }), "warn", "--max-msg-size=-1"),
        (DEAD, json!({ "discard": "new" }), "warn", "--discard=old"),
    ] {
        let well = api(&nats, &format!("STREAM.INFO.{stream}"), json!({})).await["config"].clone();
        let mut broken = well.clone();
        broken.as_object_mut().unwrap().extend(found.as_object().unwrap().clone());
        write(&nats, &format!("STREAM.UPDATE.{stream}"), broken).await;
        let report = examine(&nats, &settings, &[]).await;
        let what = format!("stream {stream}");
        assert_eq!(report.text(&what, "severity"), severity, "{found}: {:#}", report.read);
        assert_eq!(report.text(&what, "mend"), format!("nats stream edit {stream} {said} --force"));
        assert_eq!(report.code, i32::from(severity == "fail"), "{found}");
        write(&nats, &format!("STREAM.UPDATE.{stream}"), well).await;
    }
    assert_eq!(examine(&nats, &settings, &[]).await.code, 0);
}

#[tokio::test]
async fn what_is_set_in_a_consumer_against_the_promises_is_found() {
    let (nats, gateway) = (Nats::start().await, gateway().await);
    let settings = made(&nats, &gateway).await;
    let call = format!("CONSUMER.DURABLE.CREATE.{QUEUE}.faas-workers");
    for (found, severity, said) in [
        (json!({ "max_deliver": 7 }), "fail", "--max-deliver=-1"),
        (json!({ "max_deliver": 7, "backoff": [2_000_000_000_u64] }), "warn", "--backoff=none"),
        (json!({ "ack_wait": 30_000_000_000_u64 }), "warn", "--wait=1m"),
        (json!({ "max_ack_pending": 10 }), "warn", "--max-pending=200"),
    ] {
        let well =
            api(&nats, &format!("CONSUMER.INFO.{QUEUE}.faas-workers"), json!({})).await["config"].clone();
        let mut broken = well.clone();
        broken.as_object_mut().unwrap().extend(found.as_object().unwrap().clone());
        write(&nats, &call, json!({ "stream_name": QUEUE, "config": broken })).await;
        let report = examine(&nats, &settings, &[]).await;
        let what = format!("consumer faas-workers of {QUEUE}");
        assert_eq!(report.text(&what, "severity"), severity, "{found}: {:#}", report.read);
        assert_eq!(
            report.text(&what, "mend"),
            format!("nats consumer edit {QUEUE} faas-workers {said} --force")
        );
        write(&nats, &call, json!({ "stream_name": QUEUE, "config": well })).await;
    }
    assert_eq!(examine(&nats, &settings, &[]).await.code, 0);
}

#[tokio::test]
async fn what_cannot_be_changed_is_to_be_made_anew() {
    let (nats, gateway) = (Nats::start().await, gateway().await);
    let settings = made(&nats, &gateway).await;
    nats.js().delete_stream(QUEUE).await.unwrap();
    let stream = json!({ "name": QUEUE, "subjects": [QUEUE], "retention": "workqueue", "storage": "memory" });
    write(&nats, &format!("STREAM.CREATE.{QUEUE}"), stream).await;
    let consumer = json!({ "durable_name": "faas-workers", "ack_policy": "explicit", "deliver_policy": "all",
        "headers_only": true });
    write(
        &nats,
        &format!("CONSUMER.DURABLE.CREATE.{QUEUE}.faas-workers"),
        json!({ "stream_name": QUEUE, "config": consumer }),
    )
    .await;
    let report = examine(&nats, &settings, &[]).await;
    assert_eq!(report.with("fail"), [format!("stream {QUEUE}"), format!("consumer faas-workers of {QUEUE}")]);
    assert_eq!((report.survives("a worker is killed"), report.survives("process")), ("no", "no"));
}

#[tokio::test]
async fn what_is_not_there_is_described_so_that_it_can_be_made() {
    let (nats, gateway) = (Nats::start().await, gateway().await);
    let settings = Worker::of(&nats, &gateway).set("nats_manage", "false");
    // Streams first, then what is in them: each round makes what the doctor tells.
    for _ in 0..2 {
        let report = examine(&nats, &settings, &[]).await;
        assert_eq!(report.code, 1);
        for what in report.with("fail") {
            let mend = report.text(what, "mend");
            let (call, question) = mend
                .strip_prefix("nats req '$JS.API.")
                .and_then(|rest| rest.split_once("' '"))
                .unwrap_or_else(|| panic!("{mend}"));
            write(&nats, call, serde_json::from_str(question.trim_end_matches('\'')).unwrap()).await;
        }
    }
    let report = examine(&nats, &settings, &[]).await;
    assert_eq!(report.code, 0, "{:#}", report.read);
    let _worker = settings.start().await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    gateway.await_ended(2).await;
}

#[tokio::test]
async fn what_nobody_gets_is_found() {
    let (nats, gateway) = (Nats::start().await, gateway().await);
    let stream =
        json!({ "name": QUEUE, "subjects": [QUEUE, "other"], "retention": "workqueue", "storage": "file" });
    write(&nats, &format!("STREAM.CREATE.{QUEUE}"), stream).await;
    let consumer = json!({
        "durable_name": "faas-workers", "ack_policy": "explicit", "deliver_policy": "all",
        "filter_subject": "other",
    });
    write(
        &nats,
        &format!("CONSUMER.DURABLE.CREATE.{QUEUE}.faas-workers"),
        json!({ "stream_name": QUEUE, "config": consumer }),
    )
    .await;
    let settings = made(&nats, &gateway).await;
    assert_eq!(examine(&nats, &settings, &[]).await.text(&format!("orphans in {QUEUE}"), "severity"), "ok");
    nats.publish(&Invocation::of("f").call_id("a")).await;
    let report = examine(&nats, &settings, &[]).await;
    assert_eq!(report.text(&format!("orphans in {QUEUE}"), "seen"), "1 messages");
    assert_eq!(report.with("fail"), [format!("consumer faas-workers of {QUEUE}")]);
}

#[tokio::test]
async fn what_the_other_timer_left_is_told() {
    let mut nats = Nats::start_old().await;
    let gateway = Gateway::start(|_| Answer::status(500)).await;
    let settings = Worker::of(&nats, &gateway).set("initial_retry_wait", "60s");
    let mut worker = settings.start().await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    gateway.await_ended(1).await;
    eventually("it is parked", async || nats.count(RETRIES).await == 1).await;
    worker.drain().await;
    nats.replace().await;
    let report = examine(&nats, &settings, &[]).await;
    if nats.schedules() {
        assert_eq!(
            (report.code, report.text("timer of faas-request", "severity")),
            (0, "warn"),
            "schedules are not on yet"
        );
        assert_eq!(settings.start().await.drain().await, 0);
        let report = examine(&nats, &settings, &[]).await;
        assert!(
            report.text("timer of faas-request", "seen").contains("1 retries lie in levels"),
            "{:#}",
            report.read
        );
    }
}
