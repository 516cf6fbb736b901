//! A consumer as it is known to this process.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use crate::broker::{
    jetstream::{ConsumerInfo, Settings},
    pulled::AckWait,
    streams::rules,
};

/// A consumer that is ready to be pulled from. Cheap to clone; the clones agree on what it is like.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    /// Its stream.
    pub stream: Arc<str>,
    /// Its name.
    pub consumer: String,
    /// How long the broker waits for an acknowledgement.
    ack_wait: watch::Sender<Duration>,
    /// All that is set, as the broker said last.
    settings: Arc<Mutex<Settings>>,
    /// How many of its messages may be unacknowledged, over all workers.
    pub max_ack_pending: usize,
}

impl Bound {
    /// The consumer of this stream, with these settings.
    pub fn new(stream: &str, consumer: &str, settings: Settings) -> Self {
        Self {
            stream: stream.into(),
            consumer: consumer.to_owned(),
            ack_wait: watch::Sender::new(rules::lease(&settings)),
            max_ack_pending: bounded(settings.limit("max_ack_pending")),
            settings: Arc::new(Mutex::new(settings)),
        }
    }

    /// How long the broker waits for an acknowledgement, from now on as well.
    pub fn ack_wait(&self) -> AckWait {
        (&self.ack_wait).into()
    }

    /// Goes by what the broker says of it now, and says what was changed.
    ///
    /// # Errors
    /// Why it cannot be pulled from any more.
    pub(crate) fn learn(&self, info: &ConsumerInfo) -> Result<(), String> {
        let Self { stream, consumer, .. } = self;
        let mut settings = info.config.clone();
        if info.paused {
            settings.set("paused", true);
        }
        let before = std::mem::replace(&mut *self.settings(), settings.clone());
        for (setting, was, found) in rules::changes(&before, &settings) {
            tracing::warn!(
                stream = &**stream,
                consumer,
                setting,
                was,
                found,
                "the consumer was changed; the worker goes by what it is now"
            );
        }
        if let Some(reason) =
            rules::unusable(&settings).map(str::to_owned).or_else(|| rules::hasty(&settings))
        {
            return Err(format!("consumer {consumer} of stream {stream} {reason}"));
        }
        let ack_wait = rules::lease(&settings);
        self.ack_wait.send_if_modified(|known| std::mem::replace(known, ack_wait) != ack_wait);
        Ok(())
    }

    /// How many messages one request may ask for.
    pub(super) fn max_batch(&self) -> usize {
        bounded(self.settings().limit("max_batch"))
    }

    /// How long one request may wait.
    pub(super) fn max_expires(&self) -> Duration {
        Duration::from_nanos(self.settings().limit("max_expires").unwrap_or(u64::MAX))
    }

    /// How many bytes one request may ask for. None where the server cannot be held to a number of them.
    ///
    /// Until NATS 2.11: before 2.10.15 a server that reached the number while it delivered something again
    /// counted a delivery that it did not make, and delivered another message twice. It is only known whether
    /// it is 2.11 or newer.
    pub(super) fn most_bytes(&self) -> Option<usize> {
        let settings = self.settings();
        settings.api_level().map(|_| bounded(settings.limit("max_bytes")))
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a limit leaves.
fn bounded(limit: Option<u64>) -> usize {
    limit.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX)
}
