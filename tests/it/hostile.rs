//! Whoever answers the worker, or writes to it, may do what they like: it costs bounded memory, and the
//! message ends as ever.

use std::time::Duration;

use async_nats::HeaderMap;
use serde_json::json;

use crate::support::{
    Answer, Flood, Flooder, Gateway, Invocation, Nats, QUEUE, Settings, Worker, eventually,
};

/// A worker of functions behind this server, that gives up on a call after two seconds and on a message after
/// one call.
fn impatient(nats: &Nats, functions: &Flooder) -> Settings {
    let settings = Worker::bare().set("nats_url", nats.url()).set("gateway_url", functions.url());
    settings.set("upstream_timeout", "2s").set("max_retry_attempts", 1)
}

/// Eight calls at once of a function that answers like this end with this error, in bounded memory.
async fn dies(flood: Flood, error: &str) {
    die(8, flood, error).await;
}

async fn die(calls: u64, flood: Flood, error: &str) {
    let nats = Nats::start().await;
    let functions = Flooder::start(move |_| flood.clone()).await;
    let worker = impatient(&nats, &functions).start().await;
    let idle = worker.most_rss();
    nats.publish_all((0..calls).map(|n| Invocation::of("f").call_id(&n.to_string()))).await;
    for letter in nats.dead_letters(calls).await {
        assert_eq!(letter.expect("Queue-Worker-Cause"), "exhausted");
        let said = letter.expect("Queue-Worker-Last-Error");
        assert!(said.contains(error), "{said}");
    }
    worker.took_at_most(idle, 32);
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off_in_time() {
    dies(Flood::endless("HTTP/1.1 200 OK\r\n\r\n", vec![b'x'; 1 << 16]), "no answer in time").await;
}

#[tokio::test]
async fn an_answer_of_a_byte_now_and_then_is_cut_off_in_time() {
    let drip = Flood::endless("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", "x");
    dies(drip.every(Duration::from_millis(100)), "no answer in time").await;
    let slow_head = Flood::endless("HTTP/1.1 200 OK\r\nX: ", "x");
    dies(slow_head.every(Duration::from_millis(100)), "no answer in time").await;
}

#[tokio::test]
async fn an_answer_that_takes_its_time_is_read_to_its_end_and_not_kept() {
    let nats = Nats::start().await;
    // A quarter of a gigabyte stands for the ten that a function might answer: what is not kept of one is not
    // kept of the other.
    let times = 4_096;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", times << 16);
    let functions =
        Flooder::start(move |_| Flood::endless(head.clone(), vec![b'x'; 1 << 16]).times(times)).await;
    let worker = impatient(&nats, &functions).set("upstream_timeout", "1m").start().await;
    let idle = worker.most_rss();
    nats.publish(&Invocation::of("f").call_id("a")).await;
    worker.await_log(&["Invoked", "status=200"]).await;
    nats.await_counts([0, 0, 0]).await;
    assert_eq!(functions.said(), times << 16);
    worker.took_at_most(idle, 16);
}

#[tokio::test]
async fn headers_without_end_break_the_connection() {
    let broken = async |first: &'static str, then: String| {
        dies(Flood::endless(first, then), "broken connection").await
    };
    broken("HTTP/1.1 200 OK\r\n", "X: y\r\n".repeat(4_096)).await;
    broken("HTTP/1.1 200 OK\r\nX: ", "y".repeat(1 << 16)).await;
    broken("HTTP/1.1 200 OK\r\n", format!("{}: y\r\n", "X".repeat(1 << 16))).await;
    broken("HTTP/1.1 200 ", "O".repeat(1 << 16)).await;
}

#[tokio::test]
async fn provisional_answers_without_end_are_no_answer() {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n".repeat(1_024);
    // Each takes all the time of the processor that it gets, on a machine that has more to do.
    die(2, Flood::endless("", hints), "no answer in time").await;
}

#[tokio::test]
async fn chunks_that_are_none_break_the_connection() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let broken = async |first: &str, then: &str| {
        dies(Flood::endless([head, first].concat(), then.repeat(1 << 12)), "broken connection").await;
    };
    broken("FFFFFFFFFFFFFFFFF\r\n", "x").await;
    broken("xyz\r\n", "x").await;
    broken("1;", "an-extension-that-never-ends").await;
    broken("1\r\nx\r\n0\r\n", "X-Trailer: y\r\n").await;
    broken("0\r\nX-Trailer: ", "y").await;
    let twice = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n";
    dies(Flood::endless(twice, "x").times(6), "broken connection").await;
}

#[tokio::test]
async fn what_is_compressed_is_passed_on_as_it_is() {
    let nats = Nats::start().await;
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..256 {
        std::io::Write::write_all(&mut bomb, &vec![0; 1 << 20]).unwrap();
    }
    let bomb = bomb.finish().unwrap();
    let answer = Answer::ok().header("Content-Encoding", "gzip").body(bomb.clone());
    let gateway = Gateway::start(move |_| answer.clone()).await;
    let receiver = Gateway::start(|_| Answer::ok()).await;
    let worker = Worker::of(&nats, &gateway).start().await;
    let idle = worker.most_rss();
    nats.publish(&Invocation::of("f").call_id("a").callback(&receiver.url())).await;
    let call = receiver.await_ended(1).await.remove(0);
    assert_eq!((call.header("content-encoding"), &call.request.body[..]), (Some("gzip"), &bomb[..]));
    worker.took_at_most(idle, 16);
}

