//! A message as the gateway writes it, or the same call in another form; with two headers more: its number,
//! and when it was published.

use std::time::{SystemTime, UNIX_EPOCH};

use async_nats::HeaderMap;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;

pub const NUMBER: &str = "x-bench-number";
pub const PUBLISHED: &str = "x-bench-published";

/// The form of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    OpenFaas,
    Http,
    CloudEvents,
}

impl Form {
    /// The worker's setting, if it has to be set.
    pub fn input(self) -> Option<&'static str> {
        match self {
            Self::OpenFaas => None,
            Self::Http => Some("http"),
            Self::CloudEvents => Some("cloudevents"),
        }
    }

    /// The form of this name: the input's.
    pub fn of(name: &str) -> Self {
        let known = [Self::Http, Self::CloudEvents].into_iter().find(|form| form.input() == Some(name));
        known.unwrap_or(Self::OpenFaas)
    }
}

/// All of a message but the two.
pub struct Template {
    form: Form,
    body: Bytes,
    functions: usize,
}

impl Template {
    /// A message whose body has so many bytes, for one of so many functions in turn.
    pub fn of(form: Form, body: usize, functions: usize) -> Self {
        let body = vec![b'x'; body];
        let body = if form == Form::OpenFaas { BASE64_STANDARD.encode(body).into() } else { body.into() };
        Self { form, body, functions }
    }

    /// The message of this number, published now.
    #[allow(clippy::disallowed_methods, reason = "no value here has a line break")]
    pub fn message(&self, number: usize) -> (HeaderMap, Bytes) {
        let mut headers = HeaderMap::new();
        if self.form == Form::OpenFaas {
            return (headers, self.invocation(number).into());
        }
        let (call_id, now) = (call_id(number), now().to_string());
        for (name, value) in [
            ("Accept", "*/*"),
            ("Accept-Encoding", "gzip"),
            ("Content-Type", "text/plain"),
            ("User-Agent", "curl/8.14.1"),
            ("X-Call-Id", &*call_id),
            ("X-Start-Time", &*now),
            (NUMBER, &*number.to_string()),
            (PUBLISHED, &*now),
        ] {
            headers.insert(name, value);
        }
        if self.form == Form::CloudEvents {
            let attributes =
                [("ce-id", &*call_id), ("ce-source", "/bench"), ("ce-type", "b"), ("ce-specversion", "1.0")];
            attributes.iter().for_each(|(name, value)| headers.insert(*name, *value));
        }
        (headers, self.body.clone())
    }

    fn invocation(&self, number: usize) -> String {
        format!(
            concat!(
                r#"{{"Header":{{"Accept":["*/*"],"Accept-Encoding":["gzip"],"Content-Type":["text/plain"],"#,
                r#""User-Agent":["curl/8.14.1"],"X-Call-Id":["{call_id}"],"#,
                r#""X-Start-Time":["{now}"],"{NUMBER}":["{number}"],"{PUBLISHED}":["{now}"]}},"#,
                r#""Host":"gateway:8080","Body":"{body}","Method":"POST","Path":"","QueryString":"","#,
                r#""Function":"bench{function}","Annotations":{{}}}}"#
            ),
            NUMBER = NUMBER,
            PUBLISHED = PUBLISHED,
            function =
                if self.functions > 1 { format!("-{}", number % self.functions) } else { String::new() },
            call_id = call_id(number),
            number = number,
            now = now(),
            body = String::from_utf8_lossy(&self.body),
        )
    }
}

fn call_id(number: usize) -> String {
    format!("{number:08}-7bd1-4ec2-9bf0-c5d3a8f21e60")
}

/// Nanoseconds since 1970: the same clock in all processes.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
