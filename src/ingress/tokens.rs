//! The tokens that callers have to show, from a file that is read anew.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::http::{HeaderValue, StatusCode};
use ring::digest::{SHA256, digest};
use tokio::time::Instant;

use super::Refusal;

/// The time after which the file is read anew.
const LOOK: Duration = Duration::from_secs(5);

/// The tokens cannot be used. It quotes nothing of the file.
#[derive(Debug, thiserror::Error)]
#[error("ingress_token_file=\"{}\": {reason}; expected a token on each line", path.display())]
pub struct TokensError {
    path: PathBuf,
    reason: String,
}

/// The hash of a token: so that no comparison tells how much of one is right.
type Hash = [u8; 32];

/// Tokens of a file.
pub(super) struct Tokens {
    path: PathBuf,
    known: Arc<Mutex<(Instant, Vec<Hash>)>>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Tokens {
    pub(super) fn new(path: PathBuf) -> Result<Self, TokensError> {
        match read(&path) {
            Ok(tokens) => Ok(Self { path, known: Arc::new(Mutex::new((Instant::now(), tokens))) }),
            Err(reason) => Err(TokensError { path, reason: reason.to_string() }),
        }
    }

    /// Lets a request in that shows one of the tokens.
    pub(super) async fn admit(&self, authorization: Option<&HeaderValue>) -> Result<(), Refusal> {
        let bearer = |value: &HeaderValue| {
            let (scheme, token) = value.to_str().ok()?.trim().split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| hash(token.trim()))
        };
        let Some(shown) = authorization.and_then(bearer) else {
            let text = "expected Authorization: Bearer with a token";
            return Err(Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", text));
        };
        self.look().await;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.1.contains(&shown) {
            return Ok(());
        }
        Err(Refusal::new(StatusCode::FORBIDDEN, "forbidden", "the token is not known"))
    }

    /// Reads the file anew after a while. A file that cannot be used changes nothing.
    async fn look(&self) {
        {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.0.elapsed() < LOOK {
                return;
            }
            known.0 = Instant::now();
        }
        let path = self.path.clone();
        let found = tokio::task::spawn_blocking(move || read(&path)).await;
        match found.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(found) => self.known.lock().unwrap_or_else(PoisonError::into_inner).1 = found,
            Err(reason) => {
                let path = self.path.display();
                tracing::warn!(%path, %reason, "the tokens cannot be read anew; the last ones count");
            }
        }
    }
}

fn hash(token: &str) -> Hash {
    digest(&SHA256, token.as_bytes()).as_ref().try_into().unwrap_or_default()
}

fn read(path: &Path) -> io::Result<Vec<Hash>> {
    let text = std::fs::read_to_string(path)?;
    let tokens: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(hash).collect();
    if tokens.is_empty() { Err(io::Error::other("the file has no token")) } else { Ok(tokens) }
}
