//! The writers of an answer, and what follows: one row for everything on the way to a function that
//! answers in its place, beside the function that answers the same by itself.
//!
//! Source: the gateway's `forwarding_proxy.go` and `scaling.go`, the provider's `proxy.go`, and of-watchdog
//! with its middleware; [`tests/it/producers.rs`] plays these answers to a worker.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::*;

type Headers = &'static [(&'static str, &'static str)];

/// The gateway marks whatever it let through to its provider.
const SERVED: Headers = &[("X-Served-By", "openfaas-ce/0.27"), ("X-Start-Time", "1")];
const PROXY: Headers = &[("X-Served-By", "openfaas-ce/0.27"), ("X-OpenFaaS-Internal", "proxy")];
const WATCHDOG: Headers = &[("X-Served-By", "openfaas-ce/0.27"), ("X-OpenFaaS-Internal", "of-watchdog")];
const MIDDLEWARE: Headers =
    &[("X-Served-By", "openfaas-ce/0.27"), ("X-OpenFaaS-Internal", "faas-middleware")];
/// The gateway's answers before it lets a call through have no mark at all.
const UNMARKED: Headers = &[];

const UNREACHABLE: &str = "error finding function f.openfaas-fn: Get \
    \"http://127.0.0.1:8081/system/function/f\": connection refused";

fn reply(status: u16, headers: Headers, body: &str) -> Outcome {
    let name = |name: &str| HeaderName::from_bytes(name.as_bytes()).unwrap();
    let headers: HeaderMap =
        headers.iter().map(|(key, value)| (name(key), HeaderValue::from_static(value))).collect();
    Outcome::Replied(Reply::new(StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes()))
}

/// Checks the verdict by default, and the one where the codes list none of these statuses.
fn check(producer: &str, status: u16, headers: Headers, body: &str, by_default: Verdict, by_choice: Verdict) {
    let choosy = RetryPolicy { codes: "418".parse().unwrap(), ..policy() };
    let outcome = reply(status, headers, body);
    assert_eq!(judged(&outcome, &policy(), &first()), by_default, "{producer} {status}");
    assert_eq!(judged(&outcome, &choosy, &first()), by_choice, "{producer} {status}, its code not listed");
}

#[test]
fn whoever_answers_is_told_apart() {
    let status = later(Reason::Status);
    let internal = later(Reason::Internal);
    let missing = later(Reason::GatewayNotFound);

    check("gateway: its time limit, or the provider is away", 502, SERVED, "", status, REFUSED);
    check("gateway: the provider cannot be asked", 404, UNMARKED, UNREACHABLE, missing, missing);
    check(
        "gateway: no such function",
        404,
        UNMARKED,
        "error finding function f.openfaas-fn: no such function",
        missing,
        missing,
    );
    check(
        "gateway: scaling up failed",
        500,
        UNMARKED,
        "error finding function f.openfaas-fn: timeout",
        status,
        REFUSED,
    );
    check(
        "gateway: scaling from zero took too long",
        200,
        UNMARKED,
        "",
        Verdict::Complete,
        Verdict::Complete,
    );

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
}

#[test]
fn a_function_s_own_answer_is_told_apart_whatever_its_words() {
    let status = later(Reason::Status);
    for code in [408, 429, 500, 502, 504] {
        check("function", code, SERVED, "", status, REFUSED);
    }
    for code in [302, 400, 401, 403, 404, 503] {
        check("function", code, SERVED, "", REFUSED, REFUSED);
    }
    check("function, in the gateway's words", 404, SERVED, UNREACHABLE, REFUSED, REFUSED);
    check("function, in the gateway's words", 404, &[("x-call-id", "a")], UNREACHABLE, REFUSED, REFUSED);
    check(
        "function, in the provider's words",
        503,
        SERVED,
        "No endpoints available for: f.",
        REFUSED,
        REFUSED,
    );
    check("function", 418, SERVED, "", REFUSED, status);
    for code in [200, 202, 204] {
        check("function", code, SERVED, "", Verdict::Complete, Verdict::Complete);
    }
}

/// The end of a message, and the number of its attempts, when an outage begins at its `before + 1`-th
/// attempt and lasts so long, under the settings that nobody changed. The attempts before failed by the
/// function's own doing.
fn through_an_outage(lasts: Duration, before: u32, during: &[Outcome]) -> (Verdict, u32) {
    let policy = crate::config::load([], []).unwrap().config.retry;
    // It has been in the queue for long.
    let mut progress = Progress { attempts: 0, age: 3600 * SECOND, ..first() };
    let (mut now, mut began, mut row) = (Duration::ZERO, None, None);
    loop {
        let outcome = match progress.attempts {
            early if early < before => &Outcome::Replied(function(500)),
            later => {
                let began = *began.get_or_insert(now);
                let away = now < began + lasts;
                if away {
                    &during[(later - before) as usize % during.len()]
                } else {
                    &Outcome::Replied(function(200))
                }
            }
        };
        progress.attempts += 1;
        row = outcome
            .is_gateway_not_found()
            .then(|| row.map_or((1, now), |(attempts, since)| (attempts + 1, since)));
        progress.not_found =
            row.map(|(attempts, since)| (attempts, now.saturating_sub(since))).unwrap_or_default();
        match judged(outcome, &policy, &progress) {
            Verdict::RetryAfter { wait, .. } => {
                now += wait;
                progress.delayed += 1;
            }
            end => return (end, progress.attempts - before),
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
        for seconds in 0..=30 {
            // Four more attempts than the function has used up itself are enough.
            for before in 0..=6 {
                let (end, attempts) = through_an_outage(SECOND * seconds, before, during);
                assert_eq!(end, Verdict::Complete, "{seconds} s of {during:?} after {before} attempts");
                assert!(attempts <= 4, "{attempts} attempts in {seconds} s of {during:?} after {before}");
            }
        }
        // The fifth attempt comes after 150 s, so that even two minutes are harmless.
        assert_eq!(through_an_outage(150 * SECOND, 0, during).0, Verdict::Complete, "{during:?}");
    }
    // A function that is not found for longer is taken to be missing.
    assert_eq!(through_an_outage(151 * SECOND, 0, &[not_found]), (REFUSED, 5));
    assert_eq!(through_an_outage(750 * SECOND, 0, std::slice::from_ref(&gone)), (Verdict::Complete, 10));
    assert_eq!(through_an_outage(751 * SECOND, 0, &[gone]), (Verdict::DeadLetter(Cause::Exhausted), 10));
}
