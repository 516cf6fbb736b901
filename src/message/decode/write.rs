//! Writes the JSON of a message.

use std::collections::BTreeMap;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{Headers, Invocation, headers::Values};

/// Writes a message as today's gateways do: in Go's order of keys, without those that are empty.
pub(super) fn write(invocation: &Invocation) -> Vec<u8> {
    // Strings are all there is to write, and memory to write to does not fail.
    serde_json::to_vec(&Written(invocation)).unwrap_or_default()
}

/// The same message for another function; `None` where it is no JSON object. All else stays as it is.
pub(super) fn retargeted(payload: &[u8], function: &str) -> Option<Vec<u8>> {
    let mut fields: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(payload).ok()?;
    fields.retain(|key, _| !key.eq_ignore_ascii_case("function"));
    fields.insert("Function".to_owned(), function.into());
    serde_json::to_vec(&fields).ok()
}

struct Written<'i>(&'i Invocation);

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(invocation) = self;
        let mut object = serializer.serialize_map(None)?;
        if !invocation.headers.is_empty() {
            object.serialize_entry("Header", &InOrder(&invocation.headers))?;
        }
        text(&mut object, "Host", &invocation.host)?;
        text(&mut object, "Body", &BASE64_STANDARD.encode(&invocation.body))?;
        object.serialize_entry("Method", &invocation.method)?;
        text(&mut object, "Path", &invocation.path)?;
        text(&mut object, "QueryString", &invocation.query)?;
        object.serialize_entry("Function", invocation.function.as_str())?;
        text(&mut object, "QueueName", &invocation.queue_name)?;
        texts(&mut object, "Annotations", &invocation.annotations)?;
        texts(&mut object, "Labels", &invocation.labels)?;
        texts(&mut object, "Environment", &invocation.environment)?;
        if let Some(callback) = &invocation.callback {
            object.serialize_entry("CallbackUrl", callback)?;
        }
        object.end()
    }
}

fn text<M: SerializeMap>(object: &mut M, key: &str, text: &str) -> Result<(), M::Error> {
    if text.is_empty() { Ok(()) } else { object.serialize_entry(key, text) }
}

fn texts<M: SerializeMap>(
    object: &mut M,
    key: &str,
    texts: &BTreeMap<String, String>,
) -> Result<(), M::Error> {
    if texts.is_empty() { Ok(()) } else { object.serialize_entry(key, texts) }
}

struct InOrder<'i>(&'i Headers);

impl Serialize for InOrder<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, values)| (name, List(values))))
    }
}

struct List<'i>(Values<'i>);

impl Serialize for List<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.clone())
    }
}
