//! The consumers of a queue: made when they are missing; of one that is there only its lease and its room are
//! set.

use futures_util::{TryStreamExt, stream::FuturesUnordered};

use super::{Setup, SetupError, complain, desired, explain, limits, rules};
use crate::{
    broker::{
        consumer::Bound,
        jetstream::{ApiError, ConsumerInfo, JetStream, Settings, code},
        levels,
    },
    config::Config,
    message::names::Names,
};

impl Setup<'_> {
    /// The consumer as `wanted`, or as it was found, of a stream with these settings.
    pub(super) async fn consumer(
        &self,
        of: &Settings,
        wanted: desired::Consumer,
    ) -> Result<Bound, SetupError> {
        let (stream, consumer) = (wanted.stream.as_str(), wanted.name.as_str());
        let found = match self.jetstream.consumer(stream, consumer).await {
            Err(ApiError::Refused { code: code::CONSUMER_NOT_FOUND, .. }) => {
                let Some(settings) = wanted.settings(self.config) else {
                    return Err(SetupError::Never(format!(
                        "stream {stream} is no work queue and has no consumer {consumer} yet: set \
                            nats_deliver to new (only what arrives from now on) or all (everything stored)"
                    )));
                };
                if !self.config.nats.manage {
                    return Err(no_consumer(stream, consumer, &settings));
                }
                self.write_consumer(stream, consumer, &settings).await?
            }
            other => {
                other.map_err(|error| explain(&error, &format!("consumer {consumer} of stream {stream}")))?
            }
        };
        let settings = found.config;
        if let Some(reason) = rules::unusable(&settings) {
            return Err(SetupError::Never(format!(
                "consumer {consumer} of stream {stream} {reason}; set nats_durable to another name"
            )));
        }
        complain(stream, Some(consumer), rules::consumer(&settings, &wanted.filter, of));
        let settings = self.adapt(stream, consumer, settings).await?;
        if let Some(crowded) = limits::crowded(&settings, self.config) {
            tracing::warn!(stream, consumer, "{crowded}");
        }
        if let Some(reason) = rules::hasty(&settings) {
            return Err(SetupError::Never(format!("consumer {consumer} of stream {stream} {reason}")));
        }
        Ok(Bound::new(stream, consumer, settings))
    }

    /// Brings an existing consumer's `ack_wait` and `max_ack_pending` up to what is needed.
    async fn adapt(&self, stream: &str, consumer: &str, found: Settings) -> Result<Settings, SetupError> {
        let mut wanted = found.clone();
        for (name, value) in rules::adaptations(&found, self.config) {
            wanted.set(name, value);
        }
        if wanted == found {
            return Ok(found);
        }
        if !self.config.nats.manage {
            tracing::warn!(
                stream,
                consumer,
                "the consumer's ack_wait or max_ack_pending differ from the settings; it is used as found"
            );
            return Ok(found);
        }
        let updated = match self.jetstream.put_consumer(stream, consumer, &wanted).await {
            // Its room was granted once, is more than would be granted now, and is never lowered.
            Err(refused) if limits::lowers(&refused, &wanted, &found) => {
                tracing::warn!(stream, consumer, reason = %refused, "the consumer is used as found: the \
                    account would grant it less room now");
                return Ok(found);
            }
            Err(refused) => self.less_room(stream, consumer, &wanted, refused).await?,
            Ok(updated) => updated,
        };
        tracing::info!(stream, consumer, "updated the consumer's ack_wait or max_ack_pending");
        Ok(if updated.config.is_none() { found } else { updated.config })
    }

    async fn write_consumer(
        &self,
        stream: &str,
        consumer: &str,
        wanted: &Settings,
    ) -> Result<ConsumerInfo, SetupError> {
        match self.jetstream.put_consumer(stream, consumer, wanted).await {
            Ok(written) => Ok(written),
            Err(refused) => self.less_room(stream, consumer, wanted, refused).await,
        }
    }

    /// Writes what was refused with as much room as the account grants, if its room is what it was refused
    /// for.
    async fn less_room(
        &self,
        stream: &str,
        consumer: &str,
        wanted: &Settings,
        refused: ApiError,
    ) -> Result<ConsumerInfo, SetupError> {
        let written = match limits::granted(&refused, wanted) {
            Some(smaller) => {
                tracing::info!(stream, consumer, reason = %refused, "the consumer is written with the room \
                    that the account grants");
                self.jetstream.put_consumer(stream, consumer, &smaller).await
            }
            None => Err(refused),
        };
        let what = || format!("consumer {consumer} of stream {stream} cannot be written");
        written.map_err(|error| self.refused(&error, stream, &what()))
    }

    /// The consumers of the levels: one look, and only what is missing is made.
    pub(super) async fn levels(&self) -> Result<(), SetupError> {
        let stream = &self.names.retries;
        let found = levels::list(self.jetstream, self.names).await;
        let found = found.map_err(|error| explain(&error, &format!("the consumers of stream {stream}")))?;
        let mut missing =
            levels::absent(&found).map(|k| (Names::level_consumer(k), desired::level(self.names, k)));
        if !self.config.nats.manage {
            return missing
                .next()
                .map_or(Ok(()), |(consumer, settings)| Err(no_consumer(stream, &consumer, &settings)));
        }
        let made = missing.map(|(consumer, settings)| async move {
            self.write_consumer(stream, &consumer, &settings).await.map(|_| ())
        });
        made.collect::<FuturesUnordered<_>>().try_collect().await
    }
}

/// Makes the consumer of what is held of a paused function, with as much room as the account grants.
///
/// # Errors
/// See [`ApiError`].
pub(crate) async fn make_held(
    jetstream: &JetStream,
    config: &Config,
    wanted: &desired::Consumer,
) -> Result<(), ApiError> {
    let Some(settings) = wanted.settings(config) else { return Ok(()) };
    let made = jetstream.put_consumer(&wanted.stream, &wanted.name, &settings).await;
    match made {
        Err(refused) => match limits::granted(&refused, &settings) {
            Some(smaller) => jetstream.put_consumer(&wanted.stream, &wanted.name, &smaller).await.map(drop),
            None => Err(refused),
        },
        Ok(_) => Ok(()),
    }
}

fn no_consumer(stream: &str, consumer: &str, wanted: &Settings) -> SetupError {
    SetupError::Never(format!(
        "stream {stream} has no consumer {consumer}, and nats_manage=false: create it as {wanted}"
    ))
}
