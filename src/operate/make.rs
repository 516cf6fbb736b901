//! Makes an operation: counts the letters, or parked calls, that are meant, leaves out those that another
//! open operation has, and writes the record that a worker takes up.

use std::time::SystemTime;

use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    audit::{act, note},
    cli::Output,
    dead_letters::read::{self, Letters, no_stream},
    desk::Desk,
    end::{Failure, cannot},
    follow::{self, Ending, word},
    out::{self, number},
    retries::read::{self as waiting, Retries},
};
use crate::{
    broker::operations::{Known, Operations},
    message::{
        letter::{Letter, choice::Choice, waiting::Waiting},
        names::Names,
        operation::{Asked, Canary, Kind, Operation, Share, State},
    },
    upkeep::operations::{Work, Worker},
};

/// How often a record is tried to be written while others write theirs.
const TRIES: usize = 50;

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub kind: Kind,
    pub choice: Choice,
    pub rate: Option<u32>,
    pub to: Option<String>,
    pub canary: Option<Canary>,
    pub reason: Option<String>,
    /// The key that whoever asks again uses.
    pub asked: Option<Asked>,
}

impl Wanted {
    /// This, of these, and nothing more.
    pub fn of(kind: Kind, choice: Choice, reason: Option<String>) -> Self {
        Self { kind, choice, rate: None, to: None, canary: None, reason, asked: None }
    }
}

/// What an operation is about, in words.
fn nouns(kind: Kind) -> &'static str {
    if kind.is_of_retries() { "parked calls" } else { "dead letters" }
}

/// Where that which is meant is read.
#[allow(clippy::large_enum_variant, reason = "a command has one")]
enum Source {
    Letters(Letters),
    Retries(Retries),
}

impl Source {
    async fn open(desk: &Desk, names: &Names, wanted: &Wanted) -> Result<Self, Failure> {
        if wanted.kind.is_of_retries() {
            let opened = Retries::open(desk, names, &wanted.choice).await?;
            opened.map(Self::Retries).ok_or_else(|| waiting::nothing(&wanted.choice))
        } else {
            let opened = Letters::open(desk, names, &wanted.choice, 0).await?;
            opened.map(Self::Letters).ok_or_else(|| no_stream(names))
        }
    }

    /// The highest sequence that is looked at.
    fn end(&self) -> u64 {
        match self {
            Self::Letters(letters) => letters.end,
            Self::Retries(retries) => retries.end,
        }
    }

    /// Some of them; none at the end.
    async fn next(&mut self) -> Result<Vec<Letter>, Failure> {
        match self {
            Self::Letters(letters) => letters.next().await,
            Self::Retries(retries) => loop {
                let Some(found) = retries.next().await? else { return Ok(Vec::new()) };
                if found.state == Waiting::Parked && !found.letter.is_callback {
                    return Ok(vec![found.letter]);
                }
            },
        }
    }
}

/// The letters, or parked calls, that are meant.
#[derive(Debug)]
pub(crate) struct Counted {
    kind: Kind,
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
        let kind = wanted.kind;
        let all = Operations::new(&desk.jetstream, names).all().await.map_err(cannot)?;
        let except = open(&all, kind);
        let mut source = Source::open(desk, names, wanted).await?;
        let (cutoff, mut matched, mut taken) = (source.end(), 0, 0);
        loop {
            let some = source.next().await?;
            if some.is_empty() {
                break;
            }
            matched += some.len() as u64;
            let others = |letter: &&_| except.iter().any(|share: &Share| share.covers(letter));
            taken += some.iter().filter(others).count() as u64;
        }
        if matched == 0 {
            return Err(match kind {
                Kind::Cancel => waiting::nothing(&wanted.choice),
                Kind::Redrive | Kind::Discard => read::nothing(names, &wanted.choice),
            });
        }
        Ok(Self { kind, cutoff, matched, taken, except })
    }

    /// How many are left to this operation.
    pub fn left(&self) -> u64 {
        self.matched - self.taken
    }

    /// Prints what would be done.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn dry(&self, desk: &Desk, names: &Names, wanted: &Wanted) -> Result<(), Failure> {
        let done = word(self.kind);
        if desk.output == Output::Json {
            return out::json(&self.document());
        }
        let (many, nouns) = (number(self.left()), nouns(self.kind));
        out::print(&format!("{many} {nouns} of {} ({}) would be {done}\n", names.queue, wanted.choice));
        if self.taken > 0 {
            out::print(&format!("{}\n", self.others()));
        }
        Ok(())
    }

    /// What would be done, as JSON has it.
    pub fn document(&self) -> Value {
        let mut counts = Map::new();
        counts.insert("operation".to_owned(), json!(null));
        counts.insert("state".to_owned(), json!("dry-run"));
        counts.insert("matched".to_owned(), json!(self.matched));
        counts.insert(word(self.kind).to_owned(), json!(0));
        counts.insert("skipped".to_owned(), json!(self.taken));
        counts.insert("failed".to_owned(), json!(0));
        counts.into()
    }

    /// Tells of letters that others have, where some are left. Where none is, that is why nothing is made.
    pub fn tell_others(&self) {
        if (1..self.matched).contains(&self.taken) {
            eprintln!("queue-worker: {}", self.others());
        }
    }

    /// The sentence about letters that others have.
    fn others(&self) -> String {
        let ids: Vec<_> = self.except.iter().map(|share| share.operation.as_str()).collect();
        let many = if self.taken == self.matched { "all".to_owned() } else { number(self.taken) };
        format!(
            "{many} of these {} {} are in an open operation already ({}), and are left to it",
            number(self.matched),
            nouns(self.kind),
            ids.join(", ")
        )
    }
}

