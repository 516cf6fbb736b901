//! Makes the messages that follow from a message: its clones and its dead letter. Pure: what goes into the
//! stream is decided here, byte for byte; `settle` sends it.

use std::{borrow::Cow, fmt, sync::Arc, time::SystemTime};

use async_nats::HeaderMap;
use bytes::Bytes;

use crate::{
    message::{
        arrival::Arrival,
        decode::{self, EventName, FunctionName, Invocation, Undecodable},
        envelope::{Encoding, Envelope, Kind, ROOM, VALUE, rfc3339},
        form::Form,
        gzip,
        header::{self, size},
        names::{self, Names},
        record::Record,
        timer::{Place, Timer},
    },
    retry::judge::Cause,
    text::line::ascii,
};

/// What the broker and the client add to a message's headers, in bytes, with room to spare.
const OVERHEAD: usize = 256;

/// The most bytes of headers: JetStream stores no more than 64 KiB of them with a message.
pub(crate) const MOST_HEADERS: usize = (u16::MAX as usize) - OVERHEAD;

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
    /// The form in which it asks for a call.
    pub(crate) form: Form,
    /// The function's subject token, where the message names a function.
    pub function: Option<String>,
    /// The function's name, where the message names one.
    pub function_name: Option<Arc<str>>,
    /// The call id, where there is one.
    pub call_id: Option<Arc<str>>,
    /// The event that it sends on, if it is one.
    pub event: Option<Box<EventName>>,
    /// Whether its end is to be told by a callback.
    pub(crate) has_callback: bool,
    /// Whether its waits are traced.
    pub(crate) is_traced: bool,
}

impl fmt::Debug for Message {
    /// Without what callers wrote.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Message");
        shown
            .field("envelope", &self.envelope)
            .field("function", &self.function_name)
            .field("call_id", &self.call_id);
        shown.field("bytes", &self.stored.len()).finish_non_exhaustive()
    }
}

impl Message {
    /// What arrived, in the form of OpenFaaS. `parked`: whether a worker put it there.
    pub fn new(arrival: &Arrival, parked: bool) -> Self {
        Self::of(&Form::OpenFaas, arrival, parked)
    }

    /// What arrived in a queue whose messages have this form.
    pub fn of(form: &Form, arrival: &Arrival, parked: bool) -> Self {
        Self::taking(form, &mut arrival.clone(), parked)
    }

