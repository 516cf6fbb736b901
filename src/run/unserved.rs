//! The queues of a process that cannot be served. While one of them can, the process goes on.

use std::collections::BTreeMap;

use tokio::sync::watch;

/// The queues that cannot be served, and why. Clones share one state.
#[derive(Debug, Clone)]
pub struct Unserved {
    /// The number of all queues.
    all: usize,
    reasons: watch::Sender<BTreeMap<String, String>>,
}

impl Unserved {
    /// Begins with so many queues, all served.
    pub fn of(all: usize) -> Self {
        Self { all, reasons: watch::Sender::default() }
    }

    /// Notes that this queue cannot be served. Returns whether another one still can.
    pub fn add(&self, queue: &str, reason: String) -> bool {
        self.reasons.send_modify(|reasons| drop(reasons.insert(queue.to_owned(), reason)));
        self.reasons.borrow().len() < self.all
    }

    /// Notes that this queue is served.
    pub fn remove(&self, queue: &str) {
        self.reasons.send_if_modified(|reasons| reasons.remove(queue).is_some());
    }

    /// Returns when no queue at all can be served, and says why.
    pub async fn all(&self) -> String {
        let mut reasons = self.reasons.subscribe();
        match reasons.wait_for(|reasons| reasons.len() >= self.all).await {
            Ok(reasons) if self.all == 1 => reasons.values().cloned().collect(),
            Ok(reasons) => reasons
                .iter()
                .map(|(queue, reason)| format!("queue {queue}: {reason}"))
                .collect::<Vec<_>>()
                .join("; "),
            // It is sent by this.
            Err(_closed) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn while_one_queue_is_served_there_is_no_reason_to_end() {
        let unserved = Unserved::of(2);
        assert!(unserved.add("a", "no stream".to_owned()));
        assert!(unserved.add("a", "no consumer".to_owned()));
        assert_eq!(unserved.all().now_or_never(), None);
        unserved.remove("a");
        assert!(unserved.add("b", "no right".to_owned()));
        assert_eq!(unserved.all().now_or_never(), None);
        assert!(!unserved.add("a", "no stream".to_owned()));
        assert_eq!(unserved.all().await, "queue a: no stream; queue b: no right");
    }

    #[tokio::test]
    async fn the_only_queue_needs_no_name() {
        let unserved = Unserved::of(1);
        assert!(!unserved.add("a", "no stream".to_owned()));
        assert_eq!(unserved.all().await, "no stream");
    }
}
