//! Follows what is paused: commands write the record of it, and every replica looks at it several times a
//! second.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    broker::{
        connect::Denials,
        jetstream::{ApiError, JetStream},
        pauses::{Paused, Record, changes},
    },
    message::{
        names::Names,
        pause::{Pause, Pauses},
    },
    observe::metrics::Metrics,
    tasks::error_backoff::ErrorBackoff,
};

/// How often a worker looks: what is paused begins nothing a second later.
const LOOK: Duration = Duration::from_millis(300);
/// How often it looks at what is held, while there is anything paused or held.
const HELD: Duration = Duration::from_secs(2);
/// How often it does so otherwise: a pause that ended long ago may have left something.
const SELDOM: Duration = Duration::from_secs(60);
/// How often it is said why nobody can look.
const AGAIN: Duration = Duration::from_secs(60);
/// The pause before the first look is tried again, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Whoever follows what is paused of a queue.
#[derive(Debug, Clone)]
pub struct Follower {
    record: Record,
    queue: String,
    paused: Paused,
    metrics: Metrics,
}

impl Follower {
    /// Follows it for this queue, and tells `paused` and `metrics`.
    pub(crate) fn new(jetstream: &JetStream, names: &Names, paused: &Paused, metrics: &Metrics) -> Self {
        Self {
            record: Record::new(jetstream, names),
            queue: names.queue.clone(),
            paused: paused.clone(),
            metrics: metrics.clone(),
        }
    }

    /// Looks once, however long that takes: nothing is called before it is known what is paused. An account
    /// that may not look, as `denied` says, calls all the same.
    pub(crate) async fn first(&self, denied: &Denials) {
        let (mut pause, mut said) = (ErrorBackoff::new(PAUSE), None);
        let right = self.record.right();
        let looked = async {
            while let Err(error) = self.look().await {
                self.fails(&mut said, &error);
                pause.rest().await;
            }
        };
        tokio::select! {
            () = looked => {}
            _ = denied.first(|complaint| complaint.contains(&right)) => tracing::warn!(
                queue = self.queue,
                right,
                "it is not known what is paused, for this account may not look; all functions are called"
            ),
        }
    }

    /// Looks again and again.
    pub(crate) async fn run(self) {
        let mut said = None;
        let mut counted: Option<Instant> = None;
        loop {
            let news = match self.look().await {
                Ok(news) => {
                    said = None;
                    news
                }
                Err(error) => {
                    self.fails(&mut said, &error);
                    false
                }
            };
            let busy = {
                let known = self.paused.known();
                if known.pauses != Pauses::default() {
                    // It has lasted longer.
                    self.show();
                }
                !known.pauses.functions.is_empty() || known.held.values().any(|held| *held > 0)
            };
            let period = if busy { HELD } else { SELDOM };
            if news || counted.is_none_or(|at| at.elapsed() >= period) {
                counted = Some(Instant::now());
                if let Ok(held) = self.record.held().await {
                    self.paused.learn_held(held);
                    self.show();
                }
            }
            sleep(LOOK).await;
        }
    }

    /// Looks at the record. Says whether it says something else than before.
    async fn look(&self) -> Result<bool, ApiError> {
        let (pauses, _) = self.record.read().await?;
        let Some(before) = self.paused.learn(pauses) else { return Ok(false) };
        self.say(&before);
        self.show();
        Ok(true)
    }

    fn show(&self) {
        let known = self.paused.known();
        let now = self.record.now();
        // One that does not say since when began at some time.
        let age = |pause: &Pause| pause.since.and_then(|since| now.duration_since(since).ok());
        let age = |pause| age(pause).unwrap_or_default();
        let functions =
            known.pauses.functions.iter().map(|(function, pause)| (function.as_str(), age(pause)));
        let held = known.held.iter().map(|(function, held)| (function.as_str(), *held));
        self.metrics.set_paused(known.pauses.queue.as_ref().map(age), functions, held);
    }

    fn say(&self, before: &Pauses) {
        for (function, pause) in changes(before, &self.paused.known().pauses) {
            match pause {
                Some(pause) => tracing::info!(
                    queue = self.queue,
                    function,
                    by = pause.by,
                    reason = pause.reason,
                    "Paused"
                ),
                None => tracing::info!(queue = self.queue, function, "Resumed"),
            }
        }
    }

    fn fails(&self, said: &mut Option<Instant>, error: &ApiError) {
        // A connection that is down is told of elsewhere.
        let silent = matches!(error, ApiError::Silent(_));
        if !silent && said.is_none_or(|said| said.elapsed() >= AGAIN) {
            *said = Some(Instant::now());
            tracing::warn!(queue = self.queue, %error, "it is not known what is paused; it stays as it was");
        }
    }
}
