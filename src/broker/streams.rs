//! The streams and consumers of a queue. The queue's own stream is created when it is missing and never
//! reshaped; of the others only what a promise needs is changed; nothing is deleted and made again.

pub(crate) mod consumers;
pub mod limits;
pub mod rules;
pub mod desired;

use std::time::Duration;

use self::rules::Complaint;
use crate::{
    broker::{
        consumer::Bound,
        jetstream::{ApiError, JetStream, Settings, StreamInfo, code, if_stream, nanoseconds},
        known_issues::{Advice, Facts, Severity, Sync, advice},
        levels, timer_choice,
        version::version,
    },
    config::{Config, Queue, RetryTimer},
    message::{names::Names, timer::Timer},
};

/// Why the queue cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    /// The broker did not answer; it may later.
    #[error("{0}")]
    NotNow(String),
    /// It cannot work like this.
    #[error("{0}")]
    Never(String),
}

/// The parts of a queue that stand ready.
#[derive(Debug, Clone)]
pub(crate) struct Ready {
    /// The consumer of fresh invocations.
    pub fresh: Bound,
    /// The consumer of due retries.
    pub due: Bound,
    /// What brings retries back.
    pub timer: Timer,
    /// Why it is this timer.
    pub why: &'static str,
    /// For how long the queue's stream knows the ids of its messages.
    pub window: Duration,
    /// Whether the stream of retries has a size, and refuses what exceeds it.
    pub sized: bool,
    /// The server, by how many there were before it, on which this made the streams of what follows from
    /// messages: no worker of this queue had a delivery before.
    pub new_to: Option<u64>,
    /// What the operator should know.
    pub(crate) advice: Vec<Advice>,
}

impl Ready {
    /// Says what the operator should know.
    pub(crate) fn advise(&self, queue: &str) {
        for Advice { severity, text, .. } in &self.advice {
            if *severity > Severity::Note {
                tracing::warn!(queue, "{text}");
            } else {
                tracing::info!(queue, "{text}");
            }
        }
    }
}

/// The fault of a queue that was ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// This part of it is gone.
    Gone(String),
    /// It was changed, and cannot be served any more, for this reason.
    Unusable(String),
}

/// The first part of the queue that is gone or cannot be used any more. Other changes of its
/// consumers are learned.
///
/// # Errors
/// See [`ApiError`]: where the broker does not say.
pub(crate) async fn first_fault(
    jetstream: &JetStream,
    names: &Names,
    ready: &Ready,
    dead: Option<&str>,
) -> Result<Option<Fault>, ApiError> {
    for bound in [&ready.fresh, &ready.due] {
        match jetstream.consumer(&bound.stream, &bound.consumer).await {
            Ok(info) => {
                if let Err(reason) = bound.learn(&info) {
                    return Ok(Some(Fault::Unusable(reason)));
                }
            }
            Err(ApiError::Refused { code: code::STREAM_NOT_FOUND | code::CONSUMER_NOT_FOUND, .. }) => {
                return Ok(Some(Fault::Gone(format!(
                    "consumer {} of stream {}",
                    bound.consumer, bound.stream
                ))));
            }
            Err(error) => return Err(error),
        }
    }
    if let Some(stream) = dead
        && if_stream(jetstream.stream(stream).await)?.is_none()
    {
        return Ok(Some(Fault::Gone(format!("stream {stream}"))));
    }
    if ready.timer == Timer::Schedules {
        return Ok(None);
    }
    let found = levels::list(jetstream, names).await?;
    let gone = |k| Fault::Gone(format!("consumer {} of stream {}", Names::level_consumer(k), names.retries));
    Ok(levels::absent(&found).next().map(gone))
}

