//! What each successor carries on, and what it leaves.

use std::time::Duration;

use rand::{Rng, RngExt};

use super::*;

const MAX_PAYLOAD: usize = 64 << 10;

fn message(payload: Vec<u8>) -> Message {
    let mut message = Message::new(&Arrival::example(HeaderMap::new(), payload), false);
    message.function = Some("f%2Ens".into());
    message
}

fn clone_of(message: &Message, wait: u64) -> Result<Record, TooLarge> {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
    let due = now + Duration::from_secs(wait);
    message.clone_due(&message.envelope, &Names::new("q", "q"), Timer::Schedules, due, now, MAX_PAYLOAD)
}

/// Base64 of random bytes: what a gateway makes of a body that does not compress.
fn random_base64(len: usize) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut rng = rand::rng();
    (0..len).map(|_| ALPHABET[rng.random_range(0..64)]).collect()
}

#[test]
fn a_clone_is_held_until_it_is_due_and_is_one_hop_further() {
    let record = clone_of(&message(b"payload".to_vec()), 5).unwrap();
    assert_eq!(record.subject, "q-retries.at.f%2Ens.7-10.1");
    assert_eq!(record.id, "7-10.1");
    assert_eq!(record.headers.get("Nats-Schedule").unwrap().as_str(), "@at 1970-01-01T00:01:45.000000000Z");
    assert_eq!(record.headers.get("Nats-Schedule-Target").unwrap().as_str(), "q-retries.due.f%2Ens.7-10.1");
    assert_eq!(record.headers.get(names::HOP).unwrap().as_str(), "1");
    assert_eq!(record.payload, "payload");
}

#[test]
fn each_end_of_an_invocation_has_an_id_of_its_own() {
    let invocation = message(Vec::new());
    let mut unknown = invocation.clone();
    unknown.envelope.kind = Kind::Unknown("of-tomorrow".into());
    let ids = [&invocation, &invocation.callback(), &unknown].map(Message::dead_letter_id);
    assert_eq!(ids, ["7-10.dead", "7-10.callback.dead", "7-10.0.dead"]);
    assert_eq!(invocation.callback().successor_id(), invocation.successor_id());
}

#[test]
fn each_life_of_an_invocation_has_a_dead_letter_of_its_own_however_little_room_its_headers_have() {
    let mut ids = Vec::new();
    let long = ["x".repeat(5_000), format!("{}y", "x".repeat(4_999))];
    for redrives in ["1", "2", "two", "1 2", "", "é", "\u{e9}\u{301}", "1.0", "a:b", &long[0], &long[1]] {
        let mut headers = HeaderMap::new();
        header::add(&mut headers, "queue-worker-redrives", redrives);
        header::add(&mut headers, "X-Other", &"x".repeat(4_096));
        let arrival = Arrival::example(headers, random_base64(MAX_PAYLOAD - 8));
        // Round and round: what is stored of it tells the same.
        let mut letters = Vec::new();
        let mut parked = Message::new(&arrival, true);
        for _ in 0..3 {
            letters.push(parked.dead_letter_id());
            let clone = clone_of(&parked, 5).unwrap();
            parked = Message::new(&Arrival::example(clone.headers, clone.payload), true);
        }
        assert!(letters.iter().all(|id| *id == letters[0] && id.len() < 100), "{redrives}: {letters:?}");
        ids.extend(letters.pop());
    }
    assert_eq!(ids[..2], ["7-10.dead.1", "7-10.dead.2"]);
    let number = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), ids.contains(&"7-10.dead".to_owned())), (number, false));
}

#[test]
fn what_is_due_at_once_needs_no_timer() {
    let record = clone_of(&message(Vec::new()), 0).unwrap();
    assert_eq!(record.subject, "q-retries.due.f%2Ens.7-10.1");
    assert!(record.headers.get("Nats-Schedule").is_none());
}

#[test]
fn a_payload_at_the_limit_is_compressed_and_reads_back_whole() {
    let payload = random_base64(MAX_PAYLOAD);
    let record = clone_of(&message(payload.clone()), 5).unwrap();
    assert_eq!(record.headers.get(names::ENCODING).unwrap().as_str(), "gzip");
    assert!(size(&record.headers) + record.payload.len() + OVERHEAD / 2 < MAX_PAYLOAD);
    let mut read = message(record.payload.to_vec());
    read.envelope.encoding = Encoding::Gzip;
    assert!(read.payload().unwrap().as_ref() == payload);
    // Its own clone carries the same bytes.
    assert_eq!(clone_of(&read, 5).unwrap().payload, record.payload);
}

