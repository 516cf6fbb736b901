//! Dead letters as operators see them: listed, summed up, shown, exported and discarded.

use std::{collections::BTreeSet, fs};

use async_nats::HeaderMap;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use crate::support::{
    Answer, DEAD, Gateway, Invocation, Nats, QUEUE, Scratch, Settings, Worker, eventually, free_port,
};

/// A letter with these headers, straight into the stream.
async fn letter(nats: &Nats, function: &str, headers: &[(&str, &str)], payload: &[u8]) -> u64 {
    let mut map = HeaderMap::new();
    headers.iter().for_each(|(name, value)| map.insert(format!("Queue-Worker-{name}").as_str(), *value));
    nats.publish_raw(&format!("{DEAD}.{function}"), map, payload.to_vec()).await
}

/// A broker where a worker has made the streams, and left.
async fn house() -> (Nats, Settings) {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::status(400)).await;
    let settings = Worker::of(&nats, &gateway);
    assert_eq!(settings.start().await.drain().await, 0);
    (nats, settings)
}

fn column<'v>(document: &'v Value, list: &str, key: &str) -> Vec<&'v Value> {
    document[list].as_array().unwrap().iter().map(|item| &item[key]).collect()
}

#[tokio::test]
async fn a_function_is_found_by_each_of_its_two_names() {
    let nats = Nats::start().await;
    let gateway =
        Gateway::start(|call| Answer::status(if call.function() == "slow" { 500 } else { 400 })).await;
    let settings = Worker::of(&nats, &gateway).set("audit", "all").set("initial_retry_wait", "1h");
    let settings = settings.set("max_retry_wait", "1h");
    let _worker = settings.start().await;
    for function in ["f", "f.openfaas-fn", "f.other", "slow", "g"] {
        nats.publish(&Invocation::of(function).call_id(&format!("of-{function}"))).await;
    }
    nats.await_counts([0, 1, 4]).await;
    let ids = async |line: &str| {
        let listed = settings.run(&format!("{line} --output json")).await.done();
        let items = listed["items"].as_array().unwrap().clone();
        let ids: BTreeSet<_> = items.iter().map(|item| item["callId"].as_str().unwrap().to_owned()).collect();
        ids
    };
    let both = BTreeSet::from(["of-f", "of-f.openfaas-fn"].map(str::to_owned));
    for name in ["f", "f.openfaas-fn"] {
        assert_eq!(ids(&format!("dead-letters list --function {name}")).await, both);
        let line = format!("audit search --function {name}");
        eventually("both are recorded", async || ids(&line).await == both).await;
    }
    assert_eq!(ids("dead-letters list --function f.other").await.len(), 1);
    assert_eq!(ids("retries list --function slow.openfaas-fn").await, BTreeSet::from(["of-slow".to_owned()]));
    let made = settings.run("dead-letters redrive --function f --yes --output json").await.done();
    assert_eq!((&made["matched"], &made["redriven"]), (&json!(2), &json!(2)), "{made}");
    let made = settings.run("retries cancel --function slow.openfaas-fn --yes --output json").await.done();
    assert_eq!(made["cancelled"], 1, "{made}");
    // By another namespace's settings they are two.
    let elsewhere = settings.clone().set("function_namespace", "other");
    let listed = elsewhere.run("dead-letters list --function f.other --output json").await.done();
    assert!(listed["items"][0]["callId"] == "of-f.other", "{listed}");
}