/// Brings about, or with `nats_manage=false` only looks for, everything the queue needs.
///
/// # Errors
/// See [`SetupError`].
pub(crate) async fn ensure(
    jetstream: &JetStream,
    config: &Config,
    settings: &Queue,
    names: &Names,
) -> Result<Ready, SetupError> {
    let mut link = jetstream.link();
    let closed = |_| SetupError::NotNow("the connection is closed".to_owned());
    let lives = link.wait_for(|link| link.up).await.map_err(closed)?.lives;
    let setup = Setup { jetstream, config, settings, names };
    let server = version(&jetstream.client().server_info().version);
    let schedules = desired::schedules(config, server).map_err(SetupError::Never)?;
    let queue = setup.queue_stream().await?;
    let (retries, mut is_new) = setup.retries_stream(schedules).await?;
    if config.dead_letters.enabled {
        is_new &= setup.dead_stream().await?;
    }
    let allowed = retries.allows_schedules();
    let (timer, why) = timer_choice::choose(config.retry_timer, server, allowed)
        .map_err(|reason| SetupError::Never(format!("stream {}: {reason}", names.retries)))?;
    let fresh = setup.consumer(&queue, desired::Consumer::fresh(settings, &queue)).await?;
    let due = setup.consumer(&retries, desired::Consumer::due(names)).await?;
    if timer == Timer::Levels {
        setup.levels().await?;
    }
    let facts = Facts {
        server,
        schedules: allowed,
        discard_new: retries.refuses_new(),
        replicas: queue.replicas().min(retries.replicas()),
        sync: Sync::Unknown,
    };
    let sized = facts.discard_new && retries.limit("max_bytes").is_some();
    let window = queue.duration("duplicate_window");
    let new_to = is_new.then_some(lives);
    Ok(Ready { fresh, due, timer, why, window, sized, new_to, advice: advice(&facts) })
}

struct Setup<'a> {
    jetstream: &'a JetStream,
    config: &'a Config,
    settings: &'a Queue,
    names: &'a Names,
}