    /// The same, which takes the headers where they are part of the call: a copy of them costs as much as all
    /// else that is made of them.
    pub fn taking(form: &Form, arrival: &mut Arrival, parked: bool) -> Self {
        let envelope = match form {
            _ if parked => Envelope::parked(arrival),
            Form::OpenFaas => Envelope::fresh(arrival),
            Form::Http(_) | Form::CloudEvents(_) => Envelope::fresh_whole(arrival),
        };
        Self {
            envelope,
            form: form.clone(),
            stored: arrival.payload.clone(),
            function: None,
            function_name: None,
            call_id: None,
            event: None,
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
        gzip::unpack(&self.stored, self.unpacked()).map(Cow::Owned)
    }

    /// The same to keep.
    ///
    /// # Errors
    /// Says what is wrong with a compressed payload.
    pub(crate) fn body(&self) -> Result<Bytes, String> {
        Ok(match self.payload()? {
            Cow::Borrowed(_) => self.stored.clone(),
            Cow::Owned(unpacked) => unpacked.into(),
        })
    }

    /// The call that it asks for.
    ///
    /// # Errors
    /// Says why there is none.
    pub fn invocation(&self) -> Result<Invocation, Undecodable> {
        self.form.read(self)
    }

    /// About how many bytes the payload has when it is unpacked; 0 where it is not packed. The last bytes of
    /// gzip say so; what they may say wrongly is bounded.
    pub fn unpacked(&self) -> usize {
        let told = self.stored.last_chunk().map_or(0, |told| u32::from_le_bytes(*told));
        if self.envelope.encoding == Encoding::Plain { 0 } else { told.min(1 << 26) as usize }
    }

    /// How many bytes are to be packed if this goes into a message of a broker with this maximum; 0 where it
    /// fits as it is.
    pub(crate) fn to_pack(&self, max_payload: usize) -> usize {
        let carried = if self.envelope.subject.is_some() { size(&self.envelope.carried) } else { 0 };
        let fits = self.stored.len() + OVERHEAD + ROOM + carried <= max_payload;
        if fits || self.envelope.encoding == Encoding::Gzip { 0 } else { self.stored.len() }
    }

    /// Takes over the names by which people and subjects know the invocation.
    pub(crate) fn identify(&mut self, function: &FunctionName, call_id: Option<&str>) {
        self.function = Some(function.token());
        self.function_name = Some(function.as_str().into());
        self.call_id = call_id.map(Into::into);
    }

    /// Takes over what is known of a message that is no invocation.
    pub(crate) fn identify_undecodable(&mut self, undecodable: &Undecodable) {
        self.function = undecodable.function.as_ref().map(FunctionName::token);
        self.function_name = undecodable.function.as_ref().map(|function| function.as_str().into());
        self.call_id = undecodable.call_id.as_deref().map(Into::into);
        self.event.clone_from(&undecodable.event);
    }

    /// The token by which subjects name its function.
    pub(crate) fn token(&self) -> &str {
        self.function.as_deref().unwrap_or(names::UNDECODABLE)
    }

    /// The id of the clone that follows from this message: a redelivered parent makes the same, a new
    /// decision another.
    pub(crate) fn successor_id(&self) -> String {
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
    /// until somebody sends it round again. Its callback has another one. A message of no known kind may be
    /// anything: one for each message.
    pub(crate) fn dead_letter_id(&self) -> String {
        self.life_id("dead")
    }

    /// The id of something that there is once in each life of what this message is.
    fn life_id(&self, what: &str) -> String {
        let id = match self.envelope.kind {
            Kind::Invocation => self.envelope.id.to_string(),
            Kind::Callback if self.envelope.is_redriven_callback() => {
                format!("{}.callback.again", self.envelope.id)
            }
            Kind::Callback => format!("{}.callback", self.envelope.id),
            Kind::Unknown(_) => self.envelope.id.of_clone(self.envelope.generation),
        };
        match &self.envelope.redrives {
            None => format!("{id}.{what}"),
            Some(redrives) => format!("{id}.{what}.{redrives}"),
        }
    }

    /// The clone to be tried next, at `due`.
    ///
    /// # Errors
    /// [`TooLarge`] where it fits in no way.
    pub(crate) fn clone_due(
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
        let place = timer.place(names, self.token(), next.id, next.generation, due, now);
        let id = next.id.of_clone(next.generation);
        self.record(id, &names.retries, place, next, Vec::new(), max_payload)
    }

    /// The clone that is held while the function is paused. It is due at no time: it is late by no pause.
    ///
    /// # Errors
    /// [`TooLarge`] where it fits in no way.
    pub(crate) fn clone_held(
        &self,
        names: &Names,
        now: SystemTime,
        max_payload: usize,
    ) -> Result<Record, TooLarge> {
        let mut next = self.envelope.next();
        next.due = None;
        next.parked = self.is_traced.then_some(now);
        let subject = names.held(self.token(), next.id, next.generation);
        let place = Place { subject, headers: Vec::new() };
        self.record(next.id.of_clone(next.generation), &names.retries, place, next, Vec::new(), max_payload)
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
        if let Some(EventName { id, source }) = self.event.as_deref() {
            let told = [(names::EVENT_ID, id), (names::EVENT_SOURCE, source)];
            extra.extend(
                told.into_iter().filter_map(|(name, text)| Some((name, ascii(text.as_ref()?, VALUE)))),
            );
        }
        extra.extend([(names::CAUSE, cause.as_str().to_owned()), (names::FAILED_AT, rfc3339(now))]);
        self.record(self.dead_letter_id(), &names.dead, place, self.envelope.next(), extra, max_payload)
    }

    /// A dead letter, as it lies in its stream.
    pub(crate) fn dead(arrival: &Arrival) -> Self {
        let Arrival { stream, sequence, stored, headers, .. } = arrival;
        let text = |name: &str| header::said(headers, name).map(Into::into);
        let token = arrival.subject.rsplit('.').next().filter(|token| *token != names::UNDECODABLE);
        Self {
            envelope: Envelope::told(stream, *sequence, *stored, headers),
            function: token.map(str::to_owned),
            function_name: text(names::FUNCTION),
            call_id: text(names::CALL_ID),
            ..Self::new(arrival, true)
        }
    }

    /// The message that sends the dead letter of this sequence round again, due at `now`. Its id is that of
    /// the life which it begins and of the letter, so that a letter that is sent twice counts once, and one
    /// that somebody copied counts for itself.
    ///
    /// # Errors
    /// [`TooLarge`] where it fits in no way.
    pub(crate) fn redriven(
        &self,
        names: &Names,
        sequence: u64,
        now: SystemTime,
        max_payload: usize,
    ) -> Result<Record, TooLarge> {
        let again = Self { envelope: self.envelope.redriven(now), ..self.clone() };
        let Envelope { id, generation, .. } = again.envelope;
        let place = Place { subject: names.due(self.token(), id, generation), headers: Vec::new() };
        let (id, envelope) = (format!("{}.{sequence}", again.life_id("redrive")), again.envelope.clone());
        again.record(id, &names.retries, place, envelope, Vec::new(), max_payload)
    }

    /// The same call of another function; `None` where it is no call.
    pub(crate) fn to_function(&self, function: &FunctionName) -> Option<Self> {
        // A message for a target names no function.
        if self.envelope.kind != Kind::Invocation || self.envelope.subject.is_some() {
            return None;
        }
        let payload = decode::retargeted(&self.payload().ok()?, function)?;
        let mut moved = Self { stored: payload.into(), ..self.clone() };
        moved.envelope = self.envelope.encoded(Encoding::Plain);
        moved.identify(function, self.call_id.as_deref());
        Some(moved)
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
                let bytes = size(&headers);
                if bytes <= MOST_HEADERS && bytes + payload.len() <= budget {
                    return Ok((headers, payload));
                }
            }
            if envelope.encoding == Encoding::Gzip {
                return Err(TooLarge);
            }
            envelope.encoding = Encoding::Gzip;
            payload = gzip::pack(&payload).map_err(|_| TooLarge)?;
        }
    }
}

#[cfg(test)]
mod tests;
