//! Dead letters by the hundred thousand: a look at all of them takes seconds and little memory, and all of
//! them are sent round again, each once, whoever is killed meanwhile.

use std::{collections::BTreeMap, fs};

use async_nats::{HeaderMap, jetstream::stream};
use tokio::{
    process::Child,
    time::{Duration, Instant, sleep},
};

use crate::{
    bar, size,
    support::{Answer, DEAD, Gateway, Invocation, Latch, Nats, Settings, Worker},
    until,
};

/// So many letters, of three functions and four errors.
async fn fill(nats: &Nats, letters: u32) {
    let (name, subjects) = (DEAD.to_owned(), vec![format!("{DEAD}.>")]);
    nats.make_stream(stream::Config { name, subjects, ..Default::default() }).await;
    let js = nats.js();
    let mut acks = Vec::new();
    for n in 0..letters {
        let payload = Invocation::of("f").call_id(&format!("call-{n}")).body([b'x'; 256]).to_bytes();
        let error = match n % 4 {
            0 => format!("unreachable: dial tcp 10.0.{}.{}:8080: Connection refused", n / 250 % 250, n % 250),
            1 => format!("order {n} of customer-{} is too old", n % 977),
            2 => "the function answered 502".to_owned(),
            _ => "no answer in time".to_owned(),
        };
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("Cause", "exhausted"),
            ("Attempts", "10"),
            ("Last-Status", "502"),
            ("Last-Error", error.as_str()),
            ("Call-Id", &format!("call-{n}")),
            ("Failed-At", "2026-11-26T08:00:00.000000000Z"),
            ("Original-Id", &format!("faas-request:{n}-1k2j3h4g5f6d")),
            ("History", "9:502:1200:queue-worker-7d9f8b6c5-x2x9z,10:502:1100:queue-worker-7d9f8b6c5-x2x9z"),
        ] {
            headers.insert(format!("Queue-Worker-{name}").as_str(), value);
        }
        let subject = format!("{DEAD}.f{}", n % 3);
        acks.push(js.publish_with_headers(subject, headers, payload.into()).await.unwrap());
        if acks.len() == 1_000 {
            for ack in acks.drain(..) {
                ack.await.unwrap();
            }
        }
    }
    for ack in acks {
        ack.await.unwrap();
    }
}

/// The most memory that a process took until it ended, in MiB.
async fn most_memory(child: &mut Child) -> f64 {
    let status = format!("/proc/{}/status", child.id().unwrap());
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let figure = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let seen = figure.and_then(|text| text.trim().trim_end_matches("kB").trim().parse::<u32>().ok());
        most = most.max(seen.unwrap_or(0));
        sleep(Duration::from_millis(2)).await;
    }
    f64::from(most) / 1024.0
}

#[tokio::test]
async fn a_look_at_all_dead_letters_takes_seconds_and_little_memory() {
    let letters = size(2_000, 100_000);
    let nats = Nats::start().await;
    fill(&nats, letters).await;
    let settings = Worker::bare().set("nats_url", nats.url());
    let words = ["dead-letters", "list", "--group", "--output", "json"];
    let begin = Instant::now();
    let mut child = settings.begin(&words);
    let memory = most_memory(&mut child).await;
    let took = begin.elapsed().as_secs_f64();
    let output = child.wait_with_output().await.unwrap();
    let groups: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let groups = groups["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 12, "{groups:#?}");
    let counted: u64 = groups.iter().map(|group| group["count"].as_u64().unwrap()).sum();
    assert_eq!(counted, u64::from(letters));
    bar("seconds to group 100,000 dead letters", took, 5.0);
    bar("MiB to group 100,000 dead letters", memory, 100.0);
}

/// The figures of an operation.
async fn figures(settings: &Settings, id: &str) -> serde_json::Value {
    settings.run(&format!("operations show {id} --output json")).await.done()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_dead_letters_are_called_once_each_whoever_is_killed_meanwhile() {
    let (letters, kills) = (size(1_000, 100_000), size(1, 5));
    let nats = Nats::start().await;
    fill(&nats, letters).await;
    let open = Latch::new();
    let gateway = Gateway::start({
        let open = open.clone();
        move |_| Answer::ok().held_by(&open)
    })
    .await;
    let settings = Worker::of(&nats, &gateway).set("max_inflight", 1).set("ack_wait", "5s");
    let mut worker = settings.start().await;
    let begin = Instant::now();
    // The command is closed as a terminal is.
    let rate = size("200", "1000000");
    let words = ["dead-letters", "redrive", "--all", "--yes", "--output", "json", "--rate", rate];
    let mut command = settings.begin(&words);
    let mut id = String::new();
    until("the operation is made", async || {
        let listed = settings.run("operations list --output json").await;
        id = listed.json()["items"][0]["operation"].as_str().unwrap_or_default().to_owned();
        !id.is_empty()
    })
    .await;
    command.kill().await.unwrap();
    let second = settings.run("dead-letters redrive --all --yes --detach --output json").await;
    assert!(second.code != 0 || second.json()["skipped"] == second.json()["matched"], "{second:?}");
    // Of so many calls it is not known how they ended: those that ran in a worker just then.
    let mut unknown = 0;
    for kill in 1..=kills {
        let least = u64::from(letters * kill / (kills + 2));
        until("it has done so much", async || {
            figures(&settings, &id).await["redriven"].as_u64().unwrap() >= least
        })
        .await;
        worker.kill().await;
        unknown += 1 + worker.log_with("Lease lost").len();
        worker = settings.start().await;
    }
    until("it is done", async || figures(&settings, &id).await["state"] == "done").await;
    let took = begin.elapsed().as_secs_f64();
    let done = figures(&settings, &id).await;
    assert_eq!((&done["redriven"], &done["failed"]), (&letters.into(), &0.into()), "{done:#}");
    assert_eq!(nats.count(DEAD).await, 0);
    open.open();
    let _more = settings.clone().set("max_inflight", 100).start().await;
    until("all are called", async || nats.counts().await == [0, 0, 0]).await;
    let mut made = BTreeMap::new();
    gateway.calls().iter().for_each(|call| *made.entry(call.id().to_owned()).or_insert(0_usize) += 1);
    unknown += worker.log_with("Lease lost").len();
    let again: usize = made.values().map(|calls| calls - 1).sum();
    assert!(made.len() == letters as usize && again <= unknown, "{} calls, {again} again", made.len());
    println!("     {letters} letters in {took:.1} s, {kills} kills, {again} calls that ran then made again");
}
