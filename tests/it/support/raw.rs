//! A publisher on a bare socket, for messages that no client library writes.

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::{Nats, patiently};

/// A connection that publishes whatever it is given.
pub struct Raw(BufReader<TcpStream>);

impl Raw {
    pub async fn connect(nats: &Nats) -> Self {
        let mut raw = Self(BufReader::new(TcpStream::connect(("127.0.0.1", nats.port())).await.unwrap()));
        assert!(raw.line().await.starts_with("INFO "));
        let login = r#"{"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"user":"observer","pass":"observer"}"#;
        raw.send(format!("CONNECT {login}\r\nSUB answers 1\r\nPING\r\n").as_bytes()).await;
        while raw.line().await != "PONG" {}
        raw
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).await.unwrap();
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        patiently("a line of the broker's", self.0.read_line(&mut line)).await.unwrap();
        assert!(!line.starts_with("-ERR"), "{line}");
        line.trim_end().to_owned()
    }

    /// Sends a message with this header block.
    pub async fn send_block(&mut self, subject: &[u8], block: &[u8], payload: &[u8]) {
        let sizes = format!(" answers {} {}\r\n", block.len(), block.len() + payload.len());
        self.send(&[b"HPUB ", subject, sizes.as_bytes(), block, payload, b"\r\n"].concat()).await;
    }

    /// Stores a message with this header block, and returns its sequence.
    pub async fn publish(&mut self, subject: &str, block: &[u8], payload: &[u8]) -> u64 {
        self.send_block(subject.as_bytes(), block, payload).await;
        self.stored().await
    }

    /// Stores a message without headers on a subject that may be no text, and returns its sequence.
    pub async fn publish_on(&mut self, subject: &[u8], payload: &[u8]) -> u64 {
        self.send(
            &[b"PUB ", subject, format!(" answers {}\r\n", payload.len()).as_bytes(), payload, b"\r\n"]
                .concat(),
        )
        .await;
        self.stored().await
    }

    async fn stored(&mut self) -> u64 {
        loop {
            let line = self.line().await;
            if line == "PING" {
                self.send(b"PONG\r\n").await;
                continue;
            }
            let size = line.rsplit(' ').next().unwrap().parse().unwrap_or_else(|_| panic!("{line}"));
            let mut answer = vec![0; size];
            self.0.read_exact(&mut answer).await.unwrap();
            self.line().await;
            assert!(line.starts_with("MSG "), "nobody stores it: {line}");
            let answer: Value = serde_json::from_slice(&answer).unwrap();
            return answer["seq"].as_u64().unwrap_or_else(|| panic!("{answer}"));
        }
    }
}
