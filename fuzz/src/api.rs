//! A request to the API. Input: method and target, which are read as an `Authorization`, too; an empty line;
//! its body.

use queue_worker::{api::meant, inbound::tokens::is_shown, message::letter::choice::Choice};

/// The names of what chooses letters.
const FILTER: [&str; 7] = ["function", "cause", "status", "error", "call_id", "since", "before"];

/// A request is refused in words that show nothing raw; or what it chooses is said in it: a filter that
/// nobody heeds would mean all.
pub fn check(data: &[u8]) {
    let (head, body) = data.split_at(data.windows(2).position(|two| two == b"\n\n").unwrap_or(data.len()));
    let head = String::from_utf8_lossy(head);
    let body = body.get(2..).unwrap_or_default();
    token(&head);
    let Some((method, target)) = head.split_once(' ') else { return };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let choice = match meant(method, path, query, body) {
        Ok(choice) => choice,
        Err(problem) => {
            let text = problem.to_string();
            assert!((400..500).contains(&problem["status"].as_u64().expect("a status")), "{text}");
            return super::is_showable(&text, 60_000);
        }
    };
    let written = serde_json::to_string(&choice).expect("a choice");
    for (name, _) in url::form_urlencoded::parse(query.as_bytes()) {
        if FILTER.contains(&&*name) {
            assert!(
                written.contains(&format!("\"{}\":", name.replace("call_id", "callId"))),
                "{query:?} as {written}"
            );
        }
    }
    assert_eq!(serde_json::from_str::<Choice>(&written).expect(&written), choice);
}

/// A token is shown in one way only.
fn token(value: &str) {
    if let Some((scheme, token)) = value.trim().split_once(' ') {
        let is_bearer = scheme.eq_ignore_ascii_case("bearer");
        assert_eq!(is_shown(value, token.trim()), is_bearer, "{value:?}");
        assert!(!is_shown(value, &format!("{}x", token.trim())));
    }
}
