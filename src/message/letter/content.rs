//! The inside of a dead letter as people are shown it: the call's headers and body, or whatever is in it.
//! Secrets are masked unless somebody asks for them.

use async_nats::HeaderMap;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use serde_json::Value;
use url::Url;

use crate::message::{
    decode::{Invocation, decode},
    envelope::{Encoding, Envelope, Kind},
    gzip, header,
    names::is_ours,
    posting::Posting,
};

/// In the place of a secret.
pub const MASK: &str = "***";
/// What a payload that cannot be read is not shown with.
const SUSPICIOUS: [&str; 5] = ["authorization", "cookie", "token", "password", "secret"];

/// What is in a letter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// The call's headers, or those of the answer that a callback takes to its URL.
    pub headers: Vec<(String, Vec<String>)>,
    /// The path behind the function's name.
    pub path: Option<String>,
    /// The query.
    pub query: Option<String>,
    /// Where the answer was to be posted.
    pub callback_url: Option<String>,
    /// The body; absent where it may hold secrets that nobody can find.
    pub body: Option<Body>,
    /// Why no call can be made of it.
    pub flaw: Option<String>,
}

/// A body as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Text.
    Text(String),
    /// Anything else, in base64, and how many bytes it has.
    Base64(String, usize),
}

impl Body {
    /// How these bytes are shown.
    pub fn of(bytes: &[u8]) -> Self {
        let plain = |text: &&str| !text.contains(|c: char| c.is_control() && !"\n\r\t".contains(c));
        match str::from_utf8(bytes).ok().filter(plain) {
            Some(text) => Self::Text(text.to_owned()),
            None => Self::Base64(BASE64_STANDARD.encode(bytes), bytes.len()),
        }
    }
}

/// Whether a header of this name is a credential.
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let whole = ["authorization", "proxy-authorization", "cookie", "set-cookie"];
    let last = ["-token", "-secret", "-password", "-api-key"];
    // `token` alone is one, too.
    whole.contains(&name.as_str()) || last.iter().any(|end| format!("-{name}").ends_with(end))
}

/// Headers with their values, the secret ones masked unless `reveal`.
pub fn headers<'h>(
    all: impl IntoIterator<Item = (&'h str, Vec<String>)>,
    reveal: bool,
) -> Vec<(String, Vec<String>)> {
    let shown = |name: &str, values: Vec<String>| {
        let hide = !reveal && is_secret(name);
        values
            .into_iter()
            .map(|value| if hide { MASK.to_owned() } else { without_login(name, value, reveal) })
            .collect()
    };
    all.into_iter().map(|(name, values)| (name.to_owned(), shown(name, values))).collect()
}

/// The headers of a NATS message.
pub fn of_message(all: &HeaderMap, reveal: bool) -> Vec<(String, Vec<String>)> {
    let all = all.iter().map(|(name, values)| {
        (name.as_ref(), values.iter().map(|value| value.as_str().to_owned()).collect::<Vec<_>>())
    });
    headers(all, reveal)
}

/// The value of a header; of one that has a URL, without what logs in there.
fn without_login(name: &str, value: String, reveal: bool) -> String {
    let is_url = name.eq_ignore_ascii_case("x-callback-url");
    let logs_in = |url: Url| !url.username().is_empty() || url.password().is_some();
    let hide = !reveal && (is_url || Url::parse(&value).is_ok_and(logs_in));
    if hide { masked_url(&value) } else { value }
}

/// A URL without user, password and query.
fn masked_url(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else { return MASK.to_owned() };
    // Both fail only where there can be none.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    if url.query().is_some() {
        url.set_query(Some(MASK));
    }
    url.into()
}

