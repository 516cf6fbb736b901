use super::*;

#[test]
fn the_first_matching_row_decides() {
    let check = |reply: Reply, expected| {
        let outcome = Outcome::Replied(reply);
        assert_eq!(judged(&outcome, &policy(), &first()), expected, "{outcome:?}");
    };
    for status in [200, 201, 202, 204, 299] {
        check(function(status), Verdict::Complete);
        check(platform(status), Verdict::Complete);
    }
    // The gateway's own 200 when scaling from zero timed out is one as any other.
    check(Reply { status: 200, ..Reply::default() }, Verdict::Complete);
    // The platform: no endpoints, a pod that does not answer, a full or a hanging watchdog.
    for status in [429, 500, 502, 503, 504] {
        check(platform(status), later(Reason::Internal));
    }
    // The platform's answers that no retry changes: a bad path, a bad token; and one outside of the set.
    for status in [400, 401, 403, 404, 501] {
        check(platform(status), REFUSED);
    }
    check(platform(408), later(Reason::Status));
    // The function, and the gateway's 502 at its own time limit, its 500 when scaling failed.
    for status in [408, 429, 500, 502, 504] {
        check(function(status), later(Reason::Status));
        check(Reply { status, ..Reply::default() }, later(Reason::Status));
    }
    check(Reply { status: 500, not_found_text: true, ..Reply::default() }, later(Reason::Status));
    check(function(503), REFUSED);
    check(asking(503, "30"), after(30, Reason::RetryAfter));
    check(asking(503, "soon"), REFUSED);
    // The gateway's own 404, and those of functions, which may say whatever they like.
    check(not_found(), later(Reason::GatewayNotFound));
    check(Reply { has_call_id: true, ..not_found() }, REFUSED);
    check(Reply { served_by: true, ..not_found() }, REFUSED);
    check(Reply { not_found_text: false, ..not_found() }, REFUSED);
    check(function(404), REFUSED);
    for status in [101, 301, 302, 304, 307, 400, 401, 403, 405, 409, 413, 418, 501, 505, 599, 600, 999, 0] {
        check(function(status), REFUSED);
    }
    check(asking(404, "30"), REFUSED);
    check(asking(302, "30"), REFUSED);
}

#[test]
fn a_call_without_an_answer_is_retried() {
    let check = |outcome, reason| assert_eq!(judged(&outcome, &policy(), &first()), later(reason));
    check(Outcome::Unreachable("connection refused".into()), Reason::Unreachable);
    check(Outcome::Broken("connection reset".into()), Reason::Broken);
    check(Outcome::TimedOut, Reason::TimedOut);
}

#[test]
fn the_codes_of_a_function_replace_the_worker_s() {
    let only = RetryPolicy { codes: "404,418".parse().unwrap(), ..policy() };
    let check = |reply, expected| assert_eq!(judged(&Outcome::Replied(reply), &only, &first()), expected);
    check(function(418), later(Reason::Status));
    check(function(500), REFUSED);
    check(function(429), REFUSED);
    check(platform(500), later(Reason::Internal));
    check(not_found(), later(Reason::Status));
}
