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
    for (name, values) in event.headers.iter() {
        if let Some(attribute) = name.strip_prefix("ce-") {
            let mut all = values.clone();
            let (Some(value), None) = (all.next(), all.next()) else {
                panic!("{attribute} stands there twice")
            };
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
    let of_events = |value: &str| value.trim().to_ascii_lowercase().starts_with("application/cloudevents");
    if event.headers.values("content-type").any(of_events) {
        return;
    }
    let again = Arrival { headers, payload: event.body.clone(), ..arrival.clone() };
    let again = read(&again).expect("what is sent is an event");
    assert_eq!(again.body, event.body);
    let attributes = |event: &Invocation| event.headers.only(|name| name.starts_with("ce-"));
    assert_eq!(attributes(&again), attributes(&event));
}

fn of<'e>(event: &'e Invocation, attribute: &str) -> Option<&'e str> {
    let name = format!("ce-{attribute}");
    event.headers.pairs().find(|(other, _)| *other == name).map(|(_, value)| value)
}
