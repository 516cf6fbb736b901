//! What is counted, one method an event.
//!
//! Label values come from closed sets and from function names, and of the latter there are at most 2,000: callers choose
//! them, and every new one costs memory here and in Prometheus for good.

use std::{
    collections::HashSet,
    fmt,
    fmt::Write,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use prometheus::{Error, IntGauge, Registry, TextEncoder};

use table::{OfProcess, OfQueue};

mod table;

/// How many functions get a label of their own; the others are `other` together.
const MOST_NAMES: usize = 2_000;

/// Longest function name in bytes that becomes a label: twice a Kubernetes name, with room.
const LONGEST_NAME: usize = 256;

/// The name of every metric, in the order of the table.
pub fn names() -> Vec<String> {
    table::all().map(|(name, ..)| name.to_owned()).collect()
}

/// How much there is in NATS, for the gauges that every replica shows alike.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Messages that the queue's consumer has not delivered yet.
    pub pending: u64,
    /// The last sequence of the queue's stream.
    pub submitted: u64,
    /// Messages in the stream of retries.
    pub parked: u64,
    /// Messages in the stream of dead letters.
    pub dead: u64,
    /// Age of the oldest message that the queue's consumer has not delivered yet.
    pub oldest_pending: Option<Duration>,
}

/// What a process shows: its own metrics and those of its queues, in one registry. Cheap to clone.
#[derive(Clone)]
pub struct Exposition(Arc<Process>);

struct Process {
    registry: Registry,
    families: OfProcess,
    namespace: String,
    functions: Mutex<HashSet<String>>,
}

/// The metrics of one queue. Cheap to clone; the clones count together.
///
/// A `function` is a name as it stands in the message: `echo`, or `echo.openfaas-fn`.
#[derive(Clone)]
pub struct Metrics {
    process: Arc<Process>,
    queue: Arc<OfQueue>,
}

impl fmt::Debug for Exposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exposition")
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Exposition {
    /// The metrics of a process without queues so far. `function_namespace` is that of functions whose name has none.
    ///
    /// # Errors
    ///
    /// None but those of a broken table, which a test would have shown.
    pub fn new(function_namespace: &str) -> Result<Self, Error> {
        let registry = Registry::new();
        let families = OfProcess::register(&registry, None)?;
        families.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Self(Arc::new(Process { registry, families, namespace: function_namespace.to_owned(), functions: Mutex::default() })))
    }

    /// The metrics of one more queue.
    ///
    /// # Errors
    ///
    /// Where it has metrics already.
    pub fn queue(&self, queue_name: &str) -> Result<Metrics, Error> {
        let queue = Arc::new(OfQueue::register(&self.0.registry, Some(queue_name))?);
        let metrics = Metrics { process: self.0.clone(), queue };
        metrics.set_depth(Depth::default());
        Ok(metrics)
    }

    /// The connection to NATS was made again.
    pub fn reconnected(&self) {
        self.0.families.reconnects.inc();
    }

    /// Everything in Prometheus' text format 0.0.4. A metric that has no values yet, because its labels come with events,
    /// is at least declared.
    pub fn render(&self) -> String {
        let gathered = self.0.registry.gather();
        let mut text = String::new();
        // It fails on families without values, and `gather` leaves those out.
        let _ = TextEncoder::new().encode_utf8(&gathered, &mut text);
        for (name, kind, help) in table::all() {
            if gathered.iter().all(|family| family.name() != name) {
                let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            }
        }
        text
    }
}

impl Metrics {
    /// A call's outcome is known.
    pub fn attempt(&self, function: &str, outcome: &'static str, took: Duration) {
        let families = &self.queue;
        families.attempts.with_label_values(&[&*self.label(function), outcome]).inc();
        families.attempt_duration.observe(took.as_secs_f64());
    }

    /// A call begins; it ends when the guard is dropped.
    #[must_use = "the call counts as ended when the guard is dropped"]
    pub fn call_started(&self, function: &str) -> InflightGuard {
        let inflight = &self.queue.inflight;
        let gauge = inflight.with_label_values(&[self.label(function)]);
        gauge.inc();
        InflightGuard(gauge)
    }

    /// A message was settled.
    pub fn settled(&self) {
        self.queue.processed.inc();
    }

    /// A message is called for the first time, so long after its arrival.
    pub fn waited(&self, arrival_to_first_call: Duration) {
        let waited = arrival_to_first_call.as_secs_f64();
        self.queue.queue_wait.observe(waited);
    }

