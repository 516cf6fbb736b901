//! The past of what an operator sends round again: a life of its own.

use std::time::SystemTime;

use ring::digest::{SHA256, digest};

use super::{Encoding, Envelope, Kind};
use crate::message::names::HALF_LIFE;

/// The longest text that says how often an operator sent a message round again; a number is shorter.
const LONGEST: usize = 64;

/// What tells one life of an invocation from another, fit for an id. No two texts become one: the second
/// life's dead letter would pass for the first one's, and be dropped.
pub(super) fn read(text: &str) -> String {
    if (1..=LONGEST).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return text.to_owned();
    }
    let hash = digest(&SHA256, text.as_bytes());
    hash.as_ref().iter().take(LONGEST / 4).map(|byte| format!("{byte:02x}")).collect()
}

/// One more than that. What somebody wrote by hand is counted on behind it.
fn next(redrives: Option<&str>) -> String {
    let count = |text: &str| text.parse::<u64>().ok().map(|count| count.saturating_add(1));
    let Some(text) = redrives else { return "1".to_owned() };
    let counted = count(text).map(|next| next.to_string()).or_else(|| {
        let (word, behind) = text.rsplit_once('.')?;
        Some(format!("{word}.{}", count(behind)?))
    });
    read(&counted.unwrap_or_else(|| format!("{text}.1")))
}

/// How often an operator sent a message round again, by what its header says. What somebody wrote by hand
/// counts as once.
pub(crate) fn count(redrives: Option<&str>) -> u64 {
    let Some(text) = redrives else { return 0 };
    let behind = || text.rsplit_once('.')?.1.parse::<u64>().ok()?.checked_add(1);
    text.parse().ok().or_else(behind).unwrap_or(1)
}

impl Envelope {
    /// The past of a dead letter that is sent round again at `now`: its identity, and how often that was
    /// done. Its attempts begin anew, and so do its generations: what is still under way of the life before
    /// neither follows from it nor it from that.
    #[must_use]
    pub fn redriven(&self, now: SystemTime) -> Self {
        let life = 2 * HALF_LIFE;
        let begin = if self.kind == Kind::Callback { HALF_LIFE } else { 0 };
        Self {
            generation: (self.generation / life).saturating_add(1).saturating_mul(life).saturating_add(begin),
            attempts: 0,
            delayed: 0,
            interruptions: 0,
            redrives: Some(next(self.redrives.as_deref())),
            redriven_at: Some(now),
            cancelled: None,
            not_found: None,
            due: Some(now),
            parked: None,
            last_status: None,
            last_error: None,
            history: Vec::new(),
            times: Vec::new(),
            ..self.clone()
        }
    }

    /// Whether it is a callback that was sent round again, and not one that followed from its invocation in
    /// the same life.
    pub(crate) fn is_redriven_callback(&self) -> bool {
        self.kind == Kind::Callback && self.generation % (2 * HALF_LIFE) >= HALF_LIFE
    }

    /// When it arrived, or was sent round again: what is cancelled later means it, too.
    pub(crate) fn arrived(&self) -> SystemTime {
        self.redriven_at.unwrap_or(self.first_seen)
    }

    /// From when on its age counts.
    pub fn since(&self) -> SystemTime {
        self.redriven_at.or(self.not_before).unwrap_or(self.first_seen)
    }

    /// The same payload, stored in another way.
    #[must_use]
    pub(crate) fn encoded(&self, encoding: Encoding) -> Self {
        Self { encoding, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use async_nats::HeaderMap;

    use super::*;
    use crate::message::{arrival::Arrival, header, names};

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn each_redrive_counts_one_more_whatever_was_written_there() {
        for (before, after) in [
            (None, "1"),
            (Some("1"), "2"),
            (Some("41"), "42"),
            (Some("by-hand"), "by-hand.1"),
            (Some("by-hand.1"), "by-hand.2"),
            (Some("a.b"), "a.b.1"),
        ] {
            assert_eq!(next(before), after, "{before:?}");
            assert_eq!(count(Some(after)), count(before) + 1, "{before:?}");
        }
        let long = "x".repeat(LONGEST);
        assert!(next(Some(&long)).len() <= LONGEST && next(Some(&long)) != long);
    }

    #[test]
    fn a_life_begins_anew_and_keeps_its_identity() {
        let mut told = Envelope::fresh(&Arrival::example(HeaderMap::new(), ""));
        told.record(Some(500), "500", Some("why".into()), Duration::from_millis(12), "w");
        told.note_found(false, at(1));
        let again = told.next().redriven(at(100));
        assert_eq!((again.id, again.first_seen, &*again.origin), (told.id, told.first_seen, "q"));
        assert_eq!((again.attempts, again.history.len(), again.not_found), (0, 0, None));
        assert_eq!((again.last_status.as_deref(), again.due, again.since()), (None, Some(at(100)), at(100)));
        assert_eq!((again.generation, again.redrives.as_deref()), (1_000_000, Some("1")));
        let twice = again.next().next().redriven(at(200));
        assert_eq!((twice.generation, twice.redrives.as_deref()), (2_000_000, Some("2")));
        let callback = told.callback().next().redriven(at(100));
        assert_eq!((callback.generation, callback.is_redriven_callback()), (1_500_000, true));
        assert!(!again.callback().next().is_redriven_callback());

        let written = again.headers(None, None, true);
        assert_eq!(header::said(&written, names::REDRIVES), Some("1"), "it is never left out");
        let read = Envelope::parked(&Arrival::example(written, ""));
        assert_eq!((read.redriven_at, read.generation), (Some(at(100)), 1_000_000));
    }
}
