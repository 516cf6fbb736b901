//! What the log says of a failure, and what it never says.

use std::{net::TcpListener, sync::Arc, thread};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde_json::Value;

use crate::support::{
    Answer, Authority, Gateway, Invocation, Nats, Settings, Worker, eventually_is, free_port,
};

fn settings(nats: &Nats, gateway: &Gateway) -> Settings {
    Worker::of(nats, gateway)
        .set("initial_retry_wait", "10ms")
        .set("max_retry_attempts", 2)
        .set("log_encoding", "json")
}

/// The lines of a message, each with its level and the reason that it gives.
fn told(worker: &Worker, message: &str) -> Vec<(String, Option<String>)> {
    let lines = worker.log_with(&format!(r#""message":"{message}""#));
    let parsed = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    parsed
        .map(|line| (line["level"].as_str().unwrap().to_owned(), line["reason"].as_str().map(str::to_owned)))
        .collect()
}

fn said(level: &str, reason: &str) -> (String, Option<String>) {
    (level.to_owned(), Some(reason.to_owned()))
}

#[tokio::test]
async fn a_gateway_that_cannot_be_reached_is_told_with_its_reason_and_once_as_a_warning() {
    let nats = Nats::start().await;
    let mut gateway = Gateway::start(|_| Answer::ok()).await;
    gateway.close().await;
    let worker = settings(&nats, &gateway).set("max_inflight", 1).start().await;
    nats.publish_all(["f", "g"].map(Invocation::of).into_iter()).await;
    nats.dead_letters(2).await;
    let reason = "Connection refused";
    eventually_is("calls in the log", 4, async || told(&worker, "Invoked").len()).await;
    assert_eq!(told(&worker, "Invoked")[0], said("warn", reason));
    assert_eq!(
        told(&worker, "Invoked")[1..],
        [said("info", reason), said("info", reason), said("info", reason)]
    );
    assert_eq!(told(&worker, "Retry scheduled"), [said("warn", reason), said("warn", reason)]);
    let dead = format!("unreachable: {reason}");
    eventually_is("dead letters in the log", vec![said("error", &dead), said("error", &dead)], async || {
        told(&worker, "Dead letter")
    })
    .await;

    // When it was there in between, its absence is news again; and what a function answers needs no more
    // words.
    gateway.open().await;
    nats.publish(&Invocation::of("f")).await;
    gateway.await_ended(1).await;
    nats.await_counts([0, 0, 2]).await;
    gateway.close().await;
    nats.publish(&Invocation::of("f")).await;
    nats.dead_letters(3).await;
    eventually_is("calls in the log", 7, async || told(&worker, "Invoked").len()).await;
    assert_eq!(
        told(&worker, "Invoked")[4..],
        [("info".to_owned(), None), said("warn", reason), said("info", reason)]
    );
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_told() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let worker =
        settings(&nats, &gateway).set("gateway_url", "http://no-such-gateway.invalid:8080").start().await;
    nats.publish(&Invocation::of("f")).await;
    nats.dead_letter().await;
    let line = worker.await_log(&["Dead letter"]).await;
    assert!(line.contains(r#""reason":"unreachable: name not resolved: "#), "{line}");
}

#[tokio::test]
async fn the_first_failure_of_each_kind_is_a_warning_and_what_the_platform_answers_has_a_reason() {
    let nats = Nats::start().await;
    let statuses = [500, 503, 503, 200, 503, 404];
    let gateway = Gateway::start(move |call| {
        let answer = Answer::status(statuses[call.nth - 1]);
        match call.nth {
            2 | 3 | 5 => answer.header("X-OpenFaaS-Internal", "provider"),
            6 => answer.body("error finding function f.openfaas-fn: not found"),
            _ => answer,
        }
    })
    .await;
    let worker = settings(&nats, &gateway).set("max_inflight", 1).set("max_retry_attempts", 1).start().await;
    for n in 1..=statuses.len() {
        nats.publish(&Invocation::of("f").call_id("a")).await;
        gateway.await_ended(n).await;
    }
    eventually_is("calls in the log", statuses.len(), async || told(&worker, "Invoked").len()).await;
    let platform = "the platform answered, not the function";
    let expected = [
        ("info".to_owned(), None),
        said("warn", platform),
        said("info", platform),
        ("info".to_owned(), None),
        said("warn", platform),
        said("warn", "the gateway does not find the function, or cannot ask for it"),
    ];
    assert_eq!(told(&worker, "Invoked"), expected);
}

/// A server that nobody trusts. Ends with the process.
fn untrusted() -> u16 {
    let identity = Authority::new().identity("nobody");
    let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut connection = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream);
            // The client says what it thinks of the certificate, and goes.
            let _ = std::io::copy(&mut connection, &mut std::io::sink());
        }
    });
    port
}

#[tokio::test]
async fn a_callback_that_fails_is_told_with_its_reason_and_without_its_secrets() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let (away, untrusted) = (free_port(), untrusted());
    let worker = settings(&nats, &gateway).set("callback_attempts", 2).start().await;
    for (n, (receiver, reason)) in [
        (format!("http://u:hidden@127.0.0.1:{away}/p?token=hidden"), "Connection refused"),
        (format!("https://u:hidden@127.0.0.1:{untrusted}/p?token=hidden"), "TLS: unknown issuer"),
        ("http://u:hidden@no-such-host.invalid/p?token=hidden".to_owned(), "name not resolved: "),
    ]
    .into_iter()
    .enumerate()
    {
        nats.publish(&Invocation::of(&format!("f{n}")).call_id("a").callback(&receiver)).await;
        for (message, level) in
            [("Posted result", "warn"), ("Callback retry scheduled", "warn"), ("Dead letter", "error")]
        {
            let function = format!(r#""function":"f{n}""#);
            let line = worker.await_log(&[&format!(r#""message":"{message}""#), &function]).await;
            assert!(
                line.contains(&format!(r#""level":"{level}""#)) && line.contains(reason),
                "{reason}: {line}"
            );
        }
    }
    assert_eq!(worker.log_with("hidden"), Vec::<String>::new());
}

#[tokio::test]
async fn nothing_that_callers_choose_does_anything_to_a_line() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::status(400)).await;
    let unruly = [
        '\u{80}', '\u{85}', '\u{9b}', '\u{7f}', '\u{2028}', '\u{2029}', '\u{202e}', '\u{2066}', '\u{200f}',
        '\u{feff}',
    ];
    for (n, encoding) in ["json", "console"].into_iter().enumerate() {
        let mut worker = settings(&nats, &gateway).set("log_encoding", encoding).start().await;
        for (m, c) in unruly.iter().enumerate() {
            nats.publish(
                &Invocation::of("f")
                    .call_id(&format!("a{c}b"))
                    .retry_annotation("attempts", &format!("{c}x")),
            )
            .await;
            nats.dead_letters((n * unruly.len() + m + 1) as u64).await;
        }
        assert_eq!(worker.drain().await, 0);
        let lines = worker.log_with("");
        assert!(
            lines.iter().filter(|line| line.contains("Dead letter")).count() == unruly.len(),
            "{lines:#?}"
        );
        assert!(!lines.iter().any(|line| line.contains(unruly)), "{lines:#?}");
    }
}
