//! The parts of the process itself, which belong to no queue: without them nothing is served.

use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Part, Supervisor};

/// Parts that are kept until they are dismissed.
#[derive(Debug)]
pub struct Attendants {
    /// Keeps them running.
    pub supervisor: Supervisor,
    /// Tells them to stop.
    pub over: CancellationToken,
    tasks: TaskTracker,
    give_up: mpsc::Sender<String>,
    given_up: mpsc::Receiver<String>,
}

impl Attendants {
    /// None yet.
    pub fn new(supervisor: Supervisor) -> Self {
        let (give_up, given_up) = mpsc::channel(1);
        Self { supervisor, over: CancellationToken::new(), tasks: TaskTracker::new(), give_up, given_up }
    }

    /// One more, which is dropped when it is dismissed.
    pub fn keep<L: Future<Output = ()> + Send>(
        &self,
        part: Part,
        mut start: impl FnMut() -> L + Send + 'static,
    ) {
        let over = self.over.clone();
        self.keep_to_its_end(part, move || {
            let (over, life) = (over.clone(), start());
            async move {
                over.run_until_cancelled(life).await;
            }
        });
    }

    /// One more, which heeds `over` itself.
    pub fn keep_to_its_end<L: Future<Output = ()> + Send>(
        &self,
        part: Part,
        start: impl FnMut() -> L + Send + 'static,
    ) {
        let (supervisor, over, give_up) = (self.supervisor.clone(), self.over.clone(), self.give_up.clone());
        self.tasks.spawn(async move {
            if let Err(reason) = supervisor.keep(part, "", &over, start).await {
                // The first reason is enough.
                let _ = give_up.try_send(reason.to_string());
            }
        });
    }

    /// Returns when one of them is given up, and says why.
    pub async fn given_up(&mut self) -> String {
        match self.given_up.recv().await {
            Some(reason) => reason,
            // This holds the other end, too.
            None => std::future::pending().await,
        }
    }

    /// Returns when they have ended.
    pub async fn dismiss(self) {
        self.over.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
