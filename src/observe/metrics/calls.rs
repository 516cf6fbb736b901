//! The calls of a queue: those that run, and what there is to say of those that were made.

use std::{sync::Arc, time::Duration};

use prometheus::{IntGauge, core::Collector};

use super::Metrics;

/// The calls that this process has made for a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    /// How many there were.
    pub calls: u64,
    /// How many of them failed.
    pub failed: u64,
    /// How long they took together.
    pub took: Duration,
}

impl Metrics {
    /// A call begins; it ends when the guard is dropped.
    #[must_use = "the call counts as ended when the guard is dropped"]
    pub fn call_started(&self, function: &str) -> InflightGuard {
        let function = self.label(function);
        let gauge = self.queue.inflight.with_label_values(&[&*function]);
        gauge.inc();
        InflightGuard { gauge, function }
    }

    /// It ended, and its outcome is known.
    pub fn attempt(&self, call: InflightGuard, outcome: &'static str, took: Duration) {
        self.queue.attempts.with_label_values(&[&*call.function, outcome]).inc();
        self.queue.attempt_duration.observe(took.as_secs_f64());
    }

    /// The calls that were made.
    pub fn made(&self) -> Made {
        let duration = &self.queue.attempt_duration;
        let families = self.queue.attempts.collect();
        // A call that could not be made is none.
        let is_failed = |outcome: &str| outcome != "success" && !outcome.starts_with("short_of_");
        let failed = families
            .iter()
            .flat_map(|family| family.get_metric())
            .filter(|metric| {
                metric.get_label().iter().any(|label| label.name() == "outcome" && is_failed(label.value()))
            })
            .map(|metric| metric.get_counter().get_value());
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let failed = failed.sum::<f64>() as u64;
        let took = Duration::try_from_secs_f64(duration.get_sample_sum()).unwrap_or_default();
        Made { calls: duration.get_sample_count(), failed, took }
    }
}

/// A running call; dropping it ends it.
#[derive(Debug)]
pub struct InflightGuard {
    gauge: IntGauge,
    /// The label of its function.
    function: Arc<str>,
}

impl Drop for InflightGuard {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::metrics::Registry;

    #[test]
    fn calls_are_summed_up_over_all_functions() {
        let metrics = Registry::new("openfaas-fn").unwrap().queue("q").unwrap();
        for (function, outcome) in
            [("f", "success"), ("g", "success"), ("f", "timeout"), ("g", "server_error")]
        {
            metrics.attempt(metrics.call_started(function), outcome, Duration::from_millis(500));
        }
        assert_eq!(metrics.made(), Made { calls: 4, failed: 2, took: Duration::from_secs(2) });
    }
}
