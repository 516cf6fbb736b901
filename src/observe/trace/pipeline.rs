//! From ended spans to the exporter: a bounded queue, and a thread that empties it. Nothing here makes a call
//! wait.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{SpanContext, SpanKind, TraceFlags, TraceId},
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    resource::TelemetryResourceDetector,
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, Sampler, SamplingDecision, ShouldSample, SpanData,
        SpanExporter, SpanProcessor,
    },
};
use tokio::time::Instant;

use super::export;
use crate::config;

/// Spans that may wait for a slow collector, some kilobytes each; more are dropped and counted.
const QUEUE: usize = 8192;
/// The time for the last spans at the end of the process.
const FLUSH: Duration = Duration::from_secs(2);
/// The time between two warnings about lost traces.
const SAY: Duration = Duration::from_secs(60);

/// The way of ended spans to the exporter.
#[derive(Debug)]
pub struct Pipeline {
    /// The maker of the spans, as each of them says.
    pub scope: InstrumentationScope,
    processor: BatchSpanProcessor,
    follows_parent: bool,
    sampler: Sampler,
    waiting: Arc<Waiting>,
}

/// Spans that were handed over and not exported yet, and those for which there was no room.
#[derive(Debug, Default)]
struct Waiting {
    spans: AtomicUsize,
    dropped: AtomicUsize,
}

impl Pipeline {
    /// The way to the collector of these settings. `None` where none can be made, which is logged: a worker
    /// can do without.
    pub fn new(config: &config::Tracing, instance: &str) -> Option<Self> {
        let waiting = Arc::new(Waiting::default());
        let exporter = export::exporter(config)
            .inspect_err(|error| tracing::error!(error, "Traces cannot be exported"))
            .ok()?;
        let exporter = Reported {
            exporter,
            waiting: waiting.clone(),
            said: Mutex::default(),
            endpoint: config.endpoint.to_string(),
        };
        let limits = BatchConfigBuilder::default().with_max_queue_size(QUEUE).build();
        let mut processor = BatchSpanProcessor::builder(exporter).with_batch_config(limits).build();
        processor.set_resource(&resource(config, instance));
        let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        let config::Sampler { follows_parent, share } = config.sampler;
        tracing::info!(endpoint = %config.endpoint, share, followsParent = follows_parent, "Tracing");
        Some(Self { scope, processor, follows_parent, sampler: Sampler::TraceIdRatioBased(share), waiting })
    }

    /// Whether a trace that nobody else has decided about is one of those that are wanted. Each worker
    /// decides the same.
    pub fn samples(&self, trace: TraceId) -> bool {
        let result = self.sampler.should_sample(None, trace, "", &SpanKind::Consumer, &[], &[]);
        result.decision == SamplingDecision::RecordAndSample
    }

    /// A caller's span, with what is decided here about its trace.
    pub fn sampled_as(&self, parent: SpanContext) -> SpanContext {
        if self.follows_parent {
            return parent;
        }
        let flags = TraceFlags::default().with_sampled(self.samples(parent.trace_id()));
        SpanContext::new(parent.trace_id(), parent.span_id(), flags, true, parent.trace_state().clone())
    }

    /// Takes a span that has ended, if there is room.
    pub fn end(&self, span: SpanData) {
        if self.waiting.spans.fetch_add(1, Ordering::Relaxed) < QUEUE {
            self.processor.on_end(span);
        } else {
            self.waiting.spans.fetch_sub(1, Ordering::Relaxed);
            self.waiting.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Exports what waits. Blocks, for two seconds at most.
    pub fn finish(&self) {
        let done = self.processor.shutdown_with_timeout(FLUSH);
        let lost = self.waiting.dropped.load(Ordering::Relaxed) + self.waiting.spans.load(Ordering::Relaxed);
        if lost > 0 || done.is_err() {
            tracing::warn!(spans = lost, "Traces lost at the end: the collector did not take them in time");
        }
    }
}

fn resource(config: &config::Tracing, instance: &str) -> Resource {
    let own = [
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", instance.to_owned()),
    ];
    let given = config.resource.iter().map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
    Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attributes(own)
        .with_attributes(given)
        .build()
}

/// Says when spans get lost, but not each time.
#[derive(Debug)]
struct Reported<E> {
    exporter: E,
    waiting: Arc<Waiting>,
    said: Mutex<Option<Instant>>,
    endpoint: String,
}

impl<E> Reported<E> {
    fn report(&self, failed: usize, result: &OTelSdkResult) {
        let reason = match result {
            Err(error) => error.to_string(),
            Ok(()) if self.waiting.dropped.load(Ordering::Relaxed) > 0 => {
                "it takes them too slowly".to_owned()
            }
            Ok(()) => return,
        };
        self.waiting.dropped.fetch_add(failed, Ordering::Relaxed);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|last| last.elapsed() >= SAY) {
            *said = Some(Instant::now());
            let spans = self.waiting.dropped.swap(0, Ordering::Relaxed);
            tracing::warn!(
                endpoint = self.endpoint,
                reason,
                spans,
                "Traces lost: the collector does not take them; calls go on"
            );
        }
    }
}

impl<E: SpanExporter> SpanExporter for Reported<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.exporter.export(batch).await;
        self.waiting.spans.fetch_sub(spans, Ordering::Relaxed);
        self.report(if result.is_err() { spans } else { 0 }, &result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
