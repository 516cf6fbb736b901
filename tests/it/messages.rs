//! Messages as gateways of all versions write them, and as none does: what a function sees is what contract
//! and sender say.
//!
//! The expectation is worked out here from the JSON of the message, and not with the worker's own reader of
//! it.

use async_nats::HeaderMap;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::support::{Answer, Call, DEAD, Gateway, Nats, QUEUE, Worker};

/// Headers of a message that never reach a function: those of the caller's connection, and the callback's
/// URL.
const LEFT: [&str; 15] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "host",
    "content-length",
    "expect",
    "x-callback-url",
    "x-retry",
    "x-retry-max",
];

/// All fields that a message may have, filled. The function is named after the variant, so that its call is
/// known.
fn message() -> Map<String, Value> {
    let Value::Object(message) = json!({
        "Header": {
            "Accept": ["*/*"], "Authorization": ["Bearer x"], "Content-Length": ["5"],
            "Content-Type": ["text/plain"], "Cookie": ["a=b; c=d"], "Expect": ["100-continue"],
            "User-Agent": ["curl/7.88.1"], "X-Call-Id": ["the-caller-s"],
            "X-Start-Time": ["1795303291416000271", "1795303291416000272"], "X-Twice": ["2", "1", "2"],
        },
        "Host": "gateway.example:8080",
        "Body": BASE64_STANDARD.encode("hello"),
        "Method": "POST",
        "Path": "/a/b c",
        "QueryString": "x=1&y=%2F",
        "Function": "f",
        "QueueName": "slow-queue",
        "Annotations": {"com.openfaas.retry.attempts": "4"},
        "Labels": {"a": "b"},
        "Environment": {"max_inflight": "1"},
        "CallbackUrl": null,
    }) else {
        unreachable!("a literal object")
    };
    message
}

fn with(name: &str, value: Value) -> Map<String, Value> {
    let mut message = message();
    message.insert(name.to_owned(), value);
    message
}

fn without(name: &str) -> Map<String, Value> {
    let mut message = message();
    message.remove(name);
    message
}

/// What a message that can be called says to the gateway: request line, headers in order, body.
fn expected(message: &Map<String, Value>) -> (String, Vec<(String, String)>, Vec<u8>) {
    let text = |name: &str| message.get(name).and_then(Value::as_str).unwrap_or_default();
    let path: String = text("Path").bytes().map(in_path).collect();
    let slash = if path.is_empty() || path.starts_with('/') { "" } else { "/" };
    let query =
        if text("QueryString").is_empty() { String::new() } else { format!("?{}", text("QueryString")) };
    let start = format!("POST /function/{}{slash}{path}{query} HTTP/1.1", text("Function"));
    let headers = message.get("Header").and_then(Value::as_object).cloned().unwrap_or_default();
    let headers = headers
        .into_iter()
        .filter(|(name, _)| !LEFT.contains(&name.to_lowercase().as_str()))
        .flat_map(|(name, values)| {
            let values = values.as_array().cloned().unwrap_or_default();
            values
                .into_iter()
                .map(move |value| (name.to_lowercase(), value.as_str().unwrap_or_default().to_owned()))
        });
    (start, headers.collect(), BASE64_STANDARD.decode(text("Body")).unwrap())
}

/// A byte as it stands in a path (RFC 3986, section 3.3).
fn in_path(byte: u8) -> String {
    let plain = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte);
    if plain { char::from(byte).to_string() } else { format!("%{byte:02X}") }
}

