//! Answers that are odd and can be read: what curl and Go's client take for an answer is one, and not a
//! broken connection.

use crate::support::{Answer, Flood, Flooder, Gateway, Invocation, Nats, Worker};

/// What a server says, and the status and the header `x-a` that the caller hears of.
type Odd = (&'static [u8], u16, Option<&'static str>);

const OK: &str = "ok";

const ODD: &[Odd] = &[
    // A line that goes on in the next one.
    (b"HTTP/1.1 200 OK\r\nX-A: one\r\n two\r\nContent-Length: 2\r\n\r\nok", 200, Some("one two")),
    (
        b"HTTP/1.1 200 OK\r\nX-A: one\r\n\ttwo\r\n   three\r\nContent-Length: 2\r\n\r\nok",
        200,
        Some("one two three"),
    ),
    (b"HTTP/1.1 200 OK\r\nX-A:\r\n two\r\nContent-Length: 2\r\n\r\nok", 200, Some("two")),
    (b"HTTP/1.1 200 OK\nX-A: one\n two\nContent-Length: 2\n\nok", 200, Some("one two")),
    (b"HTTP/1.1 200 OK\r\nContent-Length:\r\n 2\r\n\r\nok", 200, None),
    // Names that are none.
    (b"HTTP/1.1 200 OK\r\nX A: one\r\nX-A: two\r\nContent-Length: 2\r\n\r\nok", 200, Some("two")),
    (b"HTTP/1.1 200 OK\r\nX-A : one\r\nContent-Length: 2\r\n\r\nok", 200, Some("one")),
    (b"HTTP/1.1 200 OK\r\nX-A\t: one\r\nContent-Length : 2\r\n\r\nok", 200, Some("one")),
    (b"HTTP/1.1 200 OK\r\n: one\r\nX-A: two\r\nContent-Length: 2\r\n\r\nok", 200, Some("two")),
    (
        b"HTTP/1.1 200 OK\r\nX(a): one\r\nX@b: 1\r\nX[c]: 1\r\nX-A: two\r\nContent-Length: 2\r\n\r\nok",
        200,
        Some("two"),
    ),
    (b"HTTP/1.1 200 OK\r\nX-\xc3\xa9: one\r\nX-A: two\r\nContent-Length: 2\r\n\r\nok", 200, Some("two")),
    (b"HTTP/1.1 200 OK\r\nNonsense\r\nX-A: two\r\nContent-Length: 2\r\n\r\nok", 200, Some("two")),
    (b"HTTP/1.1 200 OK\r\nX B: 1\r\n 2\r\nX-A: two\r\nContent-Length: 2\r\n\r\nok", 200, Some("two")),
    // Values.
    (b"HTTP/1.1 200 OK\r\nX-A: \xc3\xa9t\xc3\xa9\r\nContent-Length: 2\r\n\r\nok", 200, Some("\u{e9}t\u{e9}")),
    (b"HTTP/1.1 200 OK\r\nX-B: a\x01b\r\nX-A: two\r\nContent-Length: 2\r\n\r\nok", 200, Some("two")),
    (b"HTTP/1.1 200 OK\r\nX-A:\r\nContent-Length: 2\r\n\r\nok", 200, Some("")),
    // The first line.
    (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", 200, None),
    (b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok", 200, None),
    (b"HTTP/1.1 200 \xc3\xa9t\xc3\xa9\r\nContent-Length: 2\r\n\r\nok", 200, None),
    (b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, None),
    (b"HTTP/1.1 299 Odd\r\nContent-Length: 2\r\n\r\nok", 299, None),
    (b"HTTP/1.1 600 Odd\r\nContent-Length: 2\r\n\r\nok", 600, None),
    (b"HTTP/1.1 999 Odd\r\nContent-Length: 2\r\n\r\nok", 999, None),
    // How the body ends.
    (b"HTTP/1.0 200 OK\r\n\r\nok", 200, None),
    (b"HTTP/1.1 200 OK\r\n\r\nok", 200, None),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", 200, None),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", 200, None),
    (
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        200,
        None,
    ),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n002 ;a=\"b\"\r\nok\r\n000\r\n\r\n", 200, None),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-T: 1\r\n\r\n", 200, None),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX T: 1\r\n\r\n", 200, None),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-T: 1\r\n 2\r\n\r\n", 200, None),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more", 200, None),
    (b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n", 204, None),
    (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", 304, None),
    // What comes before the answer.
    (b"HTTP/1.1 100\r\nX A: b\r\n c\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, None),
];

/// Says to each request what stands at the number in its path.
async fn servers() -> Flooder {
    Flooder::start(|request| {
        let number =
            request.start.split(['/', ' ']).find_map(|part| part.strip_prefix('n')?.parse::<usize>().ok());
        Flood::endless(ODD[number.unwrap()].0, "").times(0)
    })
    .await
}

#[tokio::test]
async fn what_other_clients_read_counts_as_an_answer() {
    let nats = Nats::start().await;
    let functions = servers().await;
    let receiver = Gateway::start(|_| Answer::ok()).await;
    let settings = Worker::bare().set("nats_url", nats.url()).set("gateway_url", functions.url());
    let _worker = settings.set("max_retry_attempts", 1).start().await;
    let numbered = (0..ODD.len()).map(|n| (n, format!("n{n}")));
    nats.publish_all(
        numbered.map(|(_, name)| Invocation::of(&name).call_id(&name).callback(&receiver.url())),
    )
    .await;
    let calls = receiver.await_ended(ODD.len()).await;
    for (n, (said, status, header)) in ODD.iter().enumerate() {
        let said = String::from_utf8_lossy(said);
        let call = calls
            .iter()
            .find(|call| call.id() == format!("n{n}"))
            .unwrap_or_else(|| panic!("{said:?} is not called back"));
        assert_eq!(call.header("x-function-status"), Some(&*status.to_string()), "{said:?}");
        assert_eq!(call.header("x-a"), *header, "{said:?}");
        let expected = if matches!(status, 204 | 304) { "" } else { OK };
        assert_eq!(call.request.body, expected, "{said:?}");
    }
}

#[tokio::test]
async fn a_receiver_of_callbacks_may_answer_as_oddly() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let worker = Worker::of(&nats, &gateway).set("callback_attempts", 1).start().await;
    // One each: what closes a connection after its answer may do so just as the next callback uses it again.
    let mut receivers = Vec::new();
    for n in (0..ODD.len()).filter(|n| (200..300).contains(&ODD[*n].1)) {
        receivers.push((format!("n{n}"), servers().await));
    }
    nats.publish_all(receivers.iter().map(|(name, receiver)| {
        Invocation::of("f").call_id(name).callback(&format!("{}/{name}", receiver.url()))
    }))
    .await;
    nats.await_counts([0, 0, 0]).await;
    let delivered = worker.metrics().await.get("queue_worker_callbacks_total", &[("result", "delivered")]);
    assert_eq!(delivered, Some(receivers.len() as f64));
}
