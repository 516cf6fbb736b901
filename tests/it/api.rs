//! The operators' API: `api_addr`.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    rights::{restricted, rights},
    support::{Answer, Call, Door, Gateway, Invocation, Nats, QUEUE, Scratch, Settings, Worker, eventually},
};

mod calls;
mod changes;
mod document;

/// The dead letters of the queue.
const LETTERS: &str = "/queues/faas-request/dead-letters";

fn answer(call: &Call) -> Answer {
    match call.function() {
        "bad" => Answer::status(400),
        "slow" => Answer::status(502),
        _ => Answer::ok(),
    }
}

/// A worker that has so many dead letters, and its API.
async fn with_letters(nats: &Nats, gateway: &Gateway, many: u64) -> (Door, Settings, Worker) {
    let (door, settings) = Door::to_api(Worker::of(nats, gateway).set("initial_retry_wait", "1h"));
    let worker = settings.start().await;
    for n in 0..many {
        let invocation = Invocation::of("bad").call_id(&format!("bad-{n}")).body("a secret body");
        nats.publish(&invocation.header("X-Custom", "a secret header")).await;
    }
    nats.dead_letters(many).await;
    (door, settings, worker)
}

fn column<'v>(document: &'v Value, list: &str, key: &str) -> Vec<&'v Value> {
    document[list].as_array().unwrap().iter().map(|item| &item[key]).collect()
}

#[tokio::test]
async fn dead_letters_are_listed_in_parts_that_follow_each_other() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(answer).await;
    let (door, settings, _worker) = with_letters(&nats, &gateway, 5).await;
    let (mut seen, mut target) = (Vec::new(), format!("{LETTERS}?limit=2"));
    let parts = loop {
        let part = door.get(&target).await;
        seen.extend(column(&part, "items", "sequence").into_iter().map(|one| one.as_u64().unwrap()));
        assert_eq!(part["more"], json!(!part["next"].is_null()));
        match part["next"].as_str() {
            Some(next) => target = format!("{LETTERS}?limit=2&cursor={next}"),
            None => break seen.len().div_ceil(2),
        }
    };
    assert_eq!((seen, parts), (vec![1, 2, 3, 4, 5], 3));
    // The words are the commands'.
    let listed = settings.run("dead-letters list --output json").await.done();
    assert_eq!(door.get(LETTERS).await["items"], listed["items"]);
    for (filter, many) in [
        ("function=bad&status=400", 5),
        ("call_id=bad-3", 1),
        ("cause=refused&since=1h", 5),
        ("before=1h", 0),
        ("function=other", 0),
        ("error=answered%20400", 5),
    ] {
        let found = door.get(&format!("{LETTERS}?{filter}")).await;
        assert_eq!(column(&found, "items", "callId").len(), many, "{filter}: {found}");
    }
    let groups = door.get(&format!("{LETTERS}?group=true")).await;
    assert_eq!(
        groups["groups"],
        settings.run("dead-letters list --group --output json").await.done()["groups"]
    );
    assert_eq!((column(&groups, "groups", "count"), &groups["more"]), (vec![&json!(5)], &json!(false)));
    // No consumer is left behind.
    let mut stream = nats.js().get_stream(crate::support::DEAD).await.unwrap();
    eventually("the consumers are gone", async || stream.info().await.unwrap().state.consumer_count == 0)
        .await;
}

