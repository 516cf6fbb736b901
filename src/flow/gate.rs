//! Says "not now": by quarantine before a call, and for a shortage in it. When a worker dies, every call that
//! it ran is interrupted, the culprit's and the innocents'. A message that was interrupted again and again
//! therefore runs with no other suspect beside it: the culprit meets its end alone, and the innocents
//! complete.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};

use crate::flow::{permits::Permits, shortage::Shortage, strain::Strain};

/// How long a suspect waits for its turn before it asks again.
const PATIENCE: Duration = Duration::from_secs(1);

/// The gate of one process.
#[derive(Debug, Clone)]
pub struct Gate {
    quarantine: Arc<Semaphore>,
    /// How many suspects this process has in its hands.
    held: watch::Sender<usize>,
    /// Lessens what is begun, where the permits are this process's.
    strain: Option<Strain>,
}

/// A suspect in this process's hands, until it is dropped.
#[derive(Debug)]
pub struct Held(Option<watch::Sender<usize>>);

/// Lets one call pass; the gate is open again when it is dropped.
#[derive(Debug)]
pub struct Pass(#[allow(dead_code, reason = "held for its drop")] Option<OwnedSemaphorePermit>);

/// The gate is shut for this message; it is to be handed back for so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotNow(pub Duration);

impl Default for Gate {
    fn default() -> Self {
        Self { quarantine: Arc::new(Semaphore::new(1)), held: watch::Sender::new(0), strain: None }
    }
}

impl Gate {
    /// The gate of a process that has these permits.
    pub fn of(permits: &Permits) -> Self {
        Self { strain: Some(Strain::new(permits.clone())), ..Self::default() }
    }

    /// Notes that this machine was short of something for a call, and says how long that is to wait.
    pub fn short(&self, short: Shortage) -> Duration {
        self.strain.as_ref().map_or(PATIENCE, |strain| strain.note(short))
    }

    /// How long a message is to wait that was delivered and not begun. Another worker may begin it at once,
    /// unless it is a suspect that has to wait for its turn; a process that ends (`ending`) takes its
    /// suspects with it.
    pub fn not_begun(suspect: bool, ending: bool) -> Duration {
        if suspect && !ending { PATIENCE } else { Duration::ZERO }
    }

    /// Notes a message for as long as it is in this process's hands.
    pub fn hold(&self, suspect: bool) -> Held {
        if !suspect {
            return Held(None);
        }
        self.held.send_modify(|held| *held += 1);
        Held(Some(self.held.clone()))
    }

    /// Lets a message through, or not now. A suspect waits until those that came with it have been handed
    /// back: what is still in hand when the worker dies counts as interrupted, too.
    ///
    /// # Errors
    /// [`NotNow`]: a suspect, while another runs.
    pub async fn pass(&self, suspect: bool) -> Result<Pass, NotNow> {
        if !suspect {
            return Ok(Pass(None));
        }
        let turn = self.quarantine.clone().try_acquire_owned().map_err(|_| NotNow(PATIENCE))?;
        // Where the others cannot be handed back, it goes all the same.
        let _ = timeout(PATIENCE, self.held.subscribe().wait_for(|held| *held <= 1)).await;
        Ok(Pass(Some(turn)))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(held) = &self.0 {
            held.send_modify(|held| *held = held.saturating_sub(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn suspects_run_one_at_a_time_and_others_beside_them() {
        let gate = Gate::default();
        let running = gate.pass(true).await.unwrap();
        assert!(gate.pass(true).await.is_err());
        assert!(gate.pass(false).await.is_ok());
        drop(running);
        assert!(gate.pass(true).await.is_ok());
    }

    #[test]
    fn only_a_suspect_waits_that_was_not_begun_and_not_if_its_worker_ends() {
        for (suspect, ending, wait) in
            [(true, false, PATIENCE), (true, true, Duration::ZERO), (false, false, Duration::ZERO)]
        {
            assert_eq!(Gate::not_begun(suspect, ending), wait, "{suspect} {ending}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspect_waits_until_it_is_the_only_one_in_hand_but_not_for_ever() {
        let gate = Gate::default();
        let (_first, second, _innocent) = (gate.hold(true), gate.hold(true), gate.hold(false));
        let mut turn = Box::pin(gate.pass(true));
        assert!((&mut turn).now_or_never().is_none());
        drop(second);
        drop(turn.now_or_never().expect("alone").unwrap());
        let _stays = gate.hold(true);
        assert!(gate.pass(true).await.is_ok());
    }
}
