//! What operators change by the API.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{LETTERS, document::Document};
use crate::support::{
    Answer, Call, DEAD, Door, Gateway, Invocation, Latch, Nats, Proxy, RETRIES, Reply, Scratch, Settings,
    Worker, eventually, eventually_is, patiently,
};

const QUEUE: &str = "/queues/faas-request";
const TOKEN: (&str, &str) = ("Authorization", "Bearer t");
const JSON: (&str, &str) = ("Content-Type", "application/json");

/// Somebody with a token, who reads the document.
struct Operator {
    door: Door,
    settings: Settings,
    document: Document,
    worker: Worker,
    _scratch: Scratch,
}

impl Operator {
    async fn of(settings: Settings) -> Self {
        let scratch = Scratch::new();
        let settings = settings.set("api_token_file", scratch.write("tokens", "t").display());
        let (door, settings) = Door::to_api(settings.set("audit", "all"));
        let worker = settings.start().await;
        let document = Document::of(&door, &[TOKEN]).await;
        Self { door, settings, document, worker, _scratch: scratch }
    }

    /// Sends a request whose answer has to be as documented.
    async fn send(&self, method: &str, target: &str, more: &[(&str, &str)], body: &str) -> Reply {
        let headers = [&[TOKEN, JSON], more].concat();
        let target = format!("/api/v1{target}");
        let reply = self.door.ask(method, &target, &headers, body.as_bytes()).await;
        self.document.check_answer(method, &target, reply.status, &reply.json());
        reply
    }

    /// The same, of one that is done.
    async fn done(&self, method: &str, target: &str, body: Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let reply = self.send(method, target, &[], &body).await;
        assert!([200, 202].contains(&reply.status), "{method} {target}: {}", reply.json());
        reply.json()
    }

    /// Waits until an operation has ended, and returns it.
    async fn ended(&self, id: &str) -> Value {
        let target = format!("/operations/{id}");
        eventually("the operation ends", async || {
            let state = self.done("GET", &target, Value::Null).await["state"].clone();
            ![json!("waiting"), json!("running"), json!("aborting")].contains(&state)
        })
        .await;
        self.done("GET", &target, Value::Null).await
    }
}

fn answer(call: &Call) -> Answer {
    match call.function() {
        "bad" => Answer::status(400),
        "slow" => Answer::status(502),
        _ => Answer::ok(),
    }
}

async fn publish(nats: &Nats, function: &str, ids: &[&str]) {
    for id in ids {
        nats.publish(&Invocation::of(function).call_id(id)).await;
    }
}

