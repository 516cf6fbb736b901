//! What the doctor says of the broker itself, the gateway, rights, and what else it finds around the worker.

use async_nats::HeaderMap;

use super::{Report, examine, gateway, made};
use crate::{
    rights::{Right, restricted, rights, subject},
    support::{Answer, Cluster, Gateway, Nats, Worker, eventually, free_port, stan::CLUSTER},
};

#[tokio::test]
async fn a_broker_that_is_not_there_or_says_no_is_told() {
    let gateway = gateway().await;
    let absent = Report::of(&Worker::of(&Nats::absent(), &gateway), &[]).await;
    assert_eq!((absent.code, absent.with("fail")), (1, vec!["NATS"]));
    assert_eq!(absent.read["guaranteed"][0]["survives"], "unknown");

    let nats = Nats::start_with("authorization { users = [ { user: observer, password: observer } ] }").await;
    let settings =
        Worker::of(&nats, &gateway).set("nats_user", "observer").file("nats_password_file", "guessed");
    let refused = Report::of(&settings, &[]).await;
    assert_eq!((refused.code, refused.with("fail")), (1, vec!["NATS"]));
    assert!(refused.text("NATS", "seen").contains("refused the credentials"), "{:#}", refused.read);
    assert!(!refused.read.to_string().contains("guessed"), "the password is in the report");

    let nats = Nats::start_without_jetstream().await;
    let without = Report::of(&Worker::of(&nats, &gateway), &[]).await;
    assert_eq!((without.code, without.text("JetStream", "severity")), (1, "fail"));
}

#[tokio::test]
async fn a_broker_that_does_not_answer_is_not_waited_for_for_ever() {
    let (nats, gateway) = (Nats::start().await, gateway().await);
    let settings = made(&nats, &gateway).await;
    nats.pause();
    let report = Report::of(&settings, &[]).await;
    nats.resume();
    assert_eq!((report.code, report.with("fail")), (1, vec!["NATS"]));
}

#[tokio::test]
async fn the_workers_rights_are_enough() {
    let all = rights(false);
    let nats = restricted(&all).await;
    let gateway = gateway().await;
    let operator =
        Worker::of(&nats, &gateway).set("nats_user", "observer").file("nats_password_file", "observer");
    assert_eq!(operator.start().await.drain().await, 0);
    let own = |nats: &Nats| {
        let settings =
            Worker::of(nats, &gateway).set("nats_inbox_prefix", "_INBOX_worker").set("nats_manage", "false");
        settings.set("nats_user", "worker").file("nats_password_file", "secret")
    };
    let report = examine(&nats, &own(&nats), &[]).await;
    assert_eq!(report.code, 0, "{:#}", report.read);
    assert!(
        report.text("account", "seen").contains("the right to publish to $JS.API.INFO is missing"),
        "{:#}",
        report.read
    );

    for missing in [
        Right::Publish("$JS.API.STREAM.INFO.*"),
        Right::Publish("$JS.API.CONSUMER.INFO.*.*"),
        Right::Subscribe("{nats_inbox_prefix}.>"),
    ] {
        let rest: Vec<_> = all.iter().copied().filter(|right| subject(right) != subject(&missing)).collect();
        let nats = restricted(&rest).await;
        let operator =
            Worker::of(&nats, &gateway).set("nats_user", "observer").file("nats_password_file", "observer");
        assert_eq!(operator.start().await.drain().await, 0);
        let report = examine(&nats, &own(&nats), &[]).await;
        let named = subject(&missing);
        let named = named.trim_end_matches(['*', '>', '.']);
        assert_eq!(report.code, 1, "{named}");
        let what = if named.starts_with("$JS.API.CONSUMER") {
            "consumer faas-workers of faas-request"
        } else {
            "stream faas-request"
        };
        assert!(report.text(what, "mend").contains(named), "{named}: {:#}", report.read);
    }
}

#[tokio::test]
async fn how_a_server_treats_its_disk_is_read_off_its_monitoring() {
    let gateway = gateway().await;
    let schedules = Nats::absent().schedules();
    for (sync, survives) in
        [("", "partly"), ("sync_interval: always", "yes"), ("sync_interval: 7s", "partly")]
    {
        // Old servers refuse to start with the setting.
        if !schedules && !sync.is_empty() {
            continue;
        }
        let port = free_port();
        let mut nats = Nats::start_with(&format!("http: \"127.0.0.1:{port}\"")).await;
        nats.reconfigure("jetstream {", &format!("jetstream {{ {sync}\n"));
        nats.restart().await;
        let settings = made(&nats, &gateway).await;
        let report = examine(&nats, &settings, &[&format!("--monitor=http://127.0.0.1:{port}")]).await;
        assert_eq!((report.code, report.survives("power")), (0, survives), "{sync}: {:#}", report.read);
        let seen = report.text("disk of faas-request", "seen");
        assert_eq!(seen, if sync.is_empty() { "sync_interval: 2m" } else { sync });
        let unseen = examine(&nats, &settings, &[]).await;
        assert!(
            unseen.text("disk of faas-request", "seen").contains("could not be seen"),
            "{:#}",
            unseen.read
        );
    }
}

