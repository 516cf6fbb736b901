//! Where callbacks may go, by which way, and how their receivers know that they are genuine.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::support::{Answer, Call, Gateway, Invocation, Nats, Worker, eventually};

/// A callback to `url` that must not be made: it is logged, counted and dead-lettered, and nobody is called
/// but the function.
async fn check_refused(settings: &[(&str, &str)], url: impl Fn(u16) -> String, reason: &str) {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let receiver = Gateway::start(|_| Answer::ok()).await;
    let start = settings.iter().fold(Worker::of(&nats, &gateway), |start, (name, value)| {
        start.set(name, value.replace("RECEIVER", &receiver.url()))
    });
    let worker = start.start().await;
    let url = url(receiver.address().port());
    nats.publish(&Invocation::of("f").call_id("a").callback(&url)).await;
    let dead = nats.dead_letter().await;
    assert_eq!(
        (dead.expect("Queue-Worker-Cause"), dead.expect("Queue-Worker-Attempts")),
        ("callback", "0"),
        "{url}"
    );
    assert_eq!(dead.expect("Queue-Worker-Last-Error"), reason, "{url}");
    let log = worker.await_log(&["WARN", "Callback refused", reason]).await;
    assert!(!log.contains("hidden"), "{log}");
    let refused = [("result", "refused")];
    eventually("it is counted", async || {
        worker.metrics().await.get("queue_worker_callbacks_total", &refused) == Some(1.0)
    })
    .await;
    assert_eq!((gateway.count(), receiver.count()), (1, 0), "{url}");
}

const PRIVATE: &str = "its address is private";
const NOT_ALLOWED: &str = "its host is not among allowed_callback_urls";

#[tokio::test]
async fn private_addresses_are_refused_however_they_are_written() {
    let deny = [("callback_deny_private", "true")];
    check_refused(
        &deny,
        |_| "http://user:hidden@169.254.169.254/latest/meta-data/?hidden".to_owned(),
        PRIVATE,
    )
    .await;
    check_refused(&deny, |port| format!("http://127.0.0.1:{port}/"), PRIVATE).await;
    check_refused(&deny, |port| format!("http://0x7f.1:{port}/"), PRIVATE).await;
    check_refused(&deny, |port| format!("http://2130706433:{port}/"), PRIVATE).await;
    check_refused(&deny, |port| format!("http://[::ffff:127.0.0.1]:{port}/"), PRIVATE).await;
}

#[tokio::test]
async fn a_name_with_a_private_address_is_refused() {
    let deny = [("callback_deny_private", "true")];
    check_refused(&deny, |port| format!("http://localhost:{port}/"), PRIVATE).await;
}

#[tokio::test]
async fn a_private_target_is_refused_behind_a_proxy_too() {
    let proxied = [("callback_deny_private", "true"), ("HTTP_PROXY", "RECEIVER")];
    check_refused(&proxied, |port| format!("http://localhost:{port}/"), PRIVATE).await;
    check_refused(&proxied, |_| "http://10.0.0.1/".to_owned(), PRIVATE).await;
}

#[tokio::test]
async fn hosts_that_are_not_allowed_are_refused() {
    for globs in ["none", "*.example.com, 10.0.0.*", "127.0.0.1:1"] {
        check_refused(
            &[("allowed_callback_urls", globs)],
            |port| format!("http://127.0.0.1:{port}/?hidden"),
            NOT_ALLOWED,
        )
        .await;
    }
}

#[tokio::test]
async fn a_url_that_no_callback_can_be_sent_to_is_refused() {
    check_refused(&[], |_| "ftp://127.0.0.1/".to_owned(), "it is no URL that a callback can be sent to")
        .await;
}

#[tokio::test]
async fn hosts_that_are_allowed_are_called_back() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let receiver = Gateway::start(|_| Answer::ok()).await;
    let port = receiver.address().port();
    let globs = format!("*.example.com, 127.0.*:{port}, LocalHost.");
    let _worker = Worker::of(&nats, &gateway).set("allowed_callback_urls", globs).start().await;
    for host in ["127.0.0.1", "localhost"] {
        nats.publish(&Invocation::of("f").call_id(host).callback(&format!("http://{host}:{port}/"))).await;
    }
    receiver.await_calls(2).await;
    nats.await_counts([0, 0, 0]).await;
}

#[tokio::test]
async fn a_parked_callback_obeys_the_rules_of_the_day_it_comes_due() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let receiver = Gateway::start(|_| Answer::status(500)).await;
    let settings = Worker::of(&nats, &gateway).set("initial_retry_wait", "2s");
    let mut worker = settings.start().await;
    nats.publish(&Invocation::of("f").call_id("a").callback(&receiver.url())).await;
    nats.await_counts([0, 1, 0]).await;
    worker.drain().await;
    let _worker = settings.set("allowed_callback_urls", "none").start().await;
    let dead = nats.dead_letter().await;
    assert_eq!(
        (dead.expect("Queue-Worker-Last-Error"), dead.expect("Queue-Worker-Attempts")),
        (NOT_ALLOWED, "1")
    );
    assert_eq!((gateway.count(), receiver.count()), (1, 1));
}

