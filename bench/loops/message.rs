//! A message as the gateway writes it, with two headers more: its number, and when it was published.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine as _, prelude::BASE64_STANDARD};

pub const NUMBER: &str = "x-bench-number";
pub const PUBLISHED: &str = "x-bench-published";

/// All of a message but the two.
pub struct Template {
    body: String,
}

impl Template {
    /// A message whose body has so many bytes.
    pub fn of(body: usize) -> Self {
        Self { body: BASE64_STANDARD.encode(vec![b'x'; body]) }
    }

    /// The message of this number, published now.
    pub fn message(&self, number: usize) -> String {
        format!(
            concat!(
                r#"{{"Header":{{"Accept":["*/*"],"Accept-Encoding":["gzip"],"Content-Type":["text/plain"],"#,
                r#""User-Agent":["curl/8.14.1"],"X-Call-Id":["{number:08}-7bd1-4ec2-9bf0-c5d3a8f21e60"],"#,
                r#""X-Start-Time":["{now}"],"{NUMBER}":["{number}"],"{PUBLISHED}":["{now}"]}},"#,
                r#""Host":"gateway:8080","Body":"{body}","Method":"POST","Path":"","QueryString":"","#,
                r#""Function":"bench","Annotations":{{}}}}"#
            ),
            NUMBER = NUMBER,
            PUBLISHED = PUBLISHED,
            number = number,
            now = now(),
            body = self.body,
        )
    }
}

/// Nanoseconds since 1970: the same clock in all processes.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
