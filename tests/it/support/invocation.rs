//! What a gateway publishes for an asynchronous call.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};
use url::Url;

/// A message as the gateway writes it: absent fields are left out, like there.
#[derive(Clone, Debug)]
pub struct Invocation(Map<String, Value>);

impl Invocation {
    /// An invocation of the function, without headers or body.
    pub fn of(function: &str) -> Self {
        let Value::Object(fields) =
            json!({"Header": {}, "Host": "gateway:8080", "Method": "POST", "Function": function})
        else {
            unreachable!("a literal object");
        };
        Self(fields)
    }

    /// Adds a header; a name that is there already gets one more value.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let values = &mut self.0["Header"][name];
        match values {
            Value::Array(values) => values.push(json!(value)),
            _ => *values = json!([value]),
        }
        self
    }

    pub fn call_id(self, id: &str) -> Self {
        self.header("X-Call-Id", id)
    }

    pub fn body(self, body: impl AsRef<[u8]>) -> Self {
        self.field("Body", json!(BASE64_STANDARD.encode(body)))
    }

    /// The path after the function's name, decoded, as it stands in a message.
    pub fn path(self, path: &str) -> Self {
        self.field("Path", json!(path))
    }

    /// `com.openfaas.retry.` is put before the name.
    pub fn retry_annotation(mut self, name: &str, value: &str) -> Self {
        let annotations = self.0.entry("Annotations").or_insert_with(|| json!({}));
        annotations[format!("com.openfaas.retry.{name}")] = json!(value);
        self
    }

    /// The callback, written like Go writes a parsed URL: user and password are lost but in the header.
    pub fn callback(self, url: &str) -> Self {
        let parsed = Url::parse(url).unwrap();
        let host = &parsed[url::Position::BeforeHost..url::Position::AfterPort];
        let user = if parsed.username().is_empty() { Value::Null } else { json!({}) };
        self.header("X-Callback-Url", url).field(
            "CallbackUrl",
            json!({
                "Scheme": parsed.scheme(), "Opaque": "", "User": user, "Host": host,
                "Path": parsed.path(), "RawPath": "", "OmitHost": false, "ForceQuery": false,
                "RawQuery": parsed.query().unwrap_or_default(),
                "Fragment": "", "RawFragment": "",
            }),
        )
    }

    /// Sets any field of the message.
    pub fn field(mut self, name: &str, value: Value) -> Self {
        self.0.insert(name.to_owned(), value);
        self
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&self.0).unwrap()
    }
}