/// Compares a call with its message.
fn compare(variant: &str, message: &Map<String, Value>, call: &Call, gateway: &Gateway) {
    let (start, headers, body) = expected(message);
    assert_eq!(call.request.start, start, "{variant}");
    assert!(call.request.body == body, "{variant}: the body, of {} bytes", body.len());
    let seen = call.request.headers.iter().map(|(name, value)| (name.to_lowercase(), value.clone()));
    let framing = ["host", "content-length", "x-retry", "x-retry-max"];
    let (mut framing, mut passed): (Vec<_>, Vec<_>) =
        seen.partition(|(name, _)| framing.contains(&name.as_str()));
    framing.sort();
    let attempts = message
        .get("Annotations")
        .and_then(|annotations| annotations["com.openfaas.retry.attempts"].as_str());
    let retry_max = if attempts == Some("4") { "3" } else { "9" };
    let ours = [
        ("content-length", &*body.len().to_string()),
        ("host", &gateway.address().to_string()),
        ("x-retry", "0"),
        ("x-retry-max", retry_max),
    ];
    assert_eq!(
        framing,
        ours.map(|(name, value)| (name.to_owned(), value.to_owned())),
        "{variant}: what the worker adds"
    );
    if !headers.iter().any(|(name, value)| name == "x-call-id" && !value.is_empty()) {
        let place = passed
            .iter()
            .position(|(name, _)| name == "x-call-id")
            .unwrap_or_else(|| panic!("{variant}: no X-Call-Id"));
        let (_, made) = passed.remove(place);
        assert!(Uuid::parse_str(&made).is_ok_and(|id| id.get_version_num() == 5), "{variant}: {made}");
    }
    assert_eq!(passed, headers, "{variant}: the message's own headers, in order and number");
}

/// Sends each message through one worker and compares what becomes of it: a call, or an undecodable dead
/// letter that keeps its payload.
async fn check(callable: Vec<(String, Map<String, Value>)>, undecodable: Vec<(String, Map<String, Value>)>) {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let _worker = Worker::of(&nats, &gateway).start().await;
    let name = |n: usize| json!(format!("f{n}"));
    let callable: Vec<_> = callable
        .into_iter()
        .enumerate()
        .map(|(n, (variant, mut message))| {
            let _ = message.insert("Function".to_owned(), name(n));
            (variant, message)
        })
        .collect();
    let mut kept = Vec::new();
    for (_, message) in callable.iter().chain(&undecodable) {
        nats.publish_raw(QUEUE, HeaderMap::new(), serde_json::to_vec(message).unwrap()).await;
    }
    let dead = nats.dead_letters(undecodable.len() as u64).await;
    for dead in &dead {
        assert_eq!(dead.expect("Queue-Worker-Cause"), "undecodable", "{dead:?}");
        kept.push(dead.payload.to_vec());
    }
    for (variant, message) in &undecodable {
        assert!(kept.contains(&serde_json::to_vec(message).unwrap()), "{variant} is not in {DEAD} as it was");
    }
    let calls = gateway.calls();
    assert_eq!(calls.len(), callable.len());
    for (n, (variant, message)) in callable.iter().enumerate() {
        let call = calls
            .iter()
            .find(|call| call.function() == name(n))
            .unwrap_or_else(|| panic!("{variant} is not called"));
        compare(variant, message, call, &gateway);
    }
}

#[tokio::test]
async fn each_field_may_be_absent_null_or_empty() {
    let mut callable = vec![("whole".to_owned(), message())];
    let mut undecodable = Vec::new();
    for (name, value) in message() {
        let empty = if value.is_object() { json!({}) } else { json!("") };
        let variants =
            [("absent", without(&name)), ("null", with(&name, Value::Null)), ("empty", with(&name, empty))];
        let list = if name == "Function" { &mut undecodable } else { &mut callable };
        list.extend(variants.map(|(how, message)| (format!("{name} {how}"), message)));
    }
    callable.push(("CallbackUrl an empty object".to_owned(), with("CallbackUrl", json!({}))));
    assert_eq!((callable.len(), undecodable.len()), (35, 3));
    check(callable, undecodable).await;
}