/// What is in a payload with these headers of the letter. Secrets are masked unless `reveal`.
pub fn content(told: &Envelope, payload: &Bytes, reveal: bool) -> Content {
    let unpacked = match told.encoding {
        Encoding::Plain => Ok(payload.clone()),
        Encoding::Gzip => gzip::unpack(payload, 0).map(Bytes::from),
    };
    match (unpacked, &told.kind) {
        (Err(flaw), _) => Content { flaw: Some(flaw), body: Some(Body::of(payload)), ..Content::default() },
        (Ok(payload), Kind::Callback) => match Posting::read(&payload) {
            Ok(posting) => of_posting(&posting, reveal),
            Err(flaw) => unreadable(&payload, flaw.to_string(), reveal),
        },
        (Ok(payload), _) if told.subject.is_some() => of_any(told, &payload, reveal),
        (Ok(payload), _) => match decode(&payload) {
            Ok(invocation) => of_invocation(&invocation, reveal),
            Err(flaw) => unreadable(&payload, flaw.to_string(), reveal),
        },
    }
}

fn of_invocation(invocation: &Invocation, reveal: bool) -> Content {
    let said = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let url = invocation.callback_url().and_then(Result::ok).map(String::from);
    Content {
        headers: headers(
            invocation.headers.iter().map(|(name, values)| (name, values.map(str::to_owned).collect())),
            reveal,
        ),
        path: said(&invocation.path),
        query: said(&invocation.query).map(|query| if reveal { query } else { MASK.to_owned() }),
        callback_url: url.map(|url| if reveal { url } else { masked_url(&url) }),
        body: Some(Body::of(&invocation.body)),
        flaw: None,
    }
}

/// A message that went to a target: its payload is the body.
fn of_any(told: &Envelope, payload: &[u8], reveal: bool) -> Content {
    let mut headers = of_message(&told.carried, reveal);
    headers.retain(|(name, _)| !is_ours(name));
    let url = header::said(&told.carried, "X-Callback-Url");
    Content {
        headers,
        callback_url: url.map(|url| if reveal { url.to_owned() } else { masked_url(url) }),
        body: Some(Body::of(payload)),
        ..Content::default()
    }
}

fn of_posting(posting: &Posting, reveal: bool) -> Content {
    let all = posting
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), vec![String::from_utf8_lossy(value.as_bytes()).into_owned()]));
    let url = posting.url.clone();
    Content {
        headers: headers(all, reveal),
        callback_url: Some(if reveal { url } else { masked_url(&url) }),
        body: Some(Body::of(&posting.body)),
        ..Content::default()
    }
}

/// A payload of which no call can be made. Where it is JSON, what looks like a secret in it is masked; where
/// it is not, it is shown only if nothing in it does.
fn unreadable(payload: &[u8], flaw: String, reveal: bool) -> Content {
    let body = match serde_json::from_slice::<Value>(payload) {
        _ if reveal => Some(Body::of(payload)),
        Ok(mut value) => {
            Some(if hide(&mut value) { Body::Text(value.to_string()) } else { Body::of(payload) })
        }
        Err(_) => {
            let text = String::from_utf8_lossy(payload).to_lowercase();
            (!SUSPICIOUS.iter().any(|word| text.contains(word))).then(|| Body::of(payload))
        }
    };
    Content { body, flaw: Some(flaw), ..Content::default() }
}

