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
    /// Kept over an end of the task that listens, so that no signal is missed in between.
    both: Mutex<(Signal, Signal)>,
    count: watch::Sender<u32>,
    told: Told,
}

impl Signals {
    /// Listens from now on. The process does not end by these signals any more.
    ///
    /// # Errors
    /// Where the system does not let it.
    pub fn listen() -> io::Result<Self> {
        let both = Mutex::new((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?));
        let (count, told) = Told::new();
        Ok(Self { both, count, told })
    }

    /// How often they came.
    pub fn told(&self) -> Told {
        self.told.clone()
    }

    /// Counts what comes.
    pub async fn count(self: Arc<Self>) {
        let mut both = self.both.lock().await;
        let (terminate, interrupt) = &mut *both;
        loop {
            // Neither stream ends.
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            tracing::info!("{name}");
            self.count.send_modify(|count| *count = count.saturating_add(1));
        }
    }
}
