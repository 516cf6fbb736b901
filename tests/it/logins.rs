//! Every way to log in to a broker, against one that asks for it.

use std::time::Duration;

use async_nats::ConnectOptions;
use nkeys::KeyPair;
use tokio::time::Instant;

use crate::support::{
    Answer, Authority, Gateway, Identity, Invocation, Nats, Operator, Scratch, Settings, Worker, binary,
    eventually, free_port, has_schedules, refuses_to_start,
};

const USERS: &str = "authorization { users = [ { user: observer, password: observer }, \
    { user: worker, password: \"s3cr3t/@\" } ] }";

async fn gateway() -> Gateway {
    Gateway::start(|call| Answer::status(if call.nth == 1 { 500 } else { 200 })).await
}

/// A worker with these settings calls a function, parks a retry and ends it.
async fn works(nats: &Nats, gateway: &Gateway, settings: Settings) {
    let before = gateway.count();
    let settings = settings.set("initial_retry_wait", "10ms");
    let mut worker = settings.start().await;
    nats.publish(&Invocation::of("f").call_id(&format!("after-{before}"))).await;
    gateway.await_ended(before + 2).await;
    nats.await_counts([0, 0, 0]).await;
    assert_eq!(worker.drain().await, 0);
}

/// A worker with these settings ends with 1, says each of these texts, and never one that is secret.
async fn refused(settings: Settings, said: &[&str], secrets: &[&str]) {
    // At this level the client library speaks, too.
    let settings = settings.set("RUST_LOG", "trace");
    let mut worker = settings.spawn();
    assert_eq!(worker.exit().await, 1);
    let errors = worker.log_with(" error ");
    assert!(
        errors.iter().any(|line| said.iter().all(|text| line.contains(text))),
        "none says {said:?}: {errors:?}"
    );
    for secret in secrets {
        assert!(worker.log_with(secret).is_empty(), "{secret} is in the log");
    }
}

#[tokio::test]
async fn user_and_password_come_from_a_file_or_from_the_url() {
    let (nats, gateway) = (Nats::start_with(USERS).await, gateway().await);
    let settings = Worker::of(&nats, &gateway);
    let user = settings.clone().set("nats_user", "worker");
    let url =
        |login: &str| settings.clone().set("nats_url", format!("nats://{login}@127.0.0.1:{}", nats.port()));

    // With the line's end that editors leave, of either kind.
    works(&nats, &gateway, user.clone().file("nats_password_file", "s3cr3t/@\r\n")).await;
    works(&nats, &gateway, url("worker:s3cr3t%2F%40")).await;

    refused(settings.clone(), &["refused the credentials", "none is set"], &[]).await;
    refused(
        user.clone().file("nats_password_file", "guessed\n"),
        &["refused the credentials", "nats_password_file"],
        &["guessed"],
    )
    .await;
    refused(url("worker:guessed"), &["refused the credentials", "nats_url"], &["guessed"]).await;
    refused(user.set("nats_password_file", "/nonexistent/password"), &["/nonexistent/password"], &[]).await;
}

#[tokio::test]
async fn a_token_comes_from_a_file_or_from_the_url() {
    let login = || ConnectOptions::with_token("s3cr3t".to_owned());
    let nats = Nats::start_with_login("authorization { token: s3cr3t }", login).await;
    let gateway = gateway().await;
    let settings = Worker::of(&nats, &gateway);
    let url = |login: &str| settings.clone().set("nats_url", format!("{login}@127.0.0.1:{}", nats.port()));

    works(&nats, &gateway, settings.clone().file("nats_token_file", "s3cr3t\n")).await;
    works(&nats, &gateway, url("s3cr3t")).await;

    refused(settings.clone(), &["refused the credentials", "none is set"], &[]).await;
    refused(
        settings.clone().file("nats_token_file", "guessed"),
        &["refused the credentials", "nats_token_file"],
        &["guessed"],
    )
    .await;
    refused(url("guessed"), &["refused the credentials", "nats_url"], &["guessed"]).await;
}

#[tokio::test]
async fn an_nkey_comes_from_a_file() {
    let (worker, observer, stranger) = (KeyPair::new_user(), KeyPair::new_user(), KeyPair::new_user());
    let users = [&worker, &observer].map(|key| format!("{{ nkey: {} }}", key.public_key())).join(", ");
    let seed = observer.seed().unwrap();
    let login = move || ConnectOptions::with_nkey(seed.clone());
    let nats = Nats::start_with_login(&format!("authorization {{ users = [ {users} ] }}"), login).await;
    let gateway = gateway().await;
    let settings = Worker::of(&nats, &gateway);
    let with = |seed: &str| settings.clone().file("nats_nkey_file", seed);

    works(&nats, &gateway, with(&format!("{}\n", worker.seed().unwrap()))).await;

    refused(settings.clone(), &["refused the credentials", "none is set"], &[]).await;
    let stranger = stranger.seed().unwrap();
    refused(with(&stranger), &["refused the credentials", "nats_nkey_file"], &[&stranger]).await;
    refused(with("no seed"), &["nats_nkey_file", "cannot sign"], &["no seed"]).await;
}

