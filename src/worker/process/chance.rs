//! The wall clock and the dice, which the rules of retrying take as arguments. A simulation has its own.

use std::{fmt, time::SystemTime};

/// The sources of wall time and draws.
pub struct Chance {
    /// The wall time, which dates in a `Retry-After` are compared with.
    pub now: Box<dyn Fn() -> SystemTime + Send + Sync>,
    /// The next draw of the die for the jitter, uniform in 0–1.
    pub draw: Box<dyn Fn() -> f64 + Send + Sync>,
}

impl Default for Chance {
    /// The system's.
    fn default() -> Self {
        Self { now: Box::new(SystemTime::now), draw: Box::new(rand::random) }
    }
}

impl fmt::Debug for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chance").finish_non_exhaustive()
    }
}
