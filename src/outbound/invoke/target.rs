//! How the calls of a queue's target are made that is no function: the method, the headers that are set, and
//! the token from a file.

use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use http::{HeaderMap, HeaderValue, Method, header::AUTHORIZATION};

use crate::config::Request;

/// The reason why no target can be called.
#[derive(Debug, thiserror::Error)]
pub enum NoTarget {
    /// The system's certificates cannot be read.
    #[error("certificates: {0}")]
    Certificates(#[from] io::Error),
    /// Its token cannot be.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// The token of a target cannot be used. It quotes nothing of the file.
#[derive(Debug, thiserror::Error)]
#[error("target_token_file=\"{}\": {reason}", path.display())]
pub struct TokenError {
    path: PathBuf,
    reason: Unusable,
}

#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("{0}; expected a file with a token in it")]
    Unreadable(#[from] io::Error),
    #[error("expected one line with a token in it, of printable characters")]
    NoToken,
}

/// How the calls of a target are made.
#[derive(Debug)]
pub(super) struct Target {
    request: Request,
    token: Option<Arc<TokenFile>>,
}

impl Target {
    /// Reads the token, if there is one.
    pub(super) fn new(request: Request) -> Result<Self, TokenError> {
        let token = request.token_file.clone().map(TokenFile::new).transpose()?.map(Arc::new);
        Ok(Self { request, token })
    }

    pub(super) fn method(&self) -> Method {
        self.request.method.clone()
    }

    /// What is sent as `Authorization` by now, if anything is.
    pub(super) async fn authorization(&self) -> Option<HeaderValue> {
        Some(TokenFile::look(self.token.as_ref()?).await)
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

/// The token in a file, read anew when the file changes: Kubernetes changes mounted tokens in place.
struct TokenFile {
    path: PathBuf,
    known: Mutex<Known>,
}

/// The last token, and what the file looked like then.
struct Known {
    bearer: HeaderValue,
    stamp: Stamp,
    /// Whether the file that is there now cannot be used, which was said.
    spoiled: bool,
}

/// What changes with a file's content: its inode, its length, and when it was written.
type Stamp = (u64, u64, i64, i64);

impl fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl TokenFile {
    fn new(path: PathBuf) -> Result<Self, TokenError> {
        match read(&path) {
            Ok((bearer, stamp)) => {
                Ok(Self { path, known: Mutex::new(Known { bearer, stamp, spoiled: false }) })
            }
            Err(reason) => Err(TokenError { path, reason }),
        }
    }

    /// The token of now. Files are looked at beside the loop: the disk they are on may be slow.
    async fn look(file: &Arc<Self>) -> HeaderValue {
        let looking = file.clone();
        if tokio::task::spawn_blocking(move || looking.renew()).await.is_err() {
            tracing::warn!(path = %file.path.display(), "the token of a target was not looked for");
        }
        file.known.lock().unwrap_or_else(PoisonError::into_inner).bearer.clone()
    }

    /// Takes over a changed token. A file that cannot be used changes nothing.
    fn renew(&self) {
        let now = fs::metadata(&self.path).map(|metadata| stamp(&metadata));
        let was = self.known.lock().unwrap_or_else(PoisonError::into_inner).stamp;
        if now.is_ok_and(|now| now == was) {
            return;
        }
        let found = read(&self.path);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match found {
            Ok((bearer, stamp)) => *known = Known { bearer, stamp, spoiled: false },
            Err(reason) if !known.spoiled => {
                known.spoiled = true;
                let path = self.path.display();
                tracing::warn!(%path, %reason, "a target's token cannot be read anew; the last one is used");
            }
            Err(_) => {}
        }
    }
}

fn read(path: &Path) -> Result<(HeaderValue, Stamp), Unusable> {
    // In this order: what is written in between is read again.
    let stamp = stamp(&fs::metadata(path)?);
    let text = fs::read_to_string(path)?;
    let token = text.trim();
    let printable = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    let bearer = HeaderValue::try_from(format!("Bearer {token}")).ok().filter(|_| printable);
    let mut bearer = bearer.ok_or(Unusable::NoToken)?;
    bearer.set_sensitive(true);
    Ok((bearer, stamp))
}

fn stamp(metadata: &fs::Metadata) -> Stamp {
    (metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec())
}
