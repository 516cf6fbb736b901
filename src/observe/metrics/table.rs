//! Every metric's name, type, labels and help text, in one table.
//!
//! Those that OpenFaaS's workers have too keep their names, because its autoscaler and dashboards read them.

use prometheus::{
    Error, Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, core::Collector,
};

/// Seconds of one call.
const CALLS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// Seconds from an arrival, with all retries.
const WAITS: &[f64] =
    &[0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0];

/// Seconds that a due retry is late.
const LATENESS: &[f64] = &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Turns a table into a struct with one registered field a row, and into the list of its rows.
macro_rules! families {
    ($(#[$doc:meta])* $scope:ident, $list:ident:
     $($field:ident: $kind:ident $labels:tt $(in $buckets:ident)?, $name:literal, $help:literal;)*) => {
        $(#[$doc])*
        pub(super) struct $scope { $(pub(super) $field: $kind),* }

        impl $scope {
            /// Makes every metric of the table and registers it. The label `queue_name` is the same for all
            /// events of a queue, so that it is fixed here and costs nothing later.
            pub(super) fn register(registry: &Registry, queue_name: Option<&str>) -> Result<Self, Error> {
                Ok(Self { $($field: {
                    let buckets: &[f64] = &[];
                    $(let buckets = { let _ = buckets; $buckets };)?
                    register(registry, queue_name, Opts::new($name, $help), &$labels, buckets)?
                }),* })
            }
        }

        /// Name, type and help text of every metric of the table.
        const $list: &[(&str, &str, &str)] = &[$(($name, <$kind as Family>::TYPE, $help)),*];
    };
}

families! {
    /// The metrics of one queue: all carry `queue_name` besides the labels that stand here.
    OfQueue, OF_QUEUE:
    pending: IntGaugeVec ["function_name"],
        "queue_worker_pending_messages", "Messages of the queue that no worker has taken yet; by function, \
            where subjects carry it: those that are not settled yet.";
    processed: IntCounter [],
        "queue_worker_messages_processed_total", "Messages that were settled.";
    submitted: IntGauge [],
        "queue_worker_messages_submitted_total", "Messages that ever arrived: the last sequence of the \
            queue's stream.";
    inflight: IntGaugeVec ["function_name"],
        "queue_worker_function_invocation_inflight", "Calls that are running in this process.";
    attempts: IntCounterVec ["function_name", "outcome"],
        "queue_worker_attempts_total", "Calls whose outcome is known.";
    attempt_duration: Histogram [] in CALLS,
        "queue_worker_attempt_duration_seconds", "How long one call took.";
    queue_wait: Histogram [] in WAITS,
        "queue_worker_queue_wait_seconds", "From a message's arrival to its first call.";
    end_to_end: Histogram [] in WAITS,
        "queue_worker_end_to_end_seconds", "From a message's arrival to its end, with all retries.";
    retries: IntCounterVec ["function_name", "reason"],
        "queue_worker_retries_total", "Retries that were decided.";
    retries_parked: IntGauge [],
        "queue_worker_retries_parked", "Retries that wait for their due time.";
    retry_lateness: Histogram [] in LATENESS,
        "queue_worker_retry_lateness_seconds", "From a retry's due time to its call.";
    dead_lettered: IntCounterVec ["function_name", "cause"],
        "queue_worker_dead_letters_total", "Invocations that ended without success.";
    dead: IntGauge [],
        "queue_worker_dead_letters", "Dead letters that are stored.";
    callbacks: IntCounterVec ["result"],
        "queue_worker_callbacks_total", "POSTs of callbacks: delivered, retried, failed or refused.";
    oldest_pending: GaugeVec [],
        "queue_worker_oldest_pending_age_seconds", "Age of the oldest message, fresh or due, that no worker \
            has taken yet; 0 when there is none.";
    paused: IntGaugeVec ["function_name"],
        "queue_worker_paused", "1 while an operator has paused the queue (all-functions) or a function; 0 \
            after it.";
    paused_seconds: IntGaugeVec ["function_name"],
        "queue_worker_paused_seconds", "How long an operator's pause of the queue (all-functions) or a \
            function has lasted; 0 after it.";
    held: IntGaugeVec ["function_name"],
        "queue_worker_held_messages", "Messages of a function that is or was paused, which wait for its end \
            or to be called.";
    orphaned: IntGaugeVec [],
        "queue_worker_orphaned_messages", "Messages that are stored and that nobody will be given: neither \
            pending, nor awaiting an ack, nor parked.";
    overdue: IntGaugeVec [],
        "queue_worker_overdue_holders", "Parked retries that were found a minute or more past their due \
            time; of very many, not all are looked at.";
    unsettled: IntGauge [],
        "queue_worker_unsettled", "Messages in this process's hands that have waited for the broker for a \
            second or more, most of them to be settled.";
    unsettled_oldest: Gauge [],
        "queue_worker_unsettled_oldest_seconds", "How long the oldest of those has waited; 0 when there is \
            none.";
    operations: IntGaugeVec [],
        "queue_worker_operations_open", "Redrives, discards and cancels that are not done.";
    operations_left: IntGaugeVec [],
        "queue_worker_operations_letters_left", "Dead letters and parked calls that those have still before \
            them.";
    operations_ended: IntCounterVec ["state"],
        "queue_worker_operations_ended_total", "Redrives, discards and cancels that ended here: done, \
            stopped or aborted.";
    audited: IntCounterVec ["result"],
        "queue_worker_audit_records_total", "Records of the audit: written, or dropped because the broker \
            did not take them.";
    audit_oldest: GaugeVec [],
        "queue_worker_audit_oldest_age_seconds", "Age of the oldest record in the audit's stream: so far \
            back it tells.";
}

families! {
    /// The metrics of the whole process.
    OfProcess, OF_PROCESS:
    ready: IntGauge [],
        "queue_worker_ready", "1 while this worker takes messages, as /readyz says; else 0.";
    reconnects: IntCounter [],
        "queue_worker_nats_reconnect_total", "Times that the connection to NATS was made again.";
    lookups: IntCounterVec ["result"],
        "queue_worker_function_lookups_total", "Functions whose annotations were asked for at the gateway.";
    dead_letters_dropped: IntCounter [],
        "queue_worker_dead_letters_dropped_total", "Invocations that ended without success and were not \
            kept, as the settings ask.";
    stan: IntCounterVec ["queue_name", "result"],
        "queue_worker_stan_messages_total", "Messages that NATS Streaming clients published to the bridge.";
    ingress_accepted: IntCounterVec ["queue_name"],
        "queue_worker_ingress_accepted_total", "Requests to the ingress that NATS has stored.";
    ingress_refused: IntCounterVec ["reason"],
        "queue_worker_ingress_refused_total", "Requests to the ingress that were refused.";
    ingress_store: Histogram [] in LATENESS,
        "queue_worker_ingress_store_seconds", "How long NATS took to store what came in by the ingress.";
    lease_lost: IntCounter [],
        "queue_worker_lease_lost_total", "Deliveries that were given up because their lease ended.";
    unstorable: IntCounter [],
        "queue_worker_unstorable_messages_total", "Retries and dead letters too large to store; their \
            messages stay in their stream.";
    part_restarts: IntCounterVec ["part"],
        "queue_worker_part_restarts_total", "Parts of the worker that ended by themselves and were started \
            again.";
    build_info: IntGaugeVec ["version"],
        "queue_worker_build_info", "Always 1; the version is in the label.";
}

/// Name, type and help text of every metric.
pub(super) fn all() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    OF_QUEUE.iter().chain(OF_PROCESS).copied()
}

/// A kind of metric that the table can name.
trait Family: Collector + Clone + Sized + 'static {
    /// Its type in the text format.
    const TYPE: &'static str;

    /// `labels` are those that come with events; only the `Vec` kinds have any. Only histograms have
    /// `buckets`.
    fn declare(opts: Opts, labels: &[&str], buckets: &[f64]) -> Result<Self, Error>;
}

