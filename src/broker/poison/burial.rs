//! The end of a message that the client library cannot read: its dead letter is stored, then it is taken out
//! of its queue.

use std::time::{Duration, SystemTime};

use crate::{
    broker::{
        consumer::Bound,
        jetstream::{JetStream, Stored, call},
        seam::{Ack, Broker, BrokerError},
    },
    message::{
        arrival::Arrival,
        form::Form,
        header_block::{self, Flaw},
        kept_block,
        names::Names,
        record::Record,
        successor::Message,
    },
    observe::{log, metrics::Metrics},
    retry::judge::Cause,
};

/// A message that fits into no letter comes again after this long, and cuts the connection then. A message
/// that could not be buried for now does not come before.
const LATER: Duration = Duration::from_secs(300);

/// Buries what cannot be read of one queue.
#[derive(Debug, Clone)]
pub(crate) struct Burial {
    /// The queue's names.
    pub names: Names,
    /// The form of its messages.
    pub form: Form,
    /// `false`: what would be dead-lettered is dropped and counted.
    pub dead_letters: bool,
    /// Where things are counted.
    pub metrics: Metrics,
}

impl Burial {
    /// Buries what lies in the consumer's stream and awaits its acknowledgement. `delivered` is the number of
    /// a delivery of the consumer's.
    pub(crate) async fn bury(
        &self,
        jetstream: &JetStream,
        bound: &Bound,
        stored: &Stored,
        flaw: Flaw,
        delivered: u64,
    ) -> Result<(), BrokerError> {
        let message = self.message(bound, stored, flaw);
        tracing::error!(
            stream = &*bound.stream,
            sequence = stored.sequence,
            reason = %flaw,
            "Unreadable: the NATS client gives its connection up at this message; it is taken out of the \
                queue"
        );
        if !self.dead_letters {
            self.take_out(jetstream, bound, stored.sequence).await?;
            self.dropped(&message);
            return Ok(());
        }
        let Some(letter) = self.letter(&message, &stored.block, jetstream.now(), jetstream.max_payload())
        else {
            self.metrics.unstorable();
            tracing::error!(
                stream = &*bound.stream,
                sequence = stored.sequence,
                "Unstorable: its dead letter fits into no message"
            );
            return postpone(jetstream, bound, stored.sequence, delivered).await;
        };
        match jetstream.deposit(&letter).await {
            Ok(new) => {
                if new {
                    self.dead(&message);
                }
                self.take_out(jetstream, bound, stored.sequence).await
            }
            Err(error) => {
                postpone(jetstream, bound, stored.sequence, delivered).await?;
                Err(error)
            }
        }
    }

    /// Acknowledges in the name of whoever it was given to. By the number of no delivery: where it is settled
    /// already, that moves no floor of the consumer's.
    pub(crate) async fn take_out(
        &self,
        jetstream: &JetStream,
        bound: &Bound,
        sequence: u64,
    ) -> Result<(), BrokerError> {
        jetstream
            .acknowledge(
                &call::acknowledgement(&bound.stream, &bound.consumer, sequence, 0),
                Ack::Done,
                true,
                &|| (),
            )
            .await
    }

    /// The letter's message, without the kept part of the block.
    fn message(&self, bound: &Bound, stored: &Stored, flaw: Flaw) -> Message {
        let arrival = Arrival {
            subject: stored.subject.clone(),
            headers: header_block::readable(&stored.block),
            payload: stored.payload.clone(),
            stream: bound.stream.clone(),
            sequence: stored.sequence,
            stored: stored.time,
        };
        let mut message = Message::of(&self.form, &arrival, *bound.stream == *self.names.retries);
        // For people who look. An unreadable message is called by nobody, whatever its payload says.
        if let Ok(invocation) = message.invocation() {
            message.function_name = Some(invocation.function.as_str().into());
            message.call_id = invocation.call_id().map(Into::into);
            message.event = invocation.event;
        }
        message.envelope.last_error = Some(flaw.to_string());
        message
    }

    fn letter(&self, message: &Message, block: &[u8], now: SystemTime, max_payload: usize) -> Option<Record> {
        let mut ways = kept_block::ways(block).into_iter();
        ways.find_map(|kept| message.letter(&self.names, Cause::Undecodable, kept, now, max_payload).ok())
    }

    fn dead(&self, message: &Message) {
        let Message { envelope, call_id, function_name: function, event, .. } = message;
        let (call_id, status) =
            (call_id.as_deref().unwrap_or_default(), envelope.last_status.as_deref().unwrap_or_default());
        let cause = Cause::Undecodable.as_str();
        let (function, reason) = (function.as_deref(), envelope.last_error.as_deref());
        log::dead_letter(
            call_id,
            function.unwrap_or_default(),
            envelope.attempts,
            cause,
            status,
            reason,
            event.as_deref(),
        );
        self.metrics.dead_lettered(function, cause);
        self.metrics.settled();
    }

    fn dropped(&self, message: &Message) {
        log::dropped(
            message.call_id.as_deref(),
            message.function_name.as_deref(),
            Cause::Undecodable.as_str(),
        );
        self.metrics.dead_letter_dropped();
        self.metrics.settled();
    }
}

/// Leaves a message where it is for a while.
async fn postpone(
    jetstream: &JetStream,
    bound: &Bound,
    sequence: u64,
    delivery: u64,
) -> Result<(), BrokerError> {
    let reply = call::acknowledgement(&bound.stream, &bound.consumer, sequence, delivery);
    jetstream.acknowledge(&reply, Ack::Later(LATER), true, &|| ()).await
}
