//! Makes an operation: counts the letters that are meant, leaves out those that another open operation has,
//! asks, and writes the record that a worker takes up.

use std::time::SystemTime;

use crate::{
    broker::operations::{Known, Operations},
    message::{
        letter::choice::Choice,
        names::Names,
        operation::{Canary, Kind, Operation, Share, State},
    },
    operate::{
        audit::{act, by, note},
        dead_letters::read::{Letters, no_stream, nothing},
        desk::Desk,
        end::{Failure, cannot},
        out::number,
    },
};

/// How often a record is tried to be written while others write theirs.
const TRIES: usize = 50;

/// What is asked for.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub kind: Kind,
    pub choice: Choice,
    pub rate: Option<u32>,
    pub to: Option<String>,
    pub canary: Option<Canary>,
    pub reason: Option<String>,
}

/// The letters that are meant.
#[derive(Debug)]
pub(super) struct Counted {
    /// The highest sequence that was looked at.
    pub cutoff: u64,
    /// How many are meant.
    pub matched: u64,
    /// How many of them other open operations have, and which.
    pub taken: u64,
    pub except: Vec<Share>,
}

impl Counted {
    /// Counts them.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn of(desk: &Desk, names: &Names, wanted: &Wanted) -> Result<Self, Failure> {
        let except = open(&Operations::new(&desk.jetstream, names)).await?;
        let opened = Letters::open(desk, names, &wanted.choice).await?;
        let Some(mut letters) = opened else { return Err(no_stream(names)) };
        let (cutoff, mut matched, mut taken) = (letters.end, 0, 0);
        loop {
            let some = letters.next().await?;
            if some.is_empty() {
                break;
            }
            matched += some.len() as u64;
            let others = |letter: &&_| except.iter().any(|share: &Share| share.covers(letter));
            taken += some.iter().filter(others).count() as u64;
        }
        if matched == 0 {
            return Err(nothing(names, &wanted.choice));
        }
        Ok(Self { cutoff, matched, taken, except })
    }

    /// The sentence about letters that others have.
    pub fn others(&self) -> String {
        let ids: Vec<_> = self.except.iter().map(|share| share.operation.as_str()).collect();
        let many = if self.taken == self.matched { "all".to_owned() } else { number(self.taken) };
        format!(
            "{many} of these {} dead letters are in an open operation already ({}), and are left to it",
            number(self.matched),
            ids.join(", ")
        )
    }
}

/// The letters of all open operations.
async fn open(store: &Operations) -> Result<Vec<Share>, Failure> {
    let all = store.all().await.map_err(cannot)?;
    let open = all.iter().filter(|known| known.operation.state.is_open());
    Ok(open.map(|known| known.operation.share()).collect())
}

/// Writes the record. Others that are made at the same time are seen: their letters are left to them.
///
/// # Errors
/// See [`Failure`].
pub(super) async fn make(
    desk: &Desk,
    names: &Names,
    wanted: &Wanted,
    mut counted: Counted,
) -> Result<Known, Failure> {
    desk.ensure_operations(names).await?;
    let store = Operations::new(&desk.jetstream, names);
    for _ in 0..TRIES {
        let last = desk.stream(&names.operations).await?.map_or(0, |info| info.state.last_seq);
        if open(&store).await? != counted.except {
            counted = Counted::of(desk, names, wanted).await?;
            continue;
        }
        if counted.taken == counted.matched {
            return Err(Failure::Cannot(counted.others()));
        }
        let operation = record(names, wanted, &counted, desk.now());
        if let Some(revision) = store.make(&operation, last).await.map_err(cannot)? {
            note(desk, names, act(operation.kind.as_str(), &operation)).await;
            return Ok(Known { operation, revision });
        }
    }
    Err(cannot("other operations are being made just now; try again"))
}

fn record(names: &Names, wanted: &Wanted, counted: &Counted, now: SystemTime) -> Operation {
    Operation {
        operation: id(now),
        kind: wanted.kind,
        queue: names.queue.clone(),
        state: State::Waiting,
        by: by(),
        reason: wanted.reason.clone(),
        choice: wanted.choice.clone(),
        cutoff: counted.cutoff,
        except: counted.except.clone(),
        rate: wanted.rate,
        to: wanted.to.clone(),
        canary: wanted.canary.clone(),
        matched: counted.matched,
        done: 0,
        skipped: counted.taken,
        failed: 0,
        cursor: 0,
        batch: Vec::new(),
        made: Some(now),
        updated: Some(now),
        worker: None,
        until: None,
        note: None,
    }
}

/// An id that is later in the alphabet than those before.
fn id(now: SystemTime) -> String {
    let millis = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    let mut rest = millis * 1_296 + u128::from(rand::random::<u32>() % 1_296);
    let mut digits = Vec::new();
    while rest > 0 {
        digits.push(char::from_digit((rest % 36) as u32, 36).unwrap_or('0'));
        rest /= 36;
    }
    digits.iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn ids_are_in_the_order_in_which_they_are_made() {
        let at = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        let ids: Vec<_> = [1_795_000_000_000, 1_795_000_000_001, 1_995_000_000_000].map(at).map(id).into();
        assert!(ids.is_sorted() && ids.iter().all(|id| id.len() == 10), "{ids:?}");
    }
}
