//! CloudEvents: `input=cloudevents`.

use std::collections::BTreeMap;

use async_nats::HeaderMap;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    support::{Answer, Call, Gateway, Nats, Worker, eventually_is},
    targets::{by_region, headers},
};

/// A message that another implementation made, and what the event is (`tests/testdata/cloudevents/make.py`).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vector {
    name: String,
    headers: BTreeMap<String, String>,
    payload: String,
    attributes: BTreeMap<String, String>,
    content_type: Option<String>,
    json: Option<Value>,
    bytes: Option<String>,
}

fn vectors() -> Vec<Vector> {
    serde_json::from_str(include_str!("../testdata/cloudevents/events.json")).unwrap()
}

/// A worker for events by region.
async fn worker(nats: &Nats, gateway: &Gateway) -> Worker {
    by_region(nats, gateway, "/{1}").set("input", "cloudevents").start().await
}

/// The attributes of the event in a call's headers.
fn attributes(call: &Call) -> BTreeMap<String, String> {
    let of_event = |(name, value): &(String, String)| {
        let name = name.to_ascii_lowercase();
        let ascii = value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
        assert!(!name.starts_with("ce-") || ascii, "{name}: {value}");
        let value = percent_decode_str(value).decode_utf8().unwrap().into_owned();
        name.strip_prefix("ce-").map(|name| (name.to_owned(), value))
    };
    call.request.headers.iter().filter_map(of_event).collect()
}

#[tokio::test]
async fn events_of_another_implementation_arrive_as_what_they_are() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let _worker = worker(&nats, &gateway).await;
    for (n, vector) in vectors().into_iter().enumerate() {
        let mut sent = HeaderMap::new();
        vector.headers.iter().for_each(|(name, value)| sent.insert(name.as_str(), value.as_str()));
        let payload = BASE64_STANDARD.decode(&vector.payload).unwrap();
        nats.publish_raw("orders.eu.created", sent, payload).await;
        let call = gateway.await_ended(n + 1).await.remove(n);
        let Vector { name, .. } = vector;
        assert_eq!(attributes(&call), vector.attributes, "{name}");
        assert_eq!(call.header("content-type"), vector.content_type.as_deref(), "{name}");
        let body = &call.request.body;
        match (vector.json, vector.bytes) {
            (Some(json), _) => {
                assert_eq!(serde_json::from_slice::<Value>(body).unwrap(), json, "{name}");
            }
            (None, Some(bytes)) => assert_eq!(**body, BASE64_STANDARD.decode(bytes).unwrap(), "{name}"),
            (None, None) => panic!("{name} has no data"),
        }
    }
}

#[tokio::test]
async fn an_event_is_retried_the_same_and_told_by_its_names() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::status(500)).await;
    let worker = by_region(&nats, &gateway, "/{1}")
        .set("input", "cloudevents")
        .set("max_retry_attempts", 3)
        .start()
        .await;
    let event =
        r#"{"specversion":"1.0","id":"7 é","source":"/shop","type":"t","kind":"ext","data":{"id":1}}"#;
    nats.publish_raw("orders.eu.created", headers(&[("X-Call-Id", "mine"), ("X-Other", "1")]), event).await;
    eventually_is("letters", 1, async || nats.count("orders-dead").await).await;
    let calls = gateway.calls();
    assert_eq!(calls.iter().map(Call::retry).collect::<Vec<_>>(), [0, 1, 2]);
    for call in &calls {
        assert_eq!((call.target(), call.id(), call.header("x-other")), ("/eu", "mine", Some("1")));
        assert_eq!((call.header("ce-id"), call.header("ce-kind")), (Some("7%20%C3%A9"), Some("ext")));
        assert_eq!(
            (&*call.request.body, call.header("content-type")),
            (&b"{\"id\":1}"[..], Some("application/json"))
        );
    }
    let letter = nats.messages("orders-dead").await.remove(0);
    assert_eq!(letter.payload, event);
    assert_eq!(letter.expect("Queue-Worker-Event-Id"), "7 %C3%A9");
    assert_eq!(letter.expect("Queue-Worker-Event-Source"), "/shop");
    for line in ["Invoke ", "Dead letter"] {
        worker.await_log(&[line, "eventId=\"7 é\"", "eventSource=/shop"]).await;
    }
}

#[tokio::test]
async fn what_is_no_event_is_a_dead_letter_that_says_why() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let worker = worker(&nats, &gateway).await;
    let plain = [("ce-specversion", "1.0"), ("ce-id", "7"), ("ce-source", "/shop")];
    let json = r#"{"specversion":"1.0","id":"7","source":"/shop","type":"t","data":1,"data_base64":"aGk="}"#;
    for (n, (sent, payload, why)) in [
        (&[][..], "hello", "neither an event in JSON nor one in headers"),
        (&plain, "x", "the event has no type"),
        (&[("Content-Type", "application/cloudevents-batch+json")], "[]", "batch"),
        (&[], json, "data and data_base64"),
    ]
    .into_iter()
    .enumerate()
    {
        nats.publish_raw("orders.eu.created", headers(sent), payload).await;
        eventually_is("letters", n as u64 + 1, async || nats.count("orders-dead").await).await;
        let letter = nats.messages("orders-dead").await.remove(n);
        assert_eq!(
            (letter.expect("Queue-Worker-Cause"), letter.subject.as_str()),
            ("undecodable", "orders-dead.eu")
        );
        assert!(letter.expect("Queue-Worker-Last-Error").contains(why), "{letter:?}");
        assert_eq!(letter.payload, payload);
        sent.iter().for_each(|(name, value)| assert_eq!(letter.expect(name), *value));
        let known = payload == json || !sent.is_empty() && sent[0].0 == "ce-specversion";
        assert_eq!(letter.header("Queue-Worker-Event-Id"), known.then_some("7"), "{why}");
    }
    worker.await_log(&["Dead letter", "undecodable", "no type", "eventId=7", "eventSource=/shop"]).await;
    assert_eq!(gateway.count(), 0);
}
