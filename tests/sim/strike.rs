//! Blows that strike a worker at one step of its own. Its steps are the calls over the seams: whatever else
//! it does between two of them nobody sees, so that a crash at any await is, for all the world, a crash
//! before one of these calls took effect or after it did.

use std::{fmt, str::FromStr, time::Duration};

/// What strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// The worker is gone before the step takes effect.
    CrashBefore,
    /// It is gone when the step has taken effect, and before it learns that.
    CrashAfter,
    /// The request is not done, and not answered.
    Lost,
    /// It is done, and not answered.
    Unanswered,
    /// It is done when nobody waits for it any more.
    Late,
    /// The broker is killed when it has done it.
    BrokerKilled,
    /// The gateway dies.
    GatewayDies,
    /// The worker stands still for three times `ack_wait` before the step takes effect.
    PauseBefore,
    /// The same after it has.
    PauseAfter,
    /// SIGTERM, without a grace.
    DrainNow,
    /// SIGTERM, with one in which all can end.
    Drain,
}

impl Blow {
    pub const ALL: [Self; 11] = [
        Self::CrashBefore,
        Self::CrashAfter,
        Self::Lost,
        Self::Unanswered,
        Self::Late,
        Self::BrokerKilled,
        Self::GatewayDies,
        Self::PauseBefore,
        Self::PauseAfter,
        Self::DrainNow,
        Self::Drain,
    ];
    pub const CRASHES: [Self; 2] = [Self::CrashBefore, Self::CrashAfter];

    /// The grace of a drain.
    pub fn grace(self) -> Option<Duration> {
        match self {
            Self::DrainNow => Some(Duration::ZERO),
            Self::Drain => Some(Duration::from_secs(30)),
            _ => None,
        }
    }
}

/// A blow at the step `at` (from 0) of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strike {
    pub worker: usize,
    pub at: usize,
    pub blow: Blow,
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{:?}", self.worker, self.at, self.blow)
    }
}

impl FromStr for Strike {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split('.');
        let mut number = || parts.next().and_then(|part| part.parse().ok());
        let (worker, at) = (number().ok_or("no worker")?, number().ok_or("no step")?);
        let blow =
            parts.next().and_then(|name| Blow::ALL.into_iter().find(|blow| format!("{blow:?}") == name));
        Ok(Self { worker, at, blow: blow.ok_or("no blow")? })
    }
}
