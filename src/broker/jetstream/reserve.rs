//! Room that is left in a stream of retries with a size. A retry that comes due is stored anew before the
//! old message goes: in a stream that is full to its end nothing could ever come due again. So what has to
//! wait is not parked any more when only the reserve is left; what is due is stored to the end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Mutex, time::Instant};

use super::{JetStream, Settings};
use crate::{
    broker::seam::BrokerError,
    message::{names::Names, record::Record},
};

/// How long a look at the stream is relied on. Retries that this worker parks meanwhile are counted.
const FRESH: Duration = Duration::from_millis(250);
/// What a stored message takes besides its payload: its subject and its headers, as a rule about a KiB.
const OVERHEAD: u64 = 1_024;

/// The reserve of one stream.
#[derive(Debug)]
pub(crate) struct Reserve {
    stream: String,
    seen: Mutex<Seen>,
    /// The bytes that are being stored just now.
    parking: AtomicU64,
}

/// The stream when it was last looked at, and what was parked since.
#[derive(Debug, Default)]
struct Seen {
    at: Option<Instant>,
    /// The size of the stream; 0 is none.
    most: u64,
    bytes: u64,
}

/// A record that is being stored.
#[derive(Debug)]
pub(crate) struct Parking<'a> {
    parking: &'a AtomicU64,
    bytes: u64,
}

impl JetStream {
    /// The same connection, which leaves the reserve of this stream of retries alone.
    pub(crate) fn sparing(&self, retries: &str) -> Self {
        let reserve =
            Reserve { stream: retries.to_owned(), seen: Mutex::default(), parking: AtomicU64::new(0) };
        Self { reserve: Some(Arc::new(reserve)), ..self.clone() }
    }
}

impl Reserve {
    /// Whether a record may be stored now; it counts as being stored while the answer is held. Where the
    /// stream does not tell, the broker is left to decide.
    pub(crate) async fn admit(
        &self,
        jetstream: &JetStream,
        record: &Record,
    ) -> Result<Option<Parking<'_>>, BrokerError> {
        if record.stream != self.stream || !waits(&record.subject) {
            return Ok(None);
        }
        // One look serves all who ask meanwhile.
        let mut seen = self.seen.lock().await;
        if seen.at.is_none_or(|at| at.elapsed() >= FRESH) {
            let (at, parking) = (Some(Instant::now()), self.parking.load(Ordering::Relaxed));
            let Ok(info) = jetstream.stream(&self.stream).await else { return Ok(None) };
            *seen = Seen { at, most: size(&info.config), bytes: info.state.bytes.saturating_add(parking) };
        }
        if seen.most == 0 {
            return Ok(None);
        }
        let takes = u64::try_from(record.payload.len()).unwrap_or(u64::MAX).saturating_add(OVERHEAD);
        let room = seen.most.saturating_sub(reserve(seen.most, jetstream.client().max_payload()));
        if seen.bytes.saturating_add(takes) > room {
            let Seen { bytes, most, .. } = *seen;
            return Err(BrokerError::Refused(format!(
                "the stream of retries is full but for a reserve: {bytes} of {most} bytes"
            )));
        }
        seen.bytes = seen.bytes.saturating_add(takes);
        self.parking.fetch_add(takes, Ordering::Relaxed);
        Ok(Some(Parking { parking: &self.parking, bytes: takes }))
    }
}

impl Drop for Parking<'_> {
    fn drop(&mut self) {
        self.parking.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Whether a clone waits in a level: `….l3.<function>.<id>.<generation>`. A clone that is due at once takes
/// the place of what it came from.
fn waits(subject: &str) -> bool {
    subject.rsplit('.').nth(3).and_then(Names::level_of).is_some()
}

/// The size in bytes of a stream that refuses what exceeds it.
fn size(stream: &Settings) -> u64 {
    stream.limit("max_bytes").filter(|_| stream.refuses_new()).unwrap_or_default()
}

/// An eighth, but room for two messages of any size; and half where the stream is smaller than that.
fn reserve(most: u64, max_payload: usize) -> u64 {
    let two = u64::try_from(max_payload).unwrap_or(u64::MAX).saturating_mul(2);
    (most / 8).max(two).min(most / 2)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_waits_in_a_level_leaves_the_reserve_alone() {
        for (subject, expected) in [
            ("q-retries.l0.f.1-1.1", true),
            ("a.b-retries.l16.f%2Ens.1-1.12", true),
            ("q-retries.due.f.1-1.1", false),
            ("q-retries.at.f.1-1.1", false),
            ("q-retries.l01.f.1-1.1", false),
            ("l3.f", false),
        ] {
            assert_eq!(waits(subject), expected, "{subject}");
        }
    }

    #[test]
    fn a_reserve_has_room_for_what_comes_due() {
        for (most, expected) in [(1 << 30, 1 << 27), (8 << 20, 2 << 20), (3 << 20, 3 << 19), (100, 50)] {
            assert_eq!(reserve(most, 1 << 20), expected, "{most}");
        }
        for (config, expected) in [
            (json!({ "discard": "new", "max_bytes": 7 }), 7),
            (json!({ "discard": "new", "max_bytes": -1 }), 0),
            (json!({ "discard": "old", "max_bytes": 7 }), 0),
        ] {
            assert_eq!(size(&config.into()), expected);
        }
    }
}
