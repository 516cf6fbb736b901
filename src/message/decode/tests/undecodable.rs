use super::*;

fn refused(message: &str) -> Undecodable {
    decode(message.as_bytes()).expect_err(message)
}

#[test]
fn a_path_that_leaves_its_function_is_undecodable() {
    for path in
        ["..", ".", "/..", "/.", "/a/../b", "/a/./b", "/a/..", "../", "/a\\..\\b", "\\..", "/..\\", "/a\0b"]
    {
        let message = serde_json::json!({"Function": "echo", "Path": path, "Header": {"X-Call-Id": ["7"]}});
        let error = refused(&message.to_string());
        assert!(error.reason.starts_with("the path "), "{error}");
        assert_eq!(error.function.as_ref().map(FunctionName::as_str), Some("echo"));
        assert_eq!(error.call_id.as_deref(), Some("7"));
    }
}

#[test]
fn a_message_without_a_valid_name_is_undecodable() {
    let names = [
        r#""""#,
        "null",
        r#"".""#,
        r#""a..b""#,
        r#""../system/functions""#,
        r#""a b""#,
        r#""\u0000""#,
        r#""/echo""#,
    ];
    for name in names {
        let error = refused(&format!(r#"{{"Function":{name},"Header":{{"X-Call-Id":["7"]}}}}"#));
        assert!(error.reason.contains("function"), "{error}");
        assert_eq!((error.function, error.call_id.as_deref()), (None, Some("7")));
    }
    assert_eq!(refused("{}").reason, "the message names no function");
}

#[test]
fn what_is_no_message_is_undecodable() {
    let check = |message: &str, why: &str| {
        let error = refused(message);
        assert!(error.reason.starts_with(why), "{error}");
        assert!(error.reason.len() <= 200 && !error.reason.contains(['\n', '\r']), "{error}");
    };
    check("", "the message is cut off");
    check(r#"{"Function":"echo""#, "the message is cut off");
    check("hello", "the message is not valid JSON");
    check(r#"{"Function":"echo"} x"#, "the message is not valid JSON");
    check("{'Function':'echo'}", "the message is not valid JSON");
    for other in ["null", "1", "true", r#""Function""#, "[]"] {
        check(other, "the message is not a JSON object");
    }
    check(&"[".repeat(100_000), "the message is not a JSON object");
    check(&format!(r#"{{"Header":{}"#, "[".repeat(100_000)), "Header is not an object of lists of strings");
    check(&format!(r#"{{"Later":{}"#, "[".repeat(100_000)), "the message is cut off");
    check(&format!(r#"{{"CallbackUrl":{{"User":{}"#, "[".repeat(100_000)), "the message is cut off");
    assert!(decode(b"{\"Function\":\"echo\",\"Path\":\"\xff\"}").is_err());
}

#[test]
fn a_field_of_the_wrong_type_is_named_and_its_owner_too() {
    let check = |field: &str, why: &str| {
        let error = refused(&format!(r#"{{"Header":{{"X-Call-Id":["7"]}},{field},"Function":"echo"}}"#));
        assert!(error.reason.starts_with(why), "{error}");
        assert!(!error.reason.contains("secret"), "{error}");
        assert_eq!(error.function.as_ref().map(FunctionName::as_str), Some("echo"), "{field}");
        assert_eq!(error.call_id.as_deref(), Some("7"), "{field}");
    };
    check(r#""Body":12"#, "Body is not");
    check(r#""Body":["secret"]"#, "Body is not");
    check(r#""Path":{"secret":1}"#, "Path is not");
    check(r#""QueryString":1"#, "QueryString is not");
    check(r#""Annotations":{"a":5}"#, "Annotations is not");
    check(r#""Labels":["secret"]"#, "Labels is not");
    check(r#""Environment":"secret""#, "Environment is not");
    check(r#""CallbackUrl":"http://user:secret@host/""#, "CallbackUrl is not");
    check(r#""CallbackUrl":{"Host":["secret"]}"#, "CallbackUrl is not");
    check(r#""Method":{}"#, "Method is not");
    check(r#""Host":7"#, "Host is not");
    check(r#""QueueName":[]"#, "QueueName is not");
}

#[test]
fn a_wrong_header_does_not_hide_the_function() {
    let error = refused(r#"{"Header":{"X-Call-Id":["7"],"A":"secret"},"Function":"echo"}"#);
    assert!(error.reason.starts_with("Header is not an object of lists of strings"), "{error}");
    assert_eq!(error.function.as_ref().map(FunctionName::as_str), Some("echo"));
}

#[test]
fn a_body_in_another_alphabet_is_undecodable() {
    for text in ["aGVsbG8", "-_-_", "a", "aGVs bG8=", "====", "aGVsbG8=x", "é"] {
        let error = refused(&format!(r#"{{"Body":"{text}","Function":"echo"}}"#));
        assert!(error.reason.starts_with("Body is not a string of standard base64"), "{text}: {error}");
    }
}