#[tokio::test]
async fn letters_are_sent_round_again_by_a_request() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(answer).await;
    let operator = Operator::of(Worker::of(&nats, &gateway)).await;
    publish(&nats, "bad", &["a", "b", "c"]).await;
    nats.dead_letters(3).await;

    let dry = json!({ "filter": { "function": "bad", "status": 400 }, "dryRun": true });
    let dry = operator.send("POST", &format!("{QUEUE}/redrives"), &[], &dry.to_string()).await;
    assert_eq!(
        (dry.status, &dry.json()["matched"], &dry.json()["state"]),
        (200, &json!(3), &json!("dry-run"))
    );
    assert_eq!(gateway.count(), 3);

    let body =
        json!({ "filter": { "callId": "a" }, "to": "good", "reason": "mended", "rate": 100, "canary": 1 });
    let reply = operator
        .send("POST", &format!("{QUEUE}/redrives"), &[("X-Operator", "ann")], &body.to_string())
        .await;
    assert_eq!(reply.status, 202);
    let made = reply.json();
    let id = made["operation"].as_str().unwrap();
    assert_eq!(reply.header("location"), Some(&*format!("/api/v1/operations/{id}")));
    assert_eq!(
        (&made["matched"], &made["reason"], &made["to"]),
        (&json!(1), &json!("mended"), &json!("good"))
    );
    assert_eq!(made["by"], "ann (api@127.0.0.1)");
    let ended = operator.ended(id).await;
    assert_eq!((&ended["state"], &ended["redriven"]), (&json!("done"), &json!(1)));
    let calls = gateway.await_ended(4).await;
    assert_eq!((calls[3].id(), calls[3].function()), ("a", "good"));

    let gone = operator.done("POST", &format!("{QUEUE}/discards"), json!({ "sequences": [2] })).await;
    assert_eq!(operator.ended(gone["operation"].as_str().unwrap()).await["discarded"], 1);
    let left = operator.done("GET", LETTERS, Value::Null).await;
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
    let all = operator.done("POST", &format!("{QUEUE}/discards"), json!({ "all": true })).await;
    assert_eq!(operator.ended(all["operation"].as_str().unwrap()).await["discarded"], 1);
    let none = operator.send("POST", &format!("{QUEUE}/discards"), &[], "{\"all\": true}").await;
    assert_eq!(none.status, 404);
    // It is recorded who did it.
    eventually("the records are there", async || {
        let found = operator.done("GET", "/audit?action=any&by=ann", Value::Null).await;
        let words: Vec<_> =
            found["items"].as_array().unwrap().iter().map(|item| item["action"].clone()).collect();
        words == ["redrive", "ended"]
    })
    .await;
    assert_eq!(operator.done("GET", "/operations", Value::Null).await["items"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_request_that_is_sent_again_makes_one_operation() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(answer).await;
    let operator = Operator::of(Worker::of(&nats, &gateway)).await;
    publish(&nats, "bad", &["a", "b"]).await;
    nats.dead_letters(2).await;
    let target = format!("{QUEUE}/redrives");
    let key = [("Idempotency-Key", "k")];
    let body = json!({ "filter": { "since": "1h" }, "to": "good" }).to_string();
    let both = tokio::join!(
        operator.send("POST", &target, &key, &body),
        operator.send("POST", &target, &key, &body)
    );
    let id = both.0.json()["operation"].clone();
    assert_eq!((both.0.status, both.1.status, &both.1.json()["operation"]), (202, 202, &id));
    operator.ended(id.as_str().unwrap()).await;
    // There is nothing left to do, and another worker is asked.
    let other = Operator::of(Worker::of(&nats, &gateway)).await;
    let again = other.send("POST", &target, &key, &body).await;
    assert_eq!(
        (again.status, &again.json()["operation"], &again.json()["state"]),
        (202, &id, &json!("done"))
    );
    assert_eq!(again.header("location"), both.0.header("location"));
    assert_eq!(other.send("POST", &target, &key, "{\"all\":true}").await.status, 422);
    assert_eq!(other.send("POST", &target, &[("Idempotency-Key", "")], &body).await.status, 400);
    // A key is for what is to be done, too.
    let discards = format!("{QUEUE}/discards");
    assert_eq!(other.send("POST", &discards, &key, "{\"all\":true}").await.status, 404);
    assert_eq!((gateway.await_ended(4).await.len(), nats.count(DEAD).await), (4, 0));
}

#[tokio::test]
async fn of_two_equal_requests_at_once_the_slower_is_told_of_what_the_other_made() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(answer).await;
    let quick = Operator::of(Worker::of(&nats, &gateway)).await;
    let proxy = Proxy::start(nats.port()).await;
    let url = format!("nats://127.0.0.1:{}", proxy.port());
    let slow = Operator::of(Worker::of(&nats, &gateway).set("nats_url", url)).await;
    publish(&nats, "bad", &["a"]).await;
    nats.dead_letters(1).await;
    let (target, key, body) = (format!("{QUEUE}/discards"), [("Idempotency-Key", "k")], "{\"all\":true}");
    let mut counts = nats.watch(&format!("$JS.API.CONSUMER.CREATE.{DEAD}")).await;
    proxy.delay(Duration::from_millis(300));
    let (late, id) = tokio::join!(slow.send("POST", &target, &key, body), async {
        // It knows of no other, and is about to count.
        counts.next().await;
        proxy.black_hole();
        let made = quick.send("POST", &target, &key, body).await;
        let id = made.json()["operation"].clone();
        assert_eq!(quick.ended(id.as_str().unwrap()).await["discarded"], 1);
        proxy.pass();
        id
    });
    assert_eq!((late.status, &late.json()["operation"]), (202, &id), "{}", late.json());
}

