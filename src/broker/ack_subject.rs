//! What the subject of an acknowledgement says about its delivery. The broker writes it (its ADR-15):
//!
//! ```text
//! $JS.ACK.<stream>.<consumer>.<delivered>.<sequence>.<delivery>.<stored>.<pending>
//! $JS.ACK.<domain>.<account>.<stream>.<consumer>.<delivered>.<sequence>.<delivery>.<stored>.<pending>…
//! ```
//!
//! One look at each byte finds the words: each call comes by here twice.

use std::time::{Duration, SystemTime};

/// How many dots are looked at. More words may come to stand behind these one day.
const DOTS: usize = 11;

/// A delivery, as the subject of its acknowledgement tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AckSubject {
    /// How often the message was delivered, this time included.
    pub(super) delivered: u64,
    /// The message's sequence in the stream.
    pub(super) sequence: u64,
    /// The delivery's own number among all of the consumer's.
    pub(super) delivery: u64,
    /// When the message was stored.
    pub(super) stored: SystemTime,
    /// How many messages wait behind it.
    pub(super) pending: u64,
}

impl AckSubject {
    /// Reads one. None where it is of another form.
    pub(super) fn read(subject: &str) -> Option<Self> {
        let (dots, at) = dots(subject)?;
        let word = |n: usize| {
            let end = dots.get(at + n + 1).copied().unwrap_or(subject.len());
            subject.get(dots.get(at + n)? + 1..end)
        };
        let number = |n: usize| word(n)?.parse().ok();
        Some(Self {
            delivered: number(2)?,
            sequence: number(3)?,
            delivery: number(4)?,
            stored: SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(number(5)?))?,
            pending: number(6)?,
        })
    }
}

/// The part of such a subject that all deliveries of a consumer share.
pub(super) fn consumer_of(subject: &str) -> Option<&str> {
    let (dots, at) = dots(subject)?;
    subject.get(..*dots.get(at + 2)?)
}

/// Where its first dots are, those that it has not at its end; and which of them stands before the stream.
fn dots(subject: &str) -> Option<([usize; DOTS], usize)> {
    let (mut dots, mut many) = ([subject.len(); DOTS], 0);
    for (at, byte) in subject.bytes().enumerate() {
        if byte == b'.' {
            if let Some(dot) = dots.get_mut(many) {
                *dot = at;
            }
            many += 1;
        }
    }
    let before_the_stream = match many {
        8 => 1,
        10.. => 3,
        _ => return None,
    };
    subject.starts_with("$JS.ACK.").then_some((dots, before_the_stream))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_is_read_off_the_subject_of_its_acknowledgement() {
        let stored = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_795_303_291_416_000_271);
        let delivery = |pending| Some(AckSubject { delivered: 2, sequence: 7, delivery: 9, stored, pending });
        for (subject, consumer, expected) in [
            (
                "$JS.ACK.q.faas-workers.2.7.9.1795303291416000271.0",
                Some("$JS.ACK.q.faas-workers"),
                delivery(0),
            ),
            (
                "$JS.ACK.hub.Xa3.q.due.2.7.9.1795303291416000271.12",
                Some("$JS.ACK.hub.Xa3.q.due"),
                delivery(12),
            ),
            (
                "$JS.ACK._.Xa3.q.due.2.7.9.1795303291416000271.12.random.more",
                Some("$JS.ACK._.Xa3.q.due"),
                delivery(12),
            ),
            ("$JS.ACK.q.faas-workers.2.7.x.1795303291416000271.0", Some("$JS.ACK.q.faas-workers"), None),
            ("$JS.ACK.q.faas-workers.2.7.9.-1.0", Some("$JS.ACK.q.faas-workers"), None),
            ("$JS.ACK.q.faas-workers.1.7", None, None),
            ("$JS.ACK.q.due.2.7.9.1795303291416000271.0.ten", None, None),
            ("_INBOX.1.2.3.4.5.6.7.8", None, None),
            ("", None, None),
        ] {
            assert_eq!((consumer_of(subject), AckSubject::read(subject)), (consumer, expected), "{subject}");
        }
    }
}
