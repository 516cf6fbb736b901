//! Header blocks, as a server stores them. Whatever our reader lets pass, the client library reads without
//! harm and alike: it is written again by the library's own types and comes back the same.

use queue_worker::message::{header_block, kept_block, names};

/// Panics where something does not hold.
pub fn check(data: &[u8]) {
    let lenient = header_block::readable(data);
    match header_block::read(data) {
        Ok(headers) => {
            assert_eq!(lenient, headers, "what can be read of a block without a flaw is all of it")
        }
        Err(flaw) => super::is_showable(&flaw.to_string(), 128),
    }
    // Each line that passes is one that the library takes, and stays what it is when it goes round again.
    for (name, values) in lenient.iter() {
        for value in values {
            let line = format!("NATS/1.0\r\n{name}: {value}\r\n\r\n");
            let again = header_block::read(line.as_bytes()).unwrap();
            assert_eq!(
                again.get(name.clone()).map(|value| value.as_str()),
                Some(value.as_str().trim()),
                "{line:?}"
            );
        }
    }
    assert!(header_block::own(data).iter().all(|(name, _)| !names::is_brokers(name.as_ref())));
    assert!(
        kept_block::ways(data).iter().flatten().all(|(_, value)| value.len() <= 48 << 10 && value.is_ascii())
    );
}
