//! A door that opens once: what a script waits at until the scenario lets it through.

use tokio::sync::watch;

/// Closed at first; clones are the same door.
#[derive(Clone, Debug)]
pub struct Latch(watch::Sender<bool>);

impl Latch {
    pub fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    pub fn open(&self) {
        self.0.send_replace(true);
    }

    pub async fn opened(&self) {
        // The sender lives in self, so the channel cannot close meanwhile.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}
