//! A message in this worker's hands, until it is settled.
//!
//! Its fields are its own. Only the two rooms in this one's folder know the subject of its acknowledgement:
//! `lease` says that it is still being worked on, and `settle` settles it.

pub mod lease;
pub mod settle;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    broker::{pulled::Pulled, seam::Broker},
    flow::permits::Seat,
    message::{
        decode::{Invocation, Undecodable},
        envelope::{Envelope, Kind},
        form::Form,
        names,
        posting::Posting,
        successor::Message,
    },
    observe::trace::{Trace, Tracer},
    retry::interruption,
    tasks::heavy,
    worker::delivery::lease::Lease,
};

/// The content of a message.
#[derive(Debug)]
pub enum Content {
    /// A call to be made.
    Invocation(Box<Invocation>),
    /// An answer to be posted.
    Callback(Box<Posting>),
}

fn read(message: &Message) -> Result<Content, Undecodable> {
    match &message.envelope.kind {
        Kind::Invocation => message.invocation().map(Box::new).map(Content::Invocation),
        Kind::Callback => {
            let payload = message.payload().map_err(Undecodable::new)?;
            Posting::read(&payload).map(Box::new).map(Content::Callback)
        }
        Kind::Unknown(kind) if kind == names::UNREADABLE => {
            Err(Undecodable::new("it was parked with headers that cannot be read"))
        }
        Kind::Unknown(_) => Err(Undecodable::new("it is of a kind that this version does not know")),
    }
}

/// A message that was delivered and is not settled yet. Settling consumes it, so that nothing is settled
/// twice:
///
/// ```compile_fail,E0382
/// # use queue_worker::{broker::seam::Broker, retry::disposition::Disposition};
/// # use queue_worker::worker::delivery::{Delivery, lease::LeaseLost, settle::{Settle, Settled}};
/// async fn path<B: Broker>(settle: &Settle<B>, delivery: Delivery<B>) -> Result<Settled, LeaseLost> {
///     settle.settle(delivery, Disposition::Delivered).await?;
///     settle.settle(delivery, Disposition::Complete).await
/// }
/// ```
///
/// Once is enough:
///
/// ```no_run
/// # use queue_worker::{broker::seam::Broker, retry::disposition::Disposition};
/// # use queue_worker::worker::delivery::{Delivery, lease::LeaseLost, settle::{Settle, Settled}};
/// async fn path<B: Broker>(settle: &Settle<B>, delivery: Delivery<B>) -> Result<Settled, LeaseLost> {
///     settle.settle(delivery, Disposition::Complete).await
/// }
/// ```
#[derive(Debug)]
pub struct Delivery<B> {
    /// Its content and its past. It is large, and a delivery goes from hand to hand.
    message: Box<Message>,
    /// The time for which it is this worker's alone.
    lease: Arc<Lease<B>>,
    /// Its permit, which it gives back while it waits for the broker.
    seat: Arc<Seat>,
    /// The bytes that it takes while it waits: what was read from the payload, the payload itself, and the
    /// answer.
    bytes: usize,
    /// The bytes of the message as it was delivered.
    size: usize,
    /// Its part in its invocation's trace.
    trace: Trace,
    /// Its sequence in its stream.
    sequence: u64,
    /// How often the broker delivered this very message.
    delivered: u64,
    /// Whether nobody began what was delivered before.
    unbegun: bool,
    /// Whether the broker may have delivered it before, and does not say so.
    doubtful: bool,
    /// Whether it is stored as what it is now: not so a callback that has just followed from its invocation.
    stored: bool,
}

impl<B: Broker> Delivery<B> {
    /// A delivery of what arrived in this form. `parked`: from the stream of retries, where only workers
    /// write. `unbegun`: nobody began it when it was delivered before.
    pub fn new(broker: &B, form: &Form, mut pulled: Pulled, parked: bool, unbegun: bool) -> Self {
        let message = Message::taking(form, &mut pulled.arrival, parked);
        let lease = Lease::new(broker, pulled.reply, pulled.ack_wait, pulled.asked);
        Self {
            doubtful: pulled.doubtful.about(message.envelope.id),
            message: Box::new(message),
            lease: Arc::new(lease),
            seat: Arc::default(),
            bytes: 2 * pulled.arrival.payload.len(),
            size: pulled.arrival.payload.len(),
            trace: Trace::default(),
            sequence: pulled.arrival.sequence,
            delivered: pulled.delivered,
            unbegun,
            stored: true,
        }
    }