#[tokio::test]
async fn a_letter_that_a_worker_wrote_is_listed_and_shown_with_its_story() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::status(500)).await;
    let settings = Worker::of(&nats, &gateway).set("initial_retry_wait", "10ms").set("max_retry_attempts", 2);
    let mut worker = settings.start().await;
    let invocation = Invocation::of("f.ns").call_id("call-1").path("/p").body(*b"hello");
    let invocation = invocation.header("Authorization", "Bearer hidden").header("X-Seen", "yes");
    nats.publish(&invocation).await;
    let dead = nats.dead_letter().await;
    worker.drain().await;

    let listed = settings.run("dead-letters list --output json").await.done();
    let item = &listed["items"][0];
    assert_eq!(listed["more"], false);
    let expected = json!({
        "sequence": dead.sequence, "queue": QUEUE, "function": "f.ns", "callId": "call-1",
        "cause": "exhausted", "attempts": 2, "lastStatus": 500, "lastError": "the function answered 500",
        "failedAt": dead.expect("Queue-Worker-Failed-At"),
        "firstSeen": dead.expect("Queue-Worker-First-Seen"),
        "originalId": dead.expect("Queue-Worker-Original-Id"), "bytes": dead.payload.len(), "redrives": 0,
    });
    assert_eq!(*item, expected);

    let table = settings.run("dead-letters list").await;
    assert!(
        table.code == 0 && table.out.contains("call-1") && table.out.starts_with("SEQUENCE"),
        "{table:?}"
    );

    let show = format!("dead-letters show {}", dead.sequence);
    let shown = settings.run(&format!("{show} --output json")).await.done();
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(shown[key], *value, "{key}");
    }
    let history: Vec<_> = column(&shown, "history", "status");
    assert_eq!((history, &shown["history"][1]["n"]), (vec![&json!(500), &json!(500)], &json!(2)));
    assert!(shown["history"][0]["milliseconds"].is_u64() && shown["history"][0]["worker"].is_string());
    assert_eq!((&shown["body"], &shown["path"]), (&json!("hello"), &json!("/p")));
    assert_eq!(shown["headers"]["X-Seen"], json!(["yes"]));
    let text = settings.run(&show).await;
    for words in ["hello", "X-Seen: yes", "exhausted", "ATTEMPT"] {
        assert!(text.out.contains(words), "{words}: {text:?}");
    }
    for masked in [text.out, shown.to_string(), listed.to_string()] {
        assert!(!masked.contains("hidden"), "{masked}");
    }
    let revealed = settings.run(&format!("{show} --reveal --output json")).await.done();
    assert_eq!(revealed["headers"]["Authorization"], json!(["Bearer hidden"]));
}

#[tokio::test]
async fn thousands_of_letters_are_read_as_a_few_groups_and_any_filter_finds_its_own() {
    let (nats, settings) = house().await;
    for n in 0..300_u32 {
        let error = match n % 3 {
            0 => format!("dial tcp 10.0.0.{}:8080: connection refused", n % 250),
            1 => format!("order {n} is too old"),
            _ => "no answer in time".to_owned(),
        };
        let (cause, status) = if n % 3 == 1 { ("refused", "422") } else { ("exhausted", "502") };
        let at = format!("2026-11-26T08:{:02}:{:02}Z", n / 60, n % 60);
        let call = format!("call-{n}");
        let told = [
            ("Cause", cause),
            ("Last-Error", error.as_str()),
            ("Failed-At", &at),
            ("Call-Id", &call),
            ("Attempts", "2"),
            if n % 3 == 2 { ("History", "1:502:7:w,2:timeout:60000:w") } else { ("Last-Status", status) },
        ];
        letter(&nats, if n < 150 { "f" } else { "g%2Ens" }, &told, b"x").await;
    }
    let groups = settings.run("dead-letters list --group --output json").await.done();
    assert_eq!(column(&groups, "groups", "count"), vec![&json!(50); 6], "{groups:#}");
    let of_f =
        groups["groups"].as_array().unwrap().iter().find(|group| {
            group["function"] == "f" && group["error"] == "dial tcp <address>: connection refused"
        });
    let of_f = of_f.unwrap_or_else(|| panic!("{groups:#}"));
    assert_eq!((&of_f["cause"], &of_f["lastStatus"]), (&json!("exhausted"), &json!(502)));
    assert_eq!(of_f["first"].as_str().unwrap().get(..19), Some("2026-11-26T08:00:00"));
    assert_eq!(of_f["last"].as_str().unwrap().get(..19), Some("2026-11-26T08:02:27"));
    let table = settings.run("dead-letters list --group").await;
    assert_eq!((table.code, table.out.lines().count()), (0, 7), "{table:?}");
    let largest = settings.run("dead-letters list --group --limit 2 --output json").await.done();
    assert_eq!(column(&largest, "groups", "count").len(), 2);

    for (filter, count) in [
        ("", 300),
        ("--function f", 150),
        ("--function g.ns", 150),
        ("--cause refused", 100),
        ("--status 502", 100),
        ("--status timeout", 100),
        ("--error REFUSED", 100),
        ("--error <address>:", 100),
        ("--call-id call-7", 1),
        ("--since 2026-11-26T08:04:00Z", 60),
        ("--since 2026-11-26T10:04:00+02:00", 60),
        ("--before 2026-11-26T08:00:10Z", 10),
        ("--function f --cause exhausted --status 502", 50),
        ("--since 2026-11-26T08:01:00Z --before 2026-11-26T08:02:00Z --function f", 60),
    ] {
        let listed = settings.run(&format!("dead-letters list {filter} --output json")).await.done();
        assert_eq!(listed["items"].as_array().unwrap().len(), count, "{filter}");
    }
    let listed = settings.run("dead-letters list --limit 7 --output json").await.done();
    assert_eq!((column(&listed, "items", "sequence").len(), &listed["more"]), (7, &json!(true)));
    assert_eq!(listed["items"][0]["callId"], "call-0");
    let none = settings.run("dead-letters list --function nobody --output json").await;
    assert_eq!((none.code, none.json()), (3, json!({ "items": [], "more": false })));
    assert_eq!(settings.run("dead-letters list --group --function nobody").await.code, 3);
    assert_eq!(settings.run("dead-letters show 301").await.code, 3);
}

