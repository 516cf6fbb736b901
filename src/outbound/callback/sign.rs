//! Signs callbacks as the Standard Webhooks scheme (standardwebhooks.com, version 1) has it, so that a
//! receiver can tell that a callback is this worker's, unchanged and fresh.

use std::{
    fmt, io,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
    prelude::BASE64_STANDARD,
};
use http::{HeaderMap, HeaderValue};
use ring::hmac::{self, HMAC_SHA256, Key};
use tokio::time::Instant;

/// The time after which the file is read anew: Kubernetes changes mounted secrets in place.
const LOOK: Duration = Duration::from_secs(60);
/// A secret of fewer bytes could be guessed.
const LEAST: usize = 16;
/// The prefix that a secret may have.
const PREFIX: &str = "whsec_";
/// Base64, whether padded or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The reason why callbacks cannot be signed. It quotes nothing of the file.
#[derive(Debug, thiserror::Error)]
#[error("callback_signing_secret_file={path}: {reason}")]
pub struct SecretsError {
    path: String,
    reason: Unusable,
}

#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("{0}")]
    Unreadable(#[from] io::Error),
    #[error(
        "line {0}: expected a secret of at least {LEAST} bytes in base64, with or without whsec_ before it"
    )]
    Line(usize),
    #[error("expected a secret on each line, the file has none")]
    Empty,
}

/// Signs with the secrets of a file.
pub(super) struct Signer {
    path: PathBuf,
    keys: Mutex<(Instant, Vec<Key>)>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Signer {
    /// Reads the secrets, one a line.
    pub fn new(path: PathBuf) -> Result<Self, SecretsError> {
        match read(&path) {
            Ok(keys) => Ok(Self { path, keys: Mutex::new((Instant::now(), keys)) }),
            Err(reason) => Err(SecretsError { path: path.display().to_string(), reason }),
        }
    }

    /// Puts the scheme's three headers in the place of any that have their names.
    pub async fn sign(&self, headers: &mut HeaderMap, id: &str, body: &[u8], now: SystemTime) {
        self.look().await;
        let timestamp = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs().to_string();
        let signatures = {
            let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
            keys.1.iter().map(|key| signature(key, id, &timestamp, body)).collect::<Vec<_>>().join(" ")
        };
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

    /// Reads the file anew after a while. A file that cannot be used changes nothing.
    async fn look(&self) {
        {
            let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
            if keys.0.elapsed() < LOOK {
                return;
            }
            keys.0 = Instant::now();
        }
        let path = self.path.clone();
        let found = tokio::task::spawn_blocking(move || read(&path))
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error).into()));
        match found {
            Ok(found) => self.keys.lock().unwrap_or_else(PoisonError::into_inner).1 = found,
            Err(reason) => {
                tracing::warn!(path = %self.path.display(), %reason, "the signing secrets cannot be read \
                    anew; those read before are used");
            }
        }
    }
}

fn read(path: &std::path::Path) -> Result<Vec<Key>, Unusable> {
    secrets(&std::fs::read(path)?)
}

/// The secrets in a file's text. Several are there while one takes another's place.
fn secrets(text: &[u8]) -> Result<Vec<Key>, Unusable> {
    let mut keys = Vec::new();
    for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let secret = BASE64.decode(line.strip_prefix(PREFIX.as_bytes()).unwrap_or(line));
        let secret = secret.ok().filter(|secret| secret.len() >= LEAST).ok_or(Unusable::Line(number))?;
        keys.push(Key::new(HMAC_SHA256, &secret));
    }
    if keys.is_empty() { Err(Unusable::Empty) } else { Ok(keys) }
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
            let error =
                SecretsError { path: "/s".into(), reason: secrets(text.as_bytes()).unwrap_err() }.to_string();
            assert!(
                error.starts_with("callback_signing_secret_file=/s: ") && error.contains(expected),
                "{error}"
            );
            assert!(!error.contains("mine") && !error.contains("MfKQ"), "{error}");
        }
    }

    async fn signed(signer: &Signer) -> usize {
        let mut headers = HeaderMap::new();
        headers.append("webhook-signature", HeaderValue::from_static("v1,forged"));
        headers.append("webhook-id", HeaderValue::from_static("forged"));
        signer
            .sign(&mut headers, "an-id", b"body", SystemTime::UNIX_EPOCH + Duration::from_millis(7_900))
            .await;
        assert_eq!(
            (headers["webhook-id"].as_bytes(), headers["webhook-timestamp"].as_bytes()),
            (&b"an-id"[..], &b"7"[..])
        );
        let signatures = headers["webhook-signature"].to_str().unwrap();
        assert!(
            signatures.split(' ').all(|one| one.starts_with("v1,") && !one.contains("forged")),
            "{signatures}"
        );
        signatures.split(' ').count()
    }

    #[tokio::test(start_paused = true)]
    async fn the_file_is_read_anew_each_minute_and_a_bad_one_changes_nothing() {
        let path = std::env::temp_dir().join(format!("queue-worker-secrets-{}", std::process::id()));
        std::fs::write(&path, FIRST).unwrap();
        let signer = Signer::new(path.clone()).unwrap();
        assert_eq!(signed(&signer).await, 1);
        std::fs::write(&path, format!("{FIRST}\n{SECOND}")).unwrap();
        tokio::time::advance(LOOK - Duration::from_secs(1)).await;
        assert_eq!(signed(&signer).await, 1);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(signed(&signer).await, 2);
        std::fs::write(&path, "half a fi").unwrap();
        tokio::time::advance(LOOK).await;
        assert_eq!(signed(&signer).await, 2);
        std::fs::remove_file(&path).unwrap();
        tokio::time::advance(LOOK).await;
        assert_eq!(signed(&signer).await, 2);
        assert!(!format!("{signer:?}").contains("MfKQ"));
    }
}
