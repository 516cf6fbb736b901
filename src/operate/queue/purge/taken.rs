//! How a purge came out, in numbers and words. Pure.

use crate::operate::out::number;

/// How many were taken away, and how many could not be.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub done: u64,
    pub too_large: u64,
    pub unreadable: u64,
}

impl Taken {
    /// How many could not.
    pub fn failed(&self) -> u64 {
        self.too_large + self.unreadable
    }

    /// Why they could not.
    pub fn reason(&self) -> Option<String> {
        let unreadable = (self.unreadable > 0).then(|| {
            format!(
                "{} calls stay: they are not of the form that input says here; give the settings of the \
                 queue's workers, or --drop",
                number(self.unreadable)
            )
        });
        let too_large = (self.too_large > 0).then(|| {
            format!(
                "{} calls stay: their dead letters fit into no message of the broker's",
                number(self.too_large)
            )
        });
        let all: Vec<_> = unreadable.into_iter().chain(too_large).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}
