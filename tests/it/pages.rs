//! The worker's own pages, before those who do not come to read them.

use std::{fs, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};

use crate::support::{Answer, Gateway, Nats, Worker, eventually, patiently};

/// The files that the worker has open, its connections among them.
fn open_files(worker: &Worker) -> usize {
    fs::read_dir(format!("/proc/{}/fd", worker.id())).unwrap().count()
}

#[tokio::test]
async fn those_who_only_hold_connections_keep_nobody_from_asking() {
    let (nats, gateway) = (Nats::start().await, Gateway::start(|_| Answer::ok()).await);
    let worker = Worker::of(&nats, &gateway).start().await;
    let (idle, files) = (worker.most_rss(), open_files(&worker));
    let mut held = Vec::new();
    for n in 0..500 {
        let mut stream = TcpStream::connect(("127.0.0.1", worker.port())).await.unwrap();
        // Some say nothing, some never end their request, some never read the answers.
        let said: Vec<u8> = match n % 3 {
            0 => Vec::new(),
            1 => b"GET /metrics HTTP/1.1\r\nHost: w".to_vec(),
            _ => b"GET /metrics HTTP/1.1\r\nHost: w\r\n\r\n".repeat(50),
        };
        // The worker may have had enough of it already.
        let _ = stream.write_all(&said).await;
        held.push(stream);
    }
    eventually("few connections are left", async || open_files(&worker) < files + 50).await;
    assert_eq!(worker.readyz().await, Some((200, "ready".to_owned())));
    worker.took_at_most(idle, 32);
}

#[tokio::test]
async fn a_request_without_end_is_refused() {
    let (nats, gateway) = (Nats::start().await, Gateway::start(|_| Answer::ok()).await);
    let worker = Worker::of(&nats, &gateway).start().await;
    let idle = worker.most_rss();
    for (first, then) in [
        ("GET /metrics HTTP/1.1\r\nX: ", "y".repeat(1 << 16)),
        ("GET /metrics HTTP/1.1\r\n", "X: y\r\n".repeat(4_096)),
        ("GET /", "metrics/".repeat(1 << 12)),
        ("POST /healthz HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "1000\r\nx".repeat(1 << 12)),
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", worker.port())).await.unwrap();
        stream.write_all(first.as_bytes()).await.unwrap();
        // It is over when the worker closes the connection, whatever it said before.
        patiently("the connection is closed", async {
            while stream.write_all(then.as_bytes()).await.is_ok() {}
        })
        .await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    assert_eq!(worker.readyz().await, Some((200, "ready".to_owned())));
    worker.took_at_most(idle, 16);
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_asked_is_closed() {
    let (nats, gateway) = (Nats::start().await, Gateway::start(|_| Answer::ok()).await);
    let worker = Worker::of(&nats, &gateway).start().await;
    let mut slow = TcpStream::connect(("127.0.0.1", worker.port())).await.unwrap();
    slow.write_all(b"GET /metrics HTTP/1.1\r\nX: ").await.unwrap();
    let (mut reading, mut writing) = slow.into_split();
    let drip = async {
        while writing.write_all(b"y").await.is_ok() {
            sleep(Duration::from_millis(200)).await;
        }
    };
    let closed = async { drop(reading.read_to_end(&mut Vec::new()).await) };
    patiently("the connection is closed", async {
        tokio::select! {
            () = drip => {}
            () = closed => {}
        }
    })
    .await;
}
