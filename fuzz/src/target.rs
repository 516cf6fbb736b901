//! The URL of a target. Input: a filter; the URL, with places for tokens; a subject; a line each.

use std::sync::Arc;

use queue_worker::message::{form::Form, successor::Message, target::Target};
use url::Url;

/// A URL is refused in a few words; or every message goes to its host, and no token leaves its place.
pub fn check(data: &[u8]) {
    let lines = super::lines(data);
    let line = |at: usize| lines.get(at).map_or("", String::as_str);
    let (filter, url, subject) = (line(0), line(1), line(2));
    let target = match url.parse().and_then(|url| Target::new("orders", filter, url)) {
        Ok(target) => target,
        Err(invalid) => return assert!(!invalid.to_string().is_empty()),
    };
    let origin = target.url().origin().clone();
    let form = Form::Http(Arc::new(target));
    let of = |subject: &str| {
        let arrival = super::envelope::arrival(format!("{subject}\n\nbody").as_bytes());
        Message::of(&form, &arrival, false).invocation()
    };
    let invocation = match of(subject) {
        Ok(invocation) => invocation,
        Err(undecodable) => return super::is_showable(&undecodable.reason, 200),
    };
    let token = invocation.function.token();
    assert!(!token.is_empty() && token.is_ascii() && !token.contains(['.', '*', '>', ' ', '/']));
    // A subject of the plainest tokens shows how many segments there are to be.
    let wanted = filter.split('.').map(Some).chain(std::iter::repeat(None));
    let plain: Vec<_> = subject
        .split('.')
        .zip(wanted)
        .map(|(token, wanted)| if wanted == Some(token) { token } else { "x" })
        .collect();
    let Ok(plain) = of(&plain.join(".")) else { return };
    let parsed = |invocation: &queue_worker::message::decode::Invocation| {
        Url::parse(invocation.url.as_deref().expect("a URL")).expect("a URL")
    };
    let (url, plain) = (parsed(&invocation), parsed(&plain));
    assert_eq!((url.origin(), url.query(), url.fragment()), (origin.origin(), None, None));
    assert!(url.username().is_empty() && url.password().is_none());
    assert_eq!(url.path().matches('/').count(), plain.path().matches('/').count());
    assert!(!invocation.query.contains('#'));
}
