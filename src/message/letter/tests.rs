use std::time::Duration;

use super::*;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// The seventh letter of the queue `q` with these headers.
pub(super) fn letter(subject: &str, told: &[(&str, &str)]) -> Letter {
    let mut headers = HeaderMap::new();
    told.iter().for_each(|(name, value)| header::add(&mut headers, name, value));
    let place = Place { stream: "q-dead", subject, sequence: 7, stored: at(100), bytes: 5 };
    Letter::read(place, &headers)
}

#[test]
fn a_letter_is_what_its_headers_tell() {
    let read = letter(
        "q-dead.f%2Ens",
        &[
            (names::CALL_ID, "a"),
            (names::CAUSE, "exhausted"),
            (names::ATTEMPTS, "2"),
            (names::LAST_STATUS, "502"),
            (names::LAST_ERROR, "the function answered 502"),
            (names::FAILED_AT, "1970-01-01T00:01:39Z"),
            (names::FIRST_SEEN, "1970-01-01T00:00:09Z"),
            (names::ORIGINAL_ID, "q:7-10"),
            (names::REDRIVES, "3"),
            (names::HISTORY, "1:timeout:60000:w-1,2:502:12:w:2"),
            (names::ATTEMPT_TIMES, "2:8000"),
        ],
    );
    let attempt = |n, status, milliseconds, worker: &str| Attempt {
        n,
        status,
        milliseconds,
        worker: worker.to_owned(),
        at: (n == 2).then_some(at(8)),
    };
    let expected = Letter {
        sequence: 7,
        function: Some("f.ns".to_owned()),
        call_id: Some("a".to_owned()),
        cause: Some("exhausted".to_owned()),
        attempts: 2,
        last_status: Some(Status::Http(502)),
        last_error: Some("the function answered 502".to_owned()),
        failed_at: at(99),
        first_seen: at(9),
        original_id: "q:7-10".to_owned(),
        bytes: 5,
        redrives: Some("3".to_owned()),
        is_callback: false,
        history: vec![
            attempt(1, Status::Word("timeout".to_owned()), 60_000, "w-1"),
            attempt(2, Status::Http(502), 12, "w:2"),
        ],
    };
    assert_eq!(read, expected);
}

#[test]
fn what_a_letter_does_not_say_follows_from_where_it_lies() {
    let read = letter("q-dead._undecodable", &[(names::HISTORY, "nonsense,1:broken:3:w")]);
    assert_eq!((read.function, read.call_id, read.cause), (None, None, None));
    assert_eq!((read.failed_at, read.first_seen), (at(100), at(100)));
    assert!(read.original_id.starts_with("q-dead:7-"), "{}", read.original_id);
    assert_eq!(read.last_status, Some(Status::Word("broken".to_owned())), "the last attempt says it");
    assert_eq!(read.history.len(), 1);
}

#[test]
fn a_callback_that_did_not_arrive_is_told_from_an_invocation() {
    assert!(letter("q-dead.f", &[(names::KIND, "callback")]).is_callback);
    assert!(!letter("q-dead.f", &[]).is_callback);
}