/// A callback whose receiver answers like this comes to this in the metrics, in bounded memory.
async fn called_back(flood: Flood, result: &str) {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok().body("done")).await;
    let receiver = Flooder::start(move |_| flood.clone()).await;
    let settings = Worker::of(&nats, &gateway).set("callback_timeout", "2s").set("callback_attempts", 1);
    let worker = settings.start().await;
    let idle = worker.most_rss();
    nats.publish_all((0..8).map(|n| Invocation::of("f").call_id(&n.to_string()).callback(&receiver.url())))
        .await;
    eventually(&format!("8 callbacks are {result}"), async || {
        worker.metrics().await.get("queue_worker_callbacks_total", &[("result", result)]) == Some(8.0)
    })
    .await;
    worker.took_at_most(idle, 32);
}

#[tokio::test]
async fn whoever_is_called_back_may_answer_what_they_like() {
    // It is taken, whatever follows.
    called_back(Flood::endless("HTTP/1.1 200 OK\r\n\r\n", vec![b'x'; 1 << 16]), "delivered").await;
    let drip = Flood::endless("HTTP/1.1 200 OK\r\n\r\n", "x");
    called_back(drip.every(Duration::from_millis(100)), "delivered").await;
    called_back(Flood::endless("HTTP/1.1 200 OK\r\n", "X: y\r\n".repeat(4_096)), "failed").await;
    called_back(Flood::endless("HTTP/1.1 200 OK\r\nX: ", "y".repeat(1 << 16)), "failed").await;
    called_back(Flood::endless("", "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1_024)), "failed").await;
    called_back(Flood::endless("HTTP/1.1 200 OK\r\nX: ", "y").every(Duration::from_millis(100)), "failed")
        .await;
}

#[tokio::test]
async fn a_look_up_may_be_answered_with_anything() {
    let description = |text: &str| format!("HTTP/1.1 200 OK\r\n\r\n{text}");
    for flood in [
        Flood::endless(description("{\"annotations\":{\"a\":\""), "x".repeat(1 << 16)),
        Flood::endless(description(""), "[".repeat(1 << 16)),
        Flood::endless(description("{\"annotations\":{\"a\":\""), "x").every(Duration::from_millis(100)),
        Flood::endless("HTTP/1.1 200 OK\r\n", "X: y\r\n".repeat(4_096)),
        Flood::endless("", "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1_024)),
    ] {
        let nats = Nats::start().await;
        let functions = Flooder::start(move |request| match request.start.contains("/system/") {
            true => flood.clone(),
            false => Flood::endless("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\n", "x")
                .times(1),
        })
        .await;
        let worker = impatient(&nats, &functions).set("function_lookup", true).start().await;
        let idle = worker.most_rss();
        nats.publish_all((0..8).map(|n| Invocation::of(&format!("f{n}")).call_id(&n.to_string()))).await;
        nats.await_counts([0, 0, 0]).await;
        worker.took_at_most(idle, 32);
    }
}

#[tokio::test]
async fn a_message_of_nothing_but_parts_takes_no_more_than_some_times_its_size() {
    let nats = Nats::start_with("max_payload: 2097152").await;
    let gateway = Gateway::start(|_| Answer::status(400)).await;
    let worker = Worker::of(&nats, &gateway).set("max_inflight", 1).start().await;
    let idle = worker.most_rss();
    let list = |parts: usize, part: &str| vec![part; parts].join(",");
    let names = |parts: usize| (0..parts).map(|n| format!("\"{n:x}\":[]")).collect::<Vec<_>>().join(",");
    for message in [
        format!(r#"{{"Function":"f","Header":{{"a":[{}]}}}}"#, list(600_000, "\"\"")),
        format!(r#"{{"Function":"f","Header":{{{}}}}}"#, names(170_000)),
        format!(r#"{{"Function":"f","Labels":{{{}}}}}"#, names(170_000).replace("[]", "\"\"")),
        format!(r#"{{"Function":"f","X":[{}]}}"#, list(600_000, "[]")),
        json!({"Function": "f", "Path": "é".repeat(800_000)}).to_string(),
    ] {
        nats.publish_raw(QUEUE, HeaderMap::new(), message).await;
    }
    nats.dead_letters(5).await;
    // A list that grows is copied, and stands in memory twice meanwhile.
    worker.took_at_most(idle, 2 * 64);
}

#[tokio::test]
async fn a_great_many_headers_of_nats_s_own_change_nothing() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::status(400)).await;
    let worker = Worker::of(&nats, &gateway).start().await;
    let mut headers = HeaderMap::new();
    // More than 64 KiB of them no broker takes.
    for n in 0..4_000 {
        headers.append(format!("H{n}"), "");
        headers.append("S", "");
    }
    nats.publish_raw(QUEUE, headers, Invocation::of("f").call_id("a").to_bytes()).await;
    assert_eq!(nats.dead_letter().await.expect("Queue-Worker-Call-Id"), "a");
    assert!(worker.log_with("Panic").is_empty());
}
