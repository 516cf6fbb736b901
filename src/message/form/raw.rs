//! A message that is the call itself: its payload is the body, its headers are HTTP's, and its subject says
//! where it goes.

use async_nats::HeaderMap;
use bytes::Bytes;

use crate::message::{
    decode::{CallbackUrl, EventName, Headers, Invocation, Undecodable},
    names::is_ours,
    successor::Message,
    target::Target,
};

const CONTENT_TYPE: &str = "Content-Type";
/// What is said of a body whose type nobody told.
const ANY_TYPE: &str = "application/octet-stream";

/// The content of a call.
pub(super) struct Content {
    pub(super) headers: Headers,
    pub(super) body: Bytes,
    /// The event that it sends on, if it is one.
    pub(super) event: Option<EventName>,
}

/// The reason why a message has no content for a call. Nothing is quoted.
pub(super) struct NoContent {
    pub(super) reason: String,
    pub(super) event: Option<EventName>,
}

/// Reads a message, of whose headers and payload `content` makes those of the call.
///
/// # Errors
/// A subject that leads nowhere, a payload that cannot be unpacked, and what has no content.
pub(super) fn read(
    message: &Message,
    target: &Target,
    content: impl FnOnce(Headers, Bytes) -> Result<Content, NoContent>,
) -> Result<Invocation, Undecodable> {
    let headers = || headers(&message.envelope.carried);
    let undecodable = |reason: String| Undecodable {
        function: message.envelope.subject.as_deref().and_then(|subject| target.function(subject).ok()),
        call_id: headers().usable("X-Call-Id").map(str::to_owned),
        event: None,
        reason,
    };
    let body = message.body().map_err(undecodable)?;
    // A clone without one was parked while the queue had another form, and its payload is in that.
    let Some(subject) = &message.envelope.subject else {
        return Err(undecodable("it was parked when the input of its queue was another".to_owned()));
    };
    let destination = target.destination(subject).map_err(|nowhere| undecodable(nowhere.to_string()))?;
    let Content { headers, body, event } = content(headers(), body)
        .map_err(|none| Undecodable { event: none.event.map(Box::new), ..undecodable(none.reason) })?;
    Ok(Invocation {
        event: event.map(Box::new),
        callback: headers.usable("X-Callback-Url").map(CallbackUrl::written),
        url: Some(destination.url),
        query: destination.query,
        headers,
        body,
        ..Invocation::of(destination.function)
    })
}

/// The content of a message that is sent as it is.
pub(super) fn as_it_is(mut headers: Headers, body: Bytes) -> Result<Content, NoContent> {
    if headers.usable(CONTENT_TYPE).is_none() {
        headers.push(CONTENT_TYPE, ANY_TYPE);
    }
    Ok(Content { headers, body, event: None })
}

/// The headers of a message, less the broker's and ours, in the order of their names: the client library
/// keeps no other. Of each name the values are in the message's order.
fn headers(carried: &HeaderMap) -> Headers {
    let named = carried.iter().map(|(name, values)| (AsRef::<str>::as_ref(name), values));
    let mut all: Vec<_> =
        named.filter(|(name, _)| !is_ours(name)).map(|(name, values)| (start(name), name, values)).collect();
    // The first letters decide as a rule.
    all.sort_unstable_by(|(one_start, one, _), (other_start, other, _)| {
        let by_start = one_start.cmp(other_start);
        by_start.then_with(|| lower(one).cmp(lower(other))).then_with(|| one.cmp(other))
    });
    all.into_iter().map(|(_, name, values)| (name, values.iter().map(|value| value.as_str()))).collect()
}

/// Its first letters in lower case, as one number.
fn start(name: &str) -> u64 {
    let mut start = [0; 8];
    start.iter_mut().zip(lower(name)).for_each(|(place, byte)| *place = byte);
    u64::from_be_bytes(start)
}

/// Its letters in lower case.
fn lower(name: &str) -> impl Iterator<Item = u8> {
    name.bytes().map(|byte| byte.to_ascii_lowercase())
}

#[cfg(test)]
mod tests;
