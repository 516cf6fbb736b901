//! Questions and orders about streams and consumers.

use serde::de::IgnoredAny;

use super::{
    ApiError, Consumers, JetStream, Settings, StreamInfo,
    answers::ConsumerInfo,
    call::{self, Details, Page, Plain, PutConsumer},
    code,
};

impl JetStream {
    /// A stream, as the broker knows it.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub(crate) async fn stream(&self, stream: &str) -> Result<StreamInfo, ApiError> {
        self.stream_with(stream, &Details::default()).await
    }

    /// A stream, as the broker knows it, with these details.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub(crate) async fn stream_with(
        &self,
        stream: &str,
        details: &Details<'_>,
    ) -> Result<StreamInfo, ApiError> {
        self.api(&call::stream(stream), details).await
    }

    /// Makes a stream with these settings. Returns it as the broker knows it then.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub(crate) async fn make_stream(
        &self,
        stream: &str,
        settings: &Settings,
    ) -> Result<StreamInfo, ApiError> {
        self.api(&call::make_stream(stream), settings).await
    }

    /// Gives a stream these settings. Returns it as the broker knows it then.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub(crate) async fn update_stream(
        &self,
        stream: &str,
        settings: &Settings,
    ) -> Result<StreamInfo, ApiError> {
        self.api(&call::update_stream(stream), settings).await
    }

    /// A consumer, as the broker knows it.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub(crate) async fn consumer(&self, stream: &str, consumer: &str) -> Result<ConsumerInfo, ApiError> {
        self.api(&call::consumer(stream, consumer), &Plain {}).await
    }

    /// The consumers of a stream, as the broker knows them, or the first 256 at least: nobody needs as many.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub(crate) async fn consumers(&self, stream: &str) -> Result<Consumers, ApiError> {
        self.api(&call::consumers(stream), &Page { offset: 0 }).await
    }

    /// Makes a consumer with these settings, or gives them to the one that is there. Returns what the broker
    /// knows of it then.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub(crate) async fn put_consumer(
        &self,
        stream: &str,
        consumer: &str,
        settings: &Settings,
    ) -> Result<ConsumerInfo, ApiError> {
        let wanted = PutConsumer { stream_name: stream, config: settings };
        self.api(&call::put_consumer(stream, consumer), &wanted).await
    }
    /// Removes a consumer, if it is still there.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub(crate) async fn delete_consumer(&self, stream: &str, consumer: &str) -> Result<(), ApiError> {
        match self.api::<IgnoredAny>(&call::delete_consumer(stream, consumer), &Plain {}).await {
            Ok(_) | Err(ApiError::Refused { code: code::CONSUMER_NOT_FOUND, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes a consumer with these settings that goes by itself.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub(crate) async fn make_ephemeral(
        &self,
        stream: &str,
        settings: &Settings,
    ) -> Result<ConsumerInfo, ApiError> {
        self.api(&call::make_ephemeral(stream), &PutConsumer { stream_name: stream, config: settings }).await
    }
}
