//! All messages on a subject at once, as NATS 2.11 and newer give them.

use std::time::{Duration, SystemTime};

use async_nats::{HeaderMap, Message, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::timeout;

use super::{
    ApiError, JetStream, SILENCE, Stored,
    call::{self, Which, written},
};
use crate::{
    broker::{seam::BrokerError, version::version},
    message::header,
};

/// How many messages a question asks for.
const BATCH: usize = 500;
/// Nothing that a server sends takes longer.
const PATIENCE: Duration = Duration::from_secs(3);

impl JetStream {
    /// The messages of a stream on `subject`, oldest first.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub(crate) async fn stored_on(&self, stream: &str, subject: &str) -> Result<Vec<Stored>, ApiError> {
        // Until NATS 2.11: one after the other.
        let batched = version(&self.client().server_info().version) >= (2, 11, 0);
        let mut all = Vec::new();
        if batched && self.direct_all(stream, subject, &mut all).await.is_ok() {
            return Ok(all);
        }
        // The account has no right to it, the stream does not allow it, or its server is an older one.
        let mut next = all.last().map_or(1, |last: &Stored| last.sequence + 1);
        while let Some(stored) = self.next_stored(stream, subject, next).await? {
            next = stored.sequence + 1;
            all.push(stored);
        }
        Ok(all)
    }

    async fn direct_all(
        &self,
        stream: &str,
        subject: &str,
        all: &mut Vec<Stored>,
    ) -> Result<(), BrokerError> {
        let gone = |error: &dyn std::error::Error| BrokerError::Unavailable(error.to_string());
        let client = self.connected()?.clone();
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(inbox.clone()).await.map_err(|error| gone(&error))?;
        let mut next = 1;
        loop {
            let which = Which {
                seq: Some(next),
                next_by_subj: Some(subject),
                batch: Some(BATCH),
                ..Which::default()
            };
            let question = client.publish_with_reply(
                self.api_subject(&call::direct(stream)),
                inbox.clone(),
                written(&which).into(),
            );
            question.await.map_err(|error| gone(&error))?;
            let before = all.len();
            let pending = read(&mut answers, all).await?;
            let Some(last) = all.last().filter(|_| pending > 0 && all.len() > before) else { return Ok(()) };
            next = last.sequence + 1;
        }
    }
}

/// Reads the answers to one question, and returns how many messages are left behind them.
async fn read(answers: &mut Subscriber, all: &mut Vec<Stored>) -> Result<u64, BrokerError> {
    let mut pending = 0;
    loop {
        let answer = timeout(PATIENCE, answers.next()).await.ok().flatten();
        let answer = answer.ok_or_else(|| BrokerError::Unavailable(SILENCE.to_owned()))?;
        let said = |name: &str| answer.headers.as_ref().and_then(|headers| header::said(headers, name));
        let left = said("Nats-Num-Pending").and_then(|left| left.parse().ok());
        match answer.status.map(|status| status.as_u16()) {
            // The end of the batch.
            Some(204) => return Ok(left.unwrap_or(pending)),
            // There is none.
            Some(404) => return Ok(0),
            Some(code) => return Err(BrokerError::Refused(format!("status {code}"))),
            None => {}
        }
        // A server that knows no batches has sent the one message that it takes the question for.
        pending = left.ok_or_else(|| BrokerError::Refused("no batches".to_owned()))?;
        let stored = stored(&answer.headers.clone().unwrap_or_default(), answer);
        all.push(stored.ok_or_else(|| BrokerError::Refused("an answer of another form".to_owned()))?);
    }
}

fn stored(headers: &HeaderMap, answer: Message) -> Option<Stored> {
    let time: SystemTime = humantime::parse_rfc3339(header::said(headers, "Nats-Time-Stamp")?).ok()?;
    Some(Stored {
        subject: header::said(headers, "Nats-Subject")?.to_owned(),
        sequence: header::said(headers, "Nats-Sequence")?.parse().ok()?,
        time,
        block: Bytes::new(),
        payload: answer.payload,
    })
}
