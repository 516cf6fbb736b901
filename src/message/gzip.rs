//! Payloads that would not fit are packed.

use std::io::{ErrorKind, Read, Write};

use bytes::Bytes;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};

/// The largest payload that any NATS server can be set to take, in bytes.
pub(crate) const MAX_PAYLOAD: u64 = 64 << 20;

/// A payload as it was before it was packed. It has about `size` bytes.
///
/// # Errors
/// Says what is wrong with it.
pub(crate) fn unpack(packed: &[u8], size: usize) -> Result<Vec<u8>, String> {
    let mut plain = Vec::with_capacity(size);
    match GzDecoder::new(packed).take(MAX_PAYLOAD + 1).read_to_end(&mut plain) {
        Ok(read) if read as u64 <= MAX_PAYLOAD => Ok(plain),
        Ok(_) => Err("the compressed payload is larger than any message can be".to_owned()),
        Err(_) => Err("the compressed payload is damaged".to_owned()),
    }
}

/// A payload, packed.
pub(crate) fn pack(payload: &[u8]) -> std::io::Result<Bytes> {
    pack_from(usize::MAX, |out| out.write_all(payload))
}

/// Packs what is written. An error where that has more than `most` bytes then.
pub(crate) fn pack_from(
    most: usize,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> std::io::Result<Bytes> {
    let mut encoder = GzEncoder::new(AtMost { bytes: Vec::new(), most }, Compression::default());
    write(&mut encoder)?;
    encoder.finish().map(|out| out.bytes.into())
}

/// Takes so many bytes and no more.
struct AtMost {
    bytes: Vec<u8>,
    most: usize,
}

impl Write for AtMost {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.most {
            return Err(ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
