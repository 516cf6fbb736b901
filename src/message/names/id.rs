//! The identity of an invocation.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};

/// The identity of an invocation: where and when the broker first stored it. Never the call id, which callers
/// choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id {
    /// Its sequence in the queue's stream.
    pub sequence: u64,
    /// When the broker stored it, nanoseconds since 1970: a stream that is made anew starts its sequences
    /// again.
    pub stored: u64,
}

impl Id {
    /// The identity of what was stored as `sequence` at `stored`.
    pub fn new(sequence: u64, stored: SystemTime) -> Self {
        let since = stored.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { sequence, stored: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX) }
    }

    /// The id of its clone that is so many steps from the first arrival.
    pub(crate) fn of_clone(self, generation: u64) -> String {
        format!("{self}.{generation}")
    }

    /// When the broker stored it.
    pub(crate) fn stored_at(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_nanos(self.stored)
    }

    /// `<stream>:<id>`.
    pub(crate) fn in_stream(self, stream: &str) -> String {
        format!("{stream}:{self}")
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = Vec::new();
        let mut rest = self.stored;
        loop {
            digits.push(char::from_digit((rest % 36) as u32, 36).unwrap_or('0'));
            rest /= 36;
            if rest == 0 {
                break;
            }
        }
        write!(f, "{}-{}", self.sequence, digits.iter().rev().collect::<String>())
    }
}

impl FromStr for Id {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (sequence, stored) = text.split_once('-').ok_or(())?;
        Ok(Self {
            sequence: sequence.parse().map_err(|_| ())?,
            stored: u64::from_str_radix(stored, 36).map_err(|_| ())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_it_was_written() {
        for id in [
            Id { sequence: 1, stored: 0 },
            Id { sequence: u64::MAX, stored: u64::MAX },
            Id { sequence: 42, stored: 1_795_303_291_416_000_271 },
        ] {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        assert_eq!(Id { sequence: 7, stored: 36 }.to_string(), "7-10");
        for bad in ["", "7", "7-", "-1", "7-ä", "7-zzzzzzzzzzzzzzzzzz"] {
            assert_eq!(bad.parse::<Id>(), Err(()), "{bad}");
        }
    }
}
