//! Keeps the bridge open. One that cannot be opened, or is denied what it needs, says why and is tried again;
//! the queues are served meanwhile.

use std::time::Duration;

use tokio::time::Instant;

use super::{Bridge, Channel, subjects::Subjects};
use crate::{
    admin::Readiness,
    broker::{connect::Denials, jetstream::JetStream},
    message::names::Names,
    observe::metrics::Registry,
    stan::denial::{Concern, concern},
    tasks::{drain::Running, error_backoff::ErrorBackoff},
};

/// The pause before it is opened again, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// A bridge that was open for so long is well: the next failure counts as its first.
const WELL: Duration = Duration::from_secs(60);

/// The time for a denied bridge to answer the requests that it had received.
const LEAVE: Duration = Duration::from_secs(5);

/// The parts of a bridge.
#[derive(Debug, Clone)]
pub struct Open {
    /// The broker.
    pub jetstream: JetStream,
    /// The name that clients look for.
    pub cluster: String,
    /// The channels that clients may publish to.
    pub channels: Vec<Channel>,
    /// The names of the queues.
    pub names: Vec<Names>,
    /// The broker's complaints.
    pub denied: Denials,
    /// The metrics that count the bridge's messages.
    pub metrics: Registry,
    /// The readiness that knows whether the bridge is open.
    pub readiness: Readiness,
    /// Ends the bridge.
    pub running: Running,
}

impl Open {
    /// Keeps the bridge open until it is drained.
    pub async fn keep(self) {
        let mut pause = ErrorBackoff::new(AGAIN);
        while !self.running.stop.is_cancelled() {
            let began = Instant::now();
            let Some(reason) = self.serve().await else { return };
            tracing::error!(reason, "NATS Streaming clients are not served; the bridge is opened again");
            self.readiness.bridge(Err(reason));
            if began.elapsed() >= WELL {
                pause.reset();
            }
            let _ = self.running.stop.run_until_cancelled(pause.rest()).await;
        }
    }

    /// Serves until the drain, or until that cannot go on, and says why.
    async fn serve(&self) -> Option<String> {
        let Self { jetstream, cluster, channels, metrics, readiness, running, .. } = self;
        let stop = running.stop.child_token();
        let served = async {
            let opened = Bridge::open(jetstream, cluster, channels.clone(), metrics);
            match running.stop.run_until_cancelled(opened).await? {
                Ok(bridge) => {
                    readiness.bridge(Ok(()));
                    bridge.run(stop.clone(), running.cut.clone()).await;
                    None
                }
                Err(error) => Some(error.to_string()),
            }
        };
        tokio::pin!(served);
        tokio::select! {
            reason = &mut served => reason,
            complaint = self.denied() => {
                // What it had received is stored and acknowledged all the same, if it can be.
                stop.cancel();
                let _ = tokio::time::timeout(LEAVE, served).await;
                Some(format!("NATS denies what the bridge needs: {complaint}"))
            }
        }
    }

    /// The broker's next complaint that concerns the bridge.
    async fn denied(&self) -> String {
        let (bridge, mut denied) = (Subjects::of(&self.cluster), self.denied.from_now_on());
        let mut said = false;
        loop {
            let complaint = denied.next().await;
            match concern(&complaint, &self.names, Some(&bridge)) {
                Concern::Bridge => return complaint,
                // It says where it wants its answer, so that it could make many lines.
                Concern::Client if !said => {
                    said = true;
                    tracing::warn!(
                        complaint,
                        "NATS Streaming: a client wants its answer where the worker may not publish"
                    );
                }
                _ => {}
            }
        }
    }
}
