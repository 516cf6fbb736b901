use proptest::prelude::*;

use super::*;

fn any_path() -> impl Strategy<Value = String> {
    ".{0,12}".prop_map(|path: String| if check_path(&path).is_ok() { path } else { "/a".to_owned() })
}

fn any_texts() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map(".{0,8}", ".{0,8}", 0..3)
}

fn any_headers() -> impl Strategy<Value = Headers> {
    let values = prop::collection::vec(".{0,8}", 0..3);
    // Names are drawn into a map, because of two that are the same only one would be left.
    prop::collection::hash_map(".{0,8}", values, 0..5).prop_map(|headers| headers.into_iter().collect())
}

fn any_callback() -> impl Strategy<Value = CallbackUrl> {
    let text = || ".{0,8}";
    let texts = (text(), text(), text(), text(), text(), text(), text());
    ("[a-z]{1,5}", texts, any::<[bool; 3]>()).prop_map(
        |(
            scheme,
            (opaque, host, path, raw_path, raw_query, fragment, raw_fragment),
            [user, omit_host, force_query],
        )| CallbackUrl {
            scheme,
            opaque,
            user,
            host,
            path,
            raw_path,
            omit_host,
            force_query,
            raw_query,
            fragment,
            raw_fragment,
            whole: None,
        },
    )
}

fn any_invocation() -> impl Strategy<Value = Invocation> {
    let texts = (".{0,8}", ".{0,8}", ".{0,8}", ".{0,8}");
    let called = ("[-A-Za-z0-9_]{1,8}(\\.[-A-Za-z0-9_]{1,8}){0,2}", any_path(), any_headers());
    let body = prop::collection::vec(any::<u8>(), 0..40);
    (called, texts, body, any::<bool>(), any_callback(), [any_texts(), any_texts(), any_texts()]).prop_map(
        |(
            (function, path, headers),
            (query, method, host, queue_name),
            body,
            called_back,
            callback,
            texts,
        )| {
            let [annotations, labels, environment] = texts;
            Invocation {
                function: function.parse().unwrap(),
                url: None,
                path,
                query,
                headers,
                event: None,
                body: body.into(),
                callback: called_back.then_some(callback),
                annotations,
                labels,
                environment,
                method,
                host,
                queue_name,
            }
        },
    )
}

/// Whatever was decoded, all that is asked of it can be answered.
fn ask_everything(invocation: &Invocation) {
    let path = invocation.target_path();
    assert!(path.is_empty() || path.starts_with('/'));
    assert!(path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\\\"<>".contains(&byte)));
    assert_ne!(invocation.call_id(), Some(""));
    if let Some(Ok(url)) = invocation.callback_url() {
        assert!(matches!(url.scheme(), "http" | "https") && url.has_host());
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(invocation in any_invocation()) {
        ask_everything(&invocation);
        prop_assert_eq!(decode(&invocation.encode()), Ok(invocation));
    }

    #[test]
    fn any_bytes_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn a_damaged_message_never_panics(
        which in 0..CAPTURED.len(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut message = CAPTURED[which].to_vec();
        for (place, byte) in damage {
            let place = place.index(message.len());
            message[place] = byte;
        }
        message.truncate(cut.map_or(message.len(), |cut| cut.index(message.len())));
        match decode(&message) {
            Ok(invocation) => ask_everything(&invocation),
            Err(error) => {
                prop_assert!(error.reason.len() <= 200 && !error.reason.contains(char::is_control));
            }
        }
    }

    #[test]
    fn an_encoded_path_decodes_to_itself(path in any_path()) {
        let mut invocation = decoded(r#"{"Function":"echo"}"#);
        invocation.path = path.clone();
        let encoded = invocation.target_path();
        let plain = percent_encoding::percent_decode_str(&encoded).decode_utf8().unwrap();
        prop_assert_eq!(plain.trim_start_matches('/'), path.trim_start_matches('/'));
    }

    #[test]
    fn a_name_is_one_token(name in "[-A-Za-z0-9_]{1,8}(\\.[-A-Za-z0-9_]{1,8}){0,3}") {
        let function: FunctionName = name.parse().unwrap();
        prop_assert!(!function.token().contains(['.', '*', '>', ' ']));
    }
}
