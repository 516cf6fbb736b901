//! Commands around calls that wait: retries, `invoke`, and the policy.

use std::{
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};

use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, process::Command};

use crate::support::{Answer, Gateway, Invocation, Nats, QUEUE, RETRIES, Settings, Worker, eventually};

fn column<'v>(document: &'v Value, key: &str) -> Vec<&'v Value> {
    document["items"].as_array().unwrap().iter().map(|item| &item[key]).collect()
}

async fn retries(settings: &Settings, filter: &str) -> Value {
    let ran = settings.run(&format!("retries list {filter} --output json")).await;
    assert!([0, 3].contains(&ran.code), "{ran:?}");
    ran.json()
}

#[tokio::test]
async fn parked_retries_are_listed_by_filter_and_called_before_their_time() {
    for timer in ["auto", "levels"] {
        let status = Arc::new(AtomicU16::new(500));
        let nats = Nats::start().await;
        let gateway = Gateway::start({
            let status = status.clone();
            move |_| Answer::status(status.load(Ordering::Relaxed))
        })
        .await;
        let settings = Worker::of(&nats, &gateway)
            .set("initial_retry_wait", "1h")
            .set("max_retry_wait", "1h")
            .set("retry_timer", timer);
        let worker = settings.start().await;
        for (function, id) in [("f", "f-0"), ("f", "f-1"), ("g.ns", "g-0")] {
            nats.publish(&Invocation::of(function).call_id(id)).await;
        }
        eventually("all are parked", async || {
            retries(&settings, "").await["items"].as_array().unwrap().len() == 3
        })
        .await;
        let listed = retries(&settings, "--function f").await;
        assert_eq!(column(&listed, "state"), ["parked", "parked"], "{listed:#}");
        let first = &listed["items"][0];
        let keys = ["queue", "function", "attempts", "lastStatus", "kind"].map(|key| &first[key]);
        assert_eq!(keys, [&json!(QUEUE), &json!("f"), &json!(1), &json!(500), &json!("call")]);
        assert!(first["due"].is_string() && first["lastError"].is_string() && listed["more"] == json!(false));
        for (filter, count) in
            [("--function g.ns", 1), ("--call-id f-1", 1), ("--status 500", 3), ("--status 502", 0)]
        {
            assert_eq!(column(&retries(&settings, filter).await, "sequence").len(), count, "{filter}");
        }
        let limited = retries(&settings, "--limit 2").await;
        assert_eq!((column(&limited, "sequence").len(), &limited["more"]), (2, &json!(true)));
        let table = settings.run("retries list").await;
        assert!(
            table.code == 0 && table.out.starts_with("SEQUENCE") && table.out.contains("g-0"),
            "{table:?}"
        );

        // Nothing is done without a word.
        assert_eq!(settings.run("retries run-now --function f").await.code, 64);
        assert_eq!(settings.run("retries run-now --yes").await.code, 64);
        assert_eq!(settings.run("retries run-now --function nobody --yes").await.code, 3);
        status.store(200, Ordering::Relaxed);
        let ran = settings.run("retries run-now --function f --yes --output json").await.done();
        assert_eq!(ran, json!({ "matched": 2, "done": 2, "skipped": 0 }));
        eventually("they are called and gone", async || nats.count(RETRIES).await == 1).await;
        assert_eq!(column(&retries(&settings, "").await, "callId"), ["g-0"]);
        for id in ["f-0", "f-1"] {
            let calls = gateway.calls_of(id);
            assert_eq!(calls.iter().map(|call| call.retry()).collect::<Vec<_>>(), [0, 1], "{id}");
        }
        assert_eq!(gateway.calls_of("g-0").len(), 1);
        drop(worker);
    }
}

