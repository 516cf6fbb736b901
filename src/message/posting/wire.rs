//! A posting as it is written.

use std::{collections::BTreeMap, fmt};

use base64::{
    display::Base64Display,
    prelude::{BASE64_STANDARD, Engine as _},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Visitor},
};

use super::Posting;
use crate::message::decode::FunctionName;

/// As it is written.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Wire {
    function: String,
    call_id: String,
    url: String,
    headers: Vec<(String, String)>,
    body: Base64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

/// A body, in base64 where it is written. The text, larger than the body, is in no string of its own.
struct Base64(Bytes);

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(&self.0, &BASE64_STANDARD))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Base64;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string of base64")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Base64, E> {
                BASE64_STANDARD
                    .decode(text)
                    .map(|bytes| Base64(bytes.into()))
                    .map_err(|_| E::custom("no base64"))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

impl Wire {
    pub(super) fn of(posting: &Posting) -> Self {
        let text = |value: &HeaderValue| value.as_bytes().iter().map(|byte| char::from(*byte)).collect();
        Self {
            function: posting.function.as_str().to_owned(),
            call_id: posting.call_id.clone(),
            url: posting.url.clone(),
            headers: posting
                .headers
                .iter()
                .map(|(name, value)| (name.as_str().to_owned(), text(value)))
                .collect(),
            body: Base64(posting.body.clone()),
            annotations: posting.annotations.clone(),
        }
    }

    pub(super) fn written(&self) -> Bytes {
        // Strings are all there is to write, and memory to write to does not fail.
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    pub(super) fn posting(self) -> Option<Posting> {
        let mut headers = HeaderMap::new();
        for (name, value) in self.headers {
            let bytes: Vec<u8> = value.chars().map(u8::try_from).collect::<Result<_, _>>().ok()?;
            headers
                .try_append(name.parse::<HeaderName>().ok()?, HeaderValue::from_bytes(&bytes).ok()?)
                .ok()?;
        }
        Some(Posting {
            function: FunctionName::stored(self.function).ok()?,
            call_id: self.call_id,
            url: self.url,
            headers,
            body: self.body.0,
            annotations: self.annotations,
        })
    }
}
