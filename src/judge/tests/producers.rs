//! Who may have written an answer, and what follows: one row for everything on the way to a function that answers in its
//! place, beside the function that answers the same by itself.
//!
//! Source: the gateway's `forwarding_proxy.go` and `scaling.go`, the provider's `proxy.go`, and of-watchdog with its
//! middleware; [`tests/it/producers.rs`] plays these answers to a worker.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::*;

type Headers = &'static [(&'static str, &'static str)];

/// The gateway marks whatever it let through to its provider.
const SERVED: Headers = &[("X-Served-By", "openfaas-ce/0.27"), ("X-Start-Time", "1")];
const PROXY: Headers = &[("X-Served-By", "openfaas-ce/0.27"), ("X-OpenFaaS-Internal", "proxy")];
const WATCHDOG: Headers = &[("X-Served-By", "openfaas-ce/0.27"), ("X-OpenFaaS-Internal", "of-watchdog")];
const MIDDLEWARE: Headers = &[("X-Served-By", "openfaas-ce/0.27"), ("X-OpenFaaS-Internal", "faas-middleware")];
/// What the gateway answers before it lets a call through has no mark at all.
const UNMARKED: Headers = &[];

const UNREACHABLE: &str = "error finding function f.openfaas-fn: Get \"http://127.0.0.1:8081/system/function/f\": connection refused";

fn reply(status: u16, headers: Headers, body: &str) -> Outcome {
    let name = |name: &str| HeaderName::from_bytes(name.as_bytes()).unwrap();
    let headers: HeaderMap = headers.iter().map(|(key, value)| (name(key), HeaderValue::from_static(value))).collect();
    Outcome::Replied(Reply::new(StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes()))
}

#[test]
fn whoever_answers_is_told_apart() {
    let choosy = RetryPolicy { codes: "418".parse().unwrap(), ..policy() };
    // What follows by default, and what where the codes list none of these statuses.
    let check = |producer, status, headers, body, by_default, by_choice| {
        let outcome = reply(status, headers, body);
        assert_eq!(judged(&outcome, &policy(), &first()), by_default, "{producer} {status}");
        assert_eq!(judged(&outcome, &choosy, &first()), by_choice, "{producer} {status}, its code not listed");
    };
    let status = later(Reason::Status);
    let internal = later(Reason::Internal);
    let missing = later(Reason::GatewayNotFound);

    check("gateway: its time limit, or the provider is away", 502, SERVED, "", status, REFUSED);
    check("gateway: the provider cannot be asked", 404, UNMARKED, UNREACHABLE, missing, missing);
    check("gateway: no such function", 404, UNMARKED, "error finding function f.openfaas-fn: no such function", missing, missing);
    check("gateway: scaling up failed", 500, UNMARKED, "error finding function f.openfaas-fn: timeout", status, REFUSED);
    check("gateway: scaling from zero took too long", 200, UNMARKED, "", Verdict::Complete, Verdict::Complete);

    check("provider: no endpoints", 503, PROXY, "No endpoints available for: f.", internal, internal);
    check("provider: the pod does not answer", 500, PROXY, "Can't reach service for: f.", internal, internal);
    check("provider: no address", 500, PROXY, "Failed to resolve service: f.", internal, internal);
    check("provider: a bad path", 400, PROXY, "Provide function name in the request path", REFUSED, REFUSED);

    let full = "Concurrent request limit exceeded. Max concurrent requests: 1";
    check("watchdog: full", 429, MIDDLEWARE, full, internal, internal);
    check("watchdog: out of time", 504, WATCHDOG, "", internal, internal);
    check("watchdog: the process is gone", 500, WATCHDOG, "", internal, internal);
    check("watchdog: no token", 401, MIDDLEWARE, "", REFUSED, REFUSED);
    check("watchdog: a bad token", 403, MIDDLEWARE, "", REFUSED, REFUSED);

    for code in [408, 429, 500, 502, 504] {
        check("function", code, SERVED, "", status, REFUSED);
    }
    for code in [302, 400, 401, 403, 404, 503] {
        check("function", code, SERVED, "", REFUSED, REFUSED);
    }
    check("function, in the gateway's words", 404, SERVED, UNREACHABLE, REFUSED, REFUSED);
    check("function, in the gateway's words", 404, &[("x-call-id", "a")], UNREACHABLE, REFUSED, REFUSED);
    check("function, in the provider's words", 503, SERVED, "No endpoints available for: f.", REFUSED, REFUSED);
    check("function", 418, SERVED, "", REFUSED, status);
    for code in [200, 202, 204] {
        check("function", code, SERVED, "", Verdict::Complete, Verdict::Complete);
    }
}

/// What becomes of a message that arrives so long before the end of an outage, under the settings that nobody changed.
fn through_an_outage(left: Duration, during: &[Outcome]) -> (Verdict, u32) {
    let policy = crate::config::load([], []).unwrap().config.retry;
    let mut progress = Progress { attempts: 0, delayed: 0, immediate: 0, age: Duration::ZERO };
    loop {
        let outcome = during.get(progress.attempts as usize % during.len()).filter(|_| progress.age < left);
        progress.attempts += 1;
        match judged(outcome.unwrap_or(&Outcome::Replied(function(200))), &policy, &progress) {
            Verdict::RetryAfter { wait, .. } => {
                progress.age += wait;
                progress.delayed += 1;
            }
            end => return (end, progress.attempts),
        }
    }
}

#[test]
fn an_outage_of_the_provider_costs_no_message_under_the_default_settings() {
    let not_found = reply(404, UNMARKED, UNREACHABLE);
    let gone = reply(502, SERVED, "");
    let failed = reply(500, UNMARKED, UNREACHABLE);
    let away = Outcome::Unreachable("connection refused".into());
    let outages = [
        vec![not_found.clone()],
        vec![gone.clone()],
        vec![failed.clone()],
        vec![away.clone()],
        vec![not_found.clone(), gone.clone(), failed.clone(), away.clone()],
        vec![away, failed, gone.clone(), not_found.clone()],
    ];
    for during in &outages {
        for left in 0..=30 {
            let (end, attempts) = through_an_outage(SECOND * left, during);
            assert_eq!(end, Verdict::Complete, "{left} s of {during:?}");
            assert!(attempts <= 4, "{attempts} attempts in {left} s of {during:?}");
        }
        // Five tries take 150 s, so that even two minutes are harmless.
        assert_eq!(through_an_outage(150 * SECOND, during).0, Verdict::Complete, "{during:?}");
    }
    // What is missing for longer is taken to be missing.
    assert_eq!(through_an_outage(151 * SECOND, &[not_found]), (REFUSED, 5));
    assert_eq!(through_an_outage(750 * SECOND, std::slice::from_ref(&gone)), (Verdict::Complete, 10));
    assert_eq!(through_an_outage(751 * SECOND, &[gone]), (Verdict::DeadLetter(Cause::Exhausted), 10));
}
