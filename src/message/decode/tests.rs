mod properties;
mod undecodable;

use super::*;

/// Messages that real gateways wrote.
const CAPTURED: [&[u8]; 7] = [
    include_bytes!("../../../tests/testdata/msg-1.json"),
    include_bytes!("../../../tests/testdata/msg-2.json"),
    include_bytes!("../../../tests/testdata/msg-3.json"),
    include_bytes!("../../../tests/testdata/msg-4.json"),
    include_bytes!("../../../tests/testdata/msg-5.json"),
    include_bytes!("../../../tests/testdata/msg-6.json"),
    include_bytes!("../../../tests/testdata/msg-7.json"),
];

fn decoded(message: &str) -> Invocation {
    decode(message.as_bytes()).unwrap_or_else(|error| panic!("{error}: {message}"))
}

fn first<'i>(invocation: &'i Invocation, name: &str) -> Option<&'i str> {
    invocation.headers.values(name).next()
}

#[test]
fn every_captured_message_is_read_and_written_back_as_it_was() {
    for message in CAPTURED {
        let invocation = decode(message).unwrap();
        assert!(invocation.call_id().is_some());
        assert_eq!((invocation.method.as_str(), invocation.host.as_str()), ("POST", "127.0.0.1:8080"));
        // Key order and Go's escapes aside, the gateway's own JSON comes out again.
        let json = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
        assert_eq!(json(&invocation.encode()), json(message));
        assert_eq!(decode(&invocation.encode()), Ok(invocation));
    }
}

#[test]
fn a_captured_message_has_all_that_the_caller_sent() {
    let invocation = decode(CAPTURED[1]).unwrap();
    assert_eq!(invocation.function.as_str(), "echo");
    assert_eq!(invocation.path, "/a/b c");
    assert_eq!(invocation.target_path(), "/a/b%20c");
    assert_eq!(invocation.query, "x=1&y=%2F");
    assert_eq!(&invocation.body[..], br#"{"a":1}"#);
    assert_eq!(invocation.call_id(), Some("187949a7-075a-40d4-bb22-740966194126"));
    assert_eq!(first(&invocation, "x-dup"), Some("1"));
    let names: Vec<&str> = invocation.headers.iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        [
            "Accept",
            "Content-Length",
            "Content-Type",
            "User-Agent",
            "X-Call-Id",
            "X-Callback-Url",
            "X-Dup",
            "X-Start-Time"
        ]
    );
    assert_eq!(invocation.headers.values("X-Dup").collect::<Vec<_>>(), ["1", "2"]);
    let url = invocation.callback_url().unwrap().unwrap();
    assert_eq!(url.as_str(), "http://user:pw@127.0.0.1:9000/cb/path?z=1#frag");
}

#[test]
fn captured_bodies_paths_and_names_are_read() {
    assert_eq!(&decode(CAPTURED[5]).unwrap().body[..], [0x00, 0xff, 0xfe]);
    let namespaced = decode(CAPTURED[2]).unwrap();
    assert_eq!((namespaced.function.name(), namespaced.function.namespace()), ("echo", Some("openfaas-fn")));
    assert_eq!((namespaced.target_path().as_str(), namespaced.body.len()), ("/", 0));
    assert_eq!(
        decode(CAPTURED[3]).unwrap().callback_url().unwrap().unwrap().as_str(),
        "http://127.0.0.1:9000/cb7"
    );
    assert_eq!(decode(CAPTURED[0]).unwrap().callback_url(), None);
}

#[test]
fn the_form_before_2023_is_read() {
    let invocation = decoded(
        r#"{"Header":{"X-Call-Id":["1"]},"Host":"h","Body":"eA==","Method":"POST","Path":"","QueryString":"",
            "Function":"slow.openfaas-fn","QueueName":"slow-queue","CallbackUrl":null}"#,
    );
    assert_eq!((&invocation.body[..], invocation.queue_name.as_str()), (&b"x"[..], "slow-queue"));
    assert_eq!((invocation.target_path().as_str(), invocation.callback), ("", None));
}

