//! Reads the JSON of a message.
//!
//! Keys match as Go's decoder matches them, in any case; of two that are the same, the last wins. Null is the
//! same as absent wherever it stands.

use std::fmt;

use serde::{
    Deserializer,
    de::{DeserializeSeed, MapAccess, Visitor},
};
use serde_json::{de::Read, error::Category};

use super::{
    FunctionName, Headers, Invocation, Undecodable,
    fields::{Body, Callback, Key, Texts, skip, value},
};

/// The fields of a message, before any of them is checked.
#[derive(Default)]
pub(super) struct Wire {
    pub(super) function: String,
    pub(super) path: String,
    query: String,
    headers: Headers,
    body: Body,
    callback: Callback,
    annotations: Texts,
    labels: Texts,
    environment: Texts,
    method: String,
    host: String,
    queue_name: String,
}

impl Wire {
    pub(super) fn call_id(&self) -> Option<String> {
        self.headers.usable("X-Call-Id").map(str::to_owned)
    }

    pub(super) fn into_invocation(self, function: FunctionName) -> Invocation {
        Invocation {
            function,
            url: None,
            path: self.path,
            query: self.query,
            headers: self.headers,
            event: None,
            body: self.body.0,
            callback: self.callback.0,
            annotations: self.annotations.0,
            labels: self.labels.0,
            environment: self.environment.0,
            method: self.method,
            host: self.host,
            queue_name: self.queue_name,
        }
    }
}

/// Reads a payload, or says what is wrong with it and whose it was, as far as that can be told.
pub(super) fn read(payload: &[u8]) -> Result<Wire, Undecodable> {
    let mut wire = Wire::default();
    let mut reading = Key::default();
    let Err(error) = fill(&mut wire, payload, None, &mut reading) else {
        return Ok(wire);
    };
    // A message is worth telling apart even when it cannot be used, so each of these two is looked for on its
    // own.
    let mut known = Wire::default();
    for key in ["function", "header"].map(Key::from) {
        let _ = fill(&mut known, payload, Some(key.bytes()), &mut Key::default());
    }
    let what = match error.classify() {
        Category::Data => complaint(reading.bytes()),
        Category::Eof => "the message is cut off",
        Category::Syntax | Category::Io => "the message is not valid JSON",
    };
    Err(Undecodable {
        // The parser's own text may quote the message, so that only its position is used.
        reason: format!("{what}, at line {} column {}", error.line(), error.column()),
        call_id: known.call_id(),
        function: known.function.parse().ok(),
        event: None,
    })
}

fn fill(wire: &mut Wire, payload: &[u8], only: Option<&[u8]>, reading: &mut Key) -> serde_json::Result<()> {
    let fill = Fill { wire, only, reading };
    match str::from_utf8(payload) {
        // Looked at once as a whole, and not each text of it by itself.
        Ok(payload) => fill.all_of(serde_json::Deserializer::from_str(payload)),
        Err(_) => fill.all_of(serde_json::Deserializer::from_slice(payload)),
    }
}

/// The complaint when the value of that key, in lower case, has not the right type.
fn complaint(key: &[u8]) -> &'static str {
    match key {
        b"function" => "Function is not a string",
        b"path" => "Path is not a string",
        b"querystring" => "QueryString is not a string",
        b"header" => "Header is not an object of lists of strings",
        b"body" => "Body is not a string of standard base64",
        b"callbackurl" => "CallbackUrl is not an object of the parts of a URL",
        b"annotations" => "Annotations is not an object of strings",
        b"labels" => "Labels is not an object of strings",
        b"environment" => "Environment is not an object of strings",
        b"method" => "Method is not a string",
        b"host" => "Host is not a string",
        b"queuename" => "QueueName is not a string",
        _ => "the message is not a JSON object",
    }
}

/// Fills a [`Wire`] in place, so that what was read before an error is kept.
struct Fill<'w> {
    wire: &'w mut Wire,
    /// Only this key, in lower case, is read.
    only: Option<&'w [u8]>,
    /// The key whose value was read last.
    reading: &'w mut Key,
}

impl Fill<'_> {
    fn all_of<'de, R: Read<'de>>(self, mut json: serde_json::Deserializer<R>) -> serde_json::Result<()> {
        self.deserialize(&mut json)?;
        json.end()
    }
}

impl<'de> DeserializeSeed<'de> for Fill<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fill<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        let wire = self.wire;
        while let Some(key) = object.next_key::<Key>()? {
            *self.reading = key;
            match key.bytes() {
                key if self.only.is_some_and(|only| only != key) => skip(&mut object)?,
                b"function" => wire.function = value(&mut object)?,
                b"path" => wire.path = value(&mut object)?,
                b"querystring" => wire.query = value(&mut object)?,
                b"header" => wire.headers = value(&mut object)?,
                b"body" => wire.body = value(&mut object)?,
                b"callbackurl" => wire.callback = value(&mut object)?,
                b"annotations" => wire.annotations = value(&mut object)?,
                b"labels" => wire.labels = value(&mut object)?,
                b"environment" => wire.environment = value(&mut object)?,
                b"method" => wire.method = value(&mut object)?,
                b"host" => wire.host = value(&mut object)?,
                b"queuename" => wire.queue_name = value(&mut object)?,
                _ => skip(&mut object)?,
            }
        }
        Ok(())
    }
}
