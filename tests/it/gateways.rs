//! Gateways behind TLS of their own, gateways that vanish, and gateways that close connections.

use std::{fs, time::Duration};

use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::TcpListener,
};

use crate::support::{
    Answer, Authority, Gateway, Invocation, Latch, Nats, TlsFront, Worker, eventually, http, patiently,
};

#[tokio::test]
async fn a_gateway_of_a_private_authority_is_trusted_where_a_file_says_so() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|call| match call.target() {
        "/system/function/f" => Answer::ok().body(r#"{"annotations":{"com.openfaas.retry.attempts":"3"}}"#),
        _ => Answer::ok(),
    })
    .await;
    let authority = Authority::new();
    let front = TlsFront::start(gateway.address(), &authority.identity("gateway")).await;
    let settings = Worker::bare()
        .set("nats_url", nats.url())
        .set("gateway_url", front.url())
        .set("upstream_timeout", "20s");
    let settings = settings.set("function_lookup", true);

    let trusting = settings.clone().file("gateway_ca_file", &authority.pem());
    let (_, report) = trusting.doctor(&[]).await;
    assert!(!report.contains("certificate"), "{report}");
    let mut worker = trusting.start().await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    nats.await_counts([0, 0, 0]).await;
    // What the function says is asked for over the same TLS.
    assert_eq!(gateway.calls_of("a").remove(0).header("x-retry-max"), Some("2"));
    worker.drain().await;

    let strange = settings.file("gateway_ca_file", &Authority::new().pem()).set("max_retry_attempts", 1);
    let (code, report) = strange.doctor(&[]).await;
    assert_ne!(code, 0);
    assert!(report.contains("gateway_ca_file=") && !report.contains("tls_insecure="), "{report}");
    let _worker = strange.start().await;
    nats.publish(&Invocation::of("f").call_id("b")).await;
    let letter = nats.dead_letter().await;
    assert!(letter.expect("Queue-Worker-Last-Error").contains("certificate"), "{letter:?}");
}

#[tokio::test]
async fn a_file_of_authorities_that_cannot_be_used_ends_the_worker_and_is_named() {
    let (nats, gateway) = (Nats::start().await, Gateway::start(|_| Answer::ok()).await);
    let settings = Worker::of(&nats, &gateway);
    for bad in [
        settings.clone().file("gateway_ca_file", "no certificate"),
        settings
            .clone()
            .file("gateway_ca_file", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        settings.clone().set("gateway_ca_file", "/nonexistent/gateway_ca_file"),
    ] {
        let mut worker = bad.spawn();
        assert_eq!(worker.exit().await, 1);
        worker
            .await_log(&["gateway_ca_file=", "/gateway_ca_file\"", "expected a file of certificates in PEM"])
            .await;
    }
}

/// The timer of a connection to this port, as the kernel shows it, and in how many hundredths of a second it
/// rings.
fn timer(port: u16) -> Option<(u32, u64)> {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut of_port =
        fields.filter(|fields| fields.get(2).is_some_and(|remote| remote.ends_with(&format!(":{port:04X}"))));
    let (kind, rings) = of_port.find(|fields| fields[3] == "01")?[5].split_once(':')?;
    Some((kind.parse().unwrap(), u64::from_str_radix(rings, 16).unwrap()))
}

#[tokio::test]
async fn a_gateway_or_a_receiver_that_says_nothing_is_asked_whether_it_is_still_there() {
    const KEEP_ALIVE: u32 = 2;
    let (nats, silent) = (Nats::start().await, Latch::new());
    let held = silent.clone();
    let gateway =
        Gateway::start(
            move |call| if call.function() == "f" { Answer::ok().held_by(&held) } else { Answer::ok() },
        )
        .await;
    let held = silent.clone();
    let receiver = Gateway::start(move |_| Answer::ok().held_by(&held)).await;
    let _worker = Worker::of(&nats, &gateway).start().await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    nats.publish(&Invocation::of("g").call_id("b").callback(&receiver.url())).await;
    gateway.await_calls(2).await;
    receiver.await_calls(1).await;
    for server in [&gateway, &receiver] {
        // Not at once: what was sent last may wait for its acknowledgement. The kernel's own default is two
        // hours.
        let watched = || {
            timer(server.address().port()).is_some_and(|(kind, rings)| kind == KEEP_ALIVE && rings <= 1_600)
        };
        eventually("the connection is watched", async || watched()).await;
    }
    silent.open();
    nats.await_counts([0, 0, 0]).await;
}

/// How often a call is made, and the `X-Retry` of each, whose gateway answers so the first time, on a
/// connection that has served.
async fn served_before(first: fn() -> Answer) -> Vec<u32> {
    let nats = Nats::start().await;
    let gateway =
        Gateway::start(move |call| if (call.id(), call.nth) == ("a", 1) { first() } else { Answer::ok() })
            .await;
    let worker = Worker::of(&nats, &gateway).set("initial_retry_wait", "10ms").start().await;
    for id in ["before", "a"] {
        nats.publish(&Invocation::of("f").call_id(id)).await;
        worker.await_log(&["Invoked", &format!("callId={id}"), "status=200"]).await;
        nats.await_counts([0, 0, 0]).await;
    }
    gateway.calls_of("a").iter().map(|call| call.retry()).collect()
}

#[tokio::test]
async fn a_connection_that_is_closed_just_as_it_is_used_again_costs_no_attempt() {
    assert_eq!(served_before(Answer::hang_up).await, [0, 0]);
}

#[tokio::test]
async fn a_connection_that_ends_later_or_in_an_answer_costs_one() {
    assert_eq!(served_before(|| Answer::hang_up().after(Duration::from_millis(200))).await, [0, 1]);
    assert_eq!(served_before(|| Answer::ok().torn_after(1)).await, [0, 1]);
    assert_eq!(served_before(|| Answer::ok().body("half of").broken_off()).await, [0, 1]);
}

#[tokio::test]
async fn a_connection_that_is_reset_with_the_next_request_unread_costs_no_attempt() {
    let nats = Nats::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let settings =
        Worker::bare().set("nats_url", nats.url()).set("gateway_url", url).set("max_retry_attempts", 1);
    let _worker = settings.start().await;
    nats.publish(&Invocation::of("f").call_id("before")).await;
    let (stream, _) = listener.accept().await.unwrap();
    let mut served = BufReader::new(stream);
    http::read(&mut served).await.unwrap();
    served.write_all(&Answer::ok().to_bytes()).await.unwrap();
    nats.await_counts([0, 0, 0]).await;
    nats.publish(&Invocation::of("f").call_id("a").body(vec![b'x'; 100_000])).await;
    served.get_ref().readable().await.unwrap();
    // What lies there unread makes a reset of it.
    drop(served);
    let (stream, _) = patiently("another connection", listener.accept()).await.unwrap();
    let mut anew = BufReader::new(stream);
    let call = http::read(&mut anew).await.unwrap().unwrap();
    assert_eq!(
        (call.header("x-call-id"), call.header("x-retry"), call.body.len()),
        (Some("a"), Some("0"), 100_000)
    );
    anew.write_all(&Answer::ok().to_bytes()).await.unwrap();
    nats.await_counts([0, 0, 0]).await;
}
