use std::time::Duration;

use super::*;

fn arrival(headers: HeaderMap) -> Arrival {
    Arrival::example(headers, "")
}

fn headers(of: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in of {
        header::add(&mut headers, name, value);
    }
    headers
}

#[test]
fn what_a_clone_says_reads_back_as_it_was() {
    let mut envelope = Envelope::fresh(&arrival(headers(&[("traceparent", "00-a")])));
    for status in [500, 503] {
        envelope.record(
            Some(status),
            &status.to_string(),
            Some("why".into()),
            Duration::from_millis(12),
            "w",
        );
    }
    envelope.delayed = 1;
    envelope.interruptions = 2;
    envelope.note_found(false, SystemTime::UNIX_EPOCH + Duration::from_nanos(1));
    envelope.due = Some(SystemTime::UNIX_EPOCH + Duration::from_nanos(1_500_000_001));
    envelope.parked = Some(SystemTime::UNIX_EPOCH + Duration::from_nanos(500_000_001));
    let written = envelope.headers(Some("f"), Some("id"), false);
    assert_eq!(Envelope::parked(&arrival(written)), envelope);
}

#[test]
fn a_kind_is_carried_on_whether_it_is_known_or_not() {
    for (text, kind) in [("callback", Kind::Callback), ("of-tomorrow", Kind::Unknown("of-tomorrow".into()))] {
        let parked = Envelope::parked(&arrival(headers(&[(names::KIND, text)])));
        assert_eq!(parked.kind, kind);
        assert_eq!(parked.next().headers(None, None, true).get(names::KIND).unwrap().as_str(), text);
        assert_eq!(Envelope::fresh(&arrival(headers(&[(names::KIND, text)]))).kind, Kind::Invocation);
    }
}

#[test]
fn a_callback_begins_its_own_attempts_where_the_invocation_ended() {
    let mut ended = Envelope::fresh(&arrival(headers(&[("traceparent", "00-a")])));
    ended.record(None, "timeout", Some("no answer in time".into()), Duration::from_millis(12), "w");
    ended.note_found(false, SystemTime::UNIX_EPOCH);
    assert_eq!(ended.last_attempt(), Some(("timeout", 12)));
    let callback = ended.callback();
    assert_eq!(callback.not_found, None);
    assert_eq!((callback.attempts, callback.last_attempt(), callback.last_error.as_deref()), (0, None, None));
    assert_eq!((callback.id, callback.generation, callback.carried.len()), (ended.id, ended.generation, 1));
}

#[test]
fn of_a_past_no_more_is_kept_than_would_be_written() {
    let entries: Vec<_> = (0..30_000).map(|n| n.to_string()).collect();
    let origin = format!("{}:7-10", "s".repeat(257));
    let parked = Envelope::parked(&arrival(headers(&[
        (names::HISTORY, &entries.join(", ")),
        (names::ORIGINAL_ID, &origin),
    ])));
    assert_eq!((parked.history.len(), parked.history.first().unwrap().as_str()), (20, "29980"));
    assert_eq!(&*parked.origin, "q");
}

#[test]
fn headers_of_ours_on_a_fresh_message_say_nothing() {
    let forged = headers(&[(names::ATTEMPTS, "9"), ("queue-worker-hop", "4"), (names::ORIGINAL_ID, "x:1-1")]);
    let envelope = Envelope::fresh(&arrival(forged));
    assert_eq!((envelope.attempts, envelope.generation, envelope.id.sequence), (0, 0, 7));
    assert!(envelope.carried.is_empty());
}

#[test]
fn headers_of_the_broker_are_never_copied_and_unknown_ones_of_ours_are() {
    let mixed = headers(&[
        ("Nats-Rollup", "all"),
        ("nats-scheduler", "x"),
        ("Queue-Worker-Of-Tomorrow", "2"),
        ("X-Other", "1"),
    ]);
    let copied = Envelope::parked(&arrival(mixed)).next().headers(None, None, false);
    assert!(
        copied.iter().all(|(name, _)| !name.to_string().to_lowercase().starts_with("nats-")),
        "{copied:?}"
    );
    assert_eq!(copied.get("Queue-Worker-Of-Tomorrow").unwrap().as_str(), "2");
    assert_eq!(copied.get("X-Other").unwrap().as_str(), "1");
}

