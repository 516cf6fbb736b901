//! A client that costs next to nothing beside what it measures: its request is made once, as bytes, and goes
//! out on a connection of its own; the answer is read and compared. It speaks HTTP or NATS's own protocol.

use anyhow::{Context as _, Result, bail, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    broker::STREAM,
    message::Template,
    poster::{Post, Way},
};

/// The number of a message in a request as it is made. All numbers have as many digits.
const FIRST: usize = 10_000_000;

pub struct Client {
    stream: TcpStream,
    request: Vec<u8>,
    /// Where the request has the message's number.
    numbers: Vec<usize>,
    /// What was read and is no whole answer yet.
    read: Vec<u8>,
    next: fn(&[u8]) -> Result<Option<Next>>,
}

/// What begins the bytes that were read, and how many of them.
enum Next {
    Answer(usize),
    Ping(usize),
    Notice(usize),
}

impl Client {
    /// Of so many, the one of this number.
    pub async fn connect(post: &Post, template: &Template, client: usize) -> Result<Self> {
        let address = post.address.trim_start_matches("nats://");
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (request, next): (_, fn(&[u8]) -> _) = if post.way == Way::Http {
            (http_request(post, template), http_answer)
        } else {
            let inbox = format!("_INBOX.bench.{client}");
            let greeting =
                r#"CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}"#;
            stream.write_all(format!("{greeting}\r\nSUB {inbox} 1\r\n").as_bytes()).await?;
            (nats_request(post, template, &inbox), nats_answer)
        };
        let sought = FIRST.to_string();
        let is_number = |(_, bytes): &(_, &[u8])| *bytes == sought.as_bytes();
        let numbers = request.windows(sought.len()).enumerate().filter(is_number).map(|(at, _)| at).collect();
        Ok(Self { stream, request, numbers, read: Vec::new(), next })
    }

    /// Sends a message, and awaits that it is stored.
    pub async fn send(&mut self, number: usize) -> Result<()> {
        let digits = (FIRST + number).to_string();
        for at in &self.numbers {
            let place = self.request.get_mut(*at..*at + digits.len()).context("the number has no place")?;
            place.copy_from_slice(digits.as_bytes());
        }
        self.stream.write_all(&self.request).await?;
        loop {
            let next = (self.next)(&self.read);
            match next.with_context(|| String::from_utf8_lossy(&self.read).into_owned())? {
                Some(Next::Answer(length)) => {
                    self.read.drain(..length);
                    return Ok(());
                }
                Some(Next::Ping(length)) => {
                    self.read.drain(..length);
                    self.stream.write_all(b"PONG\r\n").await?;
                }
                Some(Next::Notice(length)) => drop(self.read.drain(..length)),
                None => ensure!(self.stream.read_buf(&mut self.read).await? > 0, "the connection was closed"),
            }
        }
    }
}

/// The headers of a message as both protocols write them.
fn lines(template: &Template) -> (String, Vec<u8>) {
    let (headers, body) = template.message(FIRST);
    let all = headers.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
    let lines = all.map(|(name, value)| format!("{name}: {}\r\n", value.as_str())).collect();
    (lines, body.to_vec())
}

fn http_request(post: &Post, template: &Template) -> Vec<u8> {
    let Post { address, path, delay, .. } = post;
    let (lines, body) = lines(template);
    let delay = if delay.is_empty() { String::new() } else { format!("X-Delay: {delay}\r\n") };
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: {address}\r\n{delay}{lines}Content-Length: {length}\r\n\r\n");
    [head.into_bytes(), body].concat()
}

fn nats_request(post: &Post, template: &Template, inbox: &str) -> Vec<u8> {
    let (lines, body) = lines(template);
    let headers = format!("NATS/1.0\r\n{lines}\r\n");
    let (of_them, of_all) = (headers.len(), headers.len() + body.len());
    let head = format!("HPUB {} {inbox} {of_them} {of_all}\r\n{headers}", post.path);
    [head.into_bytes(), body, b"\r\n".to_vec()].concat()
}

/// The first line, without its end.
fn line(read: &[u8]) -> Option<&str> {
    let end = read.windows(2).position(|bytes| bytes == b"\r\n")?;
    str::from_utf8(read.get(..end)?).ok()
}

fn http_answer(read: &[u8]) -> Result<Option<Next>> {
    let end = read.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let Some((end, head)) = end.and_then(|end| Some((end, read.get(..end)?))) else { return Ok(None) };
    let head = str::from_utf8(head)?;
    ensure!(head.starts_with("HTTP/1.1 202 "), "another status");
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>())
    });
    let whole = end + 4 + length.context("an answer without a length")??;
    let Some(body) = read.get(end + 4..whole) else { return Ok(None) };
    let stored = br#""duplicate":false"#;
    ensure!(body.windows(stored.len()).any(|bytes| bytes == stored), "another answer");
    Ok(Some(Next::Answer(whole)))
}

fn nats_answer(read: &[u8]) -> Result<Option<Next>> {
    let Some(line) = line(read) else { return Ok(None) };
    let behind = line.len() + 2;
    match line.split(' ').next() {
        Some("MSG") => {
            let length: usize = line.rsplit(' ').next().unwrap_or_default().parse()?;
            let whole = behind + length + 2;
            let Some(payload) = read.get(behind..behind + length).filter(|_| read.len() >= whole) else {
                return Ok(None);
            };
            let stored = format!(r#"{{"stream":"{STREAM}","#);
            ensure!(payload.starts_with(stored.as_bytes()), "no PubAck");
            Ok(Some(Next::Answer(whole)))
        }
        Some("PING") => Ok(Some(Next::Ping(behind))),
        Some("INFO" | "PONG") => Ok(Some(Next::Notice(behind))),
        _ => bail!("another answer"),
    }
}
