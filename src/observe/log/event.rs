//! The names of an event in the log.

use std::borrow::Cow;

use url::Url;

use super::loggable;
use crate::{message::decode::EventName, text::line};

/// The most bytes of an id and of a source.
const LONGEST: usize = 256;

/// Id and source of an event, as far as they are known, and cut short where they are long.
pub(super) fn told(event: Option<&EventName>) -> (Option<&str>, Option<Cow<'_, str>>) {
    let Some(EventName { id, source }) = event else { return (None, None) };
    (id.as_deref().map(short), source.as_deref().map(of_source))
}

/// A source is a reference to a URI: of one that has them, user, password, query and fragment are not logged.
fn of_source(source: &str) -> Cow<'_, str> {
    if !source.contains(['@', '?', '#']) {
        return short(source).into();
    }
    match Url::parse(source) {
        Ok(url) => short(&loggable(&url)).to_owned().into(),
        Err(_) => {
            let place = source.split(['?', '#']).next().unwrap_or_default();
            let login = place.strip_prefix("//").and_then(|rest| rest.split_once('@'));
            match login.filter(|(login, _)| !login.contains('/')) {
                Some((_, host)) => format!("//{}", short(host)).into(),
                None => short(place).into(),
            }
        }
    }
}

fn short(text: &str) -> &str {
    line::cut(text, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_told_without_what_logs_in_there() {
        for (source, expected) in [
            ("/s", "/s"),
            ("urn:uuid:6e8bc430", "urn:uuid:6e8bc430"),
            ("https://user:pw@shop/orders?key=1#part", "https://shop/orders"),
            ("mailto:cncf@example.org", "mailto:cncf@example.org"),
            ("/orders/7?token=1#part", "/orders/7"),
            ("//user:pw@shop/orders", "//shop/orders"),
        ] {
            let event = EventName { id: None, source: Some(source.into()) };
            assert_eq!(told(Some(&event)), (None, Some(expected.into())));
        }
    }
}
