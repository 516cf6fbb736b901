//! The part of an unreadable header block that a dead letter keeps: all of it, in base64, where that fits.
//! Pure.

use base64::prelude::{BASE64_STANDARD, Engine as _};

use crate::message::{gzip, names};

/// The most bytes of base64. NATS takes 64 KiB of headers, and the letter has others, too.
const MOST: usize = 48 << 10;
/// How many bytes of a block are kept where nothing more fits.
const BEGINNING: usize = 1 << 10;

/// Headers of a letter.
pub type Headers = Vec<(&'static str, String)>;

/// The ways to keep the block, the best first: as it is, compressed, cut to what its header may hold, and cut
/// short.
pub fn ways(block: &[u8]) -> Vec<Headers> {
    let raw = |bytes: &[u8]| (names::RAW_HEADERS, BASE64_STANDARD.encode(bytes));
    let whole = vec![raw(block)];
    let packed = gzip::pack(block).map(|packed| vec![raw(&packed), (names::RAW_ENCODING, "gzip".to_owned())]);
    let cut = |most: usize| {
        vec![raw(block.get(..most).unwrap_or(block)), (names::RAW_BYTES, block.len().to_string())]
    };
    let ways = [Some(whole), packed.ok(), Some(cut(MOST / 4 * 3)), Some(cut(BEGINNING)), Some(cut(0))];
    ways.into_iter().flatten().filter(|way| way.iter().all(|(_, value)| value.len() <= MOST)).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;
    use rand::Rng;

    use super::*;

    fn value<'a>(way: &'a Headers, name: &str) -> Option<&'a str> {
        way.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    fn bytes(way: &Headers) -> Vec<u8> {
        BASE64_STANDARD.decode(value(way, names::RAW_HEADERS).unwrap()).unwrap()
    }

    #[test]
    fn a_usual_block_is_kept_as_it_is() {
        let block = b"NATS/1.0\r\nX: a\rb\r\n\r\n";
        assert_eq!(ways(block)[0], [(names::RAW_HEADERS, BASE64_STANDARD.encode(block))]);
    }

    #[test]
    fn a_long_block_is_compressed_and_one_that_does_not_compress_is_cut() {
        let long = [b"NATS/1.0\r\n".as_slice(), &b"X: a\rb\r\n".repeat(7_000)].concat();
        let way = ways(&long).remove(0);
        let mut plain = Vec::new();
        GzDecoder::new(bytes(&way).as_slice()).read_to_end(&mut plain).unwrap();
        assert_eq!((value(&way, names::RAW_ENCODING), plain == long), (Some("gzip"), true));

        let mut noise = vec![0; 60 << 10];
        rand::rng().fill_bytes(&mut noise);
        let ways = ways(&noise);
        assert_eq!(ways.iter().map(|way| bytes(way).len()).collect::<Vec<_>>(), [36 << 10, 1 << 10, 0]);
        for way in ways {
            assert!(noise.starts_with(&bytes(&way)));
            assert_eq!(value(&way, names::RAW_BYTES), Some("61440"));
        }
    }
}
