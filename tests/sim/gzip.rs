//! Payloads as they are stored where they would not fit otherwise.

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};

/// Whether it is compressed.
pub fn is(payload: &[u8]) -> bool {
    payload.starts_with(&[0x1f, 0x8b])
}

/// The payload as it was before. One whose headers are damaged may be compressed once more, because nobody
/// sees that it is.
pub fn unpacked(payload: &Bytes) -> Bytes {
    let mut payload = payload.clone();
    while is(&payload) {
        let mut plain = Vec::new();
        GzDecoder::new(payload.as_ref()).read_to_end(&mut plain).unwrap();
        payload = plain.into();
    }
    payload
}

/// How many bytes there are of it at least, compressed or not.
pub fn least(payload: &[u8]) -> usize {
    if is(payload) {
        return payload.len();
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(payload).unwrap();
    encoder.finish().unwrap().len().min(payload.len())
}