#[test]
fn what_has_a_meaning_is_written_however_little_room_there_is() {
    let crowd: Vec<_> = (0..99).map(|n| (format!("X-{n}"), "x".repeat(99))).collect();
    let mut told = vec![
        (names::REDRIVES, "2"),
        (names::DELAYED, "1"),
        (names::INTERRUPTIONS, "3"),
        (names::ENCODING, "gzip"),
        (names::KIND, "callback"),
        (names::ATTEMPTS, "5"),
        (names::NOT_FOUND, "4:1970-01-01T00:00:01.000000000Z"),
        (names::DUE, "1970-01-01T00:00:02.000000000Z"),
        (names::HISTORY, "5:timeout:60000:w"),
        ("Queue-Worker-Of-Tomorrow", "x"),
    ];
    let meant = told.clone();
    told.extend(crowd.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let thin = Envelope::parked(&arrival(headers(&told))).headers(None, None, true);
    for (name, value) in meant {
        assert_eq!(header::said(&thin, name), Some(value), "{name}");
    }
    assert!(header::size(&thin) < 1_024);
}

#[test]
fn a_message_is_as_many_hops_from_its_first_arrival_as_its_subject_or_its_header_says() {
    for (subject, told, generation) in [
        ("q-retries.due.f.7-10.3", None, 3),
        ("q-retries.due.f.7-10.3", Some("2"), 3),
        ("q-retries.due.f.7-10.3", Some("5"), 5),
        // A number that cannot be counted further is no count.
        ("q-retries.due.f.7-10.3", Some("18446744073709551615"), 3),
        ("q-retries.due.f.7-10.18446744073709551615", Some("5"), 5),
        ("q", None, 0),
    ] {
        let told: Vec<_> = told.map(|generation| (names::HOP, generation)).into_iter().collect();
        let arrival = Arrival { subject: subject.into(), ..arrival(headers(&told)) };
        assert_eq!(Envelope::parked(&arrival).generation, generation, "{subject} {told:?}");
    }
}

#[test]
fn a_damaged_message_is_tried_rather_than_lost() {
    let damaged = headers(&[
        (names::ATTEMPTS, "many"),
        (names::ORIGINAL_ID, "nonsense"),
        (names::DUE, "soon"),
        (names::FIRST_SEEN, "?"),
        (names::NOT_FOUND, "5"),
    ]);
    let envelope = Envelope::parked(&arrival(damaged));
    assert_eq!((envelope.attempts, envelope.id.sequence, envelope.due), (0, 7, None));
    assert_eq!(envelope.not_found, None);
}

#[test]
fn a_row_of_attempts_without_a_function_counts_from_its_first_and_ends_with_another_answer() {
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let mut envelope = Envelope::fresh(&arrival(HeaderMap::new()));
    envelope.note_found(false, at(1));
    envelope.note_found(false, at(9));
    assert_eq!(envelope.not_found, Some(NotFound { attempts: 2, since: at(1) }));
    envelope.note_found(true, at(10));
    assert_eq!(envelope.not_found, None);
    envelope.note_found(false, at(11));
    assert_eq!(envelope.not_found, Some(NotFound { attempts: 1, since: at(11) }));

    let after = |attempts| {
        let written = headers(&[(names::ATTEMPTS, attempts), (names::NOT_FOUND, "5:1970-01-01T00:00:01Z")]);
        Envelope::parked(&arrival(written)).not_found.map(|row| row.attempts)
    };
    assert_eq!(
        (after("5"), after("4"), after("0")),
        (Some(5), None, None),
        "what is sent round again begins anew"
    );
}

#[test]
fn the_history_keeps_the_last_attempts_within_its_bounds() {
    let mut envelope = Envelope::fresh(&arrival(HeaderMap::new()));
    for _ in 0..50 {
        envelope.record(None, "timeout", None, Duration::from_secs(60), &"w".repeat(63));
    }
    let history = envelope.history.join(",");
    assert!(
        history.len() <= 1024 && envelope.history.len() <= 20,
        "{} in {} entries",
        history.len(),
        envelope.history.len()
    );
    assert!(history.ends_with(&format!("50:timeout:60000:{}", "w".repeat(63))));
}
