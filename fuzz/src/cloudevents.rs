//! A message that is an event. Input: as for `envelope`.

use std::{str::FromStr, sync::Arc};

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use queue_worker::message::{
    arrival::Arrival, decode::Invocation, form::Form, successor::Message, target::Target,
};

/// It is refused in a few words; or what is sent is an event in the binary mode of HTTP, and read again it is
/// the same.
pub fn check(data: &[u8]) {
    let arrival = super::envelope::arrival(data);
    let url = "http://shop/".parse().expect("a URL");
    let form = Form::CloudEvents(Arc::new(Target::new("orders", ">", url).expect("a target")));
    let read = |arrival: &Arrival| Message::of(&form, arrival, false).invocation();
    let event = match read(&arrival) {
        Ok(invocation) => invocation,
        Err(undecodable) => return super::is_showable(&undecodable.reason, 200),
    };
    for attribute in ["id", "source", "specversion", "type"] {
        assert!(of(&event, attribute).is_some_and(|value| !value.is_empty()), "no {attribute}");
    }
    let mut headers = HeaderMap::new();
    for (name, values) in &event.headers {
        if let Some(attribute) = name.strip_prefix("ce-") {
            let [value] = values.as_slice() else { panic!("{attribute} stands there twice") };
            assert!(attribute.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()));
            assert!(value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"'), "{value:?}");
        }
        for value in values {
            let (Ok(name), Ok(value)) = (HeaderName::from_str(name), HeaderValue::from_str(value)) else {
                return;
            };
            headers.append(name, value);
        }
    }
    // The data may itself be an event in a format of theirs.
    let media_type = event.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    if media_type.is_some_and(|(_, values)| {
        values.iter().any(|value| value.trim().to_ascii_lowercase().starts_with("application/cloudevents"))
    }) {
        return;
    }
    let again = Arrival { headers, payload: event.body.clone(), ..arrival.clone() };
    let again = read(&again).expect("what is sent is an event");
    assert_eq!(again.body, event.body);
    let attributes = |event: &Invocation| {
        let headers = event.headers.iter().filter(|(name, _)| name.starts_with("ce-"));
        headers.cloned().collect::<Vec<_>>()
    };
    assert_eq!(attributes(&again), attributes(&event));
}

fn of<'e>(event: &'e Invocation, attribute: &str) -> Option<&'e str> {
    let name = format!("ce-{attribute}");
    let header = event.headers.iter().find(|(other, _)| *other == name);
    header.and_then(|(_, values)| values.first()).map(String::as_str)
}