#[tokio::test]
async fn a_choice_has_to_be_made_and_is_checked() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(answer).await;
    let operator = Operator::of(Worker::of(&nats, &gateway)).await;
    publish(&nats, "bad", &["a"]).await;
    nats.dead_letters(1).await;
    for (body, fields) in [
        ("", &["(body)"][..]),
        ("{}", &["(body)"]),
        ("[1]", &["(body)"]),
        ("{", &["(body)"]),
        ("{\"all\":false}", &["(body)"]),
        ("{\"sequences\":[1],\"filter\":{\"function\":\"f\"},\"filter\":{}}", &["(body)"]),
        ("{\"filter\":{}}", &["(body)"]),
        ("{\"all\":true,\"sequences\":[1]}", &["(body)"]),
        ("{\"sequences\":[]}", &["sequences"]),
        ("{\"sequences\":[0]}", &["sequences"]),
        ("{\"all\":\"yes\"}", &["all"]),
        ("{\"all\":true,\"function\":\"bad\"}", &["function"]),
        (
            "{\"filter\":{\"functon\":\"f\",\"status\":99,\"since\":\"1d\",\"error\":1}}",
            &["filter.error", "filter.functon", "filter.since", "filter.status"],
        ),
        // An empty text is in every error.
        ("{\"filter\":{\"error\":\"\"}}", &["filter.error"]),
        ("{\"filter\":{\"callId\":\"\",\"function\":\"\"}}", &["filter.callId", "filter.function"]),
        ("{\"all\":true,\"rate\":0,\"canary\":1001,\"to\":\"a b\"}", &["canary", "rate", "to"]),
        ("{\"all\":true,\"require\":50}", &["require"]),
    ] {
        let reply = operator.send("POST", &format!("{QUEUE}/redrives"), &[], body).await;
        assert_eq!(reply.status, 400, "{body}");
        let problem = reply.json();
        let found: Vec<_> =
            problem["errors"].as_array().unwrap().iter().map(|fault| fault["field"].clone()).collect();
        assert_eq!(found, fields, "{body}: {problem}");
        if body == "{" {
            assert_eq!(problem["errors"][0]["value"], body, "{problem}");
        }
    }
    let target = format!("/api/v1{QUEUE}/redrives");
    let form = [TOKEN, ("Content-Type", "application/x-www-form-urlencoded")];
    assert_eq!(operator.door.ask("POST", &target, &form, b"{\"all\":true}").await.status, 415);
    let large = format!("{{\"all\":true,\"reason\":\"{}\"}}", "x".repeat(64 << 10));
    assert_eq!(operator.door.ask("POST", &target, &[TOKEN, JSON], large.as_bytes()).await.status, 413);
    assert_eq!(nats.count(DEAD).await, 1);
    assert_eq!(operator.send("POST", "/operations/nope/abort", &[], "").await.status, 404);
    // Where no body is read, one that says something is meant for another path.
    let pause = format!("{QUEUE}/pause");
    operator.done("PUT", &pause, json!({ "reason": "" })).await;
    let reply = operator.send("DELETE", &pause, &[], "{\"function\":\"resize\"}").await;
    assert_eq!((reply.status, &reply.json()["errors"][0]["field"]), (400, &json!("(body)")));
    assert_eq!(operator.done("GET", QUEUE, Value::Null).await["paused"], json!(true));
    assert_eq!(operator.done("DELETE", &pause, json!({})).await["paused"], json!(false));
}

#[tokio::test]
async fn an_operation_is_ended_and_gone_on_with() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(answer).await;
    let operator = Operator::of(Worker::of(&nats, &gateway)).await;
    publish(&nats, "bad", &["a", "b", "c"]).await;
    nats.dead_letters(3).await;
    let body = json!({ "all": true, "to": "good", "rate": 1 });
    let id = operator.done("POST", &format!("{QUEUE}/redrives"), body).await["operation"].clone();
    let target = format!("/operations/{}", id.as_str().unwrap());
    // While it is open its letters are its own.
    let other = operator.send("POST", &format!("{QUEUE}/redrives"), &[], "{\"all\":true}").await;
    assert_eq!(other.status, 409, "{}", other.json());
    for _ in 0..2 {
        let state = operator.done("POST", &format!("{target}/abort"), Value::Null).await["state"].clone();
        assert!([json!("aborting"), json!("aborted")].contains(&state), "{state}");
    }
    assert_eq!(operator.ended(id.as_str().unwrap()).await["state"], "aborted");
    for _ in 0..2 {
        let state = operator.done("POST", &format!("{target}/resume"), Value::Null).await["state"].clone();
        assert!([json!("waiting"), json!("running")].contains(&state), "{state}");
    }
    assert_eq!(operator.ended(id.as_str().unwrap()).await["state"], "done");
    assert_eq!(operator.send("POST", &format!("{target}/abort"), &[], "").await.status, 409);
    assert_eq!(gateway.await_ended(6).await.len(), 6);
}

