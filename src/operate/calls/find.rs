//! Finds a call: among those that run, by the index of the audit, and where that says nothing by a look at
//! every message.

use std::{collections::BTreeSet, time::SystemTime};

use super::{
    ask::{Patience, running},
    found::{Call, State, together},
};
use crate::{
    broker::{audit::records_of, jetstream::Stored, sweep::sweep, walk::Walk},
    message::{
        audit::{COMPLETED, Record},
        call,
        envelope::{Envelope, Kind},
        form::Form,
        header,
        letter::{Letter, Place, waiting::Waiting},
        names::{self, Id, Names},
        successor::Message,
    },
    operate::{
        desk::Desk,
        end::{Failure, cannot},
    },
};

/// How far it is looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// At what workers and the index of the audit say.
    Known,
    /// Where these say nothing, at every message that is parked or dead, too.
    Stored,
    /// At every message, those that wait, too.
    All,
}

/// The calls of an id.
///
/// # Errors
/// See [`Failure`].
pub(crate) async fn find(desk: &Desk, call_id: &str, depth: Depth) -> Result<Vec<Call>, Failure> {
    let mut all = Vec::new();
    for names in desk.queues()? {
        all.extend(of_queue(desk, &names, call_id, depth).await?);
    }
    Ok(together(all))
}

async fn of_queue(desk: &Desk, names: &Names, call_id: &str, depth: Depth) -> Result<Vec<Call>, Failure> {
    let queue = names.queue.as_str();
    let index = records_of(&desk.jetstream, names, call_id);
    let asked = running(desk, names, call_id, Patience::Short);
    let (records, begun) = tokio::join!(async { index.await.map_err(cannot) }, asked);
    let run = |(worker, call)| Call::running(call_id, queue, worker, call);
    let mut found: Vec<Call> = begun?.into_iter().map(run).collect();
    let mut origins = BTreeSet::new();
    for record in records? {
        match record {
            Record::Parked(parked) => {
                origins.insert(parked.original_id.clone());
                found.push(Call::was_parked(call_id, queue, parked));
            }
            Record::Call(ended) => {
                // Nothing follows from a success, and NATS 2.9 looks at all subjects for what is not there.
                if ended.outcome == COMPLETED {
                    origins.remove(&ended.original_id);
                } else {
                    origins.insert(ended.original_id.clone());
                }
                found.push(Call::ended(call_id, *ended));
            }
            Record::Action(_) => {}
        }
    }
    for origin in &origins {
        found.extend(clone_of(desk, names, call_id, origin).await?);
    }
    let is_known = together(found.clone()).first().is_some_and(|call| call.state != State::Unknown);
    if depth == Depth::All || (depth == Depth::Stored && !is_known) {
        found.extend(everywhere(desk, names, call_id, depth == Depth::All).await?);
    }
    // Somebody may be slow to answer: what seems to be due, or to be nowhere, may run.
    let now = desk.now();
    let known = together(found.clone());
    let is_open = |call: &Call| match call.state {
        State::Unknown | State::Waiting => true,
        State::Parked => call.due.is_none_or(|due| due <= now),
        _ => false,
    };
    if known.is_empty() || known.iter().any(is_open) {
        let begun = running(desk, names, call_id, Patience::Long).await?;
        found.extend(begun.into_iter().map(run));
    }
    Ok(found)
}

/// The clone of an invocation that is parked, by its subject.
async fn clone_of(desk: &Desk, names: &Names, call_id: &str, origin: &str) -> Result<Option<Call>, Failure> {
    Ok(stored_clone(desk, names, origin).await?.and_then(|stored| parked(names, call_id, &stored)))
}

/// The clone of the invocation with this original id, as it is stored.
///
/// # Errors
/// See [`Failure`].
pub(super) async fn stored_clone(
    desk: &Desk,
    names: &Names,
    origin: &str,
) -> Result<Option<Stored>, Failure> {
    let Some(id) = origin.rsplit_once(':').and_then(|(_, id)| id.parse::<Id>().ok()) else { return Ok(None) };
    desk.jetstream.last_stored(&names.retries, &names.clones_of_any(id)).await.map_err(cannot)
}

