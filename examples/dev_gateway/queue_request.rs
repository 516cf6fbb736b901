//! The message that a gateway queues for a call: `QueueRequest` of OpenFaaS's faas-provider (types/queue.go),
//! byte for byte as Go writes it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use std::collections::BTreeMap;
use url::{ParseError, Position, Url};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct QueueRequest {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    header: BTreeMap<String, Vec<String>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    host: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    body: String,
    method: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    path: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    query_string: String,
    function: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    callback_url: Option<CallbackUrl>,
}

impl QueueRequest {
    /// The message for a request to `/async-function/{function}{path}?{query}`; `path` as it came, still
    /// encoded. The error says what is wrong with the callback's URL.
    pub fn new(
        function: &str,
        path: &str,
        query: Option<&str>,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Self, ParseError> {
        // Go's JSON puts the replacement character for what is no UTF-8.
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let mut header = BTreeMap::<String, Vec<String>>::new();
        for (name, value) in headers {
            // Go's server takes these out of the headers: they are fields of its request.
            if !matches!(name.as_str(), "host" | "transfer-encoding") {
                header.entry(canonical(name.as_str())).or_default().push(text(value));
            }
        }
        let callback = headers.get("x-callback-url").map(text).filter(|url| !url.is_empty());
        Ok(Self {
            header,
            host: headers.get("host").map(text).unwrap_or_default(),
            body: STANDARD.encode(body),
            method: "POST",
            path: percent_decode_str(path).decode_utf8_lossy().into_owned(),
            query_string: query.unwrap_or_default().to_owned(),
            function: function.to_owned(),
            callback_url: callback.as_deref().map(CallbackUrl::parse).transpose()?,
        })
    }

    /// The JSON, with `&`, `<` and `>` escaped as Go escapes them. They stand inside strings only, so
    /// replacing is enough.
    pub fn to_json(&self) -> String {
        let json = serde_json::to_string(self).unwrap_or_default();
        json.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e")
    }
}

/// A URL as Go's structure for one, which is what the message holds; default ports and an empty path look
/// different there.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct CallbackUrl {
    scheme: String,
    opaque: &'static str,
    /// Go's has private fields only: all that arrives of a user and password is that there was one.
    user: Option<User>,
    host: String,
    path: String,
    raw_path: String,
    omit_host: bool,
    force_query: bool,
    raw_query: String,
    fragment: String,
    raw_fragment: &'static str,
}

#[derive(Serialize)]
struct User {}

impl CallbackUrl {
    fn parse(text: &str) -> Result<Self, ParseError> {
        let url = Url::parse(text)?;
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let encoded = url.path().contains('%');
        Ok(Self {
            scheme: url.scheme().to_owned(),
            opaque: "",
            user: (!url.username().is_empty() || url.password().is_some()).then_some(User {}),
            host: url[Position::BeforeHost..Position::AfterPort].to_owned(),
            path: decoded(url.path()),
            raw_path: if encoded { url.path().to_owned() } else { String::new() },
            omit_host: false,
            force_query: url.query() == Some(""),
            raw_query: url.query().unwrap_or_default().to_owned(),
            fragment: decoded(url.fragment().unwrap_or_default()),
            raw_fragment: "",
        })
    }
}

/// `x-call-id` as `X-Call-Id`: the way Go's net/http writes a header's name.
pub fn canonical(name: &str) -> String {
    let mut start = true;
    let letter = |c: char| {
        let written = if start { c.to_ascii_uppercase() } else { c };
        start = c == '-';
        written
    };
    name.chars().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    /// Makes the captured message again from the request that a gateway made it of.
    fn check(file: &str, path: &str, query: Option<&str>) {
        let captured = std::fs::read_to_string(format!("tests/testdata/{file}")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&captured).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("host", json["Host"].as_str().unwrap().parse().unwrap());
        headers.insert("transfer-encoding", HeaderValue::from_static("chunked"));
        for (name, values) in json["Header"].as_object().unwrap() {
            for value in values.as_array().unwrap() {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                headers.append(name, value.as_str().unwrap().parse().unwrap());
            }
        }
        let body = STANDARD.decode(json["Body"].as_str().unwrap_or_default()).unwrap();
        let function = json["Function"].as_str().unwrap();
        let request = QueueRequest::new(function, path, query, &headers, &body).unwrap();
        assert_eq!(request.to_json(), captured.trim_end(), "{file}");
    }

    #[test]
    fn queued_requests_are_what_real_gateways_queue() {
        check("msg-1.json", "", None);
        check("msg-2.json", "/a/b%20c", Some("x=1&y=%2F"));
        check("msg-3.json", "/", Some(""));
        check("msg-4.json", "", None);
        check("msg-6.json", "", None);
        check("msg-7.json", "", None);
    }

    #[test]
    fn a_bad_callback_url_is_refused() {
        let headers = HeaderMap::from_iter([(
            HeaderName::from_static("x-callback-url"),
            HeaderValue::from_static("://h"),
        )]);
        assert!(QueueRequest::new("echo", "", None, &headers, b"").is_err());
    }

    #[test]
    fn header_names_are_written_as_go_writes_them() {
        assert_eq!(canonical("x-openfaas-internal"), "X-Openfaas-Internal");
        assert_eq!(canonical("etag"), "Etag");
    }
}
