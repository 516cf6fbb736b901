//! One event or one reading, one line of the page.

use super::*;

/// A process with one queue.
fn metrics() -> (Registry, Metrics) {
    let registry = Registry::new("openfaas-fn").unwrap();
    let metrics = registry.queue("faas-request").unwrap();
    (registry, metrics)
}

/// The lines of a rendered page that are not comments.
fn values(registry: &Registry) -> Vec<String> {
    let text = registry.render();
    text.lines().filter(|l| !l.starts_with('#')).map(str::to_owned).collect()
}

#[track_caller]
fn check(event: impl FnOnce(&Metrics), line: &str) {
    let (registry, metrics) = metrics();
    event(&metrics);
    let values = values(&registry);
    assert!(values.iter().any(|l| l == line), "{line} is not in\n{values:#?}");
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn every_metric_is_declared_from_the_start() {
    let text = metrics().0.render();
    for (name, kind, help) in table::all() {
        let declared = format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
        assert_eq!(text.matches(&declared).count(), 1, "{declared}");
    }
    assert!(names().iter().all(|name| name.starts_with("queue_worker_")));
}

#[test]
fn what_needs_no_event_to_have_a_value_has_one_from_the_start() {
    let expected = [
        r#"queue_worker_pending_messages{function_name="all-functions",queue_name="faas-request"} 0"#,
        r#"queue_worker_messages_processed_total{queue_name="faas-request"} 0"#,
        r#"queue_worker_messages_submitted_total{queue_name="faas-request"} 0"#,
        "queue_worker_nats_reconnect_total 0",
        r#"queue_worker_attempt_duration_seconds_count{queue_name="faas-request"} 0"#,
        r#"queue_worker_queue_wait_seconds_count{queue_name="faas-request"} 0"#,
        r#"queue_worker_end_to_end_seconds_count{queue_name="faas-request"} 0"#,
        r#"queue_worker_retry_lateness_seconds_count{queue_name="faas-request"} 0"#,
        r#"queue_worker_retries_parked{queue_name="faas-request"} 0"#,
        r#"queue_worker_dead_letters{queue_name="faas-request"} 0"#,
        "queue_worker_dead_letters_dropped_total 0",
        "queue_worker_lease_lost_total 0",
        "queue_worker_unstorable_messages_total 0",
        concat!("queue_worker_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
    ];
    for line in expected {
        check(|_| (), line);
    }
}

#[test]
fn every_event_is_counted_under_its_name_and_labels() {
    check(
        |m| m.attempt(m.call_started("echo"), "ok", SECOND),
        r#"queue_worker_attempts_total{function_name="echo.openfaas-fn",outcome="ok",queue_name="faas-request"} 1"#,
    );
    check(
        |m| m.attempt(m.call_started("echo"), "ok", SECOND),
        r#"queue_worker_attempt_duration_seconds_sum{queue_name="faas-request"} 1"#,
    );
    check(|m| m.settled(), r#"queue_worker_messages_processed_total{queue_name="faas-request"} 1"#);
    check(|m| m.waited(SECOND), r#"queue_worker_queue_wait_seconds_sum{queue_name="faas-request"} 1"#);
    check(|m| m.ended(SECOND), r#"queue_worker_end_to_end_seconds_sum{queue_name="faas-request"} 1"#);
    check(
        |m| m.retried("echo.dev", "status"),
        r#"queue_worker_retries_total{function_name="echo.dev",queue_name="faas-request",reason="status"} 1"#,
    );
    check(
        |m| m.retry_lateness(SECOND),
        r#"queue_worker_retry_lateness_seconds_bucket{queue_name="faas-request",le="1"} 1"#,
    );
    check(
        |m| m.dead_lettered(Some("echo"), "exhausted"),
        r#"queue_worker_dead_letters_total{cause="exhausted",function_name="echo.openfaas-fn",queue_name="faas-request"} 1"#,
    );
    check(
        |m| m.dead_lettered(None, "undecodable"),
        r#"queue_worker_dead_letters_total{cause="undecodable",function_name="_undecodable",queue_name="faas-request"} 1"#,
    );
    check(|m| m.dead_letter_dropped(), "queue_worker_dead_letters_dropped_total 1");
    check(
        |m| m.callback("delivered"),
        r#"queue_worker_callbacks_total{queue_name="faas-request",result="delivered"} 1"#,
    );
    check(|m| m.lease_lost(), "queue_worker_lease_lost_total 1");
    check(|m| m.unstorable(), "queue_worker_unstorable_messages_total 1");
}

#[test]
fn what_the_broker_says_is_shown() {
    let depth = Depth { pending: 1, submitted: 2, parked: 3, dead: 4, ..Depth::default() };
    for line in [
        r#"queue_worker_pending_messages{function_name="all-functions",queue_name="faas-request"} 1"#,
        r#"queue_worker_messages_submitted_total{queue_name="faas-request"} 2"#,
        r#"queue_worker_retries_parked{queue_name="faas-request"} 3"#,
        r#"queue_worker_dead_letters{queue_name="faas-request"} 4"#,
    ] {
        check(|m| m.set_depth(depth.clone()), line);
    }
}

#[test]
fn what_is_not_known_is_not_shown() {
    let (registry, metrics) = metrics();
    let shown = || {
        let names = [
            "queue_worker_oldest_pending_age_seconds",
            "queue_worker_orphaned_messages",
            "queue_worker_overdue_holders",
        ];
        let lines =
            values(&registry).into_iter().filter(|line| names.iter().any(|name| line.starts_with(name)));
        lines.map(|line| line.rsplit_once(' ').unwrap().1.to_owned()).collect::<Vec<_>>()
    };
    let set = |age, orphans, overdue| {
        metrics.set_oldest_pending(age);
        metrics.set_orphaned(orphans);
        metrics.set_overdue(overdue);
        shown()
    };
    assert!(shown().is_empty());
    assert_eq!(set(Some(Duration::from_millis(1500)), Some(2), Some(3)), ["1.5", "2", "3"]);
    assert_eq!(set(Some(Duration::ZERO), Some(0), None), ["0", "0"]);
    assert!(set(None, None, None).is_empty());
}

#[test]
fn where_the_functions_are_known_pending_messages_are_shown_by_function() {
    let (registry, metrics) = metrics();
    let backlogs = |counts: &[(Option<&str>, u64)]| {
        let counts =
            counts.iter().map(|(function, messages)| (function.map(|name| name.parse().unwrap()), *messages));
        metrics.set_depth(Depth { pending: 9, backlogs: Some(counts.collect()), ..Depth::default() });
        let lines =
            values(&registry).into_iter().filter(|line| line.starts_with("queue_worker_pending_messages"));
        lines.map(|line| line.replace(r#",queue_name="faas-request""#, "")).collect::<Vec<_>>()
    };
    let line = |function, messages| {
        format!(r#"queue_worker_pending_messages{{function_name="{function}"}} {messages}"#)
    };
    let (echo, dev, other) = ("echo.openfaas-fn", "echo.dev", "other");
    // One function may stand in subjects with its namespace and without.
    let found = backlogs(&[(Some("echo"), 1), (Some(echo), 2), (Some(dev), 3), (None, 4)]);
    assert_eq!(found, [line(dev, 3), line(echo, 3), line(other, 4)]);
    assert_eq!(backlogs(&[(Some("echo"), 5)]), [line(dev, 0), line(echo, 5), line(other, 0)]);
    assert_eq!(backlogs(&[]), [line(dev, 0), line(echo, 0), line(other, 0)]);
}

#[test]
fn a_call_is_in_flight_until_its_guard_is_dropped() {
    let (registry, metrics) = metrics();
    let line = |n| {
        format!(
            r#"queue_worker_function_invocation_inflight{{function_name="echo.openfaas-fn",queue_name="faas-request"}} {n}"#
        )
    };
    let first = metrics.call_started("echo");
    let second = metrics.clone().call_started("echo.openfaas-fn");
    assert!(values(&registry).contains(&line(2)));
    drop((first, second));
    assert!(values(&registry).contains(&line(0)));
}

#[test]
fn there_is_an_end_to_the_names_that_callers_choose() {
    let (registry, metrics) = metrics();
    assert_eq!(&*metrics.label(&"a".repeat(LONGEST_NAME)), "other");
    for n in 0..MOST_NAMES {
        assert_eq!(*metrics.label(&format!("f{n}")), format!("f{n}.openfaas-fn"));
    }
    let beside = registry.queue("beside").unwrap();
    for metrics in [metrics, beside] {
        for function in ["f0", "f0.openfaas-fn"] {
            assert_eq!(&*metrics.label(function), "f0.openfaas-fn");
        }
        assert_eq!(&*metrics.label("one-more"), "other");
    }
}

#[test]
fn each_queue_of_a_process_has_series_of_its_own() {
    let (registry, first) = metrics();
    let second = registry.queue("second").unwrap();
    first.settled();
    second.callback("delivered");
    second.lease_lost();
    registry.reconnected();
    registry.stan_message(Some("faas-request"), "stored");
    registry.stan_message(None, "refused");
    registry.function_lookup("found");
    let values = values(&registry);
    for line in [
        r#"queue_worker_messages_processed_total{queue_name="faas-request"} 1"#,
        r#"queue_worker_messages_processed_total{queue_name="second"} 0"#,
        r#"queue_worker_callbacks_total{queue_name="second",result="delivered"} 1"#,
        "queue_worker_lease_lost_total 1",
        "queue_worker_nats_reconnect_total 1",
        r#"queue_worker_stan_messages_total{queue_name="faas-request",result="stored"} 1"#,
        r#"queue_worker_stan_messages_total{queue_name="none",result="refused"} 1"#,
        r#"queue_worker_function_lookups_total{result="found"} 1"#,
    ] {
        assert_eq!(values.iter().filter(|found| *found == line).count(), 1, "{line} is not in\n{values:#?}");
    }
    let text = registry.render();
    assert!(table::all().all(|(name, ..)| text.matches(&format!("# TYPE {name} ")).count() == 1), "{text}");
    assert!(registry.queue("second").is_err());
}
