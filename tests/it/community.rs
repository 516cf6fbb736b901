//! Where this worker differs from the community edition's: those lines of the table in docs/migrating.md that
//! no other scenario holds.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};

use crate::support::{Answer, Gateway, Invocation, Nats, Worker};

#[tokio::test]
async fn a_compressed_answer_is_neither_asked_for_nor_unpacked() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&[b'a'; 1000]).unwrap();
    let packed = encoder.finish().unwrap();
    let nats = Nats::start().await;
    let body = packed.clone();
    let gateway =
        Gateway::start(move |_| Answer::ok().header("Content-Encoding", "gzip").body(body.clone())).await;
    let receiver = Gateway::start(|_| Answer::ok()).await;
    let _worker = Worker::of(&nats, &gateway).start().await;
    nats.publish(&Invocation::of("f").callback(&receiver.url())).await;
    let callback = receiver.await_calls(1).await.remove(0);
    assert_eq!(callback.header("content-encoding"), Some("gzip"));
    assert_eq!(callback.request.body, packed);
    let call = gateway.calls().remove(0);
    let names: Vec<_> = call.request.headers.iter().map(|(name, _)| name.to_lowercase()).collect();
    for added_by_others in ["accept", "accept-encoding", "user-agent", "connection"] {
        assert!(!names.contains(&added_by_others.to_owned()), "{names:?}");
    }
}

#[tokio::test]
async fn neither_calls_nor_look_ups_go_through_a_proxy() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let proxy = Gateway::start(|_| Answer::status(418)).await;
    let settings = Worker::of(&nats, &gateway).set("function_lookup", true);
    let settings = ["HTTP_PROXY", "http_proxy", "ALL_PROXY"]
        .into_iter()
        .fold(settings, |settings, name| settings.set(name, proxy.url()));
    let _worker = settings.start().await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    let calls = gateway.await_calls(2).await;
    assert_eq!(
        calls.iter().map(|call| call.target()).collect::<Vec<_>>(),
        ["/system/function/f", "/function/f"]
    );
    nats.await_counts([0, 0, 0]).await;
    assert_eq!(proxy.count(), 0);
}