#[tokio::test]
async fn calls_and_retries_are_ended_or_called_by_a_request() {
    let latch = Latch::new();
    let held = latch.clone();
    let nats = Nats::start().await;
    let gateway = Gateway::start(move |call| match call.function() {
        "held" => Answer::ok().held_by(&held),
        _ => answer(call),
    })
    .await;
    let operator = Operator::of(Worker::of(&nats, &gateway).set("initial_retry_wait", "1h")).await;
    publish(&nats, "held", &["running"]).await;
    publish(&nats, "slow", &["one", "two", "three"]).await;
    nats.await_counts([1, 3, 0]).await;
    assert_eq!(operator.done("GET", "/calls/running", Value::Null).await["state"], "running");
    for id in ["running", "one"] {
        let ended = operator.done("DELETE", &format!("/calls/{id}?reason=by%20mistake"), Value::Null).await;
        assert_eq!((&ended["state"], &ended["callId"]), (&json!("cancelled"), &json!(id)));
    }
    assert_eq!(operator.send("DELETE", "/calls/one", &[], "").await.status, 409);
    // A call that nobody has seen may still wait.
    assert_eq!(operator.send("DELETE", "/calls/nobody", &[], "").await.status, 202);

    let moved = operator
        .done("POST", &format!("{QUEUE}/retries/run-now"), json!({ "filter": { "callId": "two" } }))
        .await;
    assert_eq!((&moved["matched"], &moved["done"], &moved["more"]), (&json!(1), &json!(1), &json!(false)));
    gateway
        .await_that("the second attempt", |calls| calls.iter().filter(|call| call.id() == "two").count() == 2)
        .await;
    nats.await_counts([0, 2, 2]).await;
    let dry = operator
        .done("POST", &format!("{QUEUE}/retries/cancel"), json!({ "all": true, "dryRun": true }))
        .await;
    assert_eq!(dry["matched"], 2);
    let cancelled = operator.done("POST", &format!("{QUEUE}/retries/cancel"), json!({ "all": true })).await;
    assert_eq!(operator.ended(cancelled["operation"].as_str().unwrap()).await["cancelled"], 2);
    eventually_is("parked", 0, async || nats.count(RETRIES).await).await;
    eventually_is("dead", 4, async || nats.count(DEAD).await).await;
    latch.open();
}

#[tokio::test]
async fn queues_and_functions_are_paused_by_a_request() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(answer).await;
    let operator = Operator::of(Worker::of(&nats, &gateway)).await;
    let function = format!("{QUEUE}/functions/good/pause");
    let queue = format!("{QUEUE}/pause");
    for target in [&function, &queue] {
        let is_queue = *target == queue;
        for _ in 0..2 {
            let paused = operator.done("PUT", target, json!({ "reason": "disk" })).await;
            assert_eq!(paused["paused"], json!(is_queue));
            let pause = if is_queue { &paused["pause"] } else { &paused["pausedFunctions"][0] };
            assert_eq!((&pause["by"], &pause["reason"]), (&json!("api@127.0.0.1"), &json!("disk")));
        }
        // A function goes by two names.
        let told = if is_queue { 3 } else { 2 };
        eventually("the worker knows", async || operator.worker.log_with(" Paused ").len() >= told).await;
        let calls = gateway.count();
        publish(&nats, "good", &["a"]).await;
        // What was on its way to a worker counts as running, or is handed back.
        let places: &[&str] = if is_queue { &["pending", "running", "due"] } else { &["held"] };
        eventually_is("how many wait", 1, async || {
            let stats = operator.done("GET", QUEUE, Value::Null).await;
            places.iter().map(|place| stats[place].as_u64().unwrap()).sum::<u64>()
        })
        .await;
        assert_eq!(gateway.count(), calls, "a call began in a pause");
        assert_eq!(operator.done("DELETE", target, Value::Null).await["paused"], json!(false));
        gateway.await_ended(calls + 1).await;
        assert_eq!(operator.send("DELETE", target, &[], "").await.status, 404);
    }
    let stats = operator.settings.run("queue stats --output json").await.done();
    assert_eq!(
        operator.done("GET", "/queues", Value::Null).await["queues"][0]["paused"],
        stats["queues"][0]["paused"]
    );
}

#[tokio::test]
async fn a_change_is_made_and_told_though_its_asker_hangs_up() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(answer).await;
    let proxy = Proxy::start(nats.port()).await;
    let url = format!("nats://127.0.0.1:{}", proxy.port());
    let operator = Operator::of(Worker::of(&nats, &gateway).set("nats_url", url)).await;
    let mut writes = nats.watch("faas-request-operations._pauses").await;
    // The acknowledgement of the write is on its way when the asker goes.
    proxy.delay(Duration::from_millis(300));
    let mut asker = operator.door.connect().await;
    let head = format!("PUT /api/v1{QUEUE}/pause HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\n\r\n");
    asker.write_all(head.as_bytes()).await.unwrap();
    writes.next().await;
    proxy.black_hole();
    asker.shutdown().await.unwrap();
    let mut answered = Vec::new();
    patiently("the end of the connection", asker.read_to_end(&mut answered)).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&answered), "");
    proxy.pass();
    operator.worker.await_log(&["Operator's request", "pauseQueue", "status=200"]).await;
    eventually("it is recorded", async || {
        let found = operator.done("GET", "/audit?action=pause", Value::Null).await;
        found["items"].as_array().unwrap().len() == 1
    })
    .await;
}
