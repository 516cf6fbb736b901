//! Just enough HTTP/1.1, byte for byte: a library would tidy up what the scenarios compare.

use std::io;

use bytes::Bytes;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::patiently;

/// A request, or an answer, as it came in.
#[derive(Clone, Debug)]
pub struct Message {
    /// The first line.
    pub start: String,
    /// Names as they were written, in order.
    pub headers: Vec<(String, String)>,
    /// The body, its framing removed.
    pub body: Bytes,
}

impl Message {
    /// The first value of the header, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// Reads one message framed by Content-Length; `None` at the end of the connection.
pub async fn read(source: &mut BufReader<TcpStream>) -> io::Result<Option<Message>> {
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        if source.read_until(b'\n', &mut line).await? == 0 {
            return Ok(None);
        }
        match String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']) {
            "" => break,
            text => lines.push(text.to_owned()),
        }
    }
    let mut lines = lines.into_iter();
    let start = lines.next().unwrap_or_default();
    let headers = lines
        .map(|line| {
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            (name.to_owned(), value.trim().to_owned())
        })
        .collect();
    let mut message = Message { start, headers, body: Bytes::new() };
    if message.header("transfer-encoding").is_some() {
        return Err(io::Error::other("a chunked message: the harness reads only bodies of known length"));
    }
    let length = message.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    source.read_exact(&mut body).await?;
    message.body = body.into();
    Ok(Some(message))
}

/// The status and the body behind a path of a local server, or why not.
pub async fn get(port: u16, path: &str) -> io::Result<(u16, String)> {
    patiently(&format!("an answer of {path}"), async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        // HTTP/1.0 keeps the server from chunking, and ends the answer with the connection.
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("no HTTP answer"))?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Ok((status, body.to_owned()))
    })
    .await
}