#[tokio::test]
async fn what_no_call_can_be_made_of_is_shown_as_it_is() {
    let (nats, settings) = house().await;
    let binary = letter(&nats, "_undecodable", &[("Cause", "undecodable")], &[0, 255, 7]).await;
    let torn = b"{\"Header\":{\"Authorization\":[\"Bearer hidden\"]";
    let torn = letter(&nats, "_undecodable", &[], torn).await;
    let show = |sequence: u64, more: &str| format!("dead-letters show {sequence} --output json {more}");
    let shown = settings.run(&show(binary, "")).await.done();
    assert_eq!((&shown["body"], &shown["bodyEncoding"]), (&json!("AP8H"), &json!("base64")));
    assert_eq!((&shown["function"], &shown["callId"]), (&Value::Null, &Value::Null));
    let shown = settings.run(&show(torn, "")).await;
    assert!(shown.code == 0 && !shown.out.contains("hidden"), "{shown:?}");
    assert!(settings.run(&show(torn, "--reveal")).await.out.contains("hidden"));
}

#[tokio::test]
async fn a_letter_that_no_client_can_read_hides_no_other() {
    let (nats, settings) = house().await;
    for n in 0..5 {
        letter(&nats, "f", &[("Call-Id", &format!("before-{n}"))], b"x").await;
    }
    let mut raw = crate::support::Raw::connect(&nats).await;
    let subject = format!("{DEAD}._undecodable");
    raw.publish(&subject, b"NATS/1.0\r\nno colon\r\nQueue-Worker-Cause: undecodable\r\n\r\n", b"poison")
        .await;
    nats.await_counts([0, 0, 6]).await;
    for n in 0..5 {
        letter(&nats, "f", &[("Call-Id", &format!("behind-{n}"))], b"x").await;
    }
    let listed = settings.run("dead-letters list --output json").await.done();
    assert_eq!(listed["items"].as_array().unwrap().len(), 11, "{listed:#}");
    assert_eq!(listed["items"][5]["cause"], "undecodable");
}

