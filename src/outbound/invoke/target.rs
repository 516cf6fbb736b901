//! How the calls of a queue's target are made that is no function: the method, the headers that are set, and
//! the token from a file.

use std::io;

use http::{HeaderMap, HeaderValue, Method, header::AUTHORIZATION};

use crate::{
    config::Request,
    tasks::renewed::{FileError, Renewed, Setting},
};

const TOKEN: Setting = Setting {
    name: "target_token_file",
    expected: "a file that has one line with a token in it, of printable characters",
};

/// The reason why no target can be called.
#[derive(Debug, thiserror::Error)]
pub enum NoTarget {
    /// The system's certificates cannot be read.
    #[error("certificates: {0}")]
    Certificates(#[from] io::Error),
    /// Its token cannot be.
    #[error(transparent)]
    Token(#[from] FileError),
}

/// How the calls of a target are made.
#[derive(Debug)]
pub(super) struct Target {
    request: Request,
    /// What is sent as `Authorization`.
    bearer: Option<Renewed<HeaderValue>>,
}

impl Target {
    /// Reads the token, if there is one.
    pub(super) fn new(request: Request) -> Result<Self, FileError> {
        let file = request.token_file.clone();
        let bearer = file.map(|path| Renewed::read(TOKEN, path, bearer)).transpose()?;
        Ok(Self { request, bearer })
    }

    pub(super) fn method(&self) -> Method {
        self.request.method.clone()
    }

    /// What is sent as `Authorization` by now, if anything is.
    pub(super) async fn authorization(&self) -> Option<HeaderValue> {
        Some(HeaderValue::clone(&*self.bearer.as_ref()?.get().await))
    }

    /// Sets the headers that are set, in the place of all that have their names.
    pub(super) fn set(&self, headers: &mut HeaderMap, authorization: Option<HeaderValue>) {
        let set = &self.request.headers;
        set.iter().for_each(|(name, _)| drop(headers.remove(name)));
        for (name, value) in set.iter().cloned() {
            // Only a map of 32,768 names is full.
            drop(headers.try_append(name, value));
        }
        if let Some(value) = authorization {
            drop(headers.try_insert(AUTHORIZATION, value));
        }
    }
}

/// The header that shows a file's token.
fn bearer(content: &[u8]) -> Result<HeaderValue, String> {
    let token = content.trim_ascii();
    let printable = !token.is_empty() && token.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    let bearer = HeaderValue::from_bytes(&[b"Bearer ", token].concat()).ok().filter(|_| printable);
    let mut bearer = bearer.ok_or("there is none")?;
    bearer.set_sensitive(true);
    Ok(bearer)
}
