//! The harness keeps its own promises.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep},
};

use crate::support::{
    Answer, Call, DEAD, End, Flow, Gateway, Hole, Invocation, Latch, Nats, Proxy, QUEUE, RETRIES, Way,
    eventually_is,
};

#[tokio::test]
async fn a_broker_keeps_its_messages_over_a_kill() {
    let mut nats = Nats::start().await;
    nats.make_queue().await;
    let invocation = Invocation::of("f").call_id("a").body("hello");
    assert_eq!(nats.publish(&invocation).await, 1);
    nats.restart().await;
    eventually_is("the counts", [1, 0, 0], async || nats.counts().await).await;
    let messages = nats.messages(QUEUE).await;
    assert_eq!((messages.len(), messages[0].sequence), (1, 1));
    assert_eq!(messages[0].payload, invocation.to_bytes());
    assert_eq!((nats.count(RETRIES).await, nats.count(DEAD).await), (0, 0));
}

#[tokio::test]
async fn a_broker_lets_the_observer_in_whoever_else_it_keeps_out() {
    let users = r#"authorization { users = [ { user: observer, password: observer }, { user: worker, password: secret } ] }"#;
    let nats = Nats::start_with(users).await;
    let mut watch = nats.watch("a.>").await;
    nats.client().publish("a.b", "hello".into()).await.unwrap();
    assert_eq!(watch.next().await.subject, "a.b");
    assert!(async_nats::connect(nats.url()).await.is_err());
}

#[tokio::test]
async fn a_gateway_answers_by_script_and_records_every_byte_of_a_call() {
    let latch = Latch::new();
    let held = latch.clone();
    let gateway = Gateway::start(move |call| match (call.function(), call.nth) {
        ("held", _) => Answer::ok().held_by(&held),
        ("rude", _) => Answer::hang_up(),
        ("half", _) => Answer::ok().body("abc").broken_off(),
        (_, nth) => Answer::status(200 + u16::try_from(nth).unwrap()).header("A", "b").body("hello"),
    })
    .await;
    let request = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nX-Call-Id: a\r\nB: 2\r\nb: 1\r\nContent-Length: 2\r\n\r\nhi"
        )
    };

    let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
    let expected = "HTTP/1.1 201 Scripted\r\nA: b\r\nContent-Length: 5\r\n\r\nhello";
    let mut answer = vec![0; expected.len()];
    stream.write_all(request("/function/f/a%20b?c").as_bytes()).await.unwrap();
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), expected);
    stream.write_all(request("/function/half").as_bytes()).await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert!(rest.ends_with("Content-Length: 4\r\n\r\nabc"), "{rest}");

    let mut rude = TcpStream::connect(gateway.address()).await.unwrap();
    rude.write_all(request("/function/rude").as_bytes()).await.unwrap();
    assert_eq!(rude.read(&mut [0; 9]).await.unwrap(), 0);

    let mut gone = TcpStream::connect(gateway.address()).await.unwrap();
    gone.write_all(request("/function/held").as_bytes()).await.unwrap();
    gateway.await_calls(4).await;
    drop(gone);
    let calls = gateway.await_ended(4).await;

    assert_eq!(
        (calls[0].target(), calls[0].function(), &*calls[0].request.body),
        ("/function/f/a%20b?c", "f", &b"hi"[..])
    );
    let names: Vec<_> =
        calls[0].request.headers.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(names, ["host=x", "X-Call-Id=a", "B=2", "b=1", "Content-Length=2"]);
    let fates: Vec<_> = calls.iter().map(|call| call.fate().unwrap()).collect();
    assert_eq!(fates, [End::Answered, End::Answered, End::HungUp, End::Cut]);
    assert_eq!(calls.iter().map(|call| call.nth).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(gateway.most_at_once(), 1);
}

#[tokio::test]
async fn a_gateway_that_was_closed_opens_on_the_same_port() {
    let mut gateway = Gateway::start(|_| Answer::ok()).await;
    gateway.close().await;
    assert!(TcpStream::connect(gateway.address()).await.is_err());
    gateway.open().await;
    assert!(TcpStream::connect(gateway.address()).await.is_ok());
}

#[tokio::test]
async fn a_gateway_that_tears_an_answer_resets_the_connection_in_the_middle_of_it() {
    let gateway = Gateway::start(|_| Answer::ok().body("abcdef").torn_after(42)).await;
    let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let error = stream.read_to_end(&mut rest).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(gateway.await_ended(1).await[0].fate(), Some(End::Torn));
}