    /// An invocation ended, with success or without, so long after its arrival.
    pub fn ended(&self, end_to_end: Duration) {
        self.queue.end_to_end.observe(end_to_end.as_secs_f64());
    }

    /// A retry was decided.
    pub fn retried(&self, function: &str, reason: &'static str) {
        let retries = &self.queue.retries;
        retries.with_label_values(&[&*self.label(function), reason]).inc();
    }

    /// A retry is called, so long after it was due.
    pub fn retry_lateness(&self, late: Duration) {
        self.queue.retry_lateness.observe(late.as_secs_f64());
    }

    /// An invocation ended without success; `function` is `None` when the message could not be decoded.
    pub fn dead_lettered(&self, function: Option<&str>, cause: &'static str) {
        let label = function.map_or("_undecodable".to_owned(), |function| self.label(function));
        let dead_lettered = &self.queue.dead_lettered;
        dead_lettered.with_label_values(&[&*label, cause]).inc();
    }

    /// What would have been a dead letter was dropped, as the settings ask.
    pub fn dead_letter_dropped(&self) {
        self.process.families.dead_letters_dropped.inc();
    }

    /// A callback was tried.
    pub fn callback(&self, result: &'static str) {
        self.queue.callbacks.with_label_values(&[result]).inc();
    }

    /// A call was cut off because its lease ended.
    pub fn lease_lost(&self) {
        self.process.families.lease_lost.inc();
    }

    /// A retry or a dead letter fits in no way into a message.
    pub fn unstorable(&self) {
        self.process.families.unstorable.inc();
    }

    /// Sets the gauges that are read from the broker.
    pub fn set_depth(&self, depth: Depth) {
        let families = &self.queue;
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        families.pending.with_label_values(&["all-functions"]).set(signed(depth.pending));
        families.submitted.set(signed(depth.submitted));
        families.retries_parked.set(signed(depth.parked));
        families.dead.set(signed(depth.dead));
        let oldest = depth.oldest_pending.unwrap_or_default();
        families.oldest_pending.set(oldest.as_secs_f64());
    }

    fn label(&self, function: &str) -> String {
        let name = match function.contains('.') {
            true => function.to_owned(),
            false => format!("{function}.{}", self.process.namespace),
        };
        let known = self.process.functions.lock();
        let mut known = known.unwrap_or_else(PoisonError::into_inner);
        if known.contains(&name) {
            return name;
        }
        if known.len() >= MOST_NAMES || name.len() > LONGEST_NAME {
            return "other".to_owned();
        }
        known.insert(name.clone());
        name
    }
}

/// A running call; dropping it ends it.
#[derive(Debug)]
pub struct InflightGuard(IntGauge);