#[tokio::test]
async fn letters_are_exported_whole_and_discarded_by_choice_only() {
    let (nats, settings) = house().await;
    for n in 0..20 {
        let invocation =
            Invocation::of("f").header("Authorization", "Bearer hidden").body(format!("body {n}"));
        letter(&nats, if n % 2 == 0 { "f" } else { "g" }, &[("Cause", "refused")], &invocation.to_bytes())
            .await;
    }
    let scratch = Scratch::new();
    let file = scratch.path().join("letters.jsonl");
    let file = file.to_str().unwrap();

    // Nothing is changed without a word.
    for (line, code) in [
        ("dead-letters discard --yes".to_owned(), 64),
        ("dead-letters discard --all".to_owned(), 64),
        ("dead-letters discard --function f".to_owned(), 64),
        ("dead-letters discard 1 --function f --yes".to_owned(), 64),
        ("dead-letters discard --function nobody --yes".to_owned(), 3),
        (format!("dead-letters discard --all --yes --export {file}/below"), 1),
        (format!("dead-letters export --function nobody --to {file}"), 3),
    ] {
        let ran = settings.run(&line).await;
        assert_eq!((ran.code, ran.err.is_empty()), (code, false), "{line}: {ran:?}");
    }
    assert_eq!(nats.count(DEAD).await, 20);

    let exported = settings.run(&format!("dead-letters export --to {file} --output json")).await.done();
    assert_eq!(exported["exported"], 20);
    let text = fs::read_to_string(file).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[3]["sequence"], &lines[3]["body"]), (20, &json!(4), &json!("body 3")));
    assert!(!text.contains("hidden"), "{text}");
    let payload = BASE64_STANDARD.decode(lines[3]["raw"]["payload"].as_str().unwrap()).unwrap();
    assert_eq!(payload, nats.messages(DEAD).await[3].payload, "what is deleted can be made again");

    let discard = format!("dead-letters discard --function f --export {file} --yes --output json");
    let ran = settings.run(&discard).await;
    // The file held something, which may be all that is left of it.
    assert!(ran.err.contains("letters.jsonl.1"), "{ran:?}");
    assert_eq!(fs::read_to_string(format!("{file}.1")).unwrap(), text);
    let ran = ran.done();
    assert_eq!((&ran["matched"], &ran["discarded"], &ran["state"]), (&json!(10), &json!(10), &json!("done")));
    let listed = settings.run("operations list --output json").await.done();
    assert_eq!(
        (&listed["items"][0]["kind"], &listed["items"][0]["operation"]),
        (&json!("discard"), &ran["operation"])
    );
    assert_eq!(fs::read_to_string(file).unwrap().lines().count(), 10);
    let ran = settings.run("dead-letters discard 2 4 99 --yes --output json").await.done();
    assert_eq!((&ran["matched"], nats.count(DEAD).await), (&json!(2), 8));
    let left: Vec<_> = nats.messages(DEAD).await.iter().map(|letter| letter.sequence).collect();
    assert_eq!(left, [6, 8, 10, 12, 14, 16, 18, 20]);
    let ran = settings.run("dead-letters discard --all --yes --output json").await.done();
    assert_eq!((&ran["discarded"], nats.count(DEAD).await), (&json!(8), 0));
    assert_eq!(settings.run("dead-letters list").await.code, 3);
    assert_eq!(settings.run("dead-letters list --group --output json").await.json(), json!({ "groups": [] }));
}

#[tokio::test]
async fn a_command_that_cannot_work_says_why() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let settings = Worker::of(&nats, &gateway);
    for line in ["dead-letters list", "dead-letters list --output json"] {
        let ran = settings.run(line).await;
        assert!(ran.code == 1 && ran.err.contains("there is no stream faas-request-dead"), "{ran:?}");
        assert_eq!(ran.out, "", "half a document");
    }
    for line in ["dead-letters show 0", "dead-letters redrive 0 --yes"] {
        let ran = settings.run(line).await;
        assert!(ran.code == 64 && ran.err.contains("SEQUENCE"), "{ran:?}");
    }
    let away = Worker::bare().set("nats_url", format!("nats://127.0.0.1:{}", free_port()));
    let ran = away.run("dead-letters list").await;
    assert!(ran.code == 1 && ran.err.contains("no connection to NATS"), "{ran:?}");
    let ran = settings.set("max_inflight", "none").run("dead-letters list").await;
    assert!(ran.code == 64 && ran.err.contains("max_inflight"), "{ran:?}");
}

#[tokio::test]
async fn of_several_queues_all_are_listed_and_one_is_changed() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::status(400)).await;
    let settings = Worker::of(&nats, &gateway).set("queue_name", "a,b");
    let _worker = settings.start().await;
    for queue in ["a", "b"] {
        nats.publish_raw(queue, HeaderMap::new(), Invocation::of("f").call_id(queue).to_bytes()).await;
    }
    for queue in ["a-dead", "b-dead"] {
        crate::support::eventually("both are dead", async || nats.count(queue).await == 1).await;
    }
    let listed = settings.run("dead-letters list --output json").await.done();
    assert_eq!(column(&listed, "items", "queue"), ["a", "b"]);
    assert_eq!(column(&listed, "items", "callId"), ["a", "b"]);
    let ran = settings.run("dead-letters discard --all --yes").await;
    assert!(ran.code == 64 && ran.err.contains("--queue (a, b)"), "{ran:?}");
    assert_eq!(settings.run("dead-letters show 1").await.code, 64);
    // From a laptop, which has none of the worker's settings.
    let afar = Worker::bare();
    let url = nats.url();
    let words =
        ["dead-letters", "discard", "--all", "--yes", "--queue", "b", "--nats-url", &url, "--output", "json"];
    assert_eq!(afar.run_words(&words).await.done()["discarded"], 1);
    assert_eq!([nats.count("a-dead").await, nats.count("b-dead").await], [1, 0]);
}
