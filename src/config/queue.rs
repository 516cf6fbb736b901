//! The queue that is served, and the names in NATS that follow from its own.

use super::{
    names::{self, stream_of},
    reader::{Reader, Reported},
    values::choice,
};

/// The queue that is served.
#[derive(Debug, Clone)]
pub struct Queue {
    /// The subject invocations arrive on.
    pub name: String,
    /// Its stream.
    pub stream: String,
    /// What the consumer takes from the stream.
    pub filter_subject: String,
    /// The durable pull consumer of fresh invocations.
    pub durable: String,
    /// Where a new durable starts on an existing stream that is no work queue.
    pub deliver: Option<Deliver>,
}

/// Where a new durable consumer starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deliver {
    /// With what arrives from now on.
    New,
    /// With the oldest message stored.
    All,
}

impl Queue {
    /// The stream of parked retries: the queue's name, dots as `_`, and `-retries`.
    #[must_use]
    pub fn retries_stream(&self) -> String {
        stream_of(&self.name, "-retries")
    }

    /// The stream of dead letters: the queue's name, dots as `_`, and `-dead`.
    #[must_use]
    pub fn dead_stream(&self) -> String {
        stream_of(&self.name, "-dead")
    }
}

pub(super) fn queue(reader: &mut Reader) -> Result<Queue, Reported> {
    let stream = reader.optional("nats_stream", names::name);
    let name = reader.optional("queue_name", names::queue);
    let filter_subject = reader.optional("nats_filter_subject", names::filter);
    let durable = reader.value("nats_durable", names::name);
    let deliver = reader.optional("nats_deliver", choice(&[("new", Deliver::New), ("all", Deliver::All)]));

    let stream = stream?;
    let name = match (name?, &stream) {
        (Some(name), _) => name,
        // The stream's name is a queue's name now and has to do for one.
        (None, Some(stream)) => names::queue(stream).map_err(|expected| reader.fault("nats_stream", expected))?,
        (None, None) => "faas-request".to_owned(),
    };
    let queue = Queue {
        stream: stream.unwrap_or_else(|| stream_of(&name, "")),
        filter_subject: filter_subject?.unwrap_or_else(|| name.clone()),
        durable: durable?,
        deliver: deliver?,
        name,
    };
    for (derived, what) in [(queue.retries_stream(), "retries"), (queue.dead_stream(), "dead letters")] {
        if queue.stream == derived {
            let expected = format!("expected another name, this is the stream of the {what} of {}", queue.name);
            return Err(reader.fault("nats_stream", expected));
        }
    }
    Ok(queue)
}
