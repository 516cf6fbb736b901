//! The trace that a message belongs to, read from headers and written to them. Pure.
//!
//! Source: W3C Trace Context, level 1.

use opentelemetry::{
    Context,
    propagation::{Extractor, TextMapPropagator},
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use ring::digest::{SHA256, digest};

use crate::message::names::Id;

/// The header that names trace and parent.
pub const TRACEPARENT: &str = "traceparent";
/// The header in which systems of tracing keep what they want.
pub const TRACESTATE: &str = "tracestate";
/// The most bytes of it that are passed on: as many as the standard asks for. It goes into messages with
/// every callback.
const STATE: usize = 512;

/// The values of the two headers.
#[derive(Default)]
struct Carrier {
    parents: Vec<String>,
    state: String,
}

impl Extractor for Carrier {
    fn get(&self, key: &str) -> Option<&str> {
        match (key, self.parents.as_slice()) {
            // Of two nobody knows which is meant.
            (TRACEPARENT, [one]) => Some(one),
            (TRACESTATE, _) => Some(&self.state),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT, TRACESTATE]
    }
}

/// The span that headers name, in any case, if they name one.
pub fn told<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>) -> Option<SpanContext> {
    let mut carrier = Carrier::default();
    for (name, value) in headers {
        if name.eq_ignore_ascii_case(TRACEPARENT) && !value.trim().is_empty() {
            carrier.parents.push(value.to_owned());
        } else if name.eq_ignore_ascii_case(TRACESTATE) {
            add_state(&mut carrier.state, value);
        }
    }
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
    let told = context.span().span_context().clone();
    told.is_valid().then_some(told)
}

/// Adds the members of a list that can stand in a header and for which there is room. The parser lets through
/// whatever has no comma in it.
fn add_state(state: &mut String, list: &str) {
    let members = list.split(',').map(|member| member.trim_matches([' ', '\t']));
    for member in
        members.filter(|member| !member.is_empty() && !member.contains(|c: char| !matches!(c, ' '..='~')))
    {
        let comma = if state.is_empty() { "" } else { "," };
        if state.len() + comma.len() + member.len() > STATE {
            return;
        }
        state.push_str(comma);
        state.push_str(member);
    }
}

/// The root of the trace of an invocation whose caller has none: of its identity, so that it is the same for
/// every worker and at every attempt.
pub fn made(origin: &str, id: Id, is_sampled: impl Fn(TraceId) -> bool) -> SpanContext {
    let hash = digest(&SHA256, format!("{origin}:{id}").as_bytes());
    let mut hash = hash.as_ref().iter().copied();
    let mut next = || std::array::from_fn::<u8, 8, _>(|_| hash.next().unwrap_or(1));
    let (high, low, span) =
        (u64::from_be_bytes(next()), u64::from_be_bytes(next()), u64::from_be_bytes(next()));
    // None of them may be zero.
    let trace_id = TraceId::from(u128::from(high.max(1)) << 64 | u128::from(low));
    let flags = TraceFlags::default().with_sampled(is_sampled(trace_id));
    SpanContext::new(trace_id, SpanId::from(span.max(1)), flags, true, TraceState::default())
}

/// The two headers that name a span; the second only where there is something in it.
pub fn written(context: &SpanContext) -> impl Iterator<Item = (&'static str, String)> {
    let flags = (context.trace_flags() & TraceFlags::SAMPLED).to_u8();
    let parent = format!("00-{}-{}-{flags:02x}", context.trace_id(), context.span_id());
    let state = Some(context.trace_state().header()).filter(|state| !state.is_empty());
    [Some((TRACEPARENT, parent)), state.map(|state| (TRACESTATE, state))].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_span_is_read_as_it_is_written() {
        let check = |headers: &[(&str, &str)], expected: &[(&str, &str)]| {
            let read = told(headers.iter().copied());
            let again: Vec<_> = read.iter().flat_map(written).collect();
            assert!(
                again.iter().map(|(name, value)| (*name, value.as_str())).eq(expected.iter().copied()),
                "{headers:?}: {again:?}"
            );
        };
        check(&[("Traceparent", PARENT)], &[(TRACEPARENT, PARENT)]);
        let unsampled = PARENT.replace("-01", "-00");
        check(&[("traceparent", &unsampled)], &[(TRACEPARENT, &unsampled)]);
        check(
            &[("traceparent", PARENT), ("TraceState", "a=1,b=2")],
            &[(TRACEPARENT, PARENT), (TRACESTATE, "a=1,b=2")],
        );
        check(
            &[("tracestate", "a=1"), ("traceparent", PARENT), ("tracestate", "b=2")],
            &[(TRACEPARENT, PARENT), (TRACESTATE, "a=1,b=2")],
        );
        // A damaged state is no reason to leave the trace.
        check(&[("traceparent", PARENT), ("tracestate", "nonsense")], &[(TRACEPARENT, PARENT)]);
        check(
            &[("traceparent", ""), ("traceparent", PARENT), ("traceparent", " ")],
            &[(TRACEPARENT, PARENT)],
        );
    }

    #[test]
    fn of_a_state_only_what_can_stand_in_a_header_is_written() {
        let check = |state: &str, expected: &str| {
            let told = told([(TRACEPARENT, PARENT), (TRACESTATE, state)].into_iter()).unwrap();
            let written = written(&told).nth(1).map(|(_, state)| state).unwrap_or_default();
            assert_eq!(written, expected, "{state:?}");
        };
        for hostile in
            ["a=1\nNats-Rollup: all", "a=1\r\n", "a=\u{85}", "a=\u{2028}", "a=é", "a=\0", "a=\u{7f}"]
        {
            check(&format!("x=1,{hostile},y=2"), "x=1,y=2");
        }
        let long = (0..9).map(|n| format!("k{n}={}", "v".repeat(97))).collect::<Vec<_>>().join(",");
        check(&long, &long[..504]);
    }

    #[test]
    fn what_is_no_traceparent_is_none() {
        for bad in [
            "",
            "00",
            "00-0-0-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "\u{e4}",
            &format!("{PARENT}-x"),
        ] {
            assert_eq!(told([(TRACEPARENT, bad)].into_iter()), None, "{bad}");
        }
        let zero = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        assert_eq!(told([(TRACEPARENT, zero)].into_iter()), None);
        assert_eq!(told([(TRACEPARENT, PARENT), ("TRACEPARENT", PARENT)].into_iter()), None);
        assert_eq!(told([(TRACESTATE, "a=1")].into_iter()), None);
    }

    #[test]
    fn an_identity_has_one_trace_and_another_identity_another() {
        let root = |sequence| made("q", Id { sequence, stored: 36 }, |_| true);
        assert_eq!(root(7), root(7));
        assert_ne!(root(7).trace_id(), root(8).trace_id());
        assert!(root(7).is_valid() && root(7).is_sampled() && root(7).is_remote());
        assert!(!made("q", Id { sequence: 7, stored: 36 }, |_| false).is_sampled());
    }
}