#[tokio::test]
async fn a_call_is_queued_from_the_shell_and_waited_for() {
    let nats = Nats::start().await;
    let gateway =
        Gateway::start(|call| Answer::status(if call.function() == "bad" { 400 } else { 200 })).await;
    let settings = Worker::of(&nats, &gateway);
    let _worker = settings.start().await;
    let words =
        ["invoke", "f/p?q=1", "--body", "hello", "--header", "X-Seen: yes", "--wait", "--output", "json"];
    let ran = settings.run_words(&words).await.done();
    assert_eq!(
        (&ran["state"], &ran["function"], &ran["queue"]),
        (&json!("done"), &json!("f"), &json!(QUEUE))
    );
    let id = ran["callId"].as_str().unwrap();
    let call = gateway.calls_of(id).pop().unwrap();
    assert_eq!(
        (call.target(), call.header("x-seen"), &*call.request.body),
        ("/function/f/p?q=1", Some("yes"), &b"hello"[..])
    );
    let words = ["invoke", "bad", "--header", "X-Call-Id: mine", "--wait", "--output", "json"];
    let dead = settings.run_words(&words).await;
    assert_eq!(
        (dead.code, &dead.json()["state"], &dead.json()["callId"]),
        (1, &json!("dead"), &json!("mine"))
    );
    assert!(dead.err.contains("(refused, the function answered 400): dead-letters show 1 tells"), "{dead:?}");
    let queued = settings.run("invoke f").await;
    assert!(queued.code == 0 && queued.out.contains("queued"), "{queued:?}");
    for line in ["invoke", "invoke ..", "invoke f --header x"] {
        assert_eq!(settings.run(line).await.code, 64, "{line}");
    }
    nats.await_counts([0, 0, 1]).await;
}

#[tokio::test]
async fn the_policy_is_shown_without_a_broker() {
    let settings = Worker::bare();
    let shown = settings.run("policy show --output json").await.done();
    assert_eq!((&shown["maxAttempts"], &shown["function"]), (&json!(10), &Value::Null));
    let attempts = shown["attempts"].as_array().unwrap();
    assert_eq!((attempts.len(), &attempts[9]["afterSeconds"]["most"]), (10, &json!(750.0)));
    assert_eq!(shown["worstCaseSeconds"], json!(1350.0));
    let table = settings.run("policy show f --max-retry-attempts 3 --backoff full").await;
    assert!(table.code == 0 && table.out.contains("ATTEMPT") && table.out.contains("0s–10s"), "{table:?}");
    assert_eq!(settings.run("policy show ..").await.code, 64);
}

/// What a command prints that needs neither NATS nor sound settings.
async fn printed(line: &str) -> String {
    let ran = Worker::bare().set("max_inflight", "many").set("nats_url", "::").run(line).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{line}");
    ran.out
}

#[tokio::test]
async fn shells_take_the_completions_and_the_manual_names_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = printed(&format!("completions {shell}")).await;
        for word in ["dead-letters", "doctor", "purge", "run-now", "--canary", "--max-inflight"] {
            let bare = word.trim_start_matches('-');
            assert!(script.contains(bare), "{shell}: {word}");
        }
    }
    let script = printed("completions bash").await;
    let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
    bash.stdin.take().unwrap().write_all(script.as_bytes()).await.unwrap();
    assert!(bash.wait().await.unwrap().success());

    let page = printed("man").await;
    for line in [
        ".TH queue-worker 1",
        ".SH COMMANDS",
        ".SS \"queue-worker dead-letters redrive ",
        ".SS \"queue-worker dead-letters discard ",
        ".SS \"queue-worker operations abort ",
        ".SS \"queue-worker audit search ",
        ".SS \"queue-worker calls cancel ",
        ".SS \"queue-worker queue purge ",
        ".SS \"queue-worker retries run-now ",
        ".SS \"queue-worker retries cancel ",
        ".SS \"queue-worker invoke ",
        ".SS \"queue-worker policy show ",
        ".SS \"queue-worker completions ",
        ".SS \"queue-worker man",
        "\\fB\\-\\-max\\-inflight\\fR",
        "\\fB\\-\\-queue\\fR",
    ] {
        assert!(page.contains(line), "{line}");
    }
    assert_eq!(Worker::bare().run("completions tcsh").await.code, 64);
}