#[test]
fn what_takes_long_is_known_before_it_is_begun() {
    for len in
        [0, 1, MAX_PAYLOAD / 2, MAX_PAYLOAD - 12_000, MAX_PAYLOAD - 5_000, MAX_PAYLOAD - 500, MAX_PAYLOAD]
    {
        let payload = random_base64(len);
        let whole = message(payload);
        let record = clone_of(&whole, 5).unwrap();
        let packed = header::said(&record.headers, names::ENCODING).is_some();
        assert!(!packed || whole.to_pack(MAX_PAYLOAD) == len, "{len}");
        let mut read = message(record.payload.to_vec());
        read.envelope.encoding = if packed { Encoding::Gzip } else { Encoding::Plain };
        assert_eq!(
            (read.unpacked(), read.to_pack(MAX_PAYLOAD)),
            if packed { (len, 0) } else { (0, whole.to_pack(MAX_PAYLOAD)) }
        );
    }
    assert_eq!(message(random_base64(MAX_PAYLOAD / 2)).to_pack(MAX_PAYLOAD), 0);
}

#[test]
fn what_fits_in_no_way_is_said_to_be_too_large() {
    let mut noise = vec![0; MAX_PAYLOAD];
    rand::rng().fill_bytes(&mut noise);
    assert_eq!(clone_of(&message(noise), 5).unwrap_err(), TooLarge);
}

#[test]
fn damaged_compression_is_an_error() {
    let mut damaged = message(b"no gzip".to_vec());
    damaged.envelope.encoding = Encoding::Gzip;
    assert!(damaged.payload().is_err());
}

/// The dead letter of an invocation of `f`, and what is in it.
fn dead(payload: &[u8], more: &[(&'static str, &str)]) -> Message {
    let names = Names::new("q", "q");
    let mut invocation = message(payload.to_vec());
    invocation.function_name = Some("f.ns".into());
    let record =
        invocation.letter(&names, Cause::Exhausted, Vec::new(), SystemTime::UNIX_EPOCH, MAX_PAYLOAD).unwrap();
    let mut headers = record.headers;
    more.iter().for_each(|(name, value)| header::put(&mut headers, name, value));
    Message::dead(&Arrival {
        subject: record.subject,
        headers,
        ..Arrival::example(HeaderMap::new(), record.payload)
    })
}

#[test]
fn a_letter_is_sent_round_again_as_a_due_message_with_an_id_of_that_letter_and_that_life() {
    let (names, now) = (Names::new("q", "q"), SystemTime::UNIX_EPOCH + Duration::from_secs(100));
    for (more, id, subject) in [
        (vec![], "7-10.redrive.1.9", "q-retries.due.f%2Ens.7-10.1000000"),
        (
            vec![(names::REDRIVES, "1"), (names::HOP, "1000003")],
            "7-10.redrive.2.9",
            "q-retries.due.f%2Ens.7-10.2000000",
        ),
        (
            vec![(names::KIND, "callback")],
            "7-10.callback.again.redrive.1.9",
            "q-retries.due.f%2Ens.7-10.1500000",
        ),
    ] {
        let record = dead(b"payload", &more).redriven(&names, 9, now, MAX_PAYLOAD).unwrap();
        assert_eq!((record.id.as_str(), record.subject.as_str()), (id, subject));
        assert_eq!((record.stream.as_str(), &*record.payload), ("q-retries", &b"payload"[..]));
        let told = |name| header::said(&record.headers, name);
        assert_eq!(
            (told(names::ATTEMPTS), told(names::CAUSE), told(names::FAILED_AT)),
            (Some("0"), None, None)
        );
        assert_eq!((told(names::ORIGINAL_ID), told(names::FUNCTION)), (Some("q:7-10"), Some("f.ns")));
    }
}

#[test]
fn a_letter_may_go_to_another_function_if_it_is_a_call() {
    let function: FunctionName = "g.ns".parse().unwrap();
    let call = br#"{"function":"f","X":[1],"Body":"aGk="}"#;
    let moved = dead(call, &[]).to_function(&function).unwrap();
    assert_eq!(&*moved.payload().unwrap(), br#"{"Body":"aGk=","Function":"g.ns","X":[1]}"#);
    assert_eq!((moved.function.as_deref(), moved.function_name.as_deref()), (Some("g%2Ens"), Some("g.ns")));
    let packed = gzip::pack(call).unwrap();
    let moved = dead(&packed, &[(names::ENCODING, "gzip")]).to_function(&function).unwrap();
    assert_eq!((moved.envelope.encoding, moved.payload().is_ok()), (Encoding::Plain, true));
    for (payload, more) in [
        (&b"garbage"[..], vec![]),
        (br#"{"Path":"/.."}"#, vec![]),
        (br#"{"Function":"f"}"#, vec![(names::KIND, "callback")]),
        (br#"{"Function":"f"}"#, vec![(names::SUBJECT, "orders.new")]),
    ] {
        assert!(dead(payload, &more).to_function(&function).is_none());
    }
}