impl Setup<'_> {
    async fn queue_stream(&self) -> Result<Settings, SetupError> {
        let (found, _) = self.stream(&self.names.stream, desired::queue(self.config, self.settings)).await?;
        complain(&self.names.stream, None, rules::queue(&found, self.settings.subject()));
        Ok(found)
    }

    /// The stream of retries, with message schedules where they are wanted and can be had. One that has them
    /// keeps them: they cannot be turned off. And whether it was not there before.
    async fn retries_stream(&self, schedules: bool) -> Result<(Settings, bool), SetupError> {
        let stream = &self.names.retries;
        let (found, is_new) =
            self.stream(stream, desired::retries(self.config, self.names, schedules)).await?;
        belongs(stream, &found, &self.names.retries_subjects())?;
        complain(stream, None, rules::retries(&found));
        let window = nanoseconds(rules::duplicate_window(self.config.ack_wait));
        let found = self.amend(stream, found, &[("duplicate_window", window)], false).await?;
        if !schedules {
            return Ok((found, is_new));
        }
        match self.amend(stream, found.clone(), &[], true).await {
            // A stream that cannot have them, because it discards what is new or mirrors another, still has
            // levels.
            Err(SetupError::Never(reason)) if self.config.retry_timer == RetryTimer::Auto => {
                tracing::warn!(stream, reason, "the stream cannot have message schedules");
                Ok((found, is_new))
            }
            other => other.map(|found| (found, is_new)),
        }
    }

    /// The stream of dead letters. Whether it was not there before.
    async fn dead_stream(&self) -> Result<bool, SetupError> {
        let stream = &self.names.dead;
        let (found, is_new) = self.stream(stream, desired::dead(self.config, self.names)).await?;
        belongs(stream, &found, &self.names.dead_subjects())?;
        complain(stream, None, rules::dead(&found));
        let window = rules::duplicate_window(self.config.ack_wait);
        let window = nanoseconds(rules::possible_window(window, found.duration("max_age")));
        self.amend(stream, found, &[("duplicate_window", window)], false).await.map(|_| is_new)
    }

    /// The stream's configuration, and whether this made it: as `wanted`, if there is none.
    async fn stream(&self, stream: &str, wanted: Settings) -> Result<(Settings, bool), SetupError> {
        let found = if_stream(self.jetstream.stream(stream).await)
            .map_err(|error| explain(&error, &format!("stream {stream}")))?;
        let (found, is_new) = match found {
            Some(found) => (found, false),
            None if self.config.nats.manage => self.make_stream(stream, &wanted).await?,
            None => {
                return Err(SetupError::Never(format!(
                    "there is no stream {stream}, and nats_manage=false: create it as {wanted}"
                )));
            }
        };
        if found.config.is_none() {
            return Err(SetupError::NotNow(format!("stream {stream}: an answer without its configuration")));
        }
        Ok((found.config, is_new))
    }

    /// Makes the stream, unless another worker is quicker; whether this did. The broker's answer differs
    /// then: the name is in use, or the subjects overlap with those of what the other has just made.
    async fn make_stream(&self, stream: &str, wanted: &Settings) -> Result<(StreamInfo, bool), SetupError> {
        let refused = match self.jetstream.make_stream(stream, wanted).await {
            Ok(made) => {
                tracing::info!(stream, "created the stream");
                return Ok((made, true));
            }
            Err(refused) => refused,
        };
        self.jetstream.stream(stream).await.map(|found| (found, false)).map_err(|error| match error {
            ApiError::Refused { code: code::STREAM_NOT_FOUND, .. } => {
                self.refused(&refused, stream, &format!("stream {stream} cannot be created"))
            }
            error => explain(&error, &format!("stream {stream}")),
        })
    }

    /// Raises what is lower than `least`, and with `schedules` turns message schedules on. All else stays as
    /// it was found.
    async fn amend(
        &self,
        stream: &str,
        found: Settings,
        least: &[(&str, u64)],
        schedules: bool,
    ) -> Result<Settings, SetupError> {
        let mut wanted = found.clone();
        for (name, value) in least {
            if found.limit(name).unwrap_or_default() < *value {
                wanted.set(name, *value);
            }
        }
        if schedules {
            wanted.set("allow_msg_schedules", true);
        }
        if wanted == found {
            return Ok(found);
        }
        if !self.config.nats.manage {
            tracing::warn!(
                stream,
                "the stream lacks settings that the promises rest on, and nats_manage=false keeps them so"
            );
            return Ok(found);
        }
        let updated =
            self.jetstream.update_stream(stream, &wanted).await.map_err(|error| {
                self.refused(&error, stream, &format!("stream {stream} cannot be updated"))
            })?;
        tracing::info!(stream, "updated the stream");
        Ok(if updated.config.is_none() { found } else { updated.config })
    }

    /// Why something of `stream` was not made or changed, with what to set where the account's limits are in
    /// the way.
    fn refused(&self, error: &ApiError, stream: &str, what: &str) -> SetupError {
        match (explain(error, what), limits::hint(error, stream, self.config, self.names)) {
            (SetupError::Never(reason), Some(hint)) => SetupError::Never(format!("{reason}; {hint}")),
            (explained, _) => explained,
        }
    }
}

fn explain(error: &ApiError, what: &str) -> SetupError {
    match error {
        ApiError::Silent(error) => SetupError::NotNow(format!("{what}: {error}")),
        ApiError::NoJetStream => SetupError::NotNow(format!("{what}: {error}")),
        ApiError::Refused { code: code::NO_JETSTREAM_FOR_ACCOUNT, .. } => {
            SetupError::Never(format!("JetStream is not enabled: {error}"))
        }
        // 10008 and its like: the cluster has no leader yet.
        ApiError::Refused { description, .. } if description.contains("temporarily unavailable") => {
            SetupError::NotNow(format!("{what}: {error}"))
        }
        ApiError::Refused { .. } => SetupError::Never(format!("{what}: {error}")),
    }
}

/// Says which settings the promises rest on in vain.
fn complain(stream: &str, consumer: Option<&str>, complaints: Vec<Complaint>) {
    let what = if consumer.is_some() { "consumer" } else { "stream" };
    for Complaint { severity, setting, found, text } in complaints {
        if severity > Severity::Note {
            tracing::warn!(stream, consumer, setting, found, "the {what} is used as found: {text}");
        }
    }
}

fn belongs(stream: &str, found: &Settings, subjects: &str) -> Result<(), SetupError> {
    rules::stranger(stream, found, subjects).map_or(Ok(()), |reason| Err(SetupError::Never(reason)))
}