#[tokio::test]
async fn retries_and_records_are_listed_in_parts_too() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(answer).await;
    let queues = Worker::of(&nats, &gateway).set("queue_name", "faas-request,other").set("audit", "all");
    let (door, settings) = Door::to_api(queues.set("initial_retry_wait", "1h"));
    let _worker = settings.start().await;
    for n in 0..3 {
        nats.publish(&Invocation::of("slow").call_id(&format!("slow-{n}"))).await;
        nats.publish(&Invocation::of("good").call_id(&format!("good-{n}"))).await;
        let other = Invocation::of("good").call_id(&format!("other-{n}")).to_bytes();
        nats.client().publish("other", other.into()).await.unwrap();
    }
    nats.await_counts([0, 3, 0]).await;
    let all = async |target: &str| {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let part = door.get(&format!("{target}limit=2{cursor}")).await;
            all.extend(part["items"].as_array().unwrap().clone());
            let Some(next) = part["next"].as_str() else { return all };
            cursor = format!("&cursor={next}");
        }
    };
    let retries = all("/queues/faas-request/retries?").await;
    let ids: Vec<_> = retries.iter().map(|retry| retry["callId"].as_str().unwrap()).collect();
    assert_eq!(ids, ["slow-0", "slow-1", "slow-2"]);
    assert_eq!(
        json!(retries),
        settings.run("retries list --output json --queue faas-request").await.done()["items"]
    );
    eventually("all are recorded", async || all("/audit?").await.len() == 6).await;
    let records = all("/audit?").await;
    let ids: BTreeSet<_> = records.iter().map(|record| record["callId"].as_str().unwrap()).collect();
    let expected = ["good-0", "good-1", "good-2", "other-0", "other-1", "other-2"];
    assert_eq!(ids, BTreeSet::from(expected));
    let one = door.get("/audit?call_id=other-1").await;
    assert_eq!((column(&one, "items", "queue"), &one["more"]), (vec![&json!("other")], &json!(false)));
    // Those of a call come by an index, and in parts as well.
    for queue in [QUEUE, QUEUE, QUEUE, "other", "other"] {
        let same = Invocation::of("good").call_id("same").to_bytes();
        nats.client().publish(queue, same.into()).await.unwrap();
    }
    eventually("all are recorded", async || all("/audit?call_id=same&").await.len() == 5).await;
    let part = door.get("/audit?call_id=same&limit=2").await;
    assert_eq!((column(&part, "items", "queue").len(), &part["more"]), (2, &json!(true)));
    let part = door.get("/audit?call_id=same&limit=5").await;
    assert_eq!((column(&part, "items", "queue").len(), &part["more"]), (5, &json!(false)));
    // A cursor is for its own list, and its own filter.
    let next = async |target: &str| door.get(target).await["next"].as_str().unwrap().to_owned();
    let (of_audit, of_slow) =
        (next("/audit?limit=1").await, next("/queues/faas-request/retries?function=slow&limit=1").await);
    for target in [
        format!("{LETTERS}?cursor={of_audit}"),
        format!("/audit?function=good&cursor={of_audit}"),
        format!("/queues/faas-request/retries?cursor={of_slow}"),
        format!("/queues/faas-request/retries?function=good&cursor={of_slow}"),
    ] {
        let reply = door.ask("GET", &format!("/api/v1{target}"), &[], b"").await;
        assert_eq!((reply.status, &reply.json()["errors"][0]["field"]), (400, &json!("cursor")), "{target}");
    }
}

#[tokio::test]
async fn without_tokens_nobody_sees_what_callers_sent_and_nobody_changes_anything() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(answer).await;
    let (door, _, _worker) = with_letters(&nats, &gateway, 1).await;
    let whole = door.get(&format!("{LETTERS}/1")).await;
    assert!(!whole.to_string().contains("secret"), "{whole}");
    assert_eq!((&whole["body"], &whole["headers"]["X-Custom"]), (&Value::Null, &json!(["***"])));
    assert_eq!(whole["letterHeaders"]["Queue-Worker-Cause"], json!(["refused"]));
    let reply = door.ask("GET", &format!("/api/v1{LETTERS}/1?reveal=true"), &[], b"").await;
    assert_eq!(reply.status, 403);
    // What a producer calls an event is the producer's own.
    let mut headers = async_nats::HeaderMap::new();
    for (name, value) in [("Event-Id", "secret"), ("Event-Source", "secret"), ("Cause", "refused")] {
        headers.insert(format!("Queue-Worker-{name}"), value);
    }
    nats.publish_raw(&format!("{}.bad", crate::support::DEAD), headers, b"secret".to_vec()).await;
    let event = door.get(&format!("{LETTERS}/2")).await;
    assert!(!event.to_string().contains("secret"), "{event}");
    assert_eq!(event["letterHeaders"]["Queue-Worker-Event-Id"], json!(["***"]));
    assert_eq!(event["letterHeaders"]["Queue-Worker-Cause"], json!(["refused"]));
    let document = door.get("/openapi.json").await;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys().filter(|method| *method != "get") {
            let path = path.replace("{queue}", QUEUE).replace(['{', '}'], "");
            let reply = door.ask(&method.to_uppercase(), &path, &[], b"").await;
            assert_eq!(reply.status, 403, "{method} {path}");
            assert!(reply.json()["detail"].as_str().unwrap().contains("api_token_file"));
        }
    }
    assert_eq!(nats.count(crate::support::DEAD).await, 2);
}

