//! Nothing that is secret is ever shown, whatever goes wrong and however much is logged.

use async_nats::{ConnectOptions, HeaderMap};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use nkeys::KeyPair;

use crate::support::{
    Answer, Gateway, Invocation, Nats, Operator, QUEUE, Settings, Stored, Worker, eventually,
};

/// What the worker has said, and what it says to who asks, less what people may know.
async fn assert_silent(worker: &Worker, secrets: &[String]) {
    let pages = [worker.get("/metrics").await, worker.get("/readyz").await, worker.get("/healthz").await];
    let pages: Vec<_> = pages.into_iter().flatten().map(|(_, text)| text).collect();
    assert!(!worker.log_with("").is_empty());
    for secret in secrets {
        // Half of one is as good as the whole, and base64 hides nothing.
        for shown in [secret.clone(), BASE64_STANDARD.encode(secret)] {
            assert_eq!(worker.log_with(&shown), Vec::<String>::new(), "{shown} is in the log");
            assert!(pages.iter().all(|page| !page.contains(&shown)), "{shown} is on a page");
        }
    }
}

/// A worker that logs in like this works, loses its broker and finds it again, and never shows these secrets.
async fn logs_in(nats: Nats, gateway: &Gateway, settings: Settings, secrets: &[String]) {
    let mut nats = nats;
    let worker = settings.set("RUST_LOG", "trace").set("initial_retry_wait", "10ms").start().await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    nats.dead_letter().await;
    nats.restart().await;
    eventually("connected again", async || {
        worker.log_with("connected to NATS").len() >= 2
            && worker.readyz().await.is_some_and(|(status, _)| status == 200)
    })
    .await;
    assert_silent(&worker, secrets).await;
    assert!(gateway.count() > 0);
}

#[tokio::test]
async fn no_login_is_shown_however_much_is_logged() {
    let gateway = Gateway::start(|_| Answer::status(400)).await;
    let secret = "s3cr3t-of-the-broker".to_owned();

    let users = format!(
        "authorization {{ users = [ {{ user: observer, password: observer }}, \
         {{ user: worker, password: {secret} }} ] }}"
    );
    let nats = Nats::start_with(&users).await;
    let settings = Worker::of(&nats, &gateway).set("nats_user", "worker").file("nats_password_file", &secret);
    logs_in(nats, &gateway, settings, std::slice::from_ref(&secret)).await;

    let nats = Nats::start_with(&users).await;
    let url = format!("nats://worker:{secret}@127.0.0.1:{}", nats.port());
    let settings = Worker::of(&nats, &gateway).set("nats_url", url);
    logs_in(nats, &gateway, settings, std::slice::from_ref(&secret)).await;

    let token = secret.clone();
    let login = move || ConnectOptions::with_token(token.clone());
    let nats = Nats::start_with_login(&format!("authorization {{ token: {secret} }}"), login).await;
    let settings = Worker::of(&nats, &gateway).file("nats_token_file", &secret);
    logs_in(nats, &gateway, settings, std::slice::from_ref(&secret)).await;

    let key = KeyPair::new_user();
    let seed = key.seed().unwrap();
    let own = seed.clone();
    let login = move || ConnectOptions::with_nkey(own.clone());
    let users = format!("authorization {{ users = [ {{ nkey: {} }} ] }}", key.public_key());
    let nats = Nats::start_with_login(&users, login).await;
    let settings = Worker::of(&nats, &gateway).file("nats_nkey_file", &seed);
    logs_in(nats, &gateway, settings, &[seed]).await;

    let operator = Operator::new();
    let (config, creds) = (operator.config(), operator.creds());
    let nats = Nats::start_with_login(&config, move || operator.login()).await;
    let settings = Worker::of(&nats, &gateway).file("nats_creds_file", &creds);
    let secrets: Vec<_> =
        creds.lines().filter(|line| !line.is_empty() && !line.starts_with('-')).map(str::to_owned).collect();
    assert_eq!(secrets.len(), 2);
    logs_in(nats, &gateway, settings, &secrets).await;
}

/// A word that stands nowhere else.
fn hidden(what: &str) -> String {
    format!("hidden-{what}-hidden")
}

/// A gateway whose functions answer in all ways, each with hidden words.
async fn gateway_of_all_kinds() -> Gateway {
    Gateway::start(|call| {
        let answer = Answer::status(match call.function() {
            "completes" => 200,
            "refuses" => 400,
            "moves" => 302,
            _ => 500,
        });
        let answer = answer
            .header("Location", &format!("http://127.0.0.1:1/{}", hidden("location")))
            .header("Set-Cookie", &hidden("cookie"));
        match call.function() {
            "hangs-up" => Answer::hang_up(),
            "is-silent" => Answer::silence(),
            "breaks-off" => answer.body(hidden("answer")).broken_off(),
            "speaks-badly" => Answer::ok().header("Bad Header", &hidden("bad-header")),
            _ => answer.body(hidden("answer")),
        }
    })
    .await
}

