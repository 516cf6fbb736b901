//! The tokens that callers have to show, from a file that is read anew.

use std::path::PathBuf;

use axum::http::HeaderValue;
use ring::digest::{SHA256, digest};

use crate::tasks::renewed::{FileError, Renewed, Setting};

/// What is expected in such a file.
pub const EXPECTED: &str = "a token on each line";

/// The hash of a token: so that no comparison tells how much of one is right.
type Hash = [u8; 32];

/// Tokens of a file.
#[derive(Debug)]
pub struct Tokens(Renewed<Vec<Hash>>);

/// Why nobody is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unwelcome {
    /// There is no token.
    #[error("expected Authorization: Bearer with a token")]
    Nobody,
    /// It is none of the file's.
    #[error("the token is not known")]
    Stranger,
}

impl Tokens {
    /// Reads the file of the setting of this name.
    ///
    /// # Errors
    /// Where it cannot be read, or has none.
    pub fn new(name: &'static str, path: PathBuf) -> Result<Self, FileError> {
        Renewed::read(Setting { name, expected: EXPECTED }, path, tokens).map(Self)
    }

    /// Lets a request in that shows one of the tokens.
    ///
    /// # Errors
    /// See [`Unwelcome`].
    pub async fn admit(&self, authorization: Option<&HeaderValue>) -> Result<(), Unwelcome> {
        let shown = authorization.and_then(|value| bearer(value.to_str().ok()?)).ok_or(Unwelcome::Nobody)?;
        let known = self.0.get().await;
        // All are looked at: how long it takes tells nothing.
        let found = known.iter().fold(false, |found, known| found | is_same(known, &shown));
        if found { Ok(()) } else { Err(Unwelcome::Stranger) }
    }
}

/// Whether an `Authorization` shows this token.
#[must_use]
pub fn is_shown(authorization: &str, token: &str) -> bool {
    bearer(authorization).is_some_and(|shown| is_same(&shown, &hash(token)))
}

/// The hash of the token in an `Authorization`.
fn bearer(value: &str) -> Option<Hash> {
    let (scheme, token) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| hash(token.trim()))
}

fn is_same(one: &Hash, other: &Hash) -> bool {
    one.iter().zip(other).fold(0, |differs, (one, other)| differs | (one ^ other)) == 0
}

fn hash(token: &str) -> Hash {
    digest(&SHA256, token.as_bytes()).as_ref().try_into().unwrap_or_default()
}

fn tokens(content: &[u8]) -> Result<Vec<Hash>, String> {
    let text = str::from_utf8(content).map_err(|_| "it is no UTF-8")?;
    // Some editors put a mark of the encoding before it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let tokens: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(hash).collect();
    if tokens.is_empty() { Err("the file has none".to_owned()) } else { Ok(tokens) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_token_on_each_line() {
        for file in ["a\nb", "\u{feff}a\r\n\r\n b \r\n"] {
            assert_eq!(tokens(file.as_bytes()), Ok(vec![hash("a"), hash("b")]), "{file:?}");
        }
        assert!(tokens("\u{feff}\n".as_bytes()).is_err() && tokens(b"\xff").is_err());
    }

    #[test]
    fn a_token_is_what_stands_behind_bearer() {
        for (value, token) in [
            ("Bearer a", Some("a")),
            (" bearer  a ", Some("a")),
            ("BEARER a b", Some("a b")),
            ("Basic a", None),
            ("Bearer", None),
            ("", None),
        ] {
            assert_eq!(bearer(value), token.map(hash), "{value:?}");
        }
        assert!(is_same(&hash("a"), &hash("a")) && !is_same(&hash("a"), &hash("b")));
    }
}
