//! The tokens that callers have to show, from a file that is read anew.

use std::path::PathBuf;

use axum::http::{HeaderValue, StatusCode};
use ring::digest::{SHA256, digest};

use super::Refusal;
use crate::tasks::renewed::{FileError, Renewed, Setting};

const SETTING: Setting = Setting { name: "ingress_token_file", expected: "a token on each line" };

/// The hash of a token: so that no comparison tells how much of one is right.
type Hash = [u8; 32];

/// Tokens of a file.
#[derive(Debug)]
pub(super) struct Tokens(Renewed<Vec<Hash>>);

impl Tokens {
    pub(super) fn new(path: PathBuf) -> Result<Self, FileError> {
        Renewed::read(SETTING, path, tokens).map(Self)
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
        if self.0.get().await.contains(&shown) {
            return Ok(());
        }
        Err(Refusal::new(StatusCode::FORBIDDEN, "forbidden", "the token is not known"))
    }
}

fn hash(token: &str) -> Hash {
    digest(&SHA256, token.as_bytes()).as_ref().try_into().unwrap_or_default()
}

fn tokens(content: &[u8]) -> Result<Vec<Hash>, String> {
    let text = str::from_utf8(content).map_err(|_| "it is no UTF-8")?;
    let tokens: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(hash).collect();
    if tokens.is_empty() { Err("the file has none".to_owned()) } else { Ok(tokens) }
}
