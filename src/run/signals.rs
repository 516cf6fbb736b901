//! SIGTERM and SIGINT, counted: they say that the process is to end.

use std::{io, sync::Arc};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{Mutex, watch},
};

use crate::tasks::drain::Told;

/// Both signals.
#[derive(Debug)]
pub struct Signals {
    /// Kept while the listening task is started again, so that no signal is missed.
    both: Mutex<(Signal, Signal)>,
    count: watch::Sender<u32>,
    told: Told,
}

impl Signals {
    /// Listens from now on. The process does not end by these signals any more.
    ///
    /// # Errors
    /// The system's.
    pub fn listen() -> io::Result<Self> {
        let both = Mutex::new((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?));
        let (count, told) = Told::new();
        Ok(Self { both, count, told })
    }

    /// The number of signals so far.
    pub fn told(&self) -> Told {
        self.told.clone()
    }

    /// Counts the signals.
    pub async fn count(self: Arc<Self>) {
        let mut both = self.both.lock().await;
        let (terminate, interrupt) = &mut *both;
        loop {
            // Neither stream of signals ends.
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            tracing::info!("{name}");
            self.count.send_modify(|count| *count = count.saturating_add(1));
        }
    }
}
