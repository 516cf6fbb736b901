//! The spans of deliveries and POSTs. Their names and attributes are OpenTelemetry's for messages and HTTP
//! (its semantic conventions), beside some of ours, `queue_worker.*`. No body, no header value, no query and
//! no credential is in them.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{SpanContext, SpanKind};
use url::Url;

use super::{Fate, parent, pipeline::Pipeline, span::Span};
use crate::{
    config,
    message::{decode::Invocation, envelope::Kind, header, successor::Message},
    retry::{callback::Refused, judge::Outcome},
};

/// Makes the traces of a process. Its default makes none, and costs nothing. Clones share one queue before
/// the exporter.
#[derive(Debug, Clone, Default)]
pub struct Tracer(Option<Arc<Pipeline>>);

/// The trace of an invocation while a delivery of it is in hand. The delivery's span ends when this is
/// dropped.
#[derive(Debug, Default)]
pub struct Trace(Option<Box<Open>>);

#[derive(Debug)]
struct Open {
    /// The parent of the delivery's spans.
    parent: SpanContext,
    delivery: Mutex<(Span, Option<Fate>)>,
}

/// The span of one POST. Dropped before its end, it was cut off.
#[derive(Debug)]
pub struct Post(Option<Box<(Span, bool)>>);

impl Tracer {
    /// Makes traces as the settings say, from the process `instance`; none where they say nothing. To be
    /// called on the runtime, which carries what is exported.
    #[must_use]
    pub fn new(config: Option<&config::Tracing>, instance: &str) -> Self {
        Self(config.and_then(|config| Pipeline::new(config, instance)).map(Arc::new))
    }

    /// A delivery has come: ends the wait before it, and begins its span. `now` is the broker's time.
    #[must_use]
    pub fn begin(
        &self,
        queue: &str,
        message: &mut Message,
        invocation: Option<&Invocation>,
        now: impl FnOnce() -> SystemTime,
    ) -> Trace {
        let Some(pipeline) = &self.0 else { return Trace::default() };
        let now = now();
        let told = told(message, invocation);
        let is_root = told.is_none();
        let envelope = &message.envelope;
        let parent = told.map_or_else(
            || parent::made(&envelope.origin, envelope.id, |trace| pipeline.samples(trace)),
            |told| pipeline.sampled_as(told),
        );
        let age = |since: SystemTime| now.duration_since(since).unwrap_or_default();
        let waited = match (envelope.generation, envelope.parked, envelope.due) {
            (0, ..) => Some((age(envelope.first_seen), age(now))),
            (_, Some(parked), Some(due)) if due > parked => Some((age(parked), age(due))),
            _ => None,
        };
        if let Some((began, ended)) = waited {
            let mut wait = Span::begin(pipeline, &parent, SpanKind::Internal, || format!("wait {queue}"));
            if is_root && envelope.generation == 0 {
                wait = wait.rooted(&parent);
            }
            describe(&mut wait, queue, message);
            wait.past(began, ended);
        }
        let mut span = Span::begin(pipeline, &parent, SpanKind::Consumer, || format!("process {queue}"));
        describe(&mut span, queue, message);
        span.set("messaging.operation.name", "process");
        span.set("messaging.operation.type", "process");
        message.is_traced = span.is_sampled();
        Trace(Some(Box::new(Open { parent, delivery: Mutex::new((span, None)) })))
    }

    /// Exports what waits, but for no more than two seconds.
    pub async fn finish(&self) {
        if let Some(pipeline) = self.0.clone() {
            // Errors are logged there.
            let _ = tokio::task::spawn_blocking(move || pipeline.finish()).await;
        }
    }
}

/// The caller's span, from the call's own headers or else from those of its message.
fn told(message: &Message, invocation: Option<&Invocation>) -> Option<SpanContext> {
    let of_call = invocation.and_then(|invocation| parent::told(invocation.headers.pairs()));
    of_call.or_else(|| {
        let headers = message.envelope.carried.iter();
        parent::told(
            headers
                .flat_map(|(name, values)| values.iter().map(move |value| (name.as_ref(), value.as_str()))),
        )
    })
}

