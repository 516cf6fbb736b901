//! Who may say "not now". One gate so far: quarantine. When a worker dies, every call that it ran is interrupted, the
//! culprit's and the innocents'. A message that was interrupted again and again therefore runs with no other suspect beside
//! it: the culprit meets its end alone, and the innocents complete.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a suspect waits for its turn before it asks again.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// The gate of one process.
#[derive(Debug, Clone)]
pub struct Gate {
    quarantine: Arc<Semaphore>,
}

/// Lets one call pass; the gate is open again when it is dropped.
#[derive(Debug)]
pub struct Pass(#[allow(dead_code, reason = "held for its drop")] Option<OwnedSemaphorePermit>);

/// The gate is shut for this message; it is to be handed back for so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotNow(pub Duration);

impl Default for Gate {
    fn default() -> Self {
        Self { quarantine: Arc::new(Semaphore::new(1)) }
    }
}

impl Gate {
    /// Lets a message through, or not now.
    ///
    /// # Errors
    /// [`NotNow`]: a suspect, while another runs.
    pub fn pass(&self, suspect: bool) -> Result<Pass, NotNow> {
        if !suspect {
            return Ok(Pass(None));
        }
        self.quarantine.clone().try_acquire_owned().map(|turn| Pass(Some(turn))).map_err(|_| NotNow(PATIENCE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suspects_run_one_at_a_time_and_others_beside_them() {
        let gate = Gate::default();
        let running = gate.pass(true).unwrap();
        assert!(gate.pass(true).is_err());
        assert!(gate.pass(false).is_ok());
        drop(running);
        assert!(gate.pass(true).is_ok());
    }
}