#[tokio::test]
async fn callbacks_and_nothing_else_go_by_the_proxy_that_the_environment_names() {
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        let nats = Nats::start().await;
        let gateway = Gateway::start(|_| Answer::ok()).await;
        let [receiver, proxy] =
            [Gateway::start(|_| Answer::ok()).await, Gateway::start(|_| Answer::ok()).await];
        let settings = Worker::of(&nats, &gateway).set(name, proxy.url().replace("//", "//user:pw@"));
        let settings = settings.set("no_proxy", "127.0.0.0/8").set("callback_deny_private", "false");
        let _worker = settings.start().await;
        // The proxy answers for a host that exists nowhere.
        nats.publish(&Invocation::of("f").call_id("far").callback("http://hooks.invalid/back?x=1")).await;
        nats.publish(&Invocation::of("f").call_id("near").callback(&receiver.url())).await;
        nats.await_counts([0, 0, 0]).await;
        assert_eq!((gateway.count(), receiver.count(), proxy.count()), (2, 1, 1), "{name}");
        let call = &proxy.calls()[0];
        assert_eq!((call.id(), &*call.request.start), ("far", "POST http://hooks.invalid/back?x=1 HTTP/1.1"));
        assert_eq!(call.header("proxy-authorization"), Some("Basic dXNlcjpwdw=="));
    }
}

#[tokio::test]
async fn a_proxy_may_be_private_where_its_targets_may_not() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let proxy = Gateway::start(|_| Answer::ok()).await;
    let settings =
        Worker::of(&nats, &gateway).set("http_proxy", proxy.url()).set("callback_deny_private", "true");
    let _worker = settings.start().await;
    nats.publish(&Invocation::of("f").call_id("a").callback("http://1.1.1.1/")).await;
    proxy.await_calls(1).await;
    nats.await_counts([0, 0, 0]).await;
}

/// Whether the signature at this place is this secret's.
fn is_signed(call: &Call, place: usize, secret: &str) -> bool {
    let expect = |name| call.header(name).unwrap_or_else(|| panic!("no {name}: {call:?}"));
    let signature =
        expect("webhook-signature").split(' ').nth(place).and_then(|one| one.strip_prefix("v1,")).unwrap();
    let key = BASE64_STANDARD.decode(secret.trim_start_matches("whsec_")).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(format!("{}.{}.", expect("webhook-id"), expect("webhook-timestamp")).as_bytes());
    mac.update(&call.request.body);
    mac.verify_slice(&BASE64_STANDARD.decode(signature).unwrap()).is_ok()
}

#[tokio::test]
async fn callbacks_are_signed_anew_at_each_try_under_one_id() {
    const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const NEW: &str = "C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| {
        Answer::ok().header("Webhook-Id", "forged").header("Webhook-Signature", "v1,forged").body("hello")
    })
    .await;
    let receiver = Gateway::start(|call| Answer::status(if call.nth == 1 { 500 } else { 200 })).await;
    let settings = Worker::of(&nats, &gateway).set("initial_retry_wait", "1100ms");
    let worker = settings.file("callback_signing_secret_file", &format!("{OLD}\n{NEW}\n")).start().await;
    for id in ["a", "b"] {
        nats.publish(&Invocation::of("f").call_id(id).callback(&receiver.url())).await;
    }
    receiver.await_calls(4).await;
    nats.await_counts([0, 0, 0]).await;
    let ids = ["a", "b"].map(|id| {
        let [first, second] = receiver.calls_of(id).try_into().unwrap();
        for call in [&first, &second] {
            assert!(is_signed(call, 0, OLD) && is_signed(call, 1, NEW), "{call:?}");
            assert!(!is_signed(call, 0, NEW));
            let all: Vec<_> = call
                .request
                .headers
                .iter()
                .filter(|(name, _)| name.to_lowercase().starts_with("webhook-"))
                .collect();
            assert_eq!(all.len(), 3, "{all:?}");
        }
        let times =
            [&first, &second].map(|call| call.header("webhook-timestamp").unwrap().parse::<u64>().unwrap());
        assert!(times[1] > times[0], "{times:?}");
        assert_eq!(first.header("webhook-id"), second.header("webhook-id"));
        first.header("webhook-id").unwrap().to_owned()
    });
    assert!(ids[0] != ids[1], "{ids:?}");
    assert!(worker.log_with("MfKQ").is_empty());
}

#[tokio::test]
async fn secrets_that_cannot_be_used_are_told_at_the_start_and_not_shown() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    for (text, expected) in
        [("C2FVsBQIhrscChlQIMV+b5sSYspob7oD\nno_secret_of_mine", "line 2"), ("", "has none")]
    {
        let settings = Worker::of(&nats, &gateway).file("callback_signing_secret_file", text);
        let mut worker = settings.spawn();
        assert_eq!(worker.exit().await, 1);
        worker.await_log(&["ERROR", "callback_signing_secret_file", expected]).await;
        assert_eq!(nats.streams().await, [""; 0], "nothing was begun");
        assert!(worker.log_with("mine").is_empty() && worker.log_with("C2FV").is_empty());
    }
}