#[tokio::test]
async fn credentials_come_from_a_file() {
    let operator = Operator::new();
    let (config, stranger) = (operator.config(), Operator::new());
    let creds = operator.creds();
    let nats = Nats::start_with_login(&config, move || operator.login()).await;
    let gateway = gateway().await;
    let settings = Worker::of(&nats, &gateway);
    let with = |creds: &str| settings.clone().file("nats_creds_file", creds);

    works(&nats, &gateway, with(&creds)).await;
    works(&nats, &gateway, with(creds.trim_end())).await;

    refused(settings.clone(), &["refused the credentials", "none is set"], &[]).await;
    let creds = stranger.creds();
    let secrets: Vec<_> = creds.lines().filter(|line| !line.is_empty() && !line.starts_with('-')).collect();
    refused(with(&creds), &["refused the credentials", "nats_creds_file"], &secrets).await;
    refused(with("no creds"), &["nats_creds_file"], &["no creds"]).await;
}

/// A broker with these lines in its TLS block, and what clients need: the authority's certificate and an
/// identity.
async fn encrypted(lines: &str, first: bool) -> (Nats, Authority, Identity) {
    encrypted_in(Scratch::new(), lines, first).await
}

/// The same, with its files in this folder.
async fn encrypted_in(scratch: Scratch, lines: &str, first: bool) -> (Nats, Authority, Identity) {
    let authority = Authority::new();
    let (server, client) = (authority.identity("server"), authority.identity("worker"));
    let file = |name: &str, text: &str| scratch.write(name, text).display().to_string();
    let ca = file("ca.pem", &authority.pem());
    let (cert, key) = (file("server.pem", &server.certificate), file("server.key", &server.key));
    let (observer, observer_key) =
        (file("observer.pem", &client.certificate), file("observer.key", &client.key));
    let block = format!("tls {{ cert_file: \"{cert}\", key_file: \"{key}\", ca_file: \"{ca}\", {lines} }}");
    let login = move || {
        // The files live as long as the broker may start again.
        let _files = &scratch;
        let login = ConnectOptions::new().add_root_certificates(ca.clone().into());
        let login = login.add_client_certificate(observer.clone().into(), observer_key.clone().into());
        if first { login.tls_first() } else { login }
    };
    (Nats::start_with_login(&block, login).await, authority, client)
}

#[tokio::test]
async fn tls_trusts_the_authority_of_a_file_and_no_other() {
    let (nats, authority, _) = encrypted("verify: false", false).await;
    let gateway = gateway().await;
    let settings = Worker::of(&nats, &gateway);
    let tls = settings.clone().set("nats_url", format!("tls://127.0.0.1:{}", nats.port()));

    works(&nats, &gateway, tls.clone().file("nats_ca_file", &authority.pem())).await;
    // A server that wants TLS says so, whatever the URL's scheme.
    works(&nats, &gateway, settings.clone().file("nats_ca_file", &authority.pem())).await;

    refused(tls.clone(), &["TLS", "certificate"], &[]).await;
    refused(tls.clone().file("nats_ca_file", &Authority::new().pem()), &["TLS", "certificate"], &[]).await;
    refused(tls.clone().file("nats_ca_file", "no certificate"), &["nats_ca_file"], &[]).await;
    refused(tls.set("nats_ca_file", "/nonexistent/ca.pem"), &["/nonexistent/ca.pem"], &[]).await;
}

#[tokio::test]
async fn a_certificate_of_the_client_logs_it_in() {
    let (nats, authority, client) = encrypted("verify: true", false).await;
    let gateway = gateway().await;
    let settings = Worker::of(&nats, &gateway).file("nats_ca_file", &authority.pem());
    let with = |identity: &Identity| {
        let settings = settings.clone().file("nats_cert_file", &identity.certificate);
        settings.file("nats_key_file", &format!("{}\n", identity.key))
    };

    works(&nats, &gateway, with(&client)).await;

    refused(settings.clone(), &["TLS", "ertificate"], &[]).await;
    let stranger = Authority::new().identity("worker");
    // What is wrong with it the server says in an alert of TLS, whose kind depends on the Go that it was
    // built with.
    refused(with(&stranger), &["TLS", "received fatal alert"], &[&stranger.key]).await;
    refused(with(&client).file("nats_key_file", "no key"), &["nats_key_file"], &["no key"]).await;
}