/// A parked call, where it is one and not its callback.
fn parked(names: &Names, call_id: &str, stored: &Stored) -> Option<Call> {
    let headers = stored.headers();
    let told = Envelope::told(&names.retries, stored.sequence, stored.time, &headers);
    let function = header::said(&headers, names::FUNCTION).map(str::to_owned);
    let held = names.retry(&stored.subject).is_some_and(|(waiting, _)| waiting == Waiting::Held);
    let note = held.then(|| "it is held, for its function is paused".to_owned());
    let call = Call { note, ..Call::parked(call_id, &names.queue, function, &told, stored.time) };
    (told.kind == Kind::Invocation).then_some(call)
}

/// Looks at every parked message and every dead letter, and at those that wait if they are to be seen.
///
/// # Errors
/// See [`Failure`].
pub(super) async fn everywhere(
    desk: &Desk,
    names: &Names,
    call_id: &str,
    waiting: bool,
) -> Result<Vec<Call>, Failure> {
    let mut found = Vec::new();
    if desk.is_watched() {
        eprintln!("looking at every message of {} that is parked or dead …", names.queue);
    }
    found.extend(letters(desk, names, call_id, None).await?);
    let settings = desk.config.queues.iter().find(|queue| queue.name == names.queue);
    let form = settings.map_or(Form::OpenFaas, |queue| queue.form.clone());
    let is_its =
        |stored: &Stored| call::is_of(&stored.headers(), call_id) && is_very(names, &form, call_id, stored);
    let of_clone = |stored: Stored| is_its(&stored).then(|| parked(names, call_id, &stored)).flatten();
    let subjects = names.retries_subjects();
    found.extend(sweep(&desk.jetstream, &names.retries, &subjects, of_clone).await.map_err(cannot)?);
    if waiting {
        let filter = settings.map_or(names.queue.as_str(), |queue| queue.filter_subject.as_str());
        let of_fresh = |stored| fresh(names, &form, call_id, stored);
        found.extend(sweep(&desk.jetstream, &names.stream, filter, of_fresh).await.map_err(cannot)?);
    }
    Ok(found)
}

/// Whether a clone is of the very call that is meant: several long ids may be one in a header. One that is
/// asked for as a header has it may be any of them.
fn is_very(names: &Names, form: &Form, call_id: &str, stored: &Stored) -> bool {
    let message = || Message::of(form, &stored.clone().arrival(&names.retries), true);
    let of_another = |message: Message| {
        let invocation = message.invocation();
        invocation.is_ok_and(|invocation| call::id(invocation.call_id(), &message.envelope) != call_id)
    };
    call::written(call_id) == call_id || !of_another(message())
}

/// Its dead letters that were stored at `since` or later.
///
/// # Errors
/// See [`Failure`].
pub(super) async fn letters(
    desk: &Desk,
    names: &Names,
    call_id: &str,
    since: Option<SystemTime>,
) -> Result<Vec<Call>, Failure> {
    let Some(info) = desk.stream(&names.dead).await? else { return Ok(Vec::new()) };
    let subjects = names.dead_subjects();
    let mut walk = Walk::new(&desk.jetstream, (&names.dead, &subjects), 1, info.state.last_seq, since);
    let mut found = Vec::new();
    loop {
        let seen = walk.next().await.map_err(cannot)?;
        if seen.is_empty() {
            return Ok(found);
        }
        for one in seen.iter().filter(|one| call::is_of(&one.headers, call_id)) {
            let place = Place {
                stream: &names.dead,
                subject: &one.subject,
                sequence: one.sequence,
                stored: one.stored,
                bytes: one.bytes,
            };
            let letter = Letter::read(place, &one.headers);
            if !letter.is_callback {
                found.push(Call::dead(call_id, &names.queue, letter));
            }
        }
    }
}

/// A call that waits, if this message is it.
fn fresh(names: &Names, form: &Form, call_id: &str, stored: Stored) -> Option<Call> {
    let message = Message::of(form, &stored.arrival(&names.stream), false);
    let invocation = message.invocation().ok()?;
    let envelope = &message.envelope;
    let is_its = call::is_id(&call::written(&call::id(invocation.call_id(), envelope)), call_id);
    is_its.then(|| Call::waiting(call_id, &names.queue, invocation.function.as_str().to_owned(), envelope))
}
