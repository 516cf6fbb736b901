//! A message that is the call itself: its payload is the body, its headers are HTTP's, and its subject says
//! where it goes.

use async_nats::HeaderMap;

use crate::message::{
    decode::{CallbackUrl, Invocation, Undecodable, usable},
    names::is_ours,
    successor::Message,
    target::Target,
};

const CONTENT_TYPE: &str = "Content-Type";
/// What is said of a body whose type nobody told.
const ANY_TYPE: &str = "application/octet-stream";

/// Reads a message.
///
/// # Errors
/// A subject that leads nowhere, and a payload that cannot be unpacked.
pub(super) fn read(message: &Message, target: &Target) -> Result<Invocation, Undecodable> {
    let mut headers = headers(&message.envelope.carried);
    let undecodable = |reason: String| Undecodable {
        function: message.envelope.subject.as_deref().and_then(|subject| target.function(subject).ok()),
        call_id: usable(&headers, "X-Call-Id").map(str::to_owned),
        reason,
    };
    let body = message.body().map_err(undecodable)?;
    // A clone without one was parked while the queue had another form, and its payload is in that.
    let Some(subject) = &message.envelope.subject else {
        return Err(undecodable("it was parked when the input of its queue was another".to_owned()));
    };
    let destination = target.destination(subject).map_err(|nowhere| undecodable(nowhere.to_string()))?;
    if usable(&headers, CONTENT_TYPE).is_none() {
        headers.push((CONTENT_TYPE.to_owned(), vec![ANY_TYPE.to_owned()]));
    }
    Ok(Invocation {
        callback: usable(&headers, "X-Callback-Url").map(CallbackUrl::written),
        url: Some(destination.url),
        query: destination.query,
        headers,
        body,
        ..Invocation::of(destination.function)
    })
}

/// The headers of a message, less the broker's and ours, in the order of their names: the client library
/// keeps no other. Of each name the values are in the message's order.
fn headers(carried: &HeaderMap) -> Vec<(String, Vec<String>)> {
    let mut headers: Vec<(String, Vec<String>)> = carried
        .iter()
        .map(|(name, values)| (AsRef::<str>::as_ref(name), values))
        .filter(|(name, _)| !is_ours(name))
        .map(|(name, values)| {
            (name.to_owned(), values.iter().map(|value| value.as_str().to_owned()).collect())
        })
        .collect();
    headers.sort_by_cached_key(|(name, _)| (name.to_ascii_lowercase(), name.clone()));
    headers
}

#[cfg(test)]
mod tests;
