//! Makes the messages that follow from a message: its clones and its dead letter. Pure: what goes into the
//! stream is decided here, byte for byte; `settle` sends it.

use std::{
    borrow::Cow,
    fmt,
    io::{ErrorKind, Read, Write},
    time::SystemTime,
};

use async_nats::HeaderMap;
use bytes::Bytes;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};

use crate::{
    message::{
        arrival::Arrival,
        decode::{FunctionName, Undecodable},
        envelope::{Encoding, Envelope, Kind, ROOM, rfc3339},
        header::{self, size},
        names::{self, Names},
        record::Record,
        timer::{Place, Timer},
    },
    retry::judge::Cause,
};

/// The largest payload that any NATS server can be set to take, in bytes.
pub(crate) const MAX_PAYLOAD: u64 = 64 << 20;
/// What the broker and the client add to a message's headers, in bytes, with room to spare.
const OVERHEAD: usize = 256;

/// A message that fits in no way into the broker's maximum payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("fits into no message of the broker's maximum payload")]
pub struct TooLarge;

/// A message in this worker's hands: what it is and where it has been.
#[derive(Clone)]
pub struct Message {
    /// Its past.
    pub envelope: Envelope,
    /// The payload as it lies in the stream.
    stored: Bytes,
    /// The function's subject token, where the message names a function.
    pub function: Option<String>,
    /// The function's name, where the message names one.
    pub function_name: Option<String>,
    /// The call id, where there is one.
    pub call_id: Option<String>,
    /// Whether its end is to be told by a callback.
    pub has_callback: bool,
    /// Whether its waits are traced.
    pub is_traced: bool,
}

impl fmt::Debug for Message {
    /// Without what callers wrote.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Parcel");
        shown
            .field("envelope", &self.envelope)
            .field("function", &self.function_name)
            .field("call_id", &self.call_id);
        shown.field("bytes", &self.stored.len()).finish_non_exhaustive()
    }
}

impl Message {
    /// What arrived. `parked`: whether a worker put it there.
    pub fn new(arrival: &Arrival, parked: bool) -> Self {
        let envelope = if parked { Envelope::parked(arrival) } else { Envelope::fresh(arrival) };
        Self {
            envelope,
            stored: arrival.payload.clone(),
            function: None,
            function_name: None,
            call_id: None,
            has_callback: false,
            is_traced: false,
        }
    }

