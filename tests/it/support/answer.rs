//! What a scripted gateway says.

use std::{fmt::Write as _, time::Duration};

use bytes::Bytes;
use tokio::time::sleep;

use super::Latch;

/// What the script says to a call.
#[derive(Clone, Debug)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Bytes,
    after: Duration,
    held: Option<Latch>,
    pub manner: Manner,
}

/// How an answer goes out.
#[derive(Clone, Debug)]
pub enum Manner {
    Whole,
    BrokenOff,
    /// So many bytes of the head and the body, and then a reset.
    Torn(usize),
    HangUp,
    Silence,
}

impl Answer {
    pub fn status(status: u16) -> Self {
        let (headers, body) = (Vec::new(), Bytes::new());
        Self { status, headers, body, after: Duration::ZERO, held: None, manner: Manner::Whole }
    }

    pub fn ok() -> Self {
        Self::status(200)
    }

    /// Closes the connection without an answer.
    pub fn hang_up() -> Self {
        Self { manner: Manner::HangUp, ..Self::ok() }
    }

    /// Never answers; the call ends when the caller goes away.
    pub fn silence() -> Self {
        Self { manner: Manner::Silence, ..Self::ok() }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Promises one byte more than the body has, and closes the connection instead of sending it.
    pub fn broken_off(self) -> Self {
        Self { manner: Manner::BrokenOff, ..self }
    }

    /// Sends only so many bytes, head included, and resets the connection.
    pub fn torn_after(self, bytes: usize) -> Self {
        Self { manner: Manner::Torn(bytes), ..self }
    }

    /// Waits before the answer.
    pub fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }

    /// Waits until the latch is open.
    pub fn held_by(self, latch: &Latch) -> Self {
        Self { held: Some(latch.clone()), ..self }
    }

    /// Awaits the moment to answer, which may never come.
    pub async fn due(&self) {
        sleep(self.after).await;
        if let Some(latch) = &self.held {
            latch.opened().await;
        }
        if let Manner::Silence = self.manner {
            std::future::pending::<()>().await;
        }
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let missing = usize::from(matches!(self.manner, Manner::BrokenOff));
        let mut head = format!("HTTP/1.1 {} Scripted\r\n", self.status);
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if self.status != 204 && self.status != 304 {
            let _ = write!(head, "Content-Length: {}\r\n", self.body.len() + missing);
        }
        head.push_str("\r\n");
        let mut bytes = [head.as_bytes(), &self.body].concat();
        if let Manner::Torn(length) = self.manner {
            bytes.truncate(length);
        }
        bytes
    }
}
