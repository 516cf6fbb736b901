//! Callbacks, packed and read again.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use http::HeaderValue;
use rand::Rng as _;

use super::*;

fn posting(body: Vec<u8>) -> Posting {
    let mut headers = HeaderMap::new();
    headers.append("x-own", HeaderValue::from_static("1"));
    headers.append("x-own", HeaderValue::from_bytes(b"\xe9\xff\"").unwrap());
    headers.append("x-function-status", HeaderValue::from_static("200"));
    Posting {
        function: "f.ns".parse().unwrap(),
        call_id: "a".into(),
        url: "http://u:p@h/?x".into(),
        headers,
        body: body.into(),
        annotations: [("com.openfaas.retry.min_wait".to_owned(), "1s".to_owned())].into(),
    }
}

fn unpacked(packed: (Bytes, Encoding)) -> Posting {
    match packed {
        (plain, Encoding::Plain) => Posting::read(&plain).unwrap(),
        (small, Encoding::Gzip) => {
            let mut plain = Vec::new();
            std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(small.as_ref()), &mut plain)
                .unwrap();
            Posting::read(&plain).unwrap()
        }
    }
}

#[test]
fn what_was_written_reads_back_as_it_was() {
    let whole = posting(vec![0, 255, 10]);
    let packed = whole.clone().pack(1 << 20);
    assert_eq!(packed.1, Encoding::Plain);
    assert_eq!(unpacked(packed), whole);
}

#[test]
fn what_is_large_is_compressed_and_whole() {
    let whole = posting(vec![b'x'; 1 << 20]);
    let packed = whole.clone().pack(64 << 10);
    assert_eq!(packed.1, Encoding::Gzip);
    assert!(packed.0.len() <= (64 << 10) - RESERVE);
    assert_eq!(unpacked(packed), whole);
}

#[test]
fn what_fits_in_no_other_way_is_cut_and_says_so() {
    let mut noise = vec![0; 100_000];
    rand::rng().fill_bytes(&mut noise);
    let packed = posting(noise.clone()).pack(64 << 10);
    assert!(packed.0.len() <= (64 << 10) - RESERVE, "{}", packed.0.len());
    let cut = unpacked(packed);
    assert_eq!(cut.headers["x-body-truncated"], "true");
    assert!(noise.starts_with(&cut.body) && cut.body.len() > 40_000, "{}", cut.body.len());
    assert_eq!((cut.url.as_str(), cut.headers.get_all("x-own").iter().count()), ("http://u:p@h/?x", 2));
}

#[test]
fn what_cannot_be_packed_is_posted_without_its_body_and_says_so() {
    let cut = unpacked(posting(vec![b'x'; 1 << 20]).without_body().pack(64 << 10));
    assert_eq!(
        (cut.body.len(), &cut.headers["x-body-truncated"], cut.url.as_str()),
        (0, &HeaderValue::from_static("true"), "http://u:p@h/?x")
    );
}

#[test]
fn headers_that_fit_nowhere_give_way_to_ours() {
    let mut noise = vec![0; 100_000];
    rand::rng().fill_bytes(&mut noise);
    let mut large = posting(noise);
    large.headers.insert("x-own", HeaderValue::from_str(&BASE64_STANDARD.encode(&large.body)).unwrap());
    let cut = unpacked(large.pack(64 << 10));
    assert_eq!((cut.headers.len(), &cut.headers["x-function-status"]), (2, &HeaderValue::from_static("200")));
}

#[test]
fn what_is_damaged_is_an_error_that_quotes_nothing() {
    let whole = String::from_utf8(posting(vec![1]).pack(1 << 20).0.to_vec()).unwrap();
    for (old, new) in [
        ("{", ""),
        ("f.ns", "f..ns"),
        ("AQ==", "A"),
        ("x-own", "x own"),
        ("\u{ff}", "\u{100}"),
        ("\"url\"", "\"URL\""),
    ] {
        assert!(whole.contains(old), "{old}");
        let error = Posting::read(whole.replacen(old, new, 1).as_bytes()).unwrap_err();
        assert_eq!(error.reason, "the parked callback is damaged", "{old}");
    }
}

#[test]
fn nothing_that_callers_wrote_is_shown() {
    let shown = format!("{:?}", posting(b"secret".to_vec()));
    assert!(!shown.contains("u:p") && !shown.contains("x-own") && !shown.contains("secret"), "{shown}");
}
