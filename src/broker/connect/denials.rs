//! What the broker denies. Its complaints come in bursts, and each may be for somebody else: none hides
//! another.

use std::{collections::VecDeque, future::pending};

use tokio::sync::watch;

/// So many complaints are kept for those who look later.
const KEPT: usize = 64;

/// Takes the complaints in.
#[derive(Debug, Default)]
pub(super) struct Complaints(watch::Sender<Heard>);

#[derive(Debug, Default)]
struct Heard {
    /// How many there were.
    many: u64,
    /// The last of them, oldest first.
    last: VecDeque<String>,
}

impl Complaints {
    pub(super) fn add(&self, complaint: String) {
        self.0.send_modify(|heard| {
            heard.many += 1;
            if heard.last.len() == KEPT {
                heard.last.pop_front();
            }
            heard.last.push_back(complaint);
        });
    }

    /// All of them, those that came before included.
    pub(super) fn all(&self) -> Denials {
        Denials { heard: self.0.subscribe(), seen: 0 }
    }
}

/// The complaints, in their order: a right, with its subject, or the log-in. The clones look each for
/// themselves.
#[derive(Debug, Clone)]
pub struct Denials {
    heard: watch::Receiver<Heard>,
    /// How many were looked at.
    seen: u64,
}

impl Denials {
    /// Those that come from now on.
    pub fn from_now_on(&self) -> Self {
        Self { seen: self.heard.borrow().many, heard: self.heard.clone() }
    }

    /// The newest, if one was not looked at.
    pub fn newest(&self) -> Option<String> {
        let heard = self.heard.borrow();
        (heard.many > self.seen).then(|| heard.last.back().cloned()).flatten()
    }

    /// The next complaint.
    pub async fn next(&mut self) -> String {
        loop {
            if let Some(complaint) = self.unseen() {
                return complaint;
            }
            if self.heard.changed().await.is_err() {
                // Nobody complains any more.
                pending().await
            }
        }
    }

    /// The first complaint of which this holds.
    pub async fn first(&self, is_it: impl Fn(&str) -> bool) -> String {
        let mut all = self.clone();
        loop {
            let complaint = all.next().await;
            if is_it(&complaint) {
                return complaint;
            }
        }
    }

    fn unseen(&mut self) -> Option<String> {
        let heard = self.heard.borrow_and_update();
        let gone = heard.many.saturating_sub(heard.last.len() as u64);
        let next = self.seen.max(gone);
        let complaint = heard.last.get(usize::try_from(next - gone).ok()?)?.clone();
        self.seen = next + 1;
        Some(complaint)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn each_complaint_of_a_burst_is_heard_by_everybody() {
        let complaints = Complaints::default();
        let denials = complaints.all();
        for complaint in ["a", "b", "c"] {
            complaints.add(complaint.to_owned());
        }
        assert_eq!(denials.first(|complaint| complaint == "a").await, "a");
        assert_eq!(denials.first(|complaint| complaint > "a").await, "b");
        let mut later = denials.from_now_on();
        assert_eq!((later.newest(), denials.newest().as_deref()), (None, Some("c")));
        assert!(later.next().now_or_never().is_none());
        complaints.add("d".to_owned());
        complaints.add("e".to_owned());
        assert_eq!((later.next().await, later.next().await), ("d".to_owned(), "e".to_owned()));
        assert!(later.next().now_or_never().is_none());
    }

    #[tokio::test]
    async fn only_the_last_are_kept() {
        let complaints = Complaints::default();
        let mut denials = complaints.all();
        (0..2 * KEPT).for_each(|n| complaints.add(n.to_string()));
        assert_eq!(denials.next().await, KEPT.to_string());
        assert_eq!(denials.heard.borrow().last.len(), KEPT);
    }
}
