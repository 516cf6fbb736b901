//! The metrics, with one method for each event.
//!
//! Label values come from closed sets and from function names, and of the latter there are at most 2,000:
//! callers choose them, and every new one costs memory here and in Prometheus for good.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    fmt::Write,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use prometheus::{Error, GaugeVec, IntGaugeVec, TextEncoder};

use crate::{
    message::{decode::FunctionName, names::UNDECODABLE},
    tasks::supervisor::Part,
};

pub use calls::{InflightGuard, Made};
use paused::of_functions;
use table::{OfProcess, OfQueue};

mod calls;
mod paused;
mod table;
#[cfg(test)]
mod tests;

/// The most functions with a label of their own; the others are `other` together.
pub const MOST_NAMES: usize = 2_000;

/// The label of functions that get none of their own.
const OTHER: &str = "other";

/// The label of messages that were for no queue.
const NONE: &str = "none";

/// The label of figures that are not known by function.
const ALL_FUNCTIONS: &str = "all-functions";

/// Longest function name in bytes that becomes a label: twice a Kubernetes name, with room.
const LONGEST_NAME: usize = 256;

/// Of a family whose only label is the queue, and that can be without a value.
const NO_LABELS: &[&str] = &[];

/// The name of every metric, in the order of the table.
pub fn names() -> Vec<String> {
    table::all().map(|(name, ..)| name.to_owned()).collect()
}

/// The number of messages of each function; `None` stands for messages without a name of their own.
pub type Backlogs = BTreeMap<Option<FunctionName>, u64>;

/// The amounts in NATS, for the gauges that every replica shows alike.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Depth {
    /// Messages that the queue's consumer has not delivered yet.
    pub pending: u64,
    /// Messages that are stored and not settled, where the subjects carry the function.
    pub backlogs: Option<Backlogs>,
    /// The last sequence of the queue's stream.
    pub submitted: u64,
    /// Messages in the stream of retries.
    pub parked: u64,
    /// Messages in the stream of dead letters.
    pub dead: u64,
}

/// All metrics that a process shows: its own and those of its queues. Cheap to clone.
#[derive(Clone)]
pub struct Registry(Arc<Process>);

struct Process {
    registry: prometheus::Registry,
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
    /// The labels of functions that were called, by their names.
    labels: Arc<Mutex<HashMap<String, Arc<str>>>>,
    /// Whether functions have a namespace, said or not.
    namespaces: bool,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Registry")
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Registry {
    /// The metrics of a process without queues so far. `function_namespace` is that of functions whose name
    /// has none.
    ///
    /// # Errors
    ///
    /// None but those of a broken table, which a test would have shown.
    pub fn new(function_namespace: &str) -> Result<Self, Error> {
        let registry = prometheus::Registry::new();
        let families = OfProcess::register(&registry, None)?;
        families.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Self(Arc::new(Process {
            registry,
            families,
            namespace: function_namespace.to_owned(),
            functions: Mutex::default(),
        })))
    }

    /// The metrics of one more queue.
    ///
    /// # Errors
    ///
    /// Where it has metrics already.
    pub fn queue(&self, queue_name: &str) -> Result<Metrics, Error> {
        let queue = Arc::new(OfQueue::register(&self.0.registry, Some(queue_name))?);
        let metrics = Metrics { process: self.0.clone(), queue, labels: Arc::default(), namespaces: true };
        metrics.set_depth(Depth::default());
        Ok(metrics)
    }

    /// A NATS Streaming client published a message to a queue, or to nothing that is known as one.
    pub fn stan_message(&self, queue: Option<&str>, result: &'static str) {
        self.0.families.stan.with_label_values(&[queue.unwrap_or(NONE), result]).inc();
    }

    /// A request to the ingress is stored in a queue, after so long.
    pub fn ingress_accepted(&self, queue: &str, took: Duration) {
        self.0.families.ingress_accepted.with_label_values(&[queue]).inc();
        self.0.families.ingress_store.observe(took.as_secs_f64());
    }

    /// A request to the ingress was refused.
    pub fn ingress_refused(&self, reason: &'static str) {
        self.0.families.ingress_refused.with_label_values(&[reason]).inc();
    }

    /// Whether this worker takes messages now.
    pub fn ready(&self, ready: bool) {
        self.0.families.ready.set(i64::from(ready));
    }

    /// So often each part of the process was started again, so far.
    pub fn part_restarts(&self, restarts: impl IntoIterator<Item = (Part, u64)>) {
        for (part, restarts) in restarts {
            let counter = self.0.families.part_restarts.with_label_values(&[part.name()]);
            counter.inc_by(restarts.saturating_sub(counter.get()));
        }
    }

    /// The connection to NATS was made again.
    pub fn reconnected(&self) {
        self.0.families.reconnects.inc();
    }

    /// A function was looked up at the gateway.
    pub fn function_lookup(&self, result: &'static str) {
        self.0.families.lookups.with_label_values(&[result]).inc();
    }

