//! The values in the JSON of a message that are more than strings.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use base64::{
    Engine as _, alphabet,
    engine::{GeneralPurpose, general_purpose::PAD},
};
use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::CallbackUrl;

/// The length of the longest key that is known, in bytes.
const LONGEST: usize = 11;

/// A key in lower case: keys match in any. A longer one, which nobody knows, is empty.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Key {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Key {
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        let mut key = Self::default();
        if text.len() <= LONGEST {
            key.length = text.len();
            let lower = text.bytes().map(|byte| byte.to_ascii_lowercase());
            key.bytes.iter_mut().zip(lower).for_each(|(place, byte)| *place = byte);
        }
        key
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Key, E> {
                Ok(text.into())
            }
        }

        deserializer.deserialize_str(Text)
    }
}

/// The value of a key, where null is the same as empty.
pub(super) fn value<'de, A: MapAccess<'de>, T: Deserialize<'de> + Default>(
    object: &mut A,
) -> Result<T, A::Error> {
    object.next_value::<Option<T>>().map(Option::unwrap_or_default)
}

/// Passes over the value of a key.
pub(super) fn skip<'de, A: MapAccess<'de>>(object: &mut A) -> Result<(), A::Error> {
    object.next_value::<IgnoredAny>().map(|_| ())
}

/// An object of strings.
#[derive(Default)]
pub(super) struct Texts(pub(super) BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = BTreeMap::<String, Option<String>>::deserialize(deserializer)?;
        Ok(Self(texts.into_iter().map(|(key, text)| (key, text.unwrap_or_default())).collect()))
    }
}

/// Headers, in the order of the message.
#[derive(Default)]
pub(super) struct Headers(pub(super) Vec<(String, Vec<String>)>);

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Headers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of lists of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Headers, A::Error> {
                let mut headers: Vec<(String, Vec<String>)> = Vec::new();
                while let Some(name) = object.next_key::<String>()? {
                    headers.push((name, value::<_, Values>(&mut object)?.0));
                }
                Ok(Headers(last_of_each(headers)))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

/// The values of a header. Nearly all have one.
#[derive(Default)]
struct Values(Vec<String>);

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;

        impl<'de> Visitor<'de> for Texts {
            type Value = Values;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of strings")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Values, A::Error> {
                let mut values = Vec::with_capacity(1);
                while let Some(text) = list.next_element::<Option<String>>()? {
                    values.push(text.unwrap_or_default());
                }
                Ok(Values(values))
            }
        }

        deserializer.deserialize_seq(Texts)
    }
}

/// The headers with the last values of each name, in the place of its first. Hardly any message has two of a
/// name, and that is soon seen.
fn last_of_each(headers: Vec<(String, Vec<String>)>) -> Vec<(String, Vec<String>)> {
    let mut names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    if names.windows(2).all(|pair| pair.first() != pair.last()) {
        return headers;
    }
    let (mut places, mut kept) = (HashMap::new(), Vec::<(String, Vec<String>)>::new());
    for (name, values) in headers {
        let place = *places.entry(name.clone()).or_insert(kept.len());
        match kept.get_mut(place) {
            Some(earlier) => earlier.1 = values,
            None => kept.push((name, values)),
        }
    }
    kept
}

/// A body in standard base64. Like Go's decoder, this one does not mind line breaks and odd last bits.
#[derive(Default)]
pub(super) struct Body(pub(super) Bytes);

const LENIENT: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, PAD.with_decode_allow_trailing_bits(true));

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Base64;

        impl Visitor<'_> for Base64 {
            type Value = Body;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string of standard base64")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Body, E> {
                // Nearly all are as the standard wants them, and large ones are read several times as fast
                // then.
                let decoded = base64_simd::STANDARD
                    .decode_to_vec(text)
                    .or_else(|_| LENIENT.decode(text.replace(['\r', '\n'], "")));
                decoded.map(|bytes| Body(bytes.into())).map_err(|_| E::custom("no standard base64"))
            }
        }

        deserializer.deserialize_str(Base64)
    }
}

/// The callback URL. One without any parts is none.
#[derive(Default)]
pub(super) struct Callback(pub(super) Option<CallbackUrl>);

impl<'de> Deserialize<'de> for Callback {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Parts;

        impl<'de> Visitor<'de> for Parts {
            type Value = Callback;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of the parts of a URL")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Callback, E> {
                if text.is_empty() { Ok(Callback(None)) } else { Err(E::custom("no object")) }
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Callback, A::Error> {
                let mut url = CallbackUrl::default();
                while let Some(key) = object.next_key::<Key>()? {
                    match key.bytes() {
                        b"scheme" => url.scheme = value(&mut object)?,
                        b"opaque" => url.opaque = value(&mut object)?,
                        b"user" => url.user = object.next_value::<Option<IgnoredAny>>()?.is_some(),
                        b"host" => url.host = value(&mut object)?,
                        b"path" => url.path = value(&mut object)?,
                        b"rawpath" => url.raw_path = value(&mut object)?,
                        b"omithost" => url.omit_host = value(&mut object)?,
                        b"forcequery" => url.force_query = value(&mut object)?,
                        b"rawquery" => url.raw_query = value(&mut object)?,
                        b"fragment" => url.fragment = value(&mut object)?,
                        b"rawfragment" => url.raw_fragment = value(&mut object)?,
                        _ => skip(&mut object)?,
                    }
                }
                Ok(Callback(Some(url).filter(|url| *url != CallbackUrl::default())))
            }
        }

        deserializer.deserialize_any(Parts)
    }
}