#[tokio::test]
async fn a_field_of_the_wrong_type_makes_a_message_undecodable_and_it_is_kept_whole() {
    let mut undecodable = Vec::new();
    for (name, value) in message() {
        let mut wrong = vec![json!(7), json!(["x"]), json!(true)];
        wrong.push(if value.is_string() { json!({"a": "b"}) } else { json!("text") });
        undecodable.extend(wrong.into_iter().map(|wrong| (format!("{name} is {wrong}"), with(&name, wrong))));
    }
    for (name, wrong) in [
        ("Header", json!({"A": "no list"})),
        ("Header", json!({"A": [1]})),
        ("Annotations", json!({"a": 1})),
        ("Body", json!("no base64!")),
        ("CallbackUrl", json!({"Host": 1})),
        ("Path", json!("/a/../b")),
        ("Path", json!("/./b")),
        ("Path", json!("/a\0b")),
        ("Function", json!("../system/functions")),
        ("Function", json!("a b")),
    ] {
        undecodable.push((format!("{name} is {wrong}"), with(name, wrong)));
    }
    check(Vec::new(), undecodable).await;
}

#[tokio::test]
async fn a_path_is_encoded_again_and_a_query_passes_as_it_is() {
    let paths = [
        "/",
        "/a",
        "a",
        "/a/",
        "//a",
        "/a//b",
        "/a b",
        "/a?b",
        "/a#b",
        "/100%",
        "/%2F",
        "/a%20b",
        "/ä/日本",
        "/a\\b",
        "/a\"<>^`{|}",
        "/..a/b..",
        "/a;b=c,d:e@f",
    ];
    let queries = ["a=b", "a=b%20c&d=/?", "a", "=", "&&", "a=+&b=%zz", "a[]=1&a[]=2", "%3F", "?a"];
    let paths = paths.map(|path| (format!("the path {path}"), with("Path", json!(path))));
    let queries = queries.map(|query| (format!("the query {query}"), with("QueryString", json!(query))));
    check(paths.into_iter().chain(queries).collect(), Vec::new()).await;
}

#[tokio::test]
async fn of_the_callers_headers_those_of_its_connection_stay_behind() {
    let mut callable = Vec::new();
    for header in LEFT {
        // Names match in any case.
        for name in [header.to_owned(), header.to_uppercase()] {
            let mut message = message();
            message["Header"][&name] = json!(["left behind"]);
            callable.push((name, message));
        }
    }
    for (name, values) in [
        ("Content-Length", json!(["1"])),
        ("Content-Length", json!(["5", "9999"])),
        ("Transfer-Encoding", json!(["chunked"])),
        ("Accept-Encoding", json!(["gzip"])),
        ("X-Empty", json!([])),
        ("X-Empty", json!([""])),
        ("Traceparent", json!(["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"])),
    ] {
        let mut message = message();
        message["Header"][name] = values.clone();
        callable.push((format!("{name} is {values}"), message));
    }
    check(callable, Vec::new()).await;
}

#[tokio::test]
async fn a_body_may_be_as_large_as_a_gateway_takes_it() {
    let large: Vec<u8> = (0..780_000_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
    let bodies = [vec![], vec![0, 255, 10], large]
        .map(|body| (format!("{} bytes", body.len()), with("Body", json!(BASE64_STANDARD.encode(body)))));
    check(bodies.into(), Vec::new()).await;
}

#[tokio::test]
async fn keys_in_any_case_and_keys_of_other_times_are_read_past() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let _worker = Worker::of(&nats, &gateway).start().await;
    let whole = with("Function", json!("f"));
    let cased = |case: fn(&str) -> String| {
        whole.iter().map(|(key, value)| (case(key), value.clone())).collect::<Map<_, _>>()
    };
    let mut later = whole.clone();
    later.insert("Deadline".to_owned(), json!({"deep": [1, null, {"x": "y"}]}));
    for message in [
        cased(|key| key.to_lowercase()),
        cased(|key| key.to_uppercase()),
        later,
        with("Method", json!("PUT")),
    ] {
        nats.publish_raw(QUEUE, HeaderMap::new(), serde_json::to_vec(&message).unwrap()).await;
    }
    let calls = gateway.await_calls(4).await;
    nats.await_counts([0, 0, 0]).await;
    for call in &calls {
        compare("any case", &whole, call, &gateway);
    }
}