/// The letters of all open operations that one of this kind may be in the way of.
fn open(all: &[Known], kind: Kind) -> Vec<Share> {
    let open = all.iter().filter(|known| known.operation.is_beside(kind));
    open.map(|known| known.operation.share()).collect()
}

/// The operation that was made under this key before.
///
/// # Errors
/// See [`Failure`].
pub(crate) async fn made(desk: &Desk, names: &Names, asked: &Asked) -> Result<Option<Known>, Failure> {
    let all = Operations::new(&desk.jetstream, names).all().await.map_err(cannot)?;
    Ok(asked.find(&all).cloned())
}

impl Asked {
    fn find<'k>(&self, all: &'k [Known]) -> Option<&'k Known> {
        let is_it =
            |known: &&Known| known.operation.asked.as_ref().is_some_and(|asked| asked.key == self.key);
        all.iter().find(is_it)
    }
}

/// Writes the record. Others that are made at the same time are seen: their letters are left to them.
///
/// # Errors
/// See [`Failure`].
pub(crate) async fn make(
    desk: &Desk,
    names: &Names,
    wanted: &Wanted,
    mut counted: Counted,
) -> Result<Known, Failure> {
    desk.ensure_operations(names).await?;
    let store = Operations::new(&desk.jetstream, names);
    for _ in 0..TRIES {
        let last = desk.stream(&names.operations).await?.map_or(0, |info| info.state.last_seq);
        let all = store.all().await.map_err(cannot)?;
        if let Some(made) = wanted.asked.as_ref().and_then(|asked| asked.find(&all)) {
            return Ok(made.clone());
        }
        if open(&all, wanted.kind) != counted.except {
            counted = Counted::of(desk, names, wanted).await?;
            continue;
        }
        if counted.taken == counted.matched {
            return Err(Failure::Conflict(counted.others()));
        }
        let operation = record(desk, names, wanted, &counted);
        if let Some(revision) = store.make(&operation, last).await.map_err(cannot)? {
            note(desk, names, act(operation.kind.as_str(), &operation)).await;
            return Ok(Known { operation, revision });
        }
    }
    Err(cannot("other operations are being made just now; try again"))
}

/// Carries an operation out from here, and follows it. A worker goes on with it if the command is ended.
///
/// # Errors
/// See [`Failure`].
pub(super) async fn carry_out(desk: &Desk, names: &Names, known: Known) -> Result<(), Failure> {
    let id = known.operation.operation.clone();
    let worker = Worker {
        jetstream: desk.jetstream.clone(),
        names: names.clone(),
        name: "command".to_owned(),
        sized: false,
        metrics: None,
    };
    let work = Work::new(&worker, known, &CancellationToken::new());
    let (followed, ()) = tokio::join!(follow::follow(desk, names, &id), work.carry_out());
    match followed? {
        Ending::Done => Ok(()),
        Ending::Short(reason) => Err(Failure::Cannot(reason)),
    }
}

fn record(desk: &Desk, names: &Names, wanted: &Wanted, counted: &Counted) -> Operation {
    let now = desk.now();
    Operation {
        operation: id(now),
        kind: wanted.kind,
        queue: names.queue.clone(),
        state: State::Waiting,
        by: desk.by(),
        reason: wanted.reason.clone(),
        choice: desk.choice(names, &wanted.choice),
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
        asked: wanted.asked.clone(),
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
