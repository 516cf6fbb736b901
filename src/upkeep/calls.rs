//! What commands want of a queue's calls: to be told which run here, and that some are not to. All workers of
//! the queue are asked at once, and each answers for itself.
//!
//! What is cancelled is stored, and read by every worker: before its first call, when it is told so, and now
//! and then. In between it is in memory, so that it costs a call nothing.

use std::{convert::Infallible, sync::Arc, time::Duration};

use async_nats::{Client, Message};
use futures_util::{StreamExt, stream::select};
use tokio::{sync::Mutex, time::interval};

use crate::{
    broker::{
        cancels::Cancels,
        jetstream::{ApiError, JetStream},
    },
    flow::calls::{Calls, Mark},
    message::{
        call::{Heard, InHand, Question, Reply},
        names::Names,
    },
    tasks::error_backoff::ErrorBackoff,
};

/// The pause before it is listened again, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How often it is looked what was cancelled: whoever cancels says so, and words get lost.
const LOOK: Duration = Duration::from_secs(2);
/// How often it is asked for before a first call.
const TRIES: usize = 3;
/// What was cancelled is forgotten after so long, as the stream forgets it.
const FORGOTTEN: Duration = Duration::from_secs(170 * 3600);

/// Where a worker is asked about a queue's calls.
#[derive(Debug, Clone)]
pub struct Desk {
    /// The broker.
    pub jetstream: JetStream,
    /// The names of the queue.
    pub names: Names,
    /// The worker's name.
    pub worker: String,
    /// The calls that run.
    pub calls: Calls<InHand>,
    /// The last sequence of what was cancelled that is known here.
    pub seen: Arc<Mutex<u64>>,
}

/// Answers until dropped. A client that ended is replaced, and listened on again.
pub async fn run(desk: Desk) -> Infallible {
    tokio::select! {
        never = desk.listen() => never,
        never = desk.look() => never,
    }
}

impl Desk {
    async fn look(&self) -> Infallible {
        let mut often = interval(LOOK);
        loop {
            often.tick().await;
            // It is looked again soon.
            let _ = self.learn().await;
        }
    }

    async fn listen(&self) -> Infallible {
        let mut pause = ErrorBackoff::new(PAUSE);
        loop {
            let client = self.jetstream.client();
            let running = client.subscribe(self.names.running_calls()).await;
            let cancelled = client.subscribe(self.names.cancelled_calls()).await;
            if let (Ok(running), Ok(cancelled)) = (running, cancelled) {
                let mut questions = select(running, cancelled);
                while let Some(question) = questions.next().await {
                    pause.reset();
                    self.answer(&client, &question).await;
                }
            }
            pause.rest().await;
        }
    }

    /// Answers a question that is one. Whoever asked has a deadline, and asks again.
    async fn answer(&self, client: &Client, question: &Message) {
        let Some(to) = question.reply.clone() else { return };
        let mut reply = Reply { worker: self.worker.clone(), calls: Vec::new() };
        if let Ok(Question { call_id }) = serde_json::from_slice(&question.payload) {
            reply.calls = self.calls.of(&call_id, InHand::told);
        } else if let Ok(Heard { sequence }) = serde_json::from_slice(&question.payload) {
            if self.learn().await.is_err() || *self.seen.lock().await < sequence {
                return;
            }
        } else {
            return;
        }
        if let Ok(reply) = serde_json::to_vec(&reply) {
            let _ = client.publish(to, reply.into()).await;
        }
    }

    /// Learns what was cancelled since it last did.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn learn(&self) -> Result<(), ApiError> {
        let mut seen = self.seen.lock().await;
        let cancels = Cancels::new(&self.jetstream, &self.names);
        if let Some((marks, last)) = cancels.behind(*seen).await? {
            for mark in marks {
                let why = mark.cancel.why();
                self.calls.mark(&mark.cancel.call_id, Mark { at: mark.at, why });
            }
            *seen = last;
            self.calls.forget(cancels.now().checked_sub(FORGOTTEN).unwrap_or(std::time::UNIX_EPOCH));
        }
        Ok(())
    }

    /// Learns it before a first call is made, if the broker says it within a few tries.
    pub async fn learn_all(&self) {
        let mut pause = ErrorBackoff::new(PAUSE);
        for _ in 0..TRIES {
            match self.learn().await {
                Ok(()) | Err(ApiError::Refused { .. }) => return,
                // Without the right to ask there is no answer either; what that means is told elsewhere.
                Err(ApiError::NoJetStream | ApiError::Silent(_)) => pause.rest().await,
            }
        }
    }
}
