//! The settings of targets: what they do, and what is refused.

use async_nats::HeaderMap;

use crate::{
    support::{
        Answer, Call, Gateway, Invocation, Latch, Nats, Scratch, Settings, Worker, eventually, eventually_is,
    },
    targets::{by_region, headers, settings, values},
};

#[tokio::test]
async fn method_headers_and_token_are_set_and_the_token_is_read_anew() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let scratch = Scratch::new();
    let file = scratch.write("token", "first\n");
    let _worker = settings(&nats, &gateway, "/hooks")
        .set("target_method", "put")
        .set("target_token_file", file.display())
        .set("target_headers", "X-Set: a, b\nX-Set: c\nContent-Type: text/csv\nHost: shop.example")
        .start()
        .await;
    let sent = headers(&[("X-Set", "of the caller"), ("Authorization", "Basic x")]);
    nats.publish_raw("orders", sent, "1").await;
    let call = gateway.await_ended(1).await.remove(0);
    assert_eq!(call.request.start, "PUT /hooks HTTP/1.1");
    for (name, expected) in [
        ("x-set", &["a, b", "c"][..]),
        ("content-type", &["text/csv"]),
        ("host", &["shop.example"]),
        ("authorization", &["Bearer first"]),
    ] {
        assert_eq!(values(&call, name), expected, "{name}");
    }

    // As Kubernetes does it: another file takes its place.
    std::fs::rename(scratch.write("next", "second"), &file).unwrap();
    let token = async |n: usize| {
        nats.publish_raw("orders", HeaderMap::new(), n.to_string()).await;
        let calls = gateway.await_ended(n).await;
        calls.last().unwrap().header("authorization").unwrap().to_owned()
    };
    let mut published = 1;
    eventually("the new token is shown", async || {
        published += 1;
        token(published).await == "Bearer second"
    })
    .await;
    std::fs::remove_file(&file).unwrap();
    for n in 1..=3 {
        assert_eq!(token(published + n).await, "Bearer second");
    }
}

#[tokio::test]
async fn queues_of_either_input_live_in_one_worker() {
    let nats = Nats::start().await;
    let functions = Gateway::start(|_| Answer::ok()).await;
    let shop = Gateway::start(|_| Answer::ok()).await;
    let ship = Gateway::start(|_| Answer::ok()).await;
    let worker = Worker::of(&nats, &functions)
        .set("queue_name", "faas-request, orders, parcels")
        .set("input", "openfaas,http,http")
        .set("nats_filter_subject", "faas-request,orders.*,parcels")
        .set("target_url", format!(",{}/orders/{{1}},{}/parcels", shop.url(), ship.url()))
        .set("target_method", "POST,PUT,")
        .set("target_headers", "X-Of: shop\n,\nX-Of: shop\n,\nX-Of: ship")
        .start()
        .await;
    nats.publish(&Invocation::of("f").call_id("a").body("1")).await;
    nats.publish_raw("orders.eu", HeaderMap::new(), "2").await;
    nats.publish_raw("parcels", HeaderMap::new(), "3").await;
    let got = |call: &Call| (call.request.start.clone(), call.request.body.to_vec());
    let calls = [&functions, &shop, &ship].map(async |gateway| gateway.await_ended(1).await.remove(0));
    let calls = futures_util::future::join_all(calls).await;
    assert_eq!(got(&calls[0]), ("POST /function/f HTTP/1.1".into(), b"1".to_vec()));
    assert_eq!(got(&calls[1]), ("PUT /orders/eu HTTP/1.1".into(), b"2".to_vec()));
    assert_eq!(got(&calls[2]), ("POST /parcels HTTP/1.1".into(), b"3".to_vec()));
    let set: Vec<_> = calls.iter().map(|call| call.header("x-of")).collect();
    assert_eq!(set, [None, Some("shop"), Some("ship")]);
    let metrics = worker.metrics().await;
    for (queue, function) in [("faas-request", "f.openfaas-fn"), ("orders", "eu"), ("parcels", "parcels")] {
        let labels = [("queue_name", queue), ("function_name", function)];
        assert_eq!(metrics.value("queue_worker_attempts_total", &labels), 1.0, "{queue}");
    }
}

#[tokio::test]
async fn pending_messages_are_counted_by_the_names_of_the_calls() {
    let latch = Latch::new();
    let held = latch.clone();
    let nats = Nats::start().await;
    let gateway = Gateway::start(move |_| Answer::ok().held_by(&held)).await;
    let worker = by_region(&nats, &gateway, "/{1}").set("max_inflight", 1).start().await;
    for region in ["eu", "eu", "a%2Eb"] {
        nats.publish_raw(&format!("orders.{region}.created"), HeaderMap::new(), "x").await;
    }
    gateway.await_calls(1).await;
    for (name, count) in [("eu", 2.0), ("a%252Eb", 1.0)] {
        let labels = [("queue_name", "orders"), ("function_name", name)];
        let pending = async || worker.metrics().await.get("queue_worker_pending_messages", &labels);
        eventually_is(name, Some(count), pending).await;
    }
    latch.open();
    gateway.await_ended(3).await;
}

#[tokio::test]
async fn what_cannot_be_called_is_refused_at_the_start() {
    let nats = Nats::absent();
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let good = || settings(&nats, &gateway, "/{1}").set("nats_filter_subject", "orders.*");
    let check = async |settings: Settings, texts: &[&str]| {
        let mut worker = settings.spawn();
        assert_eq!(worker.exit().await, 64, "{texts:?}");
        let lines = worker.log_with(texts[0]);
        assert!(
            lines.iter().any(|line| texts.iter().all(|text| line.contains(text))),
            "{texts:?}: {lines:?}"
        );
    };
    check(good().set("input", "xml"), &["input=xml", "openfaas", "http"]).await;
    check(good().set("target_url", ""), &["target_url", "orders"]).await;
    check(good().set("target_url", "http://shop/{2}"), &["target_url=http://shop/{2}", "{1}", "orders.*"])
        .await;
    check(good().set("target_url", "ftp://shop/"), &["target_url=ftp://shop/", "http"]).await;
    check(good().set("target_url", "http://u:pw@shop/"), &["target_url=http://***@shop/", "without user"])
        .await;
    check(good().set("target_url", "http://{1}/"), &["target_url", "path"]).await;
    check(good().set("target_method", "CONNECT"), &["target_method=CONNECT", "POST"]).await;
    check(good().set("target_headers", "A: 1\nsecret"), &["target_headers=***", "line 2", "Name: value"])
        .await;
    check(good().set("input", "openfaas"), &["target_url", "input=http"]).await;
    check(
        good()
            .set("queue_name", "a,b")
            .set("nats_filter_subject", "a,b")
            .set("target_url", "http://a,http://b,http://c"),
        &["target_url", "a, b"],
    )
    .await;
    let both = good().set("target_headers", "Authorization: x").set("target_token_file", "/nowhere");
    check(both, &["target_headers", "target_token_file"]).await;
    let mut worker = good().set("target_token_file", "/nowhere/token").spawn();
    assert_eq!(worker.exit().await, 1);
    worker.await_log(&["target_token_file", "/nowhere/token", "expected a file"]).await;
}
