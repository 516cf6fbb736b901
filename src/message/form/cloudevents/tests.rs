use std::collections::BTreeMap;

use super::*;

/// What a message becomes: its headers, a value each, in lower case, and its body.
fn sent(headers: &[(&str, &str)], payload: &str) -> Result<(BTreeMap<String, String>, String), String> {
    let headers = headers.iter().map(|(name, value)| (name, [value]));
    let content = content(headers.collect(), Bytes::copy_from_slice(payload.as_bytes()));
    let Content { headers, body, .. } = content.map_err(|none| none.reason)?;
    let one = |(name, value): (&str, &str)| (name.to_ascii_lowercase(), value.to_owned());
    assert_eq!(headers.pairs().count(), headers.len());
    Ok((headers.pairs().map(one).collect(), String::from_utf8(body.to_vec()).unwrap()))
}

#[track_caller]
fn check(headers: &[(&str, &str)], payload: &str, expected: &[(&str, &str)], body: &str) {
    let (found, sent) = sent(headers, payload).unwrap();
    let expected = expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    assert_eq!((found, sent.as_str()), (expected.collect(), body), "{payload}");
}

const BINARY: [(&str, &str); 4] = [
    ("ce-specversion", "1.0"),
    ("ce-type", "com.example.someevent"),
    ("ce-source", "/mycontext"),
    ("ce-id", "1"),
];

/// An event in JSON with these members more.
fn json(more: &str) -> String {
    format!(r#"{{"specversion":"1.0","type":"com.example.someevent","source":"/mycontext","id":"1"{more}}}"#)
}

/// The headers of an event in binary mode, and these.
fn with<'t>(more: &[(&'t str, &'t str)]) -> Vec<(&'t str, &'t str)> {
    BINARY.iter().chain(more).copied().collect()
}

/// The examples of the JSON format's own text (its section 3.2), and the values it speaks of.
#[test]
fn an_event_in_json_is_sent_in_binary_mode() {
    for (more, media_type, body) in [
        (
            r#","datacontenttype":"application/xml","data":"<much wow=\"xml\"/>""#,
            Some("application/xml"),
            "<much wow=\"xml\"/>",
        ),
        (
            r#","datacontenttype":"application/json","data":{ "a" : [1.50, null] }"#,
            Some("application/json"),
            "{ \"a\" : [1.50, null] }",
        ),
        (
            r#","datacontenttype":"application/geo+json;x=y","data":"text""#,
            Some("application/geo+json;x=y"),
            "\"text\"",
        ),
        (r#","data":1.5"#, Some("application/json"), "1.5"),
        (r#","data":"I'm just a string""#, Some("application/json"), "\"I'm just a string\""),
        (r#","data":null"#, Some("application/json"), "null"),
        (r#","data_base64":"eyAieHl6IjogMTIzIH0=""#, None, "{ \"xyz\": 123 }"),
        (
            r#","datacontenttype":"application/vnd.apache.thrift.binary","data_base64":"aGk=""#,
            Some("application/vnd.apache.thrift.binary"),
            "hi",
        ),
        (r#","datacontenttype":"text/plain""#, Some("text/plain"), ""),
        ("", None, ""),
    ] {
        let expected: Vec<_> =
            media_type.map(|media_type| ("content-type", media_type)).into_iter().collect();
        for headers in [&[][..], &[("Content-Type", "application/cloudevents+json; charset=UTF-8")]] {
            check(headers, &json(more), &with(&expected), body);
        }
    }
}

#[test]
fn extensions_are_kept_in_their_canonical_form() {
    let more = r#","comexampleextension1":"va lue€","comexampleothervalue":-5,"flag":true,"unset":null,"time":"2018-04-05T17:31:00Z""#;
    let expected = with(&[
        ("ce-comexampleextension1", "va%20lue%E2%82%AC"),
        ("ce-comexampleothervalue", "-5"),
        ("ce-flag", "true"),
        ("ce-time", "2018-04-05T17:31:00Z"),
    ]);
    check(&[], &json(more), &expected, "");
}

#[test]
fn an_event_in_headers_is_sent_as_it_is() {
    let more = [("CE-Subject", "a%20b%25"), ("ce-quoted", "\"a \\\"b\\\"\""), ("X-Other", "1")];
    let expected = [("ce-subject", "a%20b%25"), ("ce-quoted", "a%20%22b%22"), ("x-other", "1")];
    check(&with(&more), "{not json", &with(&expected), "{not json");
    // The data's type, where the NATS binding has it, and where HTTP's has it.
    for name in ["ce-datacontenttype", "Content-Type"] {
        check(&with(&[(name, "text/csv; x=y")]), "a,b", &with(&[("content-type", "text/csv; x=y")]), "a,b");
    }
    let both = [("content-type", "a/b"), ("ce-datacontenttype", "c/d")];
    check(&with(&both), "", &with(&[("content-type", "c/d")]), "");
}

#[test]
fn what_is_no_event_is_said_in_a_few_words() {
    let refused = |headers: &[(&str, &str)], payload: &str, why: &str| {
        assert_eq!(sent(headers, payload), Err(why.to_owned()), "{headers:?} {payload}");
    };
    let neither = "the message is neither an event in JSON nor one in headers";
    for payload in ["", "hello", "[]", "{", "null", "\"x\"", "{}x"] {
        refused(&[], payload, neither);
    }
    refused(&[("content-type", "application/cloudevents+json")], "{\0", neither);
    refused(&[], "{}", "the event has no specversion");
    let batch = [("content-type", "Application/CloudEvents-Batch+json")];
    refused(&batch, "[]", "it is a batch of events, and only one at a time is sent by NATS");
    let avro = [("content-type", "application/cloudevents+avro")];
    refused(&avro, "x", "the event is in a format that is not JSON");
    for missing in ["id", "source", "type", "specversion"] {
        let headers: Vec<_> =
            BINARY.into_iter().filter(|(name, _)| *name != format!("ce-{missing}")).collect();
        refused(&headers, "", &format!("the event has no {missing}"));
    }
    refused(&with(&[("ce-bad_name", "1")]), "", "an attribute's name has other characters than a-z and 0-9");
    refused(&with(&[("CE-ID", "2")]), "", "the event's id stands there more than once");
    refused(&with(&[("ce-subject", "%C0%A0")]), "", "the event's subject is no percent-encoded UTF-8");
    refused(&with(&[("ce-time", "yesterday")]), "", "the event's time is no time of RFC 3339");
    for (more, why) in [
        (r#","id":"2","id":"""#, "the event has no id"),
        (r#","subject":{}"#, "the event's subject is no string, no integer and no boolean"),
        (r#","other":1.5"#, "an extension of the event is no string, no integer and no boolean"),
        (r#","Other":"1""#, "an attribute's name has other characters than a-z and 0-9"),
        (r#","data":1,"data_base64":"""#, "the event has data and data_base64"),
        (r#","data_base64":"*""#, "the event's data_base64 is no base64"),
        (
            r#","datacontenttype":"text/plain","data":1"#,
            "the event's data is no string, and its type is not JSON's",
        ),
    ] {
        refused(&[], &json(more), why);
    }
    let older = json("").replace("1.0", "0.3");
    refused(&[], &older, "the event's specversion is not 1.0");
    // Whose it was is known all the same.
    let none = content(Headers::default(), Bytes::from(json(r#","Other":1"#))).err().unwrap();
    let name = none.event.unwrap();
    assert_eq!((name.id.as_deref(), name.source.as_deref()), (Some("1"), Some("/mycontext")));
}