/// URLs of callbacks with hidden words: one that is there, one behind a proxy that is not, one to nobody, and
/// one of no scheme that is posted to.
fn callbacks(at: &str) -> [String; 4] {
    let login = format!("{}:{}", hidden("cb-user"), hidden("cb-password"));
    let query = hidden("cb-query");
    [
        format!("http://{login}@{at}/{}?{query}", hidden("cb-path")),
        format!("https://{login}@example.invalid/?{query}"),
        format!("http://{login}@127.0.0.1:1/?{query}"),
        format!("ftp://{}@{at}/?{query}", hidden("cb-user")),
    ]
}

fn invocation(function: &str) -> Invocation {
    Invocation::of(function)
        .header("Authorization", &format!("Bearer {}", hidden("authorization")))
        .header("Cookie", &hidden("cookie"))
        .header("X-Broken", &format!("{}\r\n", hidden("broken-header")))
        .body(hidden("body"))
        .field("QueryString", hidden("query").into())
}

/// Queues messages that nobody can decode.
async fn publish_undecodable(nats: &Nats) {
    let mut headers = HeaderMap::new();
    headers.append("Authorization", hidden("nats-header"));
    let undecodable = [
        invocation("f").field("Path", format!("/../{}", hidden("path")).into()).to_bytes(),
        invocation("f").field("Function", hidden("name/").into()).to_bytes(),
        invocation("f").field("Body", hidden("not-base64").into()).to_bytes(),
        format!("{{\"Function\":\"f\", {}", hidden("json")).into_bytes(),
    ];
    for message in undecodable {
        nats.publish_raw(QUEUE, headers.clone(), message).await;
    }
}

fn assert_tells_nothing(letter: &Stored) {
    let ours = letter.headers.iter().filter(|(name, _)| name.to_string().starts_with("Queue-Worker-"));
    for (name, values) in ours {
        // The password of a login is as good in base64.
        assert!(!values.iter().any(|value| value.as_str().contains("hidden")), "{name}: {values:?}");
    }
    assert!(!letter.subject.contains("hidden"), "{}", letter.subject);
}

#[tokio::test]
async fn what_callers_and_functions_wrote_is_not_shown_whatever_becomes_of_it() {
    let nats = Nats::start().await;
    let gateway = gateway_of_all_kinds().await;
    let receiver = Gateway::start(|call| {
        Answer::status(if call.nth % 2 == 1 { 503 } else { 200 }).body(hidden("receipt"))
    })
    .await;
    let proxy = format!("http://{}:{}@127.0.0.1:1", hidden("proxy-user"), hidden("proxy-password"));
    let signing = BASE64_STANDARD.encode("the signing secret of the worker, which is long");
    let settings = Worker::of(&nats, &gateway)
        .set("RUST_LOG", "trace")
        .set("max_retry_attempts", 2)
        .set("initial_retry_wait", "10ms")
        .set("upstream_timeout", "1s")
        .set("callback_attempts", 2)
        .set("function_lookup", true)
        .set("HTTPS_PROXY", &proxy)
        .set("NO_PROXY", "127.0.0.1")
        .file("callback_signing_secret_file", &signing)
        .login(&hidden("user"), &hidden("password"));
    let worker = settings.start().await;

    let callbacks = callbacks(&receiver.address().to_string());
    let functions =
        ["completes", "refuses", "moves", "fails", "hangs-up", "is-silent", "breaks-off", "speaks-badly"];
    for (n, function) in functions.into_iter().enumerate() {
        let call =
            invocation(function).call_id(&format!("call-{n}")).callback(&callbacks[n % callbacks.len()]);
        nats.publish(&call).await;
    }
    publish_undecodable(&nats).await;

    eventually("all end", async || nats.counts().await[..2] == [0, 0]).await;
    let letters = nats.messages("faas-request-dead").await;
    assert!(letters.len() >= 11, "{}", letters.len());
    letters.iter().for_each(assert_tells_nothing);
    let login = format!("{}:{}", hidden("user"), hidden("password"));
    let proxied = format!("{}:{}", hidden("proxy-user"), hidden("proxy-password"));
    let called = format!("{}:{}", hidden("cb-user"), hidden("cb-password"));
    // The paths of callbacks are shown, so that people can tell them apart.
    let shown = worker.log_with("hidden-");
    let leaks: Vec<_> =
        shown.iter().filter(|line| line.replace(&hidden("cb-path"), "").contains("hidden-")).collect();
    assert_eq!(leaks, Vec::<&String>::new());
    assert_silent(&worker, &[login, proxied, called, signing]).await;
    assert!(worker.metrics().await.value("queue_worker_callbacks_total", &[("result", "delivered")]) > 0.0);
    assert!(receiver.count() > 0);
}
