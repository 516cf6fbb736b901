//! Failpoints: a fault at one step of a worker. Its steps are the calls over the seams. Nobody sees what else
//! it does between two of them, so a crash at any await looks like a crash before one of these calls took
//! effect, or after it did.

use std::{fmt, str::FromStr, time::Duration};

/// A fault at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
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

impl Fault {
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

/// A fault at the step `at` (from 0) of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failpoint {
    pub worker: usize,
    pub at: usize,
    pub fault: Fault,
}

impl fmt::Display for Failpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{:?}", self.worker, self.at, self.fault)
    }
}

impl FromStr for Failpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split('.');
        let mut number = || parts.next().and_then(|part| part.parse().ok());
        let (worker, at) = (number().ok_or("no worker")?, number().ok_or("no step")?);
        let fault =
            parts.next().and_then(|name| Fault::ALL.into_iter().find(|fault| format!("{fault:?}") == name));
        Ok(Self { worker, at, fault: fault.ok_or("no fault")? })
    }
}