    /// The payload as it first arrived.
    ///
    /// # Errors
    /// Says what is wrong with a compressed payload.
    pub fn payload(&self) -> Result<Cow<'_, [u8]>, String> {
        if self.envelope.encoding == Encoding::Plain {
            return Ok(Cow::Borrowed(&self.stored));
        }
        let mut plain = Vec::with_capacity(self.unpacked());
        match GzDecoder::new(self.stored.as_ref()).take(MAX_PAYLOAD + 1).read_to_end(&mut plain) {
            Ok(read) if read as u64 <= MAX_PAYLOAD => Ok(Cow::Owned(plain)),
            Ok(_) => Err("the compressed payload is larger than any message can be".to_owned()),
            Err(_) => Err("the compressed payload is damaged".to_owned()),
        }
    }

    /// About how many bytes the payload has when it is unpacked; 0 where it is not packed. The last bytes of
    /// gzip say so; what they may say wrongly is bounded.
    pub fn unpacked(&self) -> usize {
        let told = self.stored.last_chunk().map_or(0, |told| u32::from_le_bytes(*told));
        if self.envelope.encoding == Encoding::Plain { 0 } else { told.min(1 << 26) as usize }
    }

    /// How many bytes are to be packed if this goes into a message of a broker with this maximum; 0 where it
    /// fits as it is.
    pub fn to_pack(&self, max_payload: usize) -> usize {
        let fits = self.stored.len() + OVERHEAD + ROOM <= max_payload;
        if fits || self.envelope.encoding == Encoding::Gzip { 0 } else { self.stored.len() }
    }

    /// Takes over the names by which people and subjects know the invocation.
    pub fn identify(&mut self, function: &FunctionName, call_id: Option<&str>) {
        self.function = Some(function.token());
        self.function_name = Some(function.as_str().to_owned());
        self.call_id = call_id.map(str::to_owned);
    }

    /// Takes over what is known of a message that is no invocation.
    pub fn identify_undecodable(&mut self, undecodable: &Undecodable) {
        self.function = undecodable.function.as_ref().map(FunctionName::token);
        self.function_name = undecodable.function.as_ref().map(|function| function.as_str().to_owned());
        self.call_id.clone_from(&undecodable.call_id);
    }

    /// The id of the clone that follows from this message: a redelivered parent makes the same, a new
    /// decision another.
    pub fn successor_id(&self) -> String {
        self.envelope.id.of_clone(self.envelope.next().generation)
    }

    /// The callback that follows from this message. Nothing is stored of it yet: see [`fill`](Self::fill).
    #[must_use]
    pub fn callback(&self) -> Self {
        Self { envelope: self.envelope.callback(), stored: Bytes::new(), has_callback: false, ..self.clone() }
    }

    /// Gives a callback its payload.
    pub fn fill(&mut self, stored: Bytes, encoding: Encoding) {
        self.stored = stored;
        self.envelope.encoding = encoding;
    }

    /// The id of the invocation's dead letter: whichever of its messages comes to that end, there is one,
    /// until somebody sends it round again. Its callback has another one. What is of no known kind may be
    /// anything: one for each message.
    pub fn dead_letter_id(&self) -> String {
        let id = match self.envelope.kind {
            Kind::Invocation => self.envelope.id.to_string(),
            Kind::Callback => format!("{}.callback", self.envelope.id),
            Kind::Unknown(_) => self.envelope.id.of_clone(self.envelope.generation),
        };
        match &self.envelope.redrives {
            None => format!("{id}.dead"),
            Some(redrives) => format!("{id}.dead.{redrives}"),
        }
    }

    /// The clone to be tried next, at `due`.
    ///
    /// # Errors
    /// [`TooLarge`] where it fits in no way.
    pub fn clone_due(
        &self,
        next: &Envelope,
        names: &Names,
        timer: Timer,
        due: SystemTime,
        now: SystemTime,
        max_payload: usize,
    ) -> Result<Record, TooLarge> {
        let mut next = next.next();
        next.due = Some(due);
        next.parked = self.is_traced.then_some(now);
        let token = self.function.as_deref().unwrap_or(names::UNDECODABLE);
        let place = timer.place(names, token, next.id, next.generation, due, now);
        let id = next.id.of_clone(next.generation);
        self.record(id, &names.retries, place, next, Vec::new(), max_payload)
    }

    /// The dead letter.
    ///
    /// # Errors
    /// [`TooLarge`] where it fits in no way.
    pub fn dead_letter(
        &self,
        names: &Names,
        cause: Cause,
        now: SystemTime,
        max_payload: usize,
    ) -> Result<Record, TooLarge> {
        self.letter(names, cause, Vec::new(), now, max_payload)
    }

    /// The dead letter, with more headers.
    ///
    /// # Errors
    /// [`TooLarge`] where it fits in no way.
    pub fn letter(
        &self,
        names: &Names,
        cause: Cause,
        mut extra: Vec<(&'static str, String)>,
        now: SystemTime,
        max_payload: usize,
    ) -> Result<Record, TooLarge> {
        let place = Place { subject: names.dead_letter(self.function.as_deref()), headers: Vec::new() };
        extra.extend([(names::CAUSE, cause.as_str().to_owned()), (names::FAILED_AT, rfc3339(now))]);
        self.record(self.dead_letter_id(), &names.dead, place, self.envelope.next(), extra, max_payload)
    }

    /// Fits headers and payload into a message: first without what only people read, then compressed.
    fn record(
        &self,
        id: String,
        stream: &str,
        place: Place,
        envelope: Envelope,
        extra: Vec<(&'static str, String)>,
        max_payload: usize,
    ) -> Result<Record, TooLarge> {
        let broker_headers: usize =
            place.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        let budget = max_payload.saturating_sub(OVERHEAD + broker_headers + id.len() + stream.len());
        let (headers, payload) = self.fit(envelope, &extra, budget)?;
        let mut record = Record { stream: stream.to_owned(), subject: place.subject, id, headers, payload };
        for (name, value) in place.headers {
            header::put(&mut record.headers, name, &value);
        }
        Ok(record)
    }

    fn fit(
        &self,
        mut envelope: Envelope,
        extra: &[(&'static str, String)],
        budget: usize,
    ) -> Result<(HeaderMap, Bytes), TooLarge> {
        let mut payload = self.stored.clone();
        loop {
            for thin in [false, true] {
                let mut headers =
                    envelope.headers(self.function_name.as_deref(), self.call_id.as_deref(), thin);
                for (name, value) in extra {
                    header::put(&mut headers, name, value);
                }
                if size(&headers) + payload.len() <= budget {
                    return Ok((headers, payload));
                }
            }
            if envelope.encoding == Encoding::Gzip {
                return Err(TooLarge);
            }
            envelope.encoding = Encoding::Gzip;
            payload = compressed(&payload).map_err(|_| TooLarge)?;
        }
    }
}

pub(crate) fn compressed(payload: &[u8]) -> std::io::Result<Bytes> {
    compressed_from(usize::MAX, |out| out.write_all(payload))
}

/// What is written, compressed. An error where that has more than `most` bytes.
pub(crate) fn compressed_from(
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

#[cfg(test)]
mod tests {
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
        assert_eq!(
            record.headers.get("Nats-Schedule").unwrap().as_str(),
            "@at 1970-01-01T00:01:45.000000000Z"
        );
        assert_eq!(
            record.headers.get("Nats-Schedule-Target").unwrap().as_str(),
            "q-retries.due.f%2Ens.7-10.1"
        );
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
        for redrives in ["1", "2", "two", "1 2", "", "é", "\u{e9}\u{301}", "1.0", "a:b", &long[0], &long[1]]
        {
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
}