    /// Everything in Prometheus' text format 0.0.4. A metric that has no values yet, because its labels come
    /// with events, is at least declared.
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
    /// The same for a queue whose functions are no OpenFaaS's and have no namespace.
    #[must_use]
    pub fn without_namespaces(self) -> Self {
        Self { namespaces: false, labels: Arc::default(), ..self }
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
        let label = function.map_or(UNDECODABLE.into(), |function| self.label(function));
        let dead_lettered = &self.queue.dead_lettered;
        dead_lettered.with_label_values(&[&*label, cause]).inc();
    }

    /// A message was dropped instead of becoming a dead letter, as the settings ask.
    pub fn dead_letter_dropped(&self) {
        self.process.families.dead_letters_dropped.inc();
    }

    /// A call was handed back, because this machine was short of something.
    pub fn not_made(&self, function: &str, outcome: &'static str) {
        self.queue.attempts.with_label_values(&[&*self.label(function), outcome]).inc();
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

    /// A record of the audit was written, or dropped.
    pub fn audited(&self, result: &'static str) {
        self.queue.audited.with_label_values(&[result]).inc();
    }

    /// Shows how many operations are open, and how many letters they have before them.
    pub fn set_operations(&self, open: u64, left: u64) {
        show(&self.queue.operations, Some(open));
        show(&self.queue.operations_left, Some(left));
    }

    /// An operation ended so.
    pub fn operation_ended(&self, state: &'static str) {
        self.queue.operations_ended.with_label_values(&[state]).inc();
    }

    /// Shows how far back the audit tells, or nothing where there is none.
    pub fn set_audit_oldest(&self, age: Option<Duration>) {
        show_seconds(&self.queue.audit_oldest, age);
    }

    /// Sets the gauges that are read from the broker.
    pub fn set_depth(&self, depth: Depth) {
        let families = &self.queue;
        // A function whose backlog is gone is shown as 0: to an autoscaler, no figure would mean that nobody
        // knows.
        let mut pending: BTreeMap<String, u64> =
            of_functions(&families.pending).map(|label| (label, 0)).collect();
        match depth.backlogs {
            None => {
                pending.insert(ALL_FUNCTIONS.to_owned(), depth.pending);
            }
            Some(backlogs) => {
                pending.remove(ALL_FUNCTIONS);
                // It is not there any more, or never was.
                let _ = families.pending.remove_label_values(&[ALL_FUNCTIONS]);
                for (function, messages) in backlogs {
                    let label = function.map_or(OTHER.into(), |function| self.label(function.as_str()));
                    *pending.entry(label.to_string()).or_default() += messages;
                }
            }
        }
        for (label, messages) in pending {
            families.pending.with_label_values(&[label]).set(signed(messages));
        }
        families.submitted.set(signed(depth.submitted));
        families.retries_parked.set(signed(depth.parked));
        families.dead.set(signed(depth.dead));
    }

    /// Shows how long the oldest message has waited for a worker, or, as for the two below, nothing where
    /// that is not known: an old figure or 0 would say that all is well.
    pub fn set_oldest_pending(&self, age: Option<Duration>) {
        show_seconds(&self.queue.oldest_pending, age);
    }

    /// Shows how many messages lie there for nobody.
    pub fn set_orphaned(&self, orphans: Option<u64>) {
        show(&self.queue.orphaned, orphans);
    }

    /// Shows how many parked retries are overdue.
    pub fn set_overdue(&self, holders: Option<u64>) {
        show(&self.queue.overdue, holders);
    }

    /// So many messages wait for the broker.
    pub fn set_unsettled(&self, messages: usize) {
        self.queue.unsettled.set(i64::try_from(messages).unwrap_or(i64::MAX));
    }

    /// The oldest of them has waited for so long.
    pub fn set_unsettled_oldest(&self, waited: Duration) {
        self.queue.unsettled_oldest.set(waited.as_secs_f64());
    }

    /// A function's label, under the lock that its calls share: most have one already.
    fn label(&self, function: &str) -> Arc<str> {
        let mut labels = self.labels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(label) = labels.get(function) {
            return label.clone();
        }
        let name = match function.contains('.') || !self.namespaces {
            true => function.to_owned(),
            false => format!("{function}.{}", self.process.namespace),
        };
        let known = self.process.functions.lock();
        let mut known = known.unwrap_or_else(PoisonError::into_inner);
        if !known.contains(&name) && (known.len() >= MOST_NAMES || name.len() > LONGEST_NAME) {
            return OTHER.into();
        }
        let label: Arc<str> = name.as_str().into();
        known.insert(name);
        labels.insert(function.to_owned(), label.clone());
        label
    }
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn show(family: &IntGaugeVec, figure: Option<u64>) {
    match figure {
        Some(figure) => family.with_label_values(NO_LABELS).set(signed(figure)),
        // It may not have been there.
        None => drop(family.remove_label_values(NO_LABELS)),
    }
}

fn show_seconds(family: &GaugeVec, age: Option<Duration>) {
    match age {
        Some(age) => family.with_label_values(NO_LABELS).set(age.as_secs_f64()),
        // It may not have been there.
        None => drop(family.remove_label_values(NO_LABELS)),
    }
}