#[tokio::test]
async fn a_token_lets_an_operator_in() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(answer).await;
    let scratch = Scratch::new();
    let file = scratch.write("tokens", "first\nsecond\n");
    let (door, settings) = Door::to_api(Worker::of(&nats, &gateway).set("api_token_file", file.display()));
    let _worker = settings.start().await;
    let invocation = Invocation::of("bad").header("Authorization", "Bearer secret").header("X-A", "b");
    nats.publish(&invocation.body("hello")).await;
    nats.dead_letters(1).await;
    let letter = format!("/api/v1{LETTERS}/1");
    for (sent, status) in [
        (&[][..], 401),
        (&[("Authorization", "Basic first")], 401),
        (&[("Authorization", "Bearer third")], 403),
        (&[("Authorization", "Bearer first")], 200),
        (&[("Authorization", "bearer second")], 200),
    ] {
        for target in [letter.as_str(), "/api/v1/openapi.json"] {
            let reply = door.ask("GET", target, sent, b"").await;
            assert_eq!(reply.status, status, "{sent:?}");
            assert_eq!(reply.header("www-authenticate"), (status == 401).then_some("Bearer"));
        }
        // Nobody learns which paths there are.
        let nowhere = door.ask("GET", "/api/v1/nowhere", sent, b"").await.status;
        assert_eq!(nowhere, if status == 200 { 404 } else { status });
    }
    let token = [("Authorization", "Bearer first")];
    let whole = door.ask("GET", &letter, &token, b"").await.json();
    assert_eq!((&whole["body"], &whole["headers"]["X-A"]), (&json!("hello"), &json!(["b"])));
    assert_eq!(whole["headers"]["Authorization"], json!(["***"]));
    let whole = door.ask("GET", &format!("{letter}?reveal=true"), &token, b"").await.json();
    assert_eq!(whole["headers"]["Authorization"], json!(["Bearer secret"]));
    // Tokens are exchanged while it runs.
    scratch.write("tokens", "a new one\n");
    eventually("the old token is not known any more", async || {
        door.ask("GET", &letter, &token, b"").await.status == 403
    })
    .await;
    let token = [("Authorization", "Bearer a new one")];
    assert_eq!(door.ask("GET", &letter, &token, b"").await.status, 200);
}

#[tokio::test]
async fn a_problem_names_what_is_wrong_and_what_is_expected() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(answer).await;
    let (door, settings) = Door::to_api(Worker::of(&nats, &gateway));
    let _worker = settings.start().await;
    for (method, target, status, fields) in [
        ("GET", "/nowhere", 404, &[][..]),
        ("GET", "/queues/other", 404, &["queue"]),
        ("GET", "/queues/faas-request/dead-letters/7", 404, &[]),
        ("GET", "/operations/nope", 404, &[]),
        ("GET", "/operations/a.b", 404, &[]),
        ("GET", "/calls/nobody", 404, &[]),
        ("POST", "/queues", 405, &[]),
        ("GET", "/queues/faas-request/dead-letters/x", 400, &["sequence"]),
        ("GET", "/policy/a%20b", 400, &["function"]),
        ("GET", "/queues/faas-request/dead-letters?function=", 400, &["function"]),
        ("GET", "/queues?x=1", 400, &["(query)"]),
        (
            "GET",
            "/queues/faas-request/dead-letters?limit=0&limit=1001&cause=x&status=99&since=1d&group=yes",
            400,
            &["limit", "limit", "cause", "status", "since", "group"],
        ),
        ("GET", "/queues/faas-request/dead-letters?limit=1&limit=2", 400, &["limit"]),
        ("GET", "/queues/faas-request/retries?error=&call_id=", 400, &["error", "call_id"]),
        ("GET", "/queues/faas-request/dead-letters?cursor=x", 400, &["cursor"]),
    ] {
        let reply = door.ask(method, &format!("/api/v1{target}"), &[], b"").await;
        assert_eq!(reply.status, status, "{target}");
        assert_eq!(reply.header("content-type"), Some("application/problem+json"));
        let problem = reply.json();
        assert_eq!((&problem["status"], &problem["type"]), (&json!(status), &json!("about:blank")));
        assert!(
            !problem["title"].as_str().unwrap().is_empty() && !problem["detail"].as_str().unwrap().is_empty()
        );
        let found = problem.get("errors").map_or(Vec::new(), |_| column(&problem, "errors", "field"));
        assert_eq!(found, fields.iter().collect::<Vec<_>>(), "{target}: {problem}");
        assert!(!problem.to_string().contains("expected the message"), "{problem}");
        assert_eq!(reply.header("allow"), (status == 405).then_some("GET, HEAD"), "{target}");
    }
    let mut stream = door.connect().await;
    stream.write_all(b"HEAD /api/v1/queues HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut head = String::new();
    stream.read_to_string(&mut head).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
}

