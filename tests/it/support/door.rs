//! The ways in by HTTP of a worker: `ingress_addr` and `api_addr`.

use std::io;

use serde_json::Value;
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::{Settings, free_port, http, patiently};

/// An answer that came through a door.
pub struct Reply {
    pub status: u16,
    pub message: http::Message,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.message.body).unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.message.header(name)
    }
}

/// Where a worker's ingress, or its API, is.
#[derive(Clone, Copy, Debug)]
pub struct Door {
    port: u16,
}

impl Door {
    pub fn to(settings: Settings) -> (Self, Settings) {
        let port = free_port();
        (Self { port }, settings.set("ingress_addr", format!("127.0.0.1:{port}")))
    }

    /// The same to the API.
    pub fn to_api(settings: Settings) -> (Self, Settings) {
        let port = free_port();
        (Self { port }, settings.set("api_addr", format!("127.0.0.1:{port}")))
    }

    /// Asks the API for a document, which it has.
    pub async fn get(&self, target: &str) -> Value {
        let reply = self.ask("GET", &format!("/api/v1{target}"), &[], b"").await;
        assert_eq!(reply.status, 200, "{target}: {}", String::from_utf8_lossy(&reply.message.body));
        reply.json()
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }

    pub async fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        self.try_to_ask(method, target, headers, body).await.unwrap().unwrap()
    }

    pub async fn post(&self, target: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        self.ask("POST", target, headers, body.as_bytes()).await
    }

    /// The same while nobody may be there; `None` where the connection ends without an answer.
    pub async fn try_to_post(&self, target: &str, headers: &[(&str, &str)], body: &str) -> Option<Reply> {
        self.try_to_ask("POST", target, headers, body.as_bytes()).await.ok().flatten()
    }

    pub async fn try_to_ask(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Option<Reply>> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let mut request =
            format!("{method} {target} HTTP/1.1\r\nHost: ingress\r\nContent-Length: {}\r\n", body.len());
        headers.iter().for_each(|(name, value)| request.push_str(&format!("{name}: {value}\r\n")));
        stream.write_all(&[request.as_bytes(), b"\r\n", body].concat()).await?;
        let mut stream = BufReader::new(stream);
        let message = patiently("an answer", http::read(&mut stream)).await?;
        let status = |message: &http::Message| message.start.split(' ').nth(1).unwrap().parse().unwrap();
        Ok(message.map(|message| Reply { status: status(&message), message }))
    }
}
