//! The place of `export` in a program that was built without the feature `otel`.

use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SpanData, SpanExporter},
};

use crate::config;

/// An exporter that cannot be made.
#[derive(Debug)]
pub(super) enum Never {}

impl SpanExporter for Never {
    async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
        match *self {}
    }
}

/// Refuses: `config` does not let anybody ask for it.
pub(super) fn exporter(_: &config::Tracing) -> Result<Never, String> {
    Err("built without the feature otel".to_owned())
}