#[tokio::test]
async fn a_gateway_forgets_the_calls_that_were_taken_and_counts_on() {
    let gateway = Gateway::start(|call| if call.nth == 1 { Answer::ok() } else { Answer::silence() }).await;
    let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\n\r\n").await.unwrap();
    gateway.await_ended(1).await;
    let mut silent = TcpStream::connect(gateway.address()).await.unwrap();
    silent.write_all(b"POST / HTTP/1.1\r\n\r\n").await.unwrap();
    gateway.await_calls(2).await;
    assert_eq!((gateway.take_ended().len(), gateway.take_ended().len(), gateway.count()), (1, 0, 2));
    drop(silent);
    gateway.await_ended(1).await;
    assert_eq!((gateway.take_ended()[0].nth, gateway.running(), gateway.count()), (2, 0, 2));
}

#[tokio::test]
async fn a_proxy_spoils_one_way_and_leaves_the_other() {
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let proxy = Proxy::start(gateway.address().port()).await;
    let connect = async || TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
    let expected = "HTTP/1.1 200 Scripted\r\nContent-Length: 0\r\n\r\n";
    let mut answer = vec![0; expected.len()];

    // 64 bytes a second for the answer: it has to take most of a second, and the request nothing of it.
    let mut slow = connect().await;
    proxy.flow(Way::ToClient, Flow { bytes_per_second: Some(64), ..Flow::default() });
    let start = Instant::now();
    slow.write_all(b"POST / HTTP/1.1\r\n\r\n").await.unwrap();
    gateway.await_calls(1).await;
    slow.read_exact(&mut answer).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(500));
    proxy.pass();

    // What was swallowed never comes, and nothing behind it; a new connection is well.
    let mut half_open = connect().await;
    proxy.flow(Way::ToServer, Flow { hole: Some(Hole::Swallows), ..Flow::default() });
    half_open.write_all(b"POST /swallowed HTTP/1.1\r\n\r\n").await.unwrap();
    sleep(Duration::from_millis(100)).await;
    proxy.pass();
    half_open.write_all(b"POST /behind HTTP/1.1\r\n\r\n").await.unwrap();
    let mut well = connect().await;
    well.write_all(b"POST /well HTTP/1.1\r\n\r\n").await.unwrap();
    well.read_exact(&mut answer).await.unwrap();
    assert_eq!(gateway.calls().iter().map(Call::target).collect::<Vec<_>>(), ["/", "/well"]);

    proxy.reset();
    assert_eq!(half_open.read(&mut answer).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_proxy_delays_pieces_beside_each_other_and_in_order() {
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let proxy = Proxy::start(gateway.address().port()).await;
    proxy.flow(
        Way::ToServer,
        Flow { latency: Duration::from_millis(300), jitter: Duration::from_millis(100), ..Flow::default() },
    );
    let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let start = Instant::now();
    for piece in [&b"POST "[..], b"/in/", b"order ", b"HTTP/1.1\r\n", b"A: b\r\n", b"\r\n"] {
        stream.write_all(piece).await.unwrap();
        sleep(Duration::from_millis(10)).await;
    }
    let calls = gateway.await_calls(1).await;
    let took = start.elapsed();
    assert_eq!((calls[0].target(), calls[0].header("a")), ("/in/order", Some("b")));
    assert!(took >= Duration::from_millis(300), "{took:?}");
}

#[tokio::test]
async fn a_proxy_passes_delays_swallows_and_cuts() {
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let proxy = Proxy::start(gateway.address().port()).await;
    let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
    let expected = "HTTP/1.1 200 Scripted\r\nContent-Length: 0\r\n\r\n";
    let mut answer = vec![0; expected.len()];

    stream.write_all(b"POST / HTTP/1.1\r\n\r\n").await.unwrap();
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), expected);

    proxy.delay(Duration::from_millis(50));
    let start = Instant::now();
    stream.write_all(b"POST / HTTP/1.1\r\n\r\n").await.unwrap();
    stream.read_exact(&mut answer).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(100));

    proxy.black_hole();
    stream.write_all(b"POST / HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(gateway.count(), 2);
    proxy.pass();
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(gateway.count(), 3);

    proxy.refuse();
    assert_eq!(stream.read(&mut answer).await.unwrap(), 0);
    let mut refused = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
    assert_eq!(refused.read(&mut answer).await.unwrap(), 0);
}