#[tokio::test]
async fn a_gateway_has_to_answer_and_to_know_the_login() {
    let nats = Nats::start().await;
    // A gateway without Prometheus: it hangs up on who asks for the list of all functions, and knows each by
    // itself.
    let gateway = Gateway::start(|call| match (call.target(), call.request.header("authorization")) {
        ("/system/functions", _) => Answer::hang_up(),
        (target, Some("Basic YWRtaW46aHVudGVyMg==")) if target.starts_with("/system/function/") => {
            Answer::status(404)
        }
        (target, _) if target.starts_with("/system/") => Answer::status(401),
        _ => Answer::ok(),
    })
    .await;
    let settings = made(&nats, &gateway).await;
    let report = examine(&nats, &settings.clone().login("admin", "hunter2"), &[]).await;
    assert_eq!((report.code, report.text("function_lookup", "severity")), (0, "ok"), "{:#}", report.read);
    assert!(!report.read.to_string().contains("hunter2"), "the password is in the report");
    let report = examine(&nats, &settings.clone().login("admin", "guessed"), &[]).await;
    assert_eq!((report.code, report.text("function_lookup", "seen")), (0, "the gateway answers 401"));
    assert!(report.text("function_lookup", "mend").starts_with("basic_auth=true"), "{:#}", report.read);
    let nowhere = settings.set("gateway_url", format!("http://127.0.0.1:{}", free_port()));
    let report = examine(&nats, &nowhere, &[]).await;
    assert_eq!((report.code, report.with("fail")), (1, vec!["gateway"]));
}

#[tokio::test]
async fn what_listens_where_the_worker_would_is_told() {
    let (nats, gateway) = (Nats::start().await, gateway().await);
    let settings = made(&nats, &gateway).await;
    let worker = settings.start().await;
    let beside = |port: u16| settings.clone().set("listen_addr", format!("127.0.0.1:{port}"));
    let report = examine(&nats, &beside(worker.port()), &[]).await;
    assert!(report.text("worker", "seen").starts_with("ready at"), "{:#}", report.read);
    let stranger = Gateway::start(|_| Answer::status(404)).await;
    let port = stranger.url().rsplit(':').next().unwrap().trim_end_matches('/').parse().unwrap();
    let report = examine(&nats, &beside(port), &[]).await;
    assert_eq!((report.code, report.with("fail")), (1, vec!["listen_addr"]));
}

#[tokio::test]
async fn another_nats_streaming_server_is_found_and_the_bridge_is_not_taken_for_one() {
    let (nats, gateway) = (Nats::start().await, gateway().await);
    let settings = made(&nats, &gateway).await.set("stan_bridge", "true");
    assert_eq!(
        examine(&nats, &settings, &[]).await.text("NATS Streaming", "severity"),
        "ok",
        "nobody answers"
    );
    let worker = settings.start().await;
    assert_eq!(
        examine(&nats, &settings, &[]).await.text("NATS Streaming", "severity"),
        "ok",
        "the bridge answers"
    );
    assert!(
        worker.log_with(" warn ").iter().all(|line| !line.contains("NATS Streaming")),
        "the bridge complains"
    );

    // What a server of that kind says to one who names no place for heartbeats: an error, in field 5 of its
    // answer.
    let mut requests = nats.client().subscribe(format!("_STAN.discover.{CLUSTER}")).await.unwrap();
    nats.client().flush().await.unwrap();
    let client = nats.client().clone();
    tokio::spawn(async move {
        while let Some(request) = futures_util::StreamExt::next(&mut requests).await {
            let error = b"\x2a\x20stan: invalid connection request";
            client
                .publish_with_headers(request.reply.unwrap(), HeaderMap::new(), error.to_vec().into())
                .await
                .unwrap();
        }
    });
    let report = examine(&nats, &settings, &[]).await;
    assert_eq!((report.code, report.text("NATS Streaming", "severity")), (1, "fail"));
}

#[tokio::test]
async fn of_a_cluster_the_servers_that_are_away_are_told() {
    let mut cluster = Cluster::start().await;
    let (nowhere, gateway) = (Nats::absent(), gateway().await);
    let settings =
        Worker::of(&nowhere, &gateway).set("nats_url", cluster.url()).set("nats_stream_replicas", 3);
    assert_eq!(settings.start().await.drain().await, 0);
    let mut report = Report::of(&settings, &[]).await;
    eventually("all replicas keep up", async || {
        report = Report::of(&settings, &[]).await;
        report.with("ok").contains(&"replicas of faas-request")
    })
    .await;
    assert_eq!((report.code, report.survives("disk")), (0, "yes"), "{:#}", report.read);
    assert_eq!(report.text("replicas of faas-request", "seen").split(", ").count(), 3);

    cluster.kill(2).await;
    // Until the others have agreed on a leader again nobody answers for the stream.
    eventually("one is away", async || {
        report = Report::of(&settings, &[]).await;
        report.with("warn").contains(&"replicas of faas-request-retries")
    })
    .await;
    assert!(report.text("replicas of faas-request-retries", "seen").starts_with("n2 "), "{:#}", report.read);
    cluster.kill(1).await;
    eventually("most are away", async || Report::of(&settings, &[]).await.code == 1).await;
}
