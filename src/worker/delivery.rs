//! A message in this worker's hands, until it is settled. Settling consumes it: nothing is settled twice.

use std::sync::Arc;

use crate::{
    broker::{pulled::Pulled, seam::Broker},
    flow::permits::Seat,
    message::{
        decode::{self, Invocation, Undecodable},
        envelope::Kind,
        names,
        posting::Posting,
        successor::Message,
    },
    observe::trace::Trace,
    tasks::heavy,
    worker::lease::Lease,
};

/// After so many interruptions a message is suspected of killing its workers, and runs apart from other
/// suspects.
pub const SUSPECT: u32 = 3;

/// What is in a message.
#[derive(Debug)]
pub enum Content {
    /// A call to be made.
    Invocation(Box<Invocation>),
    /// An answer to be posted.
    Callback(Box<Posting>),
}

fn undecodable(reason: String) -> Undecodable {
    Undecodable { reason, function: None, call_id: None }
}

fn read(message: &Message) -> Result<Content, Undecodable> {
    match (&message.envelope.kind, message.payload()) {
        (_, Err(reason)) => Err(undecodable(reason)),
        (Kind::Invocation, Ok(payload)) => decode::decode(&payload).map(Box::new).map(Content::Invocation),
        (Kind::Callback, Ok(payload)) => Posting::read(&payload).map(Box::new).map(Content::Callback),
        (Kind::Unknown(kind), Ok(_)) if kind == names::UNREADABLE => {
            Err(undecodable("it was parked with headers that cannot be read".to_owned()))
        }
        (Kind::Unknown(_), Ok(_)) => {
            Err(undecodable("it is of a kind that this version does not know".to_owned()))
        }
    }
}

/// A message that was delivered and is not settled yet.
#[derive(Debug)]
pub struct Delivery<B> {
    /// What it is and where it has been.
    pub message: Message,
    /// For how long it is this worker's alone.
    pub lease: Arc<Lease<B>>,
    /// Its permit, which it gives back while it waits for the broker.
    pub seat: Arc<Seat>,
    /// The bytes that it takes while it waits: what was read from the payload, the payload itself, and the
    /// answer.
    pub bytes: usize,
    /// Where its acknowledgement goes.
    pub reply: String,
    /// Its part in its invocation's trace.
    pub trace: Trace,
    /// Its sequence in its stream.
    pub sequence: u64,
    /// How often the broker delivered this very message.
    pub delivered: u64,
    /// Whether nobody began what was delivered before.
    pub unbegun: bool,
    doubtful: bool,
}

impl<B: Broker> Delivery<B> {
    /// What arrived. `parked`: from the stream of retries, where only workers write.
    pub fn new(broker: &B, pulled: Pulled, parked: bool) -> Self {
        Self {
            message: Message::new(&pulled.arrival, parked),
            lease: Arc::new(Lease::new(broker, &pulled)),
            seat: Arc::default(),
            bytes: 2 * pulled.arrival.payload.len(),
            reply: pulled.reply,
            trace: Trace::default(),
            sequence: pulled.arrival.sequence,
            delivered: pulled.delivered,
            unbegun: false,
            doubtful: pulled.doubtful,
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
        self.named(read.unwrap_or_else(|| Err(undecodable("reading it failed".to_owned()))))
    }

    fn named(&mut self, read: Result<Content, Undecodable>) -> Result<Content, Undecodable> {
        match &read {
            Ok(Content::Invocation(invocation)) => {
                self.message.identify(&invocation.function, invocation.call_id());
                self.message.has_callback = invocation.callback.is_some();
            }
            Ok(Content::Callback(posting)) => {
                self.message.identify(&posting.function, Some(&posting.call_id))
            }
            Err(undecodable) => self.message.identify_undecodable(undecodable),
        }
        read
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
        self.message.envelope.interruptions >= SUSPECT
    }
}
