//! From the bytes of a message to the [`Invocation`] it asks for, or to why there is none.
//!
//! The format is the JSON of OpenFaaS's `QueueRequest` (faas-provider, `types/queue.go`), as gateways of all
//! its versions have written it: absent, null and empty mean the same for every field, keys match in any
//! case, unknown ones are ignored.

mod fields;
mod function;
mod headers;
mod read;
mod url;
mod write;

use std::{collections::BTreeMap, fmt, iter};

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

pub use function::{FunctionName, InvalidFunctionName};
pub use headers::Headers;
pub use url::CallbackUrl;

/// Everything that may not stand in a path as it is: all but the unreserved characters, the sub-delimiters,
/// `:`, `@` (RFC 3986, section 3.3) and the slash between segments.
const ENCODED_IN_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@')
    .remove(b'/');

/// An asynchronous call of a function, as the gateway queued it.
#[derive(Clone, PartialEq, Eq)]
pub struct Invocation {
    /// The function to call, or the name under which a target is called.
    pub function: FunctionName,
    /// Where it is called, without the query; `None`: at the gateway, by its name.
    pub url: Option<String>,
    /// What follows the function's name in the URL, percent-decoded; empty when nothing does.
    pub path: String,
    /// The query string as the caller wrote it, without `?`.
    pub query: String,
    /// The caller's headers. Hop-by-hop ones are still among them.
    pub headers: Headers,
    /// The event that it sends on, if it is one.
    pub event: Option<Box<EventName>>,
    /// The body.
    pub body: Bytes,
    /// Where the answer is to be posted.
    pub callback: Option<CallbackUrl>,
    /// The annotations of the function that concern a queue worker.
    pub annotations: BTreeMap<String, String>,
    /// Labels of the function.
    pub labels: BTreeMap<String, String>,
    /// Environment variables of the function.
    pub environment: BTreeMap<String, String>,
    /// The caller's method. It is always POST in practice, and calls are made with POST whatever it is.
    pub(crate) method: String,
    /// The host that the caller addressed.
    pub host: String,
    /// The queue that the gateway chose; empty for the default one.
    pub queue_name: String,
}

impl fmt::Debug for Invocation {
    /// Without what callers wrote.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invocation")
            .field("function", &self.function)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// A message that no call can be made of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Undecodable {
    /// Why: one line of at most 200 bytes that quotes nothing of the message.
    pub reason: String,
    /// The function, where the message has a valid name for one.
    pub function: Option<FunctionName>,
    /// The `X-Call-Id`, where the message has one, as the caller wrote it.
    pub call_id: Option<String>,
    /// The event that it was to be, as far as that is known.
    pub event: Option<Box<EventName>>,
}

/// What a producer calls an event (of CloudEvents): its id, and the source that has given it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct EventName {
    /// The attribute `id`.
    pub id: Option<String>,
    /// The attribute `source`.
    pub source: Option<String>,
}

impl fmt::Debug for EventName {
    /// Without what producers wrote.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventName")
    }
}

impl Undecodable {
    /// A message of which nothing is known but why it is no call.
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), function: None, call_id: None, event: None }
    }
}

/// Reads a message.
///
/// # Errors
///
/// A payload that is no JSON object of the expected types, a function name outside of the grammar of
/// [`FunctionName`], and a path with a NUL or with `.` or `..` for a segment, which would reach another
/// function.
pub fn decode(payload: &[u8]) -> Result<Invocation, Undecodable> {
    let wire = read::read(payload)?;
    let undecodable = |reason: &str, function| Undecodable {
        function,
        call_id: wire.call_id(),
        ..Undecodable::new(reason)
    };
    let function = match wire.function.parse::<FunctionName>() {
        Ok(function) => function,
        Err(invalid) => return Err(undecodable(&invalid.to_string(), None)),
    };
    if let Err(reason) = check_path(&wire.path) {
        return Err(undecodable(reason, Some(function)));
    }
    Ok(wire.into_invocation(function))
}

/// The same message for another function; `None` where it is none for any.
pub fn retargeted(payload: &[u8], function: &FunctionName) -> Option<Vec<u8>> {
    write::retargeted(payload, function.as_str()).filter(|payload| decode(payload).is_ok())
}

/// A path must stay below its function. Backslashes count as slashes, because servers on the way may take
/// them for such.
fn check_path(path: &str) -> Result<(), &'static str> {
    if path.contains('\0') {
        return Err("the path contains a NUL");
    }
    if path.split(['/', '\\']).any(|segment| matches!(segment, "." | "..")) {
        return Err("the path has . or .. as a segment");
    }
    Ok(())
}

impl Invocation {
    /// A call of a function with nothing to tell it.
    pub fn of(function: FunctionName) -> Self {
        Self {
            function,
            url: None,
            path: String::new(),
            query: String::new(),
            headers: Headers::default(),
            event: None,
            body: Bytes::new(),
            callback: None,
            annotations: BTreeMap::new(),
            labels: BTreeMap::new(),
            environment: BTreeMap::new(),
            method: String::new(),
            host: String::new(),
            queue_name: String::new(),
        }
    }

    /// Writes the message that [`decode`] reads, in the form of today's gateways: empty fields are left out.
    pub fn encode(&self) -> Vec<u8> {
        write::write(self)
    }

    /// The `X-Call-Id` that the caller or the gateway chose: the first that HTTP allows and that is not
    /// empty. Gateways add theirs to a caller's empty one, and tell the caller theirs.
    pub fn call_id(&self) -> Option<&str> {
        self.headers.usable("X-Call-Id")
    }

    /// The path, percent-encoded for a URL, to be put behind the function's name. It begins with a slash or
    /// is empty.
    pub fn target_path(&self) -> String {
        let slash = if self.path.is_empty() || self.path.starts_with('/') { "" } else { "/" };
        let encoded = utf8_percent_encode(&self.path, ENCODED_IN_PATH);
        iter::once(slash).chain(encoded).collect()
    }

    /// Where the answer is to be posted, with the user and password that the message's own field for it has
    /// lost.
    ///
    /// # Errors
    ///
    /// Says in a few words, without quoting the URL, why it is none that a callback can be sent to.
    pub fn callback_url(&self) -> Option<Result<::url::Url, String>> {
        let originals = || self.headers.values("X-Callback-Url");
        self.callback.as_ref().map(|callback| callback.rebuild(originals()).map_err(str::to_owned))
    }
}

#[cfg(test)]
mod tests;
