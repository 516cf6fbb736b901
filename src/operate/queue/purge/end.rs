//! What follows from a call that is taken away: its dead letter, and its callback. Pure.

use std::time::{Duration, SystemTime};

use super::is_meant;
use crate::{
    message::{
        arrival::Arrival,
        audit, call,
        decode::{FunctionName, Invocation},
        envelope::Kind,
        form::Form,
        letter::Attempt,
        names::Names,
        posting::{Ending, Posting, status_of},
        record::Record,
        successor::{Message, TooLarge},
        timer::Timer,
    },
    retry::{judge::Cause, policy::RetryPolicy},
};

/// A message that waits, and the call that it asks for, if it asks for one.
pub(super) struct Call(Message, Option<Invocation>);

impl Call {
    /// Whether it asks for a call.
    pub fn is_readable(&self) -> bool {
        self.1.is_some()
    }
}

/// Reads a message; nothing where it is not meant, or is no call.
pub(super) fn read(form: &Form, arrival: &Arrival, parked: bool, functions: &[FunctionName]) -> Option<Call> {
    let mut message = Message::of(form, arrival, parked);
    if message.envelope.kind != Kind::Invocation {
        // The callback of one that has ended.
        return None;
    }
    match message.invocation() {
        Ok(invocation) => {
            let function = &invocation.function;
            let call_id = call::id(invocation.call_id(), &message.envelope);
            message.identify(function, Some(&call_id));
            is_meant(functions, Some(function)).then_some(Call(message, Some(invocation)))
        }
        Err(undecodable) => {
            message.identify_undecodable(&undecodable);
            is_meant(functions, undecodable.function.as_ref()).then_some(Call(message, None))
        }
    }
}

/// The record of its end, for the audit; none of what is no call.
pub(super) fn told(
    Call(message, invocation): &Call,
    names: &Names,
    now: SystemTime,
) -> Option<audit::Record> {
    invocation.as_ref()?;
    let worker = Attempt::all(&message.envelope).pop().map(|last| last.worker).unwrap_or_default();
    let ended = audit::Call::of(message, &names.queue, Cause::Cancelled.as_str(), &worker, now);
    Some(audit::Record::Call(Box::new(ended)))
}

/// Its dead letter, and its callback if it asks for one. `why` is said about it.
///
/// # Errors
/// [`TooLarge`] where one fits in no way.
pub(super) fn followers(
    Call(mut message, invocation): Call,
    names: &Names,
    policy: &RetryPolicy,
    why: &str,
    (now, most): (SystemTime, usize),
) -> Result<Vec<Record>, TooLarge> {
    message.envelope.cancelled = None;
    message.envelope.last_error = Some(why.to_owned());
    let mut records = vec![message.dead_letter(names, Cause::Cancelled, now, most)?];
    let Some(invocation) = invocation else { return Ok(records) };
    let (policy, _) = policy.for_annotations(&invocation.annotations);
    let envelope = &message.envelope;
    let ending = Ending {
        invocation: &invocation,
        call_id: message.call_id.as_deref().unwrap_or_default(),
        annotations: &invocation.annotations,
        answer: None,
        status: status_of(Some(Cause::Cancelled), envelope),
        took: Duration::ZERO,
        answer_lost: envelope.last_status.is_some(),
        retry: envelope.attempts.saturating_sub(1),
        retry_max: policy.max_attempts.saturating_sub(1),
    };
    if let Some((posting, _)) = Posting::of(ending) {
        let mut callback = message.callback();
        let (payload, encoding) = posting.pack(most);
        callback.fill(payload, encoding);
        // It is due at once: no timer is asked.
        records.push(callback.clone_due(&callback.envelope, names, Timer::Levels, now, now, most)?);
    }
    Ok(records)
}
