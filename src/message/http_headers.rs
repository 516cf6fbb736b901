//! Rules for HTTP headers that hold for every request, to a function or to a caller.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use http::{HeaderMap, HeaderName, HeaderValue, header::InvalidHeaderValue};

/// Headers of one connection, not of the message (RFC 9110 §7.6.1, and the proxies' own).
pub(crate) const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "trailers",
    "transfer-encoding",
    "upgrade",
];
/// Sets a header to a value that is known to be one.
pub fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
        // Only a map of 32,768 names is full.
        drop(headers.try_insert(HeaderName::from_static(name), value));
    }
}

/// The `Authorization` of a user and a password. Neither a log nor a `Debug` shows it.
///
/// # Errors
/// None that base64 can bring about.
pub fn basic_auth(user: &[u8], password: &[u8]) -> Result<HeaderValue, InvalidHeaderValue> {
    let credentials = BASE64_STANDARD.encode([user, b":", password].concat());
    let mut value = HeaderValue::try_from(format!("Basic {credentials}"))?;
    value.set_sensitive(true);
    Ok(value)
}