/// Masks the secrets in a JSON value, and says whether there were any.
fn hide(value: &mut Value) -> bool {
    match value {
        Value::Object(fields) => fields.iter_mut().fold(false, |hidden, (name, value)| {
            if is_secret(name) || name.eq_ignore_ascii_case("querystring") {
                *value = MASK.into();
                return true;
            }
            hide(value) || hidden
        }),
        Value::Array(items) => items.iter_mut().map(hide).filter(|hidden| *hidden).count() > 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use serde_json::json;

    use super::*;
    use crate::message::names;

    fn told(headers: &[(&str, &str)]) -> Envelope {
        let mut map = HeaderMap::new();
        headers.iter().for_each(|(name, value)| header::add(&mut map, name, value));
        Envelope::told("q-dead", 7, SystemTime::UNIX_EPOCH, &map)
    }

    fn of(payload: impl Into<Bytes>, reveal: bool) -> Content {
        content(&told(&[]), &payload.into(), reveal)
    }

    fn message() -> String {
        json!({
            "Function": "f", "Path": "/a", "QueryString": "key=hidden",
            "Body": BASE64_STANDARD.encode("hello"),
            "Header": { "Authorization": ["Bearer hidden"], "Cookie": ["hidden"], "X-Auth-Token": ["hidden"],
                "X-Callback-Url": ["http://u:hidden@h/done?hidden"], "X-Seen": ["a", "b"] },
            "CallbackUrl": { "Scheme": "http", "Host": "h", "Path": "/done", "RawQuery": "hidden" },
        })
        .to_string()
    }

    #[test]
    fn secrets_are_shown_to_who_asks_for_them_and_to_nobody_else() {
        let masked = of(message(), false);
        assert!(!format!("{masked:?}").contains("hidden"), "{masked:?}");
        let (name, values) = masked.headers.iter().find(|(name, _)| name == "X-Seen").unwrap();
        assert_eq!((name.as_str(), values.len()), ("X-Seen", 2));
        assert_eq!(masked.callback_url.as_deref(), Some("http://h/done?***"));
        assert_eq!(masked.body, Some(Body::Text("hello".to_owned())));
        let shown = format!("{:?}", of(message(), true));
        assert_eq!(shown.matches("hidden").count(), 7, "{shown}");
    }

    #[test]
    fn what_is_no_call_is_shown_without_what_looks_like_a_secret() {
        let bad = message().replace("\"f\"", "\"../f\"");
        let content = of(bad.clone(), false);
        assert!(content.flaw.is_some() && !format!("{content:?}").contains("Bearer"), "{content:?}");
        assert!(format!("{content:?}").contains("X-Seen"));
        assert!(format!("{:?}", of(bad.clone(), true)).contains("Bearer"));
        let torn = bad.get(..bad.len() - 9).unwrap().to_owned();
        assert_eq!(of(torn.clone(), false).body, None);
        assert!(of(torn, true).body.is_some());
        assert_eq!(of("garbage", false).body, Some(Body::Text("garbage".to_owned())));
        assert_eq!(of(vec![0, 255], false).body, Some(Body::Base64("AP8=".to_owned(), 2)));
    }

    #[test]
    fn a_packed_payload_is_shown_as_it_was_and_a_damaged_one_as_it_is() {
        let packed = gzip::pack(message().as_bytes()).unwrap();
        let gzip = told(&[(names::ENCODING, "gzip")]);
        assert_eq!(content(&gzip, &packed, false), of(message(), false));
        assert!(content(&gzip, &Bytes::from_static(b"no gzip"), false).flaw.is_some());
    }

    #[test]
    fn a_callback_is_shown_with_the_answer_and_without_the_login_of_its_url() {
        let posting = json!({ "function": "f", "callId": "a", "url": "http://u:hidden@h/x", "body": "aGk=",
            "headers": [["set-cookie", "hidden"], ["x-function-status", "200"]] });
        let callback = told(&[(names::KIND, "callback")]);
        let shown = content(&callback, &posting.to_string().into(), false);
        assert!(!format!("{shown:?}").contains("hidden"), "{shown:?}");
        assert_eq!(shown.body, Some(Body::Text("hi".to_owned())));
        assert_eq!(shown.callback_url.as_deref(), Some("http://h/x"));
    }

    #[test]
    fn a_message_to_a_target_is_shown_as_it_was() {
        let told = told(&[
            (names::SUBJECT, "orders.eu"),
            (names::HOP, "1"),
            ("Authorization", "hidden"),
            ("X-A", "1"),
            ("X-Callback-Url", "http://u:hidden@h/x"),
            ("Referer", "https://u:hidden@h/y?k=hidden"),
        ]);
        let shown = content(&told, &Bytes::from_static(b"{\"id\":1}"), false);
        assert!(!format!("{shown:?}").contains("hidden"), "{shown:?}");
        assert_eq!((shown.body, shown.flaw), (Some(Body::Text("{\"id\":1}".to_owned())), None));
        let mut names: Vec<_> = shown.headers.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["Authorization", "Referer", "X-A", "X-Callback-Url"]);
    }

    #[test]
    fn credentials_are_known_by_their_names() {
        for name in [
            "Authorization",
            "cookie",
            "X-Auth-Token",
            "TOKEN",
            "Set-Cookie",
            "X-Client-Secret",
            "API-Key",
            "X-Api-Key",
            "Password",
            "Secret",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["X-Call-Id", "Tokens", "Content-Type", "Accept"] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
