//! The gauges about pauses.

use std::{collections::BTreeMap, sync::Arc};

use prometheus::{IntGaugeVec, core::Collector};

use super::{ALL_FUNCTIONS, Metrics, signed};

impl Metrics {
    /// Shows what is paused: the queue or not, these functions, and how much is held of each.
    pub fn set_paused<'a>(
        &self,
        queue: bool,
        functions: impl Iterator<Item = &'a str>,
        held: impl Iterator<Item = (&'a str, u64)>,
    ) {
        let paused: BTreeMap<_, _> = functions.map(|function| (self.label(function), 1)).collect();
        let mut amounts = BTreeMap::<Arc<str>, u64>::new();
        held.for_each(|(function, held)| *amounts.entry(self.label(function)).or_default() += held);
        let shown = &self.queue.paused;
        // What was shown stays, so that the end of a pause is seen.
        let ended = of_functions(shown).filter(|label| !paused.contains_key(label.as_str()));
        for (label, is_paused) in ended.map(|label| (label.into(), 0)).chain(paused.clone()) {
            shown.with_label_values(&[label]).set(is_paused);
        }
        shown.with_label_values(&[ALL_FUNCTIONS]).set(i64::from(queue));
        for label in of_functions(&self.queue.held).filter(|label| !amounts.contains_key(label.as_str())) {
            self.queue.held.with_label_values(&[label]).set(0);
        }
        for (label, held) in amounts {
            self.queue.held.with_label_values(&[label]).set(signed(held));
        }
    }
}

/// The functions that a family has values of.
pub(super) fn of_functions(family: &IntGaugeVec) -> impl Iterator<Item = String> + use<> {
    let series = family.collect().into_iter().flat_map(|mut family| family.take_metric());
    let labels = series.flat_map(|series| series.get_label().to_vec());
    labels.filter(|label| label.name() == "function_name").map(|label| label.value().to_owned())
}