#[tokio::test]
async fn a_broker_that_is_away_is_a_problem_for_now() {
    let mut nats = Nats::start().await;
    let gateway = Gateway::start(answer).await;
    let (door, _, _worker) = with_letters(&nats, &gateway, 1).await;
    nats.kill().await;
    let mut reply = None;
    eventually("the API notices", async || {
        let answer = door.ask("GET", "/api/v1/queues", &[], b"").await;
        let is_away = answer.status == 503;
        reply = Some(answer);
        is_away
    })
    .await;
    let reply = reply.unwrap();
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert_eq!(reply.header("content-type"), Some("application/problem+json"));
    nats.boot().await;
    eventually("the API is back", async || {
        door.ask("GET", &format!("/api/v1{LETTERS}"), &[], b"").await.status == 200
    })
    .await;
}

#[tokio::test]
async fn a_right_that_only_operators_need_is_never_the_workers_trouble() {
    let nats = restricted(&rights(true)).await;
    let gateway = Gateway::start(answer).await;
    let scratch = Scratch::new();
    let settings = Worker::of(&nats, &gateway).set("nats_inbox_prefix", "_INBOX_worker").set("audit", "all");
    let settings = settings.set("nats_user", "worker").file("nats_password_file", "secret");
    let settings = settings.set("api_token_file", scratch.write("tokens", "t").display());
    let (door, settings) = Door::to_api(settings);
    let worker = settings.start().await;
    nats.publish(&Invocation::of("bad").call_id("a")).await;
    nats.dead_letters(1).await;
    let token = [("Authorization", "Bearer t"), ("Content-Type", "application/json")];
    let found = door.ask("GET", &format!("/api/v1{LETTERS}"), &token, b"").await;
    assert_eq!(column(&found.json(), "items", "callId"), ["a"]);
    assert_eq!(door.ask("GET", "/api/v1/audit", &token, b"").await.status, 200);
    for (method, target) in [
        ("POST", "/queues/faas-request/redrives"),
        ("DELETE", "/calls/a-running-one"),
        ("PUT", "/queues/faas-request/pause"),
        ("PUT", "/queues/faas-request/functions/f/pause"),
    ] {
        let body: &[u8] = if target.ends_with("redrives") { b"{\"all\":true}" } else { b"{}" };
        let reply = door.ask(method, &format!("/api/v1{target}"), &token, body).await;
        let detail = reply.json()["detail"].as_str().unwrap().to_owned();
        assert_eq!(reply.status, 503, "{target}: {detail}");
        assert!(detail.contains("Permissions Violation for Publish"), "{target}: {detail}");
    }
    assert_eq!(worker.readyz().await.unwrap().0, 200);
    nats.publish(&Invocation::of("good").call_id("b")).await;
    gateway.await_ended(2).await;
}

#[tokio::test]
async fn a_broker_that_is_away_from_the_start_is_a_problem_for_now() {
    let mut nats = Nats::absent();
    let gateway = Gateway::start(answer).await;
    let (door, settings) = Door::to_api(Worker::of(&nats, &gateway));
    let _worker = settings.spawn();
    let mut reply = None;
    eventually("the API answers", async || {
        reply = door.try_to_ask("GET", "/api/v1/queues", &[], b"").await.ok().flatten();
        reply.is_some()
    })
    .await;
    let reply = reply.unwrap();
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
    // What needs no broker is there.
    assert_eq!(door.get("/openapi.json").await["openapi"], "3.1.0");
    assert_eq!(door.get("/policy").await["function"], Value::Null);
    nats.boot().await;
    eventually("the API is connected", async || {
        door.ask("GET", "/api/v1/queues", &[], b"").await.status == 200
    })
    .await;
}

#[tokio::test]
async fn a_token_file_that_is_missing_is_told_without_a_broker() {
    let (nats, gateway) = (Nats::absent(), Gateway::start(answer).await);
    let (_, settings) = Door::to_api(Worker::of(&nats, &gateway));
    let mut worker = settings.set("api_token_file", "/nowhere/tokens").spawn();
    worker.await_log(&["api_token_file=", "/nowhere/tokens", "No such file"]).await;
    assert_eq!(worker.exit().await, 1);
}
