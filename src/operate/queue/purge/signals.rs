//! The signals that end a command: they are to end the pause first.

use std::pin::pin;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::operate::end::{Failure, cannot};

/// SIGINT, SIGTERM and SIGHUP.
pub(super) struct Signals([Signal; 3]);

impl Signals {
    /// Listens from now on. The process does not end by these signals any more.
    ///
    /// # Errors
    /// The system's.
    pub fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(cannot);
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = kinds.map(listen);
        Ok(Self([interrupt?, terminate?, hangup?]))
    }

    /// Awaits the end of some work, which a signal halts.
    ///
    /// # Errors
    /// The work's, or that it was halted.
    pub async fn heeded(
        self,
        halt: &CancellationToken,
        work: impl Future<Output = Result<(), Failure>>,
    ) -> Result<(), Failure> {
        let Self([mut interrupt, mut terminate, mut hangup]) = self;
        let mut work = pin!(work);
        tokio::select! {
            done = &mut work => return done,
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        halt.cancel();
        work.await.and(Err(Failure::Cannot("it was ended before its time".to_owned())))
    }
}
