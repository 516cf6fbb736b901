//! The values in the JSON of a message that are more than strings.

use std::{collections::BTreeMap, fmt};

use base64::{
    Engine as _, alphabet,
    engine::{GeneralPurpose, general_purpose::PAD},
};
use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{CallbackUrl, Headers};

/// Room for the headers that a message has as a rule.
const USUAL_HEADERS: usize = 16;
const USUAL_TEXT: usize = 512;
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

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Headers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of lists of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Headers, A::Error> {
                let mut headers = Headers::with_room(USUAL_HEADERS, USUAL_TEXT);
                while object.next_key_seed(Reading(&mut headers, Piece::Name))?.is_some() {
                    object.next_value_seed(Reading(&mut headers, Piece::Values))?;
                }
                Ok(headers.last_of_each())
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

/// A piece of the headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Name,
    Values,
    Value,
}

/// The headers into which a piece is read. Null is no values, or an empty one.
struct Reading<'h>(&'h mut Headers, Piece);

impl<'de> DeserializeSeed<'de> for Reading<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.1 == Piece::Name {
            deserializer.deserialize_str(self)
        } else {
            deserializer.deserialize_option(self)
        }
    }
}

impl<'de> Visitor<'de> for Reading<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.1 == Piece::Values { "a list of strings" } else { "a string" })
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        if self.1 == Piece::Value {
            self.0.add("");
        }
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.1 == Piece::Values {
            deserializer.deserialize_seq(self)
        } else {
            deserializer.deserialize_str(self)
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Reading(&mut *self.0, Piece::Value))?.is_some() {}
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        if self.1 == Piece::Name {
            self.0.begin(text)
        } else {
            self.0.add(text)
        }
        Ok(())
    }
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
