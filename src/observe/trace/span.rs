//! One span. It takes attributes while it lasts, and ends when it is dropped.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, SystemTime},
};

use opentelemetry::{
    Key, KeyValue, Value,
    trace::{SpanContext, SpanId, SpanKind, Status},
};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SpanData, SpanEvents, SpanLinks};

use super::pipeline::Pipeline;
use crate::text::line::cut;

/// The longest text of an attribute in bytes: callers choose names of functions, paths and call ids.
const LONGEST: usize = 256;

/// A span under way. One that is not sampled says nothing, but has an id: others are told of it.
#[derive(Debug)]
pub struct Span {
    pipeline: Arc<Pipeline>,
    /// The identity that children and others know it by.
    pub context: SpanContext,
    data: Option<SpanData>,
}

impl Span {
    /// A span that begins now, below `parent`.
    pub fn begin(
        pipeline: &Arc<Pipeline>,
        parent: &SpanContext,
        kind: SpanKind,
        name: impl FnOnce() -> String,
    ) -> Self {
        let context = SpanContext::new(
            parent.trace_id(),
            RandomIdGenerator::default().new_span_id(),
            parent.trace_flags(),
            false,
            parent.trace_state().clone(),
        );
        let data = context.is_sampled().then(|| {
            let start_time = SystemTime::now();
            SpanData {
                span_context: context.clone(),
                parent_span_id: parent.span_id(),
                parent_span_is_remote: parent.is_remote(),
                span_kind: kind,
                name: Cow::Owned(name()),
                start_time,
                end_time: start_time,
                attributes: Vec::new(),
                dropped_attributes_count: 0,
                events: SpanEvents::default(),
                links: SpanLinks::default(),
                status: Status::Unset,
                instrumentation_scope: pipeline.scope.clone(),
            }
        });
        Self { pipeline: pipeline.clone(), context, data }
    }

    /// A child that begins now.
    pub fn child(&self, kind: SpanKind, name: impl FnOnce() -> String) -> Self {
        Self::begin(&self.pipeline, &self.context, kind, name)
    }

    /// Whether it will be exported.
    pub fn is_sampled(&self) -> bool {
        self.data.is_some()
    }

    /// Adds an attribute.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        if let Some(data) = &mut self.data {
            let value = match value.into() {
                Value::String(text) => Value::String(cut(text.as_str(), LONGEST).to_owned().into()),
                other => other,
            };
            data.attributes.push(KeyValue::new(Key::from_static_str(name), value));
        }
    }

    /// Marks it as failed: a word for machines, a few for people.
    pub fn fail(&mut self, kind: &str, why: &str) {
        self.set("error.type", kind.to_owned());
        if let Some(data) = &mut self.data {
            data.status = Status::error(cut(why, LONGEST).to_owned());
        }
    }

    /// It is over already: it began so long ago, and ended so long ago.
    pub fn past(mut self, began: Duration, ended: Duration) {
        if let Some(mut data) = self.data.take() {
            let now = data.start_time;
            data.start_time = now.checked_sub(began).unwrap_or(now);
            data.end_time = now.checked_sub(ended).unwrap_or(now);
            self.pipeline.end(data);
        }
    }

    /// It is the first span of its trace, and called `context`.
    pub fn rooted(mut self, context: &SpanContext) -> Self {
        if let Some(data) = &mut self.data {
            data.span_context = SpanContext::new(
                context.trace_id(),
                context.span_id(),
                context.trace_flags(),
                false,
                Default::default(),
            );
            data.parent_span_id = SpanId::INVALID;
            data.parent_span_is_remote = false;
        }
        self
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(mut data) = self.data.take() {
            data.end_time = SystemTime::now();
            self.pipeline.end(data);
        }
    }
}