fn describe(span: &mut Span, queue: &str, message: &Message) {
    if !span.is_sampled() {
        return;
    }
    let envelope = &message.envelope;
    span.set("messaging.system", "nats");
    span.set("messaging.destination.name", queue.to_owned());
    span.set("messaging.message.id", envelope.original_id());
    if let Some(function) = &message.function_name {
        span.set("faas.invoked_name", function.to_string());
    }
    if envelope.kind == Kind::Callback {
        span.set("queue_worker.kind", "callback");
        Option::iter(&message.call_id)
            .for_each(|call_id| span.set("queue_worker.call_id", call_id.to_string()));
    }
    // The attempt that is to be made.
    span.set("queue_worker.attempt", i64::from(envelope.attempts) + 1);
}

impl Trace {
    fn delivery(&self) -> Option<MutexGuard<'_, (Span, Option<Fate>)>> {
        self.0.as_ref().map(|open| open.delivery.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The call id is known.
    pub fn call_id(&self, call_id: &str) {
        if let Some(mut delivery) = self.delivery() {
            delivery.0.set("queue_worker.call_id", call_id.to_owned());
        }
    }

    /// Notes the end of the delivery. The first one holds, but for a death: an invocation may have been
    /// completed, and its callback die.
    pub fn ends(&self, fate: Fate) {
        if let Some(mut delivery) = self.delivery()
            && (delivery.1.is_none() || matches!(fate, Fate::Dead(_)))
        {
            delivery.1 = Some(fate);
        }
    }

    /// Writes down to which trace a message belongs that does not hold its caller's headers.
    pub fn carry(&self, headers: &mut async_nats::HeaderMap) {
        if let Some(open) = &self.0 {
            for (name, value) in parent::written(&open.parent) {
                header::put(headers, name, &value);
            }
        }
    }

    /// An attempt begins. `target` is the URL without its query.
    #[must_use]
    pub fn call(&self, function: &str, attempt: u32, target: &str) -> Post {
        self.post(attempt, target, || format!("POST /function/{function}"))
    }

    /// A callback is about to be posted. `url` has no query and no credentials.
    #[must_use]
    pub fn callback(&self, attempt: u32, url: &str) -> Post {
        self.post(attempt, url, || "POST callback".to_owned())
    }

    fn post(&self, attempt: u32, url: &str, name: impl FnOnce() -> String) -> Post {
        let Some(delivery) = self.delivery() else { return Post(None) };
        let mut span = delivery.0.child(SpanKind::Client, name);
        if span.is_sampled() {
            span.set("http.request.method", "POST");
            span.set("queue_worker.attempt", i64::from(attempt));
            if attempt > 1 {
                span.set("http.request.resend_count", i64::from(attempt) - 1);
            }
            if let Ok(url) = Url::parse(url) {
                span.set("server.address", url.host_str().unwrap_or_default().to_owned());
                span.set("server.port", i64::from(url.port_or_known_default().unwrap_or_default()));
                span.set("url.path", url.path().to_owned());
            }
        }
        Post(Some(Box::new((span, false))))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let (span, fate) = self.delivery.get_mut().unwrap_or_else(PoisonError::into_inner);
        let fate = fate.unwrap_or(Fate::Lost);
        span.set("queue_worker.fate", fate.as_str());
        if let Some(why) = fate.error() {
            span.fail(why, fate.as_str());
        }
    }
}

impl Post {
    /// Says in a request's headers that it belongs to this span, whatever they said before.
    pub fn inject(&self, headers: &mut HeaderMap) {
        let Some((span, _)) = self.0.as_deref() else { return };
        headers.remove(parent::TRACEPARENT);
        headers.remove(parent::TRACESTATE);
        for (name, value) in parent::written(&span.context) {
            if let Ok(value) = HeaderValue::try_from(value) {
                // Only a map of 32,768 names is full.
                drop(headers.try_insert(HeaderName::from_static(name), value));
            }
        }
    }

    /// It is over.
    pub fn ends(mut self, outcome: &Outcome) {
        let Some((span, is_over)) = self.0.as_deref_mut() else { return };
        *is_over = true;
        span.set("queue_worker.outcome", outcome.label());
        if let Some(status) = outcome.status() {
            span.set("http.response.status_code", i64::from(status));
        }
        if let Some(why) = outcome.error() {
            span.fail(&outcome.history(), &why);
        }
    }

    /// It was not made, because it must not be.
    pub fn refused(mut self, why: &Refused) {
        let Some((span, is_over)) = self.0.as_deref_mut() else { return };
        *is_over = true;
        span.fail("refused", why.0);
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        if let Some((span, false)) = self.0.as_deref_mut() {
            span.fail("cut_off", "cut off before its end");
        }
    }
}