#[tokio::test]
async fn a_certificate_may_say_which_user_the_client_is() {
    let mapped = "verify_and_map: true }\nauthorization { users = [ { user: \"CN=worker\" } ]";
    let (nats, authority, client) = encrypted(mapped, false).await;
    let gateway = gateway().await;
    let settings = Worker::of(&nats, &gateway).file("nats_ca_file", &authority.pem());
    let with = |identity: &Identity| {
        settings.clone().file("nats_cert_file", &identity.certificate).file("nats_key_file", &identity.key)
    };

    works(&nats, &gateway, with(&client)).await;

    let stranger = authority.identity("stranger");
    refused(with(&stranger), &["refused the credentials", "none is set"], &[&stranger.key]).await;
}

#[tokio::test]
async fn certificates_may_change_while_the_worker_runs() {
    let scratch = Scratch::new();
    let folder = scratch.path().to_owned();
    let (mut nats, authority, _) = encrypted_in(scratch, "verify: false", false).await;
    let gateway = gateway().await;
    let settings =
        Worker::of(&nats, &gateway).file("nats_ca_file", &authority.pem()).set("initial_retry_wait", "10ms");
    let worker = settings.start().await;

    let other = Authority::new();
    let server = other.identity("server");
    for (name, text) in
        [("ca.pem", &other.pem()), ("server.pem", &server.certificate), ("server.key", &server.key)]
    {
        std::fs::write(folder.join(name), text).unwrap();
    }
    nats.restart().await;
    worker.await_log(&["client error", "IO error"]).await;
    assert_eq!(worker.readyz().await.map(|(status, _)| status), Some(503));
    let _same_file = settings.file("nats_ca_file", &other.pem());
    worker.ready().await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    gateway.await_ended(2).await;
    nats.await_counts([0, 0, 0]).await;
}

#[tokio::test]
async fn tls_comes_first_where_the_server_wants_it_so() {
    if !has_schedules(binary()) {
        return refuses_to_start("tls { handshake_first: true }", "handshake_first").await;
    }
    let (nats, authority, _) = encrypted("handshake_first: true", true).await;
    let gateway = gateway().await;
    let settings = Worker::of(&nats, &gateway).file("nats_ca_file", &authority.pem());
    works(&nats, &gateway, settings.set("nats_tls_first", "true")).await;
}

#[tokio::test]
async fn a_certificate_authority_means_that_nothing_is_said_without_tls() {
    let (nats, gateway) = (Nats::start_with(USERS).await, gateway().await);
    let settings = Worker::of(&nats, &gateway).file("nats_ca_file", &Authority::new().pem());
    let settings = settings.set("nats_user", "worker").file("nats_password_file", "s3cr3t/@");
    refused(settings, &["no TLS connection"], &["s3cr3t"]).await;
}

#[tokio::test]
async fn one_of_several_servers_is_enough() {
    let (mut nats, gateway) = (Nats::start_with(USERS).await, gateway().await);
    let (dead, port) = (free_port(), nats.port());
    let settings = Worker::of(&nats, &gateway);
    let urls = format!("nats://worker:s3cr3t%2F%40@127.0.0.1:{dead}, nats://127.0.0.1:{port}");
    let worker = settings.set("nats_url", urls).set("initial_retry_wait", "10ms").start().await;
    nats.restart().await;
    eventually("ready again", async || worker.readyz().await.is_some_and(|(status, _)| status == 200)).await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    gateway.await_ended(2).await;
    nats.await_counts([0, 0, 0]).await;
}

#[tokio::test]
async fn a_login_that_is_taken_away_ends_the_worker_after_a_while() {
    let (nats, gateway) = (Nats::start_with(USERS).await, gateway().await);
    let settings =
        Worker::of(&nats, &gateway).set("nats_user", "worker").file("nats_password_file", "s3cr3t/@");
    let mut worker = settings.start().await;
    let told = Instant::now();
    nats.reconfigure("user: worker", "user: another");
    nats.reload().await;
    eventually("not ready", async || worker.readyz().await.is_none_or(|(status, _)| status == 503)).await;
    assert_eq!(worker.exit().await, 1);
    assert!(told.elapsed() > Duration::from_secs(30), "ended already after {:?}", told.elapsed());
    assert!(
        worker
            .log_with(" error ")
            .iter()
            .any(|line| line.contains("denies") && line.contains("authorization violation"))
    );
    assert!(worker.log_with("s3cr3t").is_empty());
}

#[tokio::test]
async fn a_login_that_comes_back_goes_on() {
    let (nats, gateway) = (Nats::start_with(USERS).await, gateway().await);
    let settings =
        Worker::of(&nats, &gateway).set("nats_user", "worker").file("nats_password_file", "s3cr3t/@");
    let mut worker = settings.set("initial_retry_wait", "10ms").start().await;
    nats.reconfigure("user: worker", "user: another");
    nats.reload().await;
    worker.await_log(&["authorization violation", "client error"]).await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    nats.reconfigure("user: another", "user: worker");
    nats.reload().await;
    gateway.await_ended(2).await;
    nats.await_counts([0, 0, 0]).await;
    assert_eq!(worker.drain().await, 0);
}
