//! Signs callbacks as the Standard Webhooks scheme (standardwebhooks.com, version 1) has it, so that a
//! receiver can tell that a callback is this worker's, unchanged and fresh.

use std::{path::PathBuf, time::SystemTime};

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
    prelude::BASE64_STANDARD,
};
use http::{HeaderMap, HeaderValue};
use ring::hmac::{self, HMAC_SHA256, Key};

use crate::tasks::renewed::{FileError, Renewed, Setting};

const SETTING: Setting = Setting {
    name: "callback_signing_secret_file",
    expected: "a secret of at least 16 bytes in base64 on each line, with or without whsec_ before it",
};
/// A secret of fewer bytes could be guessed.
const LEAST: usize = 16;
/// The prefix that a secret may have.
const PREFIX: &str = "whsec_";
/// Base64, whether padded or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Signs with the secrets of a file.
#[derive(Debug)]
pub(super) struct Signer(Renewed<Vec<Key>>);

impl Signer {
    /// Reads the secrets, one a line.
    pub fn new(path: PathBuf) -> Result<Self, FileError> {
        Renewed::read(SETTING, path, secrets).map(Self)
    }

    /// Puts the scheme's three headers in the place of any that have their names.
    pub async fn sign(&self, headers: &mut HeaderMap, id: &str, body: &[u8], now: SystemTime) {
        let keys = self.0.get().await;
        let timestamp = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs().to_string();
        let signatures: Vec<_> = keys.iter().map(|key| signature(key, id, &timestamp, body)).collect();
        let signatures = signatures.join(" ");
        for (name, text) in
            [("webhook-id", id), ("webhook-timestamp", &timestamp), ("webhook-signature", &signatures)]
        {
            headers.remove(name);
            if let Ok(value) = HeaderValue::from_str(text) {
                // Only a map of 32,768 names is full.
                drop(headers.try_insert(name, value));
            }
        }
    }
}

/// The secrets in a file's text. Several are there while one takes another's place.
fn secrets(text: &[u8]) -> Result<Vec<Key>, String> {
    let mut keys = Vec::new();
    for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let secret = BASE64.decode(line.strip_prefix(PREFIX.as_bytes()).unwrap_or(line));
        let secret = secret.ok().filter(|secret| secret.len() >= LEAST);
        let secret = secret.ok_or_else(|| format!("line {number} is no secret"))?;
        keys.push(Key::new(HMAC_SHA256, &secret));
    }
    if keys.is_empty() { Err("the file has none".to_owned()) } else { Ok(keys) }
}

fn signature(key: &Key, id: &str, timestamp: &str, body: &[u8]) -> String {
    let mut signing = hmac::Context::with_key(key);
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        signing.update(part);
    }
    format!("v1,{}", BASE64_STANDARD.encode(signing.sign()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const SECOND: &str = "plJ3nmyCDGBKInavdOK15jsl";

    #[test]
    fn signatures_are_those_that_the_scheme_publishes() {
        let check = |secret: &str, id, timestamp, body: &str, expected| {
            let keys = secrets(secret.as_bytes()).unwrap();
            assert_eq!(signature(&keys[0], id, timestamp, body.as_bytes()), expected);
        };
        check(
            FIRST,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            r#"{"test": 2432232314}"#,
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        );
        check(
            SECOND,
            "msg_loFOjxBNrRLzqYUf",
            "1731705121",
            r#"{"event_type":"ping","data":{"success":true}}"#,
            "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=",
        );
    }

    #[test]
    fn a_file_has_a_secret_on_each_line() {
        assert_eq!(secrets(FIRST.as_bytes()).unwrap().len(), 1);
        assert_eq!(secrets(format!("\r\n {FIRST}\r\n\n{SECOND}\n").as_bytes()).unwrap().len(), 2);
        // Without its padding.
        assert_eq!(secrets(b"AAAAAAAAAAAAAAAAAAAAAA").unwrap().len(), 1);
    }

    #[test]
    fn what_is_no_secret_is_told_by_its_line_and_not_shown() {
        for (text, expected) in [
            ("", "the file has none"),
            ("\n \n", "the file has none"),
            ("no base64!", "line 1"),
            ("whsec_", "line 1"),
            ("whsec_c2hvcnQ=", "line 1"),
            (&format!("{FIRST}\n\nno_secret_of_mine"), "line 3"),
            ("\u{e9}", "line 1"),
        ] {
            let error = secrets(text.as_bytes()).unwrap_err();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("mine") && !error.contains("MfKQ"), "{error}");
        }
    }

    #[tokio::test]
    async fn each_secret_signs_and_nothing_forged_is_left() {
        let path = std::env::temp_dir().join(format!("queue-worker-secrets-{}", std::process::id()));
        std::fs::write(&path, format!("{FIRST}\n{SECOND}")).unwrap();
        let signer = Signer::new(path.clone()).unwrap();
        std::fs::remove_file(path).unwrap();
        let mut headers = HeaderMap::new();
        headers.append("webhook-signature", HeaderValue::from_static("v1,forged"));
        headers.append("webhook-id", HeaderValue::from_static("forged"));
        let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(7_900);
        signer.sign(&mut headers, "an-id", b"body", now).await;
        assert_eq!(
            (headers["webhook-id"].as_bytes(), headers["webhook-timestamp"].as_bytes()),
            (&b"an-id"[..], &b"7"[..])
        );
        let signatures = headers["webhook-signature"].to_str().unwrap();
        assert!(
            signatures.split(' ').all(|one| one.starts_with("v1,") && !one.contains("forged")),
            "{signatures}"
        );
        assert_eq!(signatures.split(' ').count(), 2);
        assert!(!format!("{signer:?}").contains("MfKQ"));
    }
}