macro_rules! family {
    ($kind:ident, $type:literal, |$opts:ident, $labels:ident, $buckets:ident| $declare:expr) => {
        impl Family for $kind {
            const TYPE: &'static str = $type;

            fn declare($opts: Opts, $labels: &[&str], $buckets: &[f64]) -> Result<Self, Error> {
                $declare
            }
        }
    };
}

family! { IntCounter, "counter", |opts, _labels, _buckets| Self::with_opts(opts) }
family! { IntCounterVec, "counter", |opts, labels, _buckets| Self::new(opts, labels) }
family! { IntGauge, "gauge", |opts, _labels, _buckets| Self::with_opts(opts) }
family! { Gauge, "gauge", |opts, _labels, _buckets| Self::with_opts(opts) }
family! { IntGaugeVec, "gauge", |opts, labels, _buckets| Self::new(opts, labels) }
family! { GaugeVec, "gauge", |opts, labels, _buckets| Self::new(opts, labels) }
family! {
    Histogram, "histogram", |opts, _labels, buckets| {
        Self::with_opts(HistogramOpts::from(opts).buckets(buckets.to_vec()))
    }
}

fn register<F: Family>(
    registry: &Registry,
    queue_name: Option<&str>,
    mut opts: Opts,
    labels: &[&str],
    buckets: &[f64],
) -> Result<F, Error> {
    if let Some(queue_name) = queue_name {
        opts = opts.const_label("queue_name", queue_name);
    }
    let family = F::declare(opts, labels, buckets)?;
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}
