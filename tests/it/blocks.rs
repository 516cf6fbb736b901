//! The worker's own reader of header blocks against the client library's: a broker of a few lines sends the
//! blocks, and the client reads on or is gone.

use async_nats::{Client, ConnectOptions, Message, Subscriber};
use futures_util::StreamExt;
use queue_worker::message::header_block;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::support::patiently;

/// What is put into the blocks, one at a time.
const ODD: [&[u8]; 8] = [b"\r", b"\n", b" ", b":", b"\0", b"\xff", b"\xc2\x85", b"\xe2\x80\xa8"];

/// A client, and the broker's end of its connection.
struct Session {
    client: BufReader<TcpStream>,
    messages: Subscriber,
    /// Ends with the session.
    _client: Client,
}

impl Session {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("nats://{}", listener.local_addr().unwrap());
        let serve = async {
            let mut client = BufReader::new(listener.accept().await.unwrap().0);
            client
                .get_mut()
                .write_all(b"INFO {\"server_id\":\"a\",\"headers\":true,\"max_payload\":1048576}\r\n")
                .await
                .unwrap();
            while line(&mut client).await.as_deref() != Some("PING") {}
            client.get_mut().write_all(b"PONG\r\n").await.unwrap();
            client
        };
        let (client, mut end) = tokio::join!(ConnectOptions::new().max_reconnects(1).connect(url), serve);
        let client = client.unwrap();
        let messages = client.subscribe("s").await.unwrap();
        while !line(&mut end).await.unwrap().starts_with("SUB ") {}
        Self { client: end, messages, _client: client }
    }

    /// What the client makes of a message with this block; nothing where it is gone. It closes its socket
    /// only when it gives up connecting again.
    async fn read(&mut self, block: &[u8]) -> Option<Message> {
        let sizes = format!("HMSG s 1 {0} {0}\r\n", block.len());
        self.client.get_mut().write_all(&[sizes.as_bytes(), block, b"\r\nPING\r\n"].concat()).await.unwrap();
        while line(&mut self.client).await? != "PONG" {}
        Some(patiently("the message", self.messages.next()).await.unwrap())
    }
}

async fn line(client: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    let read = patiently("a line of the client's", client.read_line(&mut line)).await;
    (read.unwrap_or(0) > 0).then(|| line.trim_end().to_owned())
}

#[tokio::test]
async fn the_workers_reader_takes_and_refuses_what_the_client_library_does() {
    let corpus = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/block")).unwrap();
    let mut session = Session::open().await;
    let (mut taken, mut refused) = (0, 0);
    for file in corpus {
        let block = std::fs::read(file.unwrap().path()).unwrap();
        for (nth, odd) in (0..=block.len()).flat_map(|at| ODD.map(|odd| (at, odd))).enumerate() {
            // A prime, so that each place gets some of them and each of them some of the places.
            if nth % 3 != 0 {
                continue;
            }
            let (before, after) = block.split_at(odd.0);
            let block = [before, odd.1, after].concat();
            let message = session.read(&block).await;
            assert_eq!(
                header_block::read(&block).ok(),
                message.as_ref().map(|message| message.headers.clone().unwrap()),
                "{}",
                block.escape_ascii()
            );
            if message.is_some() {
                taken += 1;
            } else {
                refused += 1;
                session = Session::open().await;
            }
        }
    }
    assert!(taken > 100 && refused > 100, "{taken} were taken, {refused} refused");
}
