//! The parts that the process lives on, and what becomes of one that ends.
//!
//! A part runs until it is told to stop. One that returns before that, or panics, is started again after a
//! pause that grows. Meanwhile `/readyz` names it; a warning and a count tell of it afterwards. A part that
//! cannot be kept running, and without which nothing moves, is given up: the queue that it belongs to is not
//! served, or the process drains and ends.

mod attendants;
mod fault;
mod thread;

use std::{
    any::Any,
    collections::BTreeMap,
    fmt,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

pub use attendants::Attendants;
pub(crate) use fault::{faulty, spoiled};

/// The pause before a part is started again, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// A part that ran for so long is well: the next end counts as its first.
const WELL: Duration = Duration::from_secs(60);
/// After so many ends in a row a part is given up, if it is one of those that are.
const MOST: u32 = 4;

macro_rules! parts {
    ($($(#[$doc:meta])* $part:ident = $name:literal, $given_up:literal;)*) => {
        /// Everything in a process that runs for as long as the process does.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Part { $($(#[$doc])* $part),* }

        impl Part {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$part),*];

            /// Its name, as metrics and logs have it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$part => $name),* }
            }

            /// Whether it is given up when it ends again and again. Of the others the rest can do without
            /// them for a while.
            const fn is_given_up(self) -> bool {
                match self { $(Self::$part => $given_up),* }
            }
        }
    };
}

