use std::sync::Arc;

use async_nats::HeaderMap;

use super::*;
use crate::{
    message::{
        arrival::Arrival,
        envelope::Encoding,
        form::Form,
        header,
        names::{self, Names},
        timer::Timer,
    },
    retry::judge::Cause,
};

fn form() -> Form {
    let target = Target::new("orders", "orders.*.created", "http://shop/{1}?by={1}".parse().unwrap());
    Form::Http(Arc::new(target.unwrap()))
}

fn headers(of: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    of.iter().for_each(|(name, value)| header::add(&mut headers, name, value));
    headers
}

fn arrival(of: &[(&str, &str)], payload: &'static [u8]) -> Arrival {
    Arrival { subject: "orders.eu.created".into(), ..Arrival::example(headers(of), payload) }
}

fn read(of: &[(&str, &str)], payload: &'static [u8]) -> Invocation {
    Message::of(&form(), &arrival(of, payload), false).invocation().unwrap()
}

fn told(invocation: &Invocation) -> Vec<(&str, Vec<&str>)> {
    invocation.headers.iter().map(|(name, values)| (name, values.collect())).collect()
}

#[test]
fn payload_headers_and_subject_are_the_call() {
    let invocation =
        read(&[("X-B", "1"), ("x-a", "2"), ("X-B", "3, 4"), ("Content-Type", "text/plain")], b"{\0");
    assert_eq!((invocation.function.as_str(), &*invocation.body), ("eu", &b"{\0"[..]));
    assert_eq!((invocation.url.as_deref(), invocation.query.as_str()), (Some("http://shop/eu"), "by=eu"));
    assert_eq!(
        told(&invocation),
        [("Content-Type", vec!["text/plain"]), ("x-a", vec!["2"]), ("X-B", vec!["1", "3, 4"])]
    );
    assert_eq!((invocation.call_id(), invocation.callback_url()), (None, None));
}

#[test]
fn the_brokers_headers_and_ours_are_not_the_callers() {
    let invocation = read(
        &[("Nats-Msg-Id", "1"), ("nats-rollup", "all"), ("Queue-Worker-Hop", "9"), ("queue-worker-x", "y")],
        b"",
    );
    assert_eq!(told(&invocation), [("Content-Type", vec!["application/octet-stream"])]);
    assert!(invocation.body.is_empty());
}

#[test]
fn a_body_has_a_type_whatever_the_case_of_the_header() {
    assert_eq!(told(&read(&[("CONTENT-TYPE", "a/b")], b"")), [("CONTENT-TYPE", vec!["a/b"])]);
    assert_eq!(read(&[("content-type", "")], b"").headers.len(), 2);
}

#[test]
fn a_caller_may_give_an_id_and_a_callback() {
    let invocation = read(&[("x-call-id", " a "), ("X-Callback-Url", "http://u:p@back/x?y=z")], b"");
    assert_eq!(invocation.call_id(), Some("a"));
    assert_eq!(invocation.callback_url().unwrap().unwrap().as_str(), "http://u:p@back/x?y=z");
    assert!(read(&[("X-Callback-Url", "nonsense")], b"").callback_url().unwrap().is_err());
}

#[test]
fn a_clone_is_the_same_call_whatever_it_weighs() {
    let long = "v".repeat(9_000);
    let of = [("X-Long", long.as_str()), ("X-A", "1"), ("X-A", "2"), ("Nats-Rollup", "all")];
    let names = Names::new("orders", "orders");
    let payload: &'static [u8] = Vec::leak(b"zip ".repeat(5_000));
    let mut message = Message::of(&form(), &arrival(&of, payload), false);
    let first = message.invocation().unwrap();
    message.identify(&first.function, Some("id"));
    // As it is, and compressed and thin: either way it is the same call again.
    for (most, encoding) in [(1 << 20, Encoding::Plain), (12_000, Encoding::Gzip)] {
        let (envelope, now) = (&message.envelope, std::time::SystemTime::UNIX_EPOCH);
        let clone = message.clone_due(envelope, &names, Timer::Levels, now, now, most).unwrap();
        let parked = Arrival { subject: clone.subject, ..Arrival::example(clone.headers, clone.payload) };
        message = Message::of(&form(), &parked, true);
        message.identify(&first.function, Some("id"));
        assert_eq!(message.envelope.encoding, encoding);
        assert_eq!(message.invocation().as_ref(), Ok(&first));
    }
    let letter = message.dead_letter(&names, Cause::Exhausted, std::time::UNIX_EPOCH, 1 << 20).unwrap();
    assert_eq!(letter.subject, "orders-dead.eu");
    assert_eq!(header::said(&letter.headers, names::SUBJECT), Some("orders.eu.created"));
    assert_eq!(header::values(&letter.headers, "X-A").collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(header::said(&letter.headers, "X-Long"), Some(long.as_str()));
    // With more headers than a broker stores it fits nowhere.
    let huge = "v".repeat(65_200);
    let huge = Message::of(&form(), &arrival(&[("X-Long", huge.as_str())], b""), false);
    assert!(huge.dead_letter(&names, Cause::Exhausted, std::time::UNIX_EPOCH, 1 << 20).is_err());
}

#[test]
fn what_was_parked_in_another_form_is_no_call() {
    let parked = arrival(&[("Queue-Worker-Hop", "1"), ("X-Call-Id", "a")], b"{}");
    let why = Message::of(&form(), &parked, true).invocation().unwrap_err();
    assert_eq!(why.reason, "it was parked when the input of its queue was another");
    assert_eq!((why.function, why.call_id.as_deref()), (None, Some("a")));
}

#[test]
fn headers_stand_in_the_order_of_their_names_in_any_case() {
    let sent = ["x-bench-published", "X-B", "x-benCH-number", "Content-Type", "x-bench", "A"];
    let invocation = read(&sent.map(|name| (name, "1")), b"");
    let names: Vec<_> = told(&invocation).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["A", "Content-Type", "X-B", "x-bench", "x-benCH-number", "x-bench-published"]);
}