#[test]
fn absent_null_and_empty_are_the_same() {
    let bare = decoded(r#"{"Function":"echo"}"#);
    let check =
        |field: &str| assert_eq!(decoded(&format!(r#"{{{field},"Function":"echo"}}"#)), bare, "{field}");
    for key in ["Path", "QueryString", "Body", "Method", "Host", "QueueName", "CallbackUrl"] {
        check(&format!(r#""{key}":null"#));
        check(&format!(r#""{key}":"""#));
    }
    for key in ["Header", "Annotations", "Labels", "Environment", "CallbackUrl"] {
        check(&format!(r#""{key}":null"#));
        check(&format!(r#""{key}":{{}}"#));
    }
    check(r#""CallbackUrl":{"Scheme":"","User":null,"Host":null,"OmitHost":false,"ForceQuery":null}"#);
    let lists = [r#"null"#, r#"[]"#]
        .map(|list| decoded(&format!(r#"{{"Header":{{"A":{list}}},"Function":"echo"}}"#)));
    assert_eq!(lists[0], lists[1]);
    assert_eq!(first(&lists[0], "A"), None);
    assert_eq!(first(&decoded(r#"{"Header":{"A":[null]},"Function":"echo"}"#), "A"), Some(""));
    assert_eq!(decoded(r#"{"Labels":{"a":null},"Function":"echo"}"#).labels["a"], "");
}

#[test]
fn keys_match_in_any_case_and_unknown_ones_are_ignored() {
    let invocation = decoded(
        r#"{"Later":{"deep":[[1,2,{}]]},"FUNCTION":"echo","path":"/x","queryString":"q","body":"eA==","queuename":"slow",
            "header":{"x-call-id":["7"]},"callbackURL":{"scheme":"http","HOST":"h","rawQuery":"z","Other":1},
            "annotations":{"A":"b"},"labels":{"c":"d"},"ENVIRONMENT":{"e":"f"},"HoSt":"here","method":"PUT"}"#,
    );
    assert_eq!(
        (invocation.path.as_str(), invocation.query.as_str(), &invocation.body[..]),
        ("/x", "q", &b"x"[..])
    );
    assert_eq!((invocation.call_id(), invocation.queue_name.as_str()), (Some("7"), "slow"));
    assert_eq!(invocation.callback_url().unwrap().unwrap().as_str(), "http://h/?z");
    assert_eq!((&invocation.annotations["A"], &invocation.labels["c"]), (&"b".to_owned(), &"d".to_owned()));
    assert_eq!((invocation.environment["e"].as_str(), invocation.host.as_str()), ("f", "here"));
    assert_eq!(invocation.method, "PUT");
}

#[test]
fn of_two_keys_the_last_wins() {
    assert_eq!(decoded(r#"{"Function":"a","Path":"/1","function":"b","Path":"/2"}"#).function.as_str(), "b");
    let invocation = decoded(r#"{"Header":{"A":["1"],"B":["2"],"A":["3"],"a":["4"]},"Function":"echo"}"#);
    let read: Vec<_> = invocation.headers.pairs().collect();
    assert_eq!(read, [("A", "3"), ("B", "2"), ("a", "4")]);
}

#[test]
fn bodies_are_read_as_go_reads_them() {
    let check = |text: &str, expected: &[u8]| {
        let message = format!(r#"{{"Body":"{text}","Function":"echo"}}"#);
        assert_eq!(&decoded(&message).body[..], expected, "{text}");
    };
    check("aGVsbG8=", b"hello");
    check(r"aGVs\r\nbG8=\n", b"hello");
    check("+/+/", &[0xfb, 0xff, 0xbf]);
    check("eB==", b"x");
}

#[test]
fn a_path_is_encoded_again() {
    let check = |path: &str, expected: &str| {
        let message = serde_json::json!({"Function": "echo", "Path": path}).to_string();
        assert_eq!(decoded(&message).target_path(), expected);
    };
    check("", "");
    check("/", "/");
    check("/a/", "/a/");
    check("a/b", "/a/b");
    check("//a", "//a");
    check("/a b?c#d%", "/a%20b%3Fc%23d%25");
    check("/%2e%2e/x", "/%252e%252e/x");
    check("/é\u{1}\n\\x", "/%C3%A9%01%0A%5Cx");
    check("/-._~!$&'()*+,;=:@", "/-._~!$&'()*+,;=:@");
    check("/\"<>[]^`{|}", "/%22%3C%3E%5B%5D%5E%60%7B%7C%7D");
    check("/..a/.b/...", "/..a/.b/...");
}

#[test]
fn headers_are_found_in_any_case_and_an_empty_call_id_is_none() {
    let invocation =
        decoded(r#"{"Header":{"X-Empty":[],"x-empty":["late"],"X-CALL-ID":[""]},"Function":"echo"}"#);
    assert_eq!(first(&invocation, "X-EMPTY"), Some("late"));
    assert_eq!((first(&invocation, "X-Call-Id"), invocation.call_id()), (Some(""), None));
    assert_eq!(first(&invocation, "X-Other"), None);
}

#[test]
fn the_call_id_is_the_first_that_can_be_sent_and_says_something() {
    let check = |lists: &str, expected| {
        assert_eq!(
            decoded(&format!(r#"{{"Header":{{{lists}}},"Function":"f"}}"#)).call_id(),
            expected,
            "{lists}"
        );
    };
    check(r#""X-Call-Id":["","of-the-gateway"]"#, Some("of-the-gateway"));
    check(r#""X-Call-Id":[" \t","of-the-gateway","later"]"#, Some("of-the-gateway"));
    check(r#""X-Call-Id":["a\nb","\u0000","of-the-gateway"]"#, Some("of-the-gateway"));
    check(r#""X-Call-Id":[],"x-call-id":[null,"of-the-gateway"]"#, Some("of-the-gateway"));
    check(r#""X-Call-Id":["mine","of-the-gateway"]"#, Some("mine"));
    check(r#""X-Call-Id":[" mine "]"#, Some("mine"));
    check(r#""X-Call-Id":[""," ","\r\n"]"#, None);
    let undecodable =
        decode(br#"{"Header":{"X-Call-Id":["","of-the-gateway"]},"Function":"a b"}"#).unwrap_err();
    assert_eq!(undecodable.call_id.as_deref(), Some("of-the-gateway"));
}

#[test]
fn the_callbacks_login_is_that_of_whichever_header_names_its_place() {
    let callback = r#""CallbackUrl":{"Scheme":"http","User":{},"Host":"h","Path":"/p"}"#;
    for list in [r#""","http://u:p@h/p""#, r#"" ","http://x:y@elsewhere/p","http://u:p@h/p""#] {
        let invocation =
            decoded(&format!(r#"{{"Header":{{"X-Callback-Url":[{list}]}},{callback},"Function":"f"}}"#));
        assert_eq!(invocation.callback_url().unwrap().unwrap().as_str(), "http://u:p@h/p", "{list}");
    }
}

#[test]
fn a_callback_that_cannot_be_sent_is_an_error_and_not_a_wrong_message() {
    let invocation = decoded(r#"{"CallbackUrl":{"Scheme":"ftp","Host":"secret"},"Function":"echo"}"#);
    let error = invocation.callback_url().unwrap().unwrap_err();
    assert_eq!(error, "the callback URL is neither http nor https");
}

#[test]
fn a_value_is_usable_where_http_allows_it() {
    for byte in 0..=127 {
        let value = format!("a{}b", char::from(byte));
        let headers = Headers::from_iter([("X-Call-Id", [&value])]);
        let allowed = http::HeaderValue::from_bytes(value.as_bytes()).is_ok();
        assert_eq!(headers.usable("x-call-id").is_some(), allowed, "{byte}");
    }
    let headers = Headers::from_iter([("X", ["\t\u{e9}\u{80} "])]);
    assert_eq!(headers.usable("x"), Some("\u{e9}\u{80}"));
}