parts! {
    /// Replaces a NATS client that ended.
    Client = "client", true;
    /// Follows the state of the connection to NATS.
    Link = "link", true;
    /// Listens for SIGTERM and SIGINT.
    Signals = "signals", true;
    /// Serves `/metrics`, `/healthz` and `/readyz`.
    Pages = "pages", true;
    /// Makes a queue ready, and keeps it so.
    Queue = "queue", true;
    /// Pulls from a consumer.
    Lane = "lane", true;
    /// Pulls what was held of functions that are paused no more.
    Held = "held", false;
    /// Follows what is paused.
    Pauses = "pauses", false;
    /// Looks which levels have work.
    Levels = "levels", false;
    /// Moves what comes due in a level.
    Promoter = "mover", false;
    /// Looks after parked retries.
    Janitor = "janitor", false;
    /// Frees old servers of phantom acknowledgements.
    PhantomAcks = "ghosts", false;
    /// Carries out what operators asked for.
    Operations = "operations", false;
    /// Tells which calls run.
    Calls = "calls", false;
    /// Writes the audit.
    Audit = "audit", false;
    /// Serves NATS Streaming clients.
    Bridge = "bridge", false;
    /// Takes requests in by HTTP.
    Ingress = "ingress", false;
    /// Answers operators by HTTP.
    Api = "api", false;
    /// Answers `nats micro`.
    Service = "service", false;
    /// The thread on which callbacks are posted.
    Callbacks = "callbacks", false;
    /// The thread on which functions are looked up.
    Lookups = "lookups", false;
    /// The thread that writes the log.
    Log = "log", false;
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A part was given up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} ended {MOST} times in a row, the last time because it {1}")]
pub struct GivenUp(String, &'static str);

/// Keeps parts running. Cheap to clone; the clones agree.
#[derive(Debug, Clone, Default)]
pub struct Supervisor(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// The parts that do not run, and why not. Several may be of one kind.
    down: Mutex<BTreeMap<String, &'static str>>,
    restarts: [AtomicU64; Part::ALL.len()],
}

impl Supervisor {
    /// Runs a part of `whose` (a queue, a consumer, or nobody's) until `stop`, and starts it again whenever
    /// it ends before.
    ///
    /// # Errors
    /// [`GivenUp`], for some parts.
    pub async fn keep<L>(
        &self,
        part: Part,
        whose: &str,
        stop: &CancellationToken,
        mut start: impl FnMut() -> L,
    ) -> Result<(), GivenUp>
    where
        L: Future<Output = ()>,
    {
        let mut ward = Ward::new(self, part, whose);
        loop {
            let began = Instant::now();
            // In a box: whoever keeps it is moved to where it is polled, and some parts are large.
            let mut life = pin!(lived(part, Box::pin(start())));
            // One that was down is believed to be well when it has run for as long as the pause was.
            let end = match timeout(ward.pause, &mut life).await {
                Ok(end) => end,
                Err(_elapsed) => {
                    ward.is_up();
                    life.await
                }
            };
            if stop.is_cancelled() {
                return Ok(());
            }
            ward.ended(end, began.elapsed())?;
            let paused = async {
                sleep(ward.pause).await;
                fault::hold(part).await;
            };
            if stop.run_until_cancelled(paused).await.is_none() {
                return Ok(());
            }
            self.restarts(part);
        }
    }

    /// Why the process is not whole just now.
    pub fn trouble(&self) -> Option<String> {
        self.down().iter().next().map(|(name, end)| format!("{name} {end}, and is started again"))
    }

    /// How often each part was started again.
    pub fn restarted(&self) -> impl Iterator<Item = (Part, u64)> {
        Part::ALL
            .iter()
            .zip(&self.0.restarts)
            .map(|(part, restarts)| (*part, restarts.load(Ordering::Relaxed)))
    }

    fn restarts(&self, part: Part) {
        for (known, restarts) in Part::ALL.iter().zip(&self.0.restarts) {
            restarts.fetch_add(u64::from(*known == part), Ordering::Relaxed);
        }
    }

    fn down(&self) -> MutexGuard<'_, BTreeMap<String, &'static str>> {
        self.0.down.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part that is kept, and how it fared.
struct Ward {
    supervisor: Supervisor,
    part: Part,
    /// The part and whose it is.
    name: String,
    /// How often it ended in a row.
    ends: u32,
    pause: Duration,
}

impl Ward {
    fn new(supervisor: &Supervisor, part: Part, whose: &str) -> Self {
        let name = if whose.is_empty() { part.to_string() } else { format!("{part} of {whose}") };
        Self { supervisor: supervisor.clone(), part, name, ends: 0, pause: Duration::ZERO }
    }

    /// It ended after so long: says so, and how long the pause is if there is to be another start.
    fn ended(&mut self, end: &'static str, lasted: Duration) -> Result<(), GivenUp> {
        let (first, longest) = PAUSE;
        self.ends = if lasted >= WELL { 1 } else { self.ends.saturating_add(1) };
        self.pause = if self.ends == 1 { first } else { longest.min(self.pause * 2) };
        self.supervisor.down().insert(self.name.clone(), end);
        if self.part.is_given_up() && self.ends >= MOST {
            return Err(GivenUp(self.name.clone(), end));
        }
        let pause = self.pause.as_secs_f64();
        tracing::warn!(
            part = self.part.name(),
            pause,
            "a part of the worker was lost: {} {end}; it is started again",
            self.name
        );
        Ok(())
    }

    fn is_up(&self) {
        if self.ends > 0 {
            self.supervisor.down().remove(&self.name);
        }
    }
}

impl Drop for Ward {
    /// Nobody keeps it any more: whoever gave it up says so.
    fn drop(&mut self) {
        self.is_up();
    }
}

/// Lets a part live, and says how it ended.
async fn lived(part: Part, life: impl Future<Output = ()>) -> &'static str {
    how(AssertUnwindSafe(faulty(part, life)).catch_unwind().await)
}

fn how(end: Result<(), Box<dyn Any + Send>>) -> &'static str {
    // What a panic said stands in its own line, or nowhere: it may quote a message.
    if end.is_ok() { "ended" } else { "panicked" }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    const LONG: Duration = Duration::from_secs(3_600);

    /// What became of a part whose lives last so long, the last of them for good, and every other one of
    /// which ends in a panic.
    struct Mortal {
        supervisor: Supervisor,
        lives: AtomicUsize,
        kept: Result<(), GivenUp>,
        trouble: Option<String>,
    }

    async fn mortal(part: Part, lives: &[Duration], until: Duration) -> (Mortal, Duration) {
        let supervisor = Supervisor::default();
        let stop = CancellationToken::new();
        let begun = AtomicUsize::new(0);
        let start = || {
            let nth = begun.fetch_add(1, Ordering::Relaxed);
            let life = lives.get(nth).copied();
            async move {
                match life {
                    Some(life) => sleep(life).await,
                    None => std::future::pending().await,
                }
                assert!(nth.is_multiple_of(2), "as it was to be");
            }
        };
        let began = Instant::now();
        let mut keeping = Box::pin(supervisor.keep(part, "q", &stop, start));
        let kept = timeout(until, &mut keeping).await.unwrap_or(Ok(()));
        let (trouble, took) = (supervisor.trouble(), began.elapsed());
        drop(keeping);
        assert_eq!(supervisor.trouble(), None, "nobody keeps it any more");
        (Mortal { supervisor, lives: begun, kept, trouble }, took)
    }

    fn restarts(supervisor: &Supervisor, part: Part) -> u64 {
        supervisor.restarted().find(|(known, _)| *known == part).unwrap().1
    }

    #[tokio::test(start_paused = true)]
    async fn every_part_that_returns_or_panics_is_started_again_and_named_until_it_is_well() {
        for part in Part::ALL {
            for (seconds, said) in [(0, false), (5, true), (6, true), (7, false)] {
                // It ends at 5 s, is started at 6 s, and has been well for a second at 7 s.
                let until = Duration::from_millis(seconds * 1_000 + 500);
                let (mortal, _) = mortal(*part, &[Duration::from_secs(5)], until).await;
                let trouble = mortal.trouble;
                assert_eq!(trouble.is_some(), said, "{part} after {until:?}: {trouble:?}");
                let expected = format!("{part} of q ended, and is started again");
                assert!(trouble.is_none_or(|trouble| trouble == expected));
                let restarts = restarts(&mortal.supervisor, *part);
                assert_eq!(restarts, u64::from(seconds >= 6), "{part} after {until:?}");
                assert_eq!(mortal.lives.into_inner() as u64, restarts + 1);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_pause_grows_and_what_is_needed_is_given_up_in_the_end() {
        let brief = [Duration::ZERO; 9];
        for part in Part::ALL {
            let (mortal, took) = mortal(*part, &brief, LONG).await;
            if part.is_given_up() {
                assert_eq!((mortal.kept.is_err(), took.as_secs()), (true, 1 + 2 + 4), "{part}");
                assert_eq!(
                    mortal.kept.unwrap_err().to_string(),
                    format!("{part} of q ended 4 times in a row, the last time because it panicked")
                );
            } else {
                assert_eq!((mortal.kept.is_ok(), mortal.lives.into_inner()), (true, 10), "{part}");
            }
            assert_eq!(mortal.trouble, None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_was_well_for_a_minute_begins_anew() {
        let (mortal, took) = mortal(Part::Lane, &[WELL; 9], LONG).await;
        assert_eq!((mortal.kept, mortal.lives.into_inner(), took), (Ok(()), 10, LONG));
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_was_told_to_stop_has_not_ended_before_its_time() {
        let supervisor = Supervisor::default();
        let stop = CancellationToken::new();
        stop.cancel();
        supervisor.keep(Part::Lane, "", &stop, || std::future::ready(())).await.unwrap();
        assert_eq!((supervisor.trouble(), restarts(&supervisor, Part::Lane)), (None, 0));
    }
}
