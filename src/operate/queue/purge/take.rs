//! Takes calls out of their streams, in their order: the dead letter and the callback of one are stored
//! before it goes.

use std::{
    collections::BTreeSet,
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
};

use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::{
    end::{Call, followers, read, told},
    insist::insist,
    is_meant,
    still::Still,
    taken::Taken,
};
use crate::{
    broker::{
        jetstream::{JetStream, Stored, call},
        pauses::Record as Pauses,
        seam::{Broker, BrokerError},
        streams::desired,
        sweep::sweep,
    },
    message::{
        audit,
        decode::FunctionName,
        form::Form,
        names::{DUE_CONSUMER, Names, covers},
        record::Record,
        successor::TooLarge,
    },
    operate::{
        audit::record,
        desk::Desk,
        end::{Failure, cannot},
        out::number,
        queue::stats::consumer,
    },
};

/// So many calls are looked at before it is asked again what workers have got.
const CHUNK: u64 = 256;
/// How many are under way at once.
const AT_ONCE: usize = 32;
/// The most bytes of calls that are looked at, and not stored yet.
const AHEAD: usize = 32 << 20;
/// A sequence that no message has.
const NOWHERE: u64 = 0;

/// Where calls wait, and the consumer that gives them to workers.
struct Place {
    stream: String,
    consumer: String,
    /// The subjects; of retries one.
    filters: Vec<String>,
    /// Calls that are stored later are not meant.
    last: u64,
    /// Whether they are retries.
    parked: bool,
}

/// What is to be taken away.
pub(super) struct Taking<'a> {
    desk: &'a Desk,
    names: &'a Names,
    form: Form,
    functions: Vec<FunctionName>,
    for_good: bool,
    fresh: Place,
    /// Where retries wait, or are held.
    retries: Vec<Place>,
    /// Ends it between two calls.
    halt: &'a CancellationToken,
    /// Whether there is an audit.
    audited: bool,
    /// Whether it was said that this is not told.
    untold: AtomicBool,
}

/// What is to be done with a call.
enum Fate {
    /// It is not meant, or gone.
    Left,
    /// It goes, after these are stored; and the audit is told.
    Goes(u64, Vec<Record>, Option<audit::Record>),
    /// What has to be stored fits nowhere.
    TooLarge,
    /// It is fresh, and nobody knows what it asks for: the settings may be another queue's.
    Unreadable,
}

