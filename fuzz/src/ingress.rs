//! A request to the ingress. Input: method and target; headers, a line each; an empty line; its body.

use std::{ffi::OsString, sync::LazyLock, time::SystemTime};

use bytes::Bytes;
use http::Request;
use queue_worker::{
    config::{Queue, load},
    ingress::record,
    message::{arrival::Arrival, form::Form, names, successor::Message},
};

/// A queue of each form.
static QUEUES: LazyLock<Vec<Queue>> = LazyLock::new(|| {
    let settings = [
        ("queue_name", "faas-request,orders,events"),
        ("input", "openfaas,http,cloudevents"),
        ("nats_filter_subject", "faas-request,orders.*.created,events.>"),
        ("target_url", ",http://shop/{1},http://shop/"),
    ];
    let settings = settings.map(|(name, value)| (OsString::from(name), OsString::from(value)));
    load([], settings).expect("settings").config.queues
});

/// A request is refused in a few words; or what is stored of it commands the broker nothing, is its queue's,
/// and has what was sent.
pub fn check(data: &[u8]) {
    let (head, body) = data.split_at(data.windows(2).position(|two| two == b"\n\n").unwrap_or(data.len()));
    let body = Bytes::copy_from_slice(body.get(2..).unwrap_or_default());
    let mut lines = head.split(|byte| *byte == b'\n');
    let first = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let Some((method, target)) = first.split_once(' ') else { return };
    let mut request = Request::builder().method(method).uri(target);
    for line in lines {
        let (name, value) = line.split_at(line.iter().position(|byte| *byte == b':').unwrap_or(line.len()));
        request = request.header(name, value.get(1..).unwrap_or_default().trim_ascii());
    }
    let Ok(request) = request.body(body.clone()) else { return };
    let to_function = request.uri().path().starts_with("/async-function/");
    let record = match record(request, &QUEUES, SystemTime::UNIX_EPOCH) {
        Ok(record) => record,
        Err(refusal) => return super::is_showable(&refusal, 400),
    };
    let queue = QUEUES.iter().find(|queue| queue.stream == record.stream).expect("a queue's stream");
    assert!(names::covers(&queue.filter_subject, &record.subject), "{}", record.subject);
    assert!(!record.subject.contains(|c: char| c.is_whitespace() || c.is_control() || "*>".contains(c)));
    for (name, values) in record.headers.iter() {
        let name = name.to_string().to_ascii_lowercase();
        assert!(!name.starts_with("nats-") && !name.starts_with("queue-worker-"), "{name}");
        assert!(!values.is_empty() && values.iter().all(|value| !value.as_str().contains(['\r', '\n'])));
    }
    let is_call = matches!(queue.form, Form::OpenFaas);
    assert!(is_call || record.payload == body);
    let arrival = Arrival {
        subject: record.subject.clone(),
        headers: record.headers.clone(),
        payload: record.payload.clone(),
        stream: record.stream.as_str().into(),
        sequence: 1,
        stored: SystemTime::UNIX_EPOCH,
    };
    let invocation = match Message::of(&queue.form, &arrival, false).invocation() {
        Ok(invocation) => invocation,
        // Whether it is an event the worker says, and long names it refuses.
        Err(undecodable) => return assert!(!is_call, "{}", undecodable.reason),
    };
    assert!(invocation.call_id().is_some());
    assert!(!to_function || invocation.body == body);
}
