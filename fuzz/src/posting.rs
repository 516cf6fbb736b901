//! A parked callback. Input: the most that the broker takes, as two bytes; the payload.

use queue_worker::message::{envelope::Encoding, posting::Posting};

/// A payload is refused, or is a callback that is written again as it was; one that is cut to fit is still
/// one.
pub fn check(data: &[u8]) {
    let Some((most, payload)) = data.split_first_chunk::<2>() else { return };
    let posting = match Posting::read(payload) {
        Ok(posting) => posting,
        Err(undecodable) => return super::is_showable(&undecodable.reason, 200),
    };
    let (whole, encoding) = posting.clone().pack(usize::MAX);
    assert_eq!(encoding, Encoding::Plain);
    assert_eq!(Posting::read(&whole).as_ref(), Ok(&posting));

    let most = 4_096 + usize::from(u16::from_le_bytes(*most));
    let (packed, encoding) = posting.clone().pack(most);
    if encoding == Encoding::Plain {
        let read = Posting::read(&packed).expect("what is packed can be read");
        assert_eq!(
            (&read.function, &read.url, &read.call_id),
            (&posting.function, &posting.url, &posting.call_id)
        );
        assert!(posting.body.starts_with(&read.body));
    } else {
        assert!(packed.len() <= most - 4_096);
    }
}