impl Drop for InflightGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process with one queue.
    fn metrics() -> (Exposition, Metrics) {
        let exposition = Exposition::new("openfaas-fn").unwrap();
        let metrics = exposition.queue("faas-request").unwrap();
        (exposition, metrics)
    }

    /// The lines of a rendered page that are not comments.
    fn values(exposition: &Exposition) -> Vec<String> {
        let text = exposition.render();
        text.lines().filter(|l| !l.starts_with('#')).map(str::to_owned).collect()
    }

    #[track_caller]
    fn check(event: impl FnOnce(&Metrics), line: &str) {
        let (exposition, metrics) = metrics();
        event(&metrics);
        let values = values(&exposition);
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
        assert_eq!(names().len(), 20);
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
            r#"queue_worker_oldest_pending_age_seconds{queue_name="faas-request"} 0"#,
            concat!("queue_worker_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ];
        for line in expected {
            check(|_| (), line);
        }
    }

    #[test]
    fn every_event_is_counted_under_its_name_and_labels() {
        check(
            |m| m.attempt("echo", "ok", SECOND),
            r#"queue_worker_attempts_total{function_name="echo.openfaas-fn",outcome="ok",queue_name="faas-request"} 1"#,
        );
        check(|m| m.attempt("echo", "ok", SECOND), r#"queue_worker_attempt_duration_seconds_sum{queue_name="faas-request"} 1"#);
        check(|m| m.settled(), r#"queue_worker_messages_processed_total{queue_name="faas-request"} 1"#);
        check(|m| m.waited(SECOND), r#"queue_worker_queue_wait_seconds_sum{queue_name="faas-request"} 1"#);
        check(|m| m.ended(SECOND), r#"queue_worker_end_to_end_seconds_sum{queue_name="faas-request"} 1"#);
        check(
            |m| m.retried("echo.dev", "status"),
            r#"queue_worker_retries_total{function_name="echo.dev",queue_name="faas-request",reason="status"} 1"#,
        );
        check(|m| m.retry_lateness(SECOND), r#"queue_worker_retry_lateness_seconds_bucket{queue_name="faas-request",le="1"} 1"#);
        check(
            |m| m.dead_lettered(Some("echo"), "exhausted"),
            r#"queue_worker_dead_letters_total{cause="exhausted",function_name="echo.openfaas-fn",queue_name="faas-request"} 1"#,
        );
        check(
            |m| m.dead_lettered(None, "undecodable"),
            r#"queue_worker_dead_letters_total{cause="undecodable",function_name="_undecodable",queue_name="faas-request"} 1"#,
        );
        check(|m| m.dead_letter_dropped(), "queue_worker_dead_letters_dropped_total 1");
        check(|m| m.callback("delivered"), r#"queue_worker_callbacks_total{queue_name="faas-request",result="delivered"} 1"#);
        check(|m| m.lease_lost(), "queue_worker_lease_lost_total 1");
        check(|m| m.unstorable(), "queue_worker_unstorable_messages_total 1");
    }

    #[test]
    fn what_the_broker_says_is_shown() {
        let depth = Depth { pending: 1, submitted: 2, parked: 3, dead: 4, oldest_pending: Some(Duration::from_millis(1500)) };
        for line in [
            r#"queue_worker_pending_messages{function_name="all-functions",queue_name="faas-request"} 1"#,
            r#"queue_worker_messages_submitted_total{queue_name="faas-request"} 2"#,
            r#"queue_worker_retries_parked{queue_name="faas-request"} 3"#,
            r#"queue_worker_dead_letters{queue_name="faas-request"} 4"#,
            r#"queue_worker_oldest_pending_age_seconds{queue_name="faas-request"} 1.5"#,
        ] {
            check(|m| m.set_depth(depth), line);
        }
        check(|_| (), r#"queue_worker_oldest_pending_age_seconds{queue_name="faas-request"} 0"#);
    }

    #[test]
    fn a_call_is_in_flight_until_its_guard_is_dropped() {
        let (exposition, metrics) = metrics();
        let line =
            |n| format!(r#"queue_worker_function_invocation_inflight{{function_name="echo.openfaas-fn",queue_name="faas-request"}} {n}"#);
        let first = metrics.call_started("echo");
        let second = metrics.clone().call_started("echo.openfaas-fn");
        assert!(values(&exposition).contains(&line(2)));
        drop((first, second));
        assert!(values(&exposition).contains(&line(0)));
    }

    #[test]
    fn there_is_an_end_to_the_names_that_callers_choose() {
        let (exposition, metrics) = metrics();
        assert_eq!(metrics.label(&"a".repeat(LONGEST_NAME)), "other");
        for n in 0..MOST_NAMES {
            assert_eq!(metrics.label(&format!("f{n}")), format!("f{n}.openfaas-fn"));
        }
        assert_eq!(metrics.label("one-more"), "other");
        assert_eq!(metrics.label("f0.openfaas-fn"), "f0.openfaas-fn");
        let beside = exposition.queue("beside").unwrap();
        assert_eq!((beside.label("one-more"), beside.label("f0")), ("other".to_owned(), "f0.openfaas-fn".to_owned()));
    }

    #[test]
    fn each_queue_of_a_process_has_series_of_its_own() {
        let (exposition, first) = metrics();
        let second = exposition.queue("second").unwrap();
        first.settled();
        second.callback("delivered");
        second.lease_lost();
        exposition.reconnected();
        let values = values(&exposition);
        for line in [
            r#"queue_worker_messages_processed_total{queue_name="faas-request"} 1"#,
            r#"queue_worker_messages_processed_total{queue_name="second"} 0"#,
            r#"queue_worker_callbacks_total{queue_name="second",result="delivered"} 1"#,
            "queue_worker_lease_lost_total 1",
            "queue_worker_nats_reconnect_total 1",
        ] {
            assert_eq!(values.iter().filter(|found| *found == line).count(), 1, "{line} is not in\n{values:#?}");
        }
        let text = exposition.render();
        assert!(table::all().all(|(name, ..)| text.matches(&format!("# TYPE {name} ")).count() == 1), "{text}");
        assert!(exposition.queue("second").is_err());
    }
}