    /// Reads what is in it, and takes over its names.
    ///
    /// # Errors
    /// Says why nothing can be made of it.
    pub fn open(&mut self) -> Result<Content, Undecodable> {
        let read = read(&self.message);
        self.named(read)
    }

    /// Does the same beside the loop, where it takes long.
    ///
    /// # Errors
    /// Says why nothing can be made of it.
    pub async fn open_beside(&mut self) -> Result<Content, Undecodable> {
        let message = self.message.clone();
        let read = heavy::done(self.message.unpacked(), move || read(&message)).await;
        self.named(read.unwrap_or_else(|| Err(Undecodable::new("reading it failed"))))
    }

    fn named(&mut self, read: Result<Content, Undecodable>) -> Result<Content, Undecodable> {
        match &read {
            Ok(Content::Invocation(invocation)) => {
                self.message.identify(&invocation.function, invocation.call_id());
                self.message.has_callback = invocation.callback.is_some();
                self.message.event.clone_from(&invocation.event);
            }
            Ok(Content::Callback(posting)) => {
                self.message.identify(&posting.function, Some(&posting.call_id))
            }
            Err(undecodable) => self.message.identify_undecodable(undecodable),
        }
        read
    }

    /// Begins its part of the trace.
    pub fn trace_begins(
        &mut self,
        tracer: &Tracer,
        queue: &str,
        invocation: Option<&Invocation>,
        now: impl FnOnce() -> SystemTime,
    ) {
        self.trace = tracer.begin(queue, &mut self.message, invocation, now);
    }

    /// Gives it a call id if it has none, and tells the trace.
    pub fn identify(&mut self) {
        let Message { call_id, envelope, .. } = &mut *self.message;
        self.trace.call_id(call_id.get_or_insert_with(|| envelope.made_id().into()));
    }

    /// Gives a callback that was never stored its payload. Whatever happens to the packing of a large one, it
    /// has one.
    pub async fn fill(&mut self, posting: Posting, max_payload: usize) {
        if !self.stored {
            let (bytes, without) = (posting.body.len(), posting.without_body());
            let packed = heavy::done(bytes, move || posting.pack(max_payload)).await;
            let (stored, encoding) = packed.unwrap_or_else(|| without.pack(max_payload));
            self.message.fill(stored, encoding);
        }
    }

    /// Gives it a seat among the calls that run at once.
    pub fn sit(&mut self, seat: Arc<Seat>) {
        self.seat = seat;
    }

    /// The bytes of the message as it was delivered.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Holds so many bytes more while it waits.
    pub fn grow(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Counts an interruption, and returns how many there are in a row.
    pub fn count_interruption(&mut self) -> u32 {
        let interruptions = &mut self.message.envelope.interruptions;
        *interruptions = interruptions.saturating_add(1);
        *interruptions
    }

    /// Its message.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Its past.
    pub fn envelope(&self) -> &Envelope {
        &self.message.envelope
    }

    /// Its past, to be added to.
    pub fn envelope_mut(&mut self) -> &mut Envelope {
        &mut self.message.envelope
    }

    /// The lease under which it is this worker's alone.
    pub fn lease(&self) -> Arc<Lease<B>> {
        self.lease.clone()
    }

    /// Its seat among the calls that run at once.
    pub fn seat(&self) -> &Seat {
        &self.seat
    }

    /// Its part in its invocation's trace.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Its sequence in its stream.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// How often the broker delivered this very message.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// The time since its invocation first arrived, or was sent round again. `now` is the broker's.
    pub fn age(&self, now: SystemTime) -> Duration {
        now.duration_since(self.message.envelope.since()).unwrap_or_default()
    }

    /// Whether it is stored as what it is: a callback that has just followed from its invocation is not.
    pub fn is_stored(&self) -> bool {
        self.stored
    }

    /// Whether a worker had it before and let its lease run out: it died, stood still or was cut off.
    pub fn was_abandoned(&self) -> bool {
        self.delivered > 1 && !self.unbegun
    }

    /// Whether what follows from it may be stored already.
    pub fn may_be_settled(&self) -> bool {
        self.delivered > 1 || self.doubtful
    }

    /// Whether it may be what kills its workers.
    pub fn is_suspect(&self) -> bool {
        interruption::is_suspect(self.message.envelope.interruptions)
    }
}
