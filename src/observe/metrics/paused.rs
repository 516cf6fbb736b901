//! The gauges about pauses.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use prometheus::{IntGaugeVec, core::Collector};

use super::{ALL_FUNCTIONS, Metrics, signed};

impl Metrics {
    /// Shows what is paused and for how long, the queue or functions, and how much is held of each.
    pub fn set_paused<'a>(
        &self,
        queue: Option<Duration>,
        functions: impl Iterator<Item = (&'a str, Duration)>,
        held: impl Iterator<Item = (&'a str, u64)>,
    ) {
        let mut paused = BTreeMap::<Arc<str>, Duration>::new();
        functions.for_each(|(function, age)| {
            let longest = paused.entry(self.label(function)).or_default();
            *longest = age.max(*longest);
        });
        let mut amounts = BTreeMap::<Arc<str>, u64>::new();
        held.for_each(|(function, held)| *amounts.entry(self.label(function)).or_default() += held);
        // What was shown stays, so that the end of a pause is seen.
        let ended = of_functions(&self.queue.paused).filter(|label| !paused.contains_key(label.as_str()));
        for label in ended {
            self.set_pause(&label, None);
        }
        for (label, age) in &paused {
            self.set_pause(label, Some(*age));
        }
        self.set_pause(ALL_FUNCTIONS, queue);
        for label in of_functions(&self.queue.held).filter(|label| !amounts.contains_key(label.as_str())) {
            self.queue.held.with_label_values(&[label]).set(0);
        }
        for (label, held) in amounts {
            self.queue.held.with_label_values(&[label]).set(signed(held));
        }
    }

    fn set_pause(&self, label: &str, age: Option<Duration>) {
        self.queue.paused.with_label_values(&[label]).set(i64::from(age.is_some()));
        let seconds = age.unwrap_or_default().as_secs();
        self.queue.paused_seconds.with_label_values(&[label]).set(signed(seconds));
    }
}

/// The functions that a family has values of.
pub(super) fn of_functions(family: &IntGaugeVec) -> impl Iterator<Item = String> + use<> {
    let series = family.collect().into_iter().flat_map(|mut family| family.take_metric());
    let labels = series.flat_map(|series| series.get_label().to_vec());
    labels.filter(|label| label.name() == "function_name").map(|label| label.value().to_owned())
}
