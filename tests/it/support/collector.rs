//! A collector of traces: it takes what OTLP over HTTP sends it, and reads that with the protocol's own
//! definitions.

use std::time::{Duration, SystemTime};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value},
    trace::v1 as wire,
};
use prost::Message as _;

use super::{Answer, Call, Gateway, Settings};

/// Listens where a collector would.
pub struct Collector {
    pub http: Gateway,
}

/// A span as it arrived.
#[derive(Clone, Debug)]
pub struct Span {
    pub span: wire::Span,
    /// What was said of the program that made it.
    pub resource: Vec<KeyValue>,
}

impl Collector {
    pub async fn start() -> Self {
        Self::answering(|_| Answer::ok()).await
    }

    pub async fn answering(script: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Self {
        Self { http: Gateway::start(script).await }
    }

    /// Settings under which a worker sends its traces here, without much delay.
    pub fn of(&self, settings: Settings) -> Settings {
        settings.set("OTEL_EXPORTER_OTLP_ENDPOINT", self.http.url()).set("OTEL_BSP_SCHEDULE_DELAY", 50)
    }

    /// All spans so far, in the order in which they began.
    pub fn spans(&self) -> Vec<Span> {
        let calls = self.http.calls();
        let mut spans: Vec<_> = calls.iter().flat_map(read).collect();
        spans.sort_by_key(|span| span.span.start_time_unix_nano);
        spans
    }

    /// Awaits this many spans and returns all so far.
    pub async fn await_spans(&self, n: usize) -> Vec<Span> {
        self.http.await_that(&format!("{n} spans"), |calls| calls.iter().flat_map(read).count() >= n).await;
        self.spans()
    }
}

fn read(call: &Call) -> Vec<Span> {
    assert_eq!(call.request.start, "POST /v1/traces HTTP/1.1");
    assert_eq!(call.header("content-type"), Some("application/x-protobuf"));
    let request = ExportTraceServiceRequest::decode(call.request.body.clone()).unwrap();
    let mut spans = Vec::new();
    for part in request.resource_spans {
        let resource = part.resource.map(|resource| resource.attributes).unwrap_or_default();
        for span in part.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            spans.push(Span { span, resource: resource.clone() });
        }
    }
    spans
}

impl Span {
    pub fn name(&self) -> &str {
        &self.span.name
    }

    pub fn trace(&self) -> String {
        hex(&self.span.trace_id)
    }

    pub fn id(&self) -> String {
        hex(&self.span.span_id)
    }

    /// The span above; empty for a root.
    pub fn parent(&self) -> String {
        hex(&self.span.parent_span_id)
    }

    /// What those are told that it calls.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-01", self.trace(), self.id())
    }

    /// The text of an attribute; of a number, its digits. Empty where it is not there.
    pub fn get(&self, name: &str) -> String {
        text(&self.span.attributes, name)
    }

    pub fn of_resource(&self, name: &str) -> String {
        text(&self.resource, name)
    }

    /// Why it failed; `None` where it did not.
    pub fn error(&self) -> Option<&str> {
        let status = self.span.status.as_ref()?;
        (status.code() == wire::status::StatusCode::Error).then_some(status.message.as_str())
    }

    pub fn began(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_nanos(self.span.start_time_unix_nano)
    }

    pub fn ended(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_nanos(self.span.end_time_unix_nano)
    }
}

fn text(attributes: &[KeyValue], name: &str) -> String {
    let mut named = attributes.iter().filter(|attribute| attribute.key == name);
    let found = named.next().and_then(|attribute| attribute.value.as_ref());
    assert!(named.next().is_none(), "{name} is there twice");
    match found {
        Some(AnyValue { value: Some(any_value::Value::StringValue(text)) }) => text.clone(),
        Some(AnyValue { value: Some(any_value::Value::IntValue(number)) }) => number.to_string(),
        _ => String::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
