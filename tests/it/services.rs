//! Workers as services of NATS: what `nats micro` asks.

use std::collections::BTreeSet;

use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::{
    rights::{restricted, rights},
    support::{Answer, Gateway, Invocation, Nats, QUEUE, Worker, eventually_is, patiently},
};

/// Asks on a subject, and returns so many answers.
async fn ask(nats: &Nats, subject: &str, answers: usize) -> Vec<Value> {
    let client = nats.client();
    let inbox = client.new_inbox();
    let replies = client.subscribe(inbox.clone()).await.unwrap();
    client.publish_with_reply(subject.to_owned(), inbox, "".into()).await.unwrap();
    let replies = patiently(subject, replies.take(answers).collect::<Vec<_>>()).await;
    replies.iter().map(|reply| serde_json::from_slice(&reply.payload).unwrap()).collect()
}

#[tokio::test]
async fn each_worker_answers_as_a_service_that_says_what_it_has_called() {
    let nats = Nats::start().await;
    let gateway =
        Gateway::start(|call| Answer::status(if call.function() == "bad" { 400 } else { 200 })).await;
    let settings = Worker::of(&nats, &gateway).set("queue_name", "faas-request,team.jobs");
    let mut workers = [settings.start().await, settings.start().await];
    let mut ids = BTreeSet::new();
    for subject in ["$SRV.PING", "$SRV.PING.queue-worker"] {
        for pong in ask(&nats, subject, 2).await {
            assert_eq!(pong["type"], "io.nats.micro.v1.ping_response");
            assert_eq!((&pong["name"], &pong["version"]), (&json!("queue-worker"), &json!("0.1.0")));
            assert_eq!(pong["metadata"]["queues"], "faas-request,team.jobs");
            ids.insert(pong["id"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(ids.len(), 2, "{ids:?}");
    for id in &ids {
        let info = ask(&nats, &format!("$SRV.INFO.queue-worker.{id}"), 1).await.remove(0);
        assert_eq!((&info["type"], &info["id"]), (&json!("io.nats.micro.v1.info_response"), &json!(id)));
        let expected = json!({
            "name": "team_jobs", "subject": "team.jobs", "queue_group": "faas-workers",
            "metadata": { "queue": "team.jobs", "stream": "team_jobs" },
        });
        assert_eq!(info["endpoints"][1], expected);
    }
    for function in ["good", "bad", "good"] {
        nats.publish(&Invocation::of(function)).await;
    }
    gateway.await_ended(3).await;
    eventually_is("the calls and those that failed", (3, 1), async || {
        let stats = ask(&nats, "$SRV.STATS.queue-worker", 2).await;
        let of = |key: &str| stats.iter().map(|one| one["endpoints"][0][key].as_u64().unwrap()).sum::<u64>();
        assert!(
            stats.iter().all(|one| one["endpoints"][0]["subject"] == QUEUE && one["started"].is_string())
        );
        assert!(of("average_processing_time") <= of("processing_time"));
        (of("num_requests"), of("num_errors"))
    })
    .await;
    // Others are not answered for.
    assert_eq!(workers[0].drain().await, 0);
    let mut watch = nats.watch("answers.>").await;
    for subject in
        ["$SRV.PING.other", "$SRV.PING.queue-worker.other", "$SRV.PING.queue-worker.a.b", "$SRV.NONE"]
    {
        nats.client().publish_with_reply(subject, "answers.nobody", "".into()).await.unwrap();
    }
    nats.client().publish_with_reply("$SRV.PING", "answers.last", "".into()).await.unwrap();
    assert_eq!(watch.next().await.subject, "answers.last");
}

#[tokio::test]
async fn a_login_that_may_not_listen_serves_on_and_says_so_once() {
    let mut nats = restricted(&rights(true)).await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let settings = Worker::of(&nats, &gateway).set("nats_inbox_prefix", "_INBOX_worker");
    let mut worker = settings.set("nats_user", "worker").file("nats_password_file", "secret").start().await;
    worker.await_log(&["nats micro does not list this worker", "subscribe $SRV.>"]).await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    gateway.await_ended(1).await;
    nats.restart().await;
    nats.publish(&Invocation::of("f").call_id("b")).await;
    gateway.await_ended(2).await;
    assert_eq!(worker.drain().await, 0);
    assert_eq!(worker.log_with("nats micro").len(), 1);
}