impl<'a> Taking<'a> {
    /// Calls of these functions, or of all, that wait just now.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn new(
        desk: &'a Desk,
        names: &'a Names,
        functions: Vec<FunctionName>,
        for_good: bool,
        halt: &'a CancellationToken,
    ) -> Result<Self, Failure> {
        let stream = &names.stream;
        let not_served = || Failure::Cannot(format!("no worker has served the queue {} yet", names.queue));
        let info = desk.stream(stream).await?.ok_or_else(not_served)?;
        if !info.config.is_work_queue() {
            return Err(Failure::Cannot(format!(
                "stream {stream} is no work queue: others may read it, and nothing is deleted in it"
            )));
        }
        let settings = desk.config.queues.iter().find(|queue| queue.name == names.queue);
        let durable = settings.map_or("faas-workers", |queue| queue.durable.as_str());
        let found = consumer(desk, stream, durable).await?.ok_or_else(not_served)?;
        let fresh = Place {
            stream: stream.clone(),
            consumer: durable.to_owned(),
            filters: found.config.filters().into_iter().map(str::to_owned).collect(),
            last: info.state.last_seq,
            parked: false,
        };
        let form = settings.map_or(Form::OpenFaas, |queue| queue.form.clone());
        let retries = retries(desk, names, &functions).await?;
        let audited = desk.stream(&names.audit).await?.is_some();
        Ok(Self {
            desk,
            names,
            form,
            functions,
            for_good,
            fresh,
            retries,
            halt,
            audited,
            untold: AtomicBool::new(false),
        })
    }

    fn places(&self) -> impl Iterator<Item = &Place> {
        std::iter::once(&self.fresh).chain(&self.retries)
    }

    fn jetstream(&self) -> &JetStream {
        &self.desk.jetstream
    }

    /// How many wait.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn count(&self) -> Result<u64, Failure> {
        let mut count = 0;
        for place in &self.retries {
            count += self.waiting(place).await?;
        }
        if !self.functions.is_empty() {
            if self.desk.is_watched() {
                eprintln!("looking at every message of {} that waits …", self.names.queue);
            }
            return Ok(count + self.waiting(&self.fresh).await?);
        }
        let fresh = consumer(self.desk, &self.fresh.stream, &self.fresh.consumer).await?;
        Ok(count + fresh.map_or(0, |info| info.num_pending))
    }

    /// How many wait in a place, by a look at each.
    async fn waiting(&self, place: &Place) -> Result<u64, Failure> {
        let (mut count, from) = (0, self.delivered(place).await?);
        for filter in &place.filters {
            let wanted = |stored: Stored| {
                let waits = (from + 1..=place.last).contains(&stored.sequence);
                (waits && self.read(place, stored).is_some()).then_some(())
            };
            let found = sweep(self.jetstream(), &place.stream, filter, wanted).await.map_err(cannot)?;
            count += found.len() as u64;
        }
        Ok(count)
    }

    /// The last sequence that a worker has got.
    async fn delivered(&self, place: &Place) -> Result<u64, Failure> {
        let info = consumer(self.desk, &place.stream, &place.consumer).await?;
        Ok(info.map_or(0, |info| info.delivered.stream_seq))
    }

    fn read(&self, place: &Place, stored: Stored) -> Option<Call> {
        read(&self.form, &stored.arrival(&place.stream), place.parked, &self.functions)
    }

    /// Makes sure that it may delete, before anything is stored.
    ///
    /// # Errors
    /// Where it may not.
    pub async fn rights(&self) -> Result<(), Failure> {
        let streams: BTreeSet<_> = self.places().map(|place| &place.stream).collect();
        for stream in streams {
            let tried = self.jetstream().delete(stream, NOWHERE).await;
            let right = self.jetstream().api_subject(&call::delete_message(stream));
            tried.map_err(|error| {
                Failure::Cannot(format!(
                    "nothing is taken away, for that needs the right to {right}: {error}"
                ))
            })?;
        }
        Ok(())
    }

    /// Takes them away, as long as the queue is still. `why`: what is said about them.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn take(&self, still: &mut Still<'_>, why: &str, taken: &mut Taken) -> Result<(), Failure> {
        for place in self.places() {
            self.take_from(place, still, why, taken).await?;
        }
        Ok(())
    }

    async fn take_from(
        &self,
        place: &Place,
        still: &mut Still<'_>,
        why: &str,
        taken: &mut Taken,
    ) -> Result<(), Failure> {
        let Some(info) = self.desk.stream(&place.stream).await? else { return Ok(()) };
        let mut next = info.state.first_seq;
        while !self.halt.is_cancelled() {
            still.hold().await?;
            // What a worker has got by now runs, or is on its way.
            next = next.max(self.delivered(place).await? + 1);
            let sequences = self.sequences(place, next).await?;
            let Some(end) = sequences.last() else { break };
            next = end + 1;
            self.take_some(place, sequences, why, taken).await?;
            if self.desk.is_watched() {
                eprint!("\r\x1b[K{} are taken away", number(taken.done));
            }
        }
        Ok(())
    }

    /// Takes some away. What is stored of a call must not stay beside it: the call would be made, and its
    /// retry be taken for what is stored. So an error stops what is still to be stored, and the rest goes on.
    async fn take_some(
        &self,
        place: &Place,
        sequences: Vec<u64>,
        why: &str,
        taken: &mut Taken,
    ) -> Result<(), Failure> {
        let ahead = (AHEAD / 2 / self.jetstream().max_payload().max(1)).clamp(1, AT_ONCE);
        // Each step begins in their order.
        let fates = stream::iter(sequences)
            .take_until(self.halt.cancelled())
            .map(|sequence| async move { self.or_halt(self.look(place, sequence, why).await) })
            .buffered(ahead)
            .map(|fate| async { self.or_halt(self.store(fate?).await) })
            .buffered(ahead)
            .map(|fate| async { self.or_halt(self.delete(place, fate?).await) })
            .buffered(AT_ONCE);
        let (mut fates, mut done) = (pin!(fates), Ok(()));
        while let Some(fate) = fates.next().await {
            match fate {
                Ok(Fate::Left) => {}
                Ok(Fate::Goes(..)) => taken.done += 1,
                Ok(Fate::TooLarge) => taken.too_large += 1,
                Ok(Fate::Unreadable) => taken.unreadable += 1,
                Err(failure) => done = done.and(Err(failure)),
            }
        }
        done
    }

    fn or_halt<T>(&self, step: Result<T, Failure>) -> Result<T, Failure> {
        step.inspect_err(|_| self.halt.cancel())
    }

    /// The next sequences at which something may lie.
    async fn sequences(&self, place: &Place, next: u64) -> Result<Vec<u64>, Failure> {
        if !place.parked {
            // Nearly all that lies here waits: nobody need search for it.
            return Ok((next..=place.last.min(next.saturating_add(CHUNK - 1))).collect());
        }
        let (mut found, mut from) = (Vec::new(), next);
        for filter in &place.filters {
            while found.len() < CHUNK as usize {
                let asked = self.jetstream().next_stored(&place.stream, filter, from).await;
                let stored = asked.map_err(cannot)?.filter(|stored| stored.sequence <= place.last);
                let Some(stored) = stored else { break };
                from = stored.sequence + 1;
                found.push(stored.sequence);
            }
        }
        Ok(found)
    }

    async fn look(&self, place: &Place, sequence: u64, why: &str) -> Result<Fate, Failure> {
        let stored = self.jetstream().stored(&place.stream, sequence).await.map_err(cannot)?;
        let is_its = |stored: &Stored| place.filters.iter().any(|filter| covers(filter, &stored.subject));
        let Some(call) = stored.filter(is_its).and_then(|stored| self.read(place, stored)) else {
            return Ok(Fate::Left);
        };
        let (now, most) = (self.desk.now(), self.jetstream().max_payload());
        let told = self.audited.then(|| told(&call, self.names, now)).flatten();
        if self.for_good {
            return Ok(Fate::Goes(sequence, Vec::new(), told));
        }
        if !place.parked && !call.is_readable() {
            return Ok(Fate::Unreadable);
        }
        Ok(match followers(call, self.names, &self.desk.config.retry, why, (now, most)) {
            Ok(records) => Fate::Goes(sequence, records, told),
            Err(TooLarge) => Fate::TooLarge,
        })
    }

    /// Stores what follows from a call, and keeps none of it.
    async fn store(&self, fate: Fate) -> Result<Fate, Failure> {
        let Fate::Goes(sequence, records, told) = fate else { return Ok(fate) };
        if self.halt.is_cancelled() {
            return Ok(Fate::Left);
        }
        for record in records {
            let stored = insist(
                async || self.jetstream().publish(&record).await,
                |error| matches!(error, BrokerError::Unavailable(_)),
            );
            match stored.await {
                Ok(()) => {}
                Err(BrokerError::TooLarge) => return Ok(Fate::TooLarge),
                Err(error) => return Err(cannot(error)),
            }
        }
        Ok(Fate::Goes(sequence, Vec::new(), told))
    }

    /// Deletes a call, if it is to go, and tells the audit of it.
    async fn delete(&self, place: &Place, fate: Fate) -> Result<Fate, Failure> {
        if let Fate::Goes(sequence, _, told) = &fate {
            let delete = async || self.jetstream().delete(&place.stream, *sequence).await;
            insist(delete, |_| true).await.map_err(cannot)?;
            if let Some(told) = told
                && let Err(error) = record(self.desk, self.names, told).await
                && !self.untold.swap(true, Ordering::Relaxed)
            {
                self.desk.complain(&format!("not all of this is in the audit: {error}"));
            }
        }
        Ok(fate)
    }
}

/// Where retries wait for a worker, or are held.
async fn retries(desk: &Desk, names: &Names, functions: &[FunctionName]) -> Result<Vec<Place>, Failure> {
    let Some(info) = desk.stream(&names.retries).await? else { return Ok(Vec::new()) };
    let place = |consumer: String, filter| Place {
        stream: names.retries.clone(),
        consumer,
        filters: vec![filter],
        last: info.state.last_seq,
        parked: true,
    };
    let due: Vec<_> = if functions.is_empty() {
        vec![names.due_subjects()]
    } else {
        functions.iter().map(|function| names.due_subjects_of(function)).collect()
    };
    let held = Pauses::new(&desk.jetstream, names).held().await.map_err(cannot)?;
    let held = held.into_keys().filter(|function| is_meant(functions, Some(function))).map(|function| {
        let wanted = desired::Consumer::held(names, &function);
        place(wanted.name, wanted.filter)
    });
    Ok(due.into_iter().map(|filter| place(DUE_CONSUMER.to_owned(), filter)).chain(held).collect())
}
