//! From the exporter's thread to the collector: a POST by OTLP.

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use reqwest::{Client, redirect};
use tokio::runtime::Handle;

use crate::config;

/// How long one export may take, all its tries included.
const EXPORT: Duration = Duration::from_secs(10);

/// The exporter to the collector of these settings.
pub(super) fn exporter(config: &config::Tracing) -> Result<SpanExporter, String> {
    let client = Client::builder()
        .timeout(EXPORT)
        .redirect(redirect::Policy::none())
        .build()
        .map_err(|error| error.to_string())?;
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers: HashMap<_, _> =
        config.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(config.endpoint.as_str())
        .with_timeout(EXPORT)
        .with_headers(headers)
        .with_http_client(OnRuntime { client, runtime: Handle::current() })
        .build()
        .map_err(|error| error.to_string())
}

/// The thread that empties the queue has no runtime; the worker's own makes the requests for it.
#[derive(Debug)]
struct OnRuntime {
    client: Client,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for OnRuntime {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        self.runtime.spawn(async move { client.send_bytes(request).await }).await?
    }
}
