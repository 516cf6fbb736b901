//! An operator at work while two versions serve one queue. Messages that he cancels, pauses or sends round
//! again come to one end each, whichever worker meets them. What the older worker does not heed is counted
//! and printed: docs/operating.md has it.

mod cancelled;
mod paused;
mod redriven;

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream};

use super::{super::script::worker, NAMES};
use crate::{
    support::{
        Answer, Call, DEAD, End, Gateway, Invocation, Latch, Nats, QUEUE, RETRIES, Settings, Stored, Worker,
        nats::books::{books, unsettled},
    },
    until_or,
};

/// The older worker and the newer one.
const OLDER: usize = 0;
const NEWER: usize = 1;
/// So many calls a worker makes at once.
const PERMITS: usize = 6;
/// So long a call takes.
const CALL: Duration = Duration::from_millis(20);
/// So many commands run at once: all that a scenario has, for one may wait for its call's end.
const HANDS: usize = 32;

/// Whether the older worker is an older one, and not this build itself, which heeds everything.
fn is_older() -> bool {
    env::var_os("OLD_WORKER_BIN").is_some()
}

/// A broker, a gateway and two workers. At the gateway `busy` and `held` run until their latches open,
/// `mended` fails until it is mended, `twice` fails at first, what begins with `bad` always, and the others
/// succeed.
struct Site {
    nats: Nats,
    gateway: Gateway,
    settings: [Settings; 2],
    workers: [Worker; 2],
    busy: Latch,
    held: Latch,
    mended: Arc<AtomicBool>,
    /// The calls that were to succeed: the id, and which one of its calls.
    good: Arc<Mutex<BTreeSet<(String, usize)>>>,
    /// So many calls may have been cut off by a kill, and are made again.
    exposed: usize,
}

impl Site {
    /// A site whose retries wait for so long, and whose calls are tried so often.
    async fn open(wait: &str, attempts: u32) -> Self {
        let nats = Nats::start().await;
        let (busy, held) = (Latch::new(), Latch::new());
        let mended = Arc::new(AtomicBool::new(false));
        let good = Arc::<Mutex<BTreeSet<_>>>::default();
        let (latches, well, noted) = ([busy.clone(), held.clone()], Arc::clone(&mended), Arc::clone(&good));
        let gateway = Gateway::start(move |call| {
            let fails = match function(call) {
                "mended" => !well.load(Ordering::Relaxed),
                "twice" => call.retry() == 0,
                name => name.starts_with("bad"),
            };
            if fails {
                return Answer::status(500).after(CALL);
            }
            noted.lock().unwrap().insert((call.id().to_owned(), call.nth));
            match function(call) {
                "busy" => Answer::ok().held_by(&latches[0]),
                "held" => Answer::ok().held_by(&latches[1]),
                _ => Answer::ok().after(CALL),
            }
        })
        .await;
        let named = |n: usize| {
            let url = format!("{}/worker-{n}", gateway.url());
            let settings = Worker::bare().set("nats_url", nats.url()).set("gateway_url", url);
            let settings = settings.set("initial_retry_wait", wait).set("max_retry_wait", wait);
            let settings = settings.set("max_retry_attempts", attempts).set("max_inflight", PERMITS);
            settings.set("function_lookup", false).set("ack_wait", "4s").set("HOSTNAME", NAMES[n])
        };
        let older = match env::var_os("OLD_WORKER_BIN") {
            Some(program) => named(OLDER).built(program),
            None => named(OLDER),
        };
        let settings = [older, named(NEWER)];
        let workers = [settings[OLDER].start().await, settings[NEWER].start().await];
        Self { nats, gateway, settings, workers, busy, held, mended, good, exposed: 0 }
    }

    /// Publishes calls of these functions in turn, each with the name before its number for an id.
    async fn publish(&self, name: &str, functions: &[&str], numbers: Range<usize>) {
        let call = |n: usize| Invocation::of(functions[n % functions.len()]).call_id(&format!("{name}-{n}"));
        self.nats.publish_all(numbers.map(call)).await;
    }

    /// Cancels so many calls of this name. The older worker may not heed it: the command says so then, or
    /// that the call has ended otherwise.
    async fn cancel(&self, name: &str, many: usize) {
        let lines = (0..many).map(|n| format!("calls cancel {name}-{n} --yes"));
        let runs = lines.map(async |line| self.settings[NEWER].run(&line).await);
        let ran: Vec<_> = stream::iter(runs).buffer_unordered(HANDS).collect().await;
        let failed: Vec<_> = ran.iter().filter(|ran| ran.code != 0).collect();
        assert!(is_older() || failed.is_empty(), "{failed:?}");
    }

    /// Runs a command of the newer version that does what it was asked for.
    async fn run(&self, line: &str) -> serde_json::Value {
        self.settings[NEWER].run(&format!("{line} --output json")).await.done()
    }

    /// Kills a worker and starts it again.
    async fn kill(&mut self, n: usize) {
        self.exposed += PERMITS;
        self.workers[n].kill().await;
        self.workers[n] = self.settings[n].start().await;
    }

    /// Awaits that nothing is left to be done.
    async fn ended(&self) {
        let js = self.nats.js();
        let idle = async || {
            unsettled(&js, QUEUE).await == Some(0)
                && unsettled(&js, RETRIES).await == Some(0)
                && self.gateway.running() == 0
        };
        until_or("all have come to an end", idle, async || books(&js).await).await;
    }

    /// How many calls this worker has made that are like this.
    fn calls_of(&self, n: usize, like: impl Fn(&Call) -> bool) -> usize {
        self.gateway.count_that(|call| worker(call) == n && like(call))
    }

    /// How each call ended that was published, by its id: with its dead letter, or with success. Fails where
    /// one has no end, or two, but for those that a kill made end twice.
    async fn ends(&self, published: usize) -> BTreeMap<String, Option<Stored>> {
        let (mut ends, mut twice) = (BTreeMap::new(), Vec::new());
        let good = self.good.lock().unwrap().clone();
        let done = |call: &Call| good.contains(&(call.id().to_owned(), call.nth));
        for call in self.gateway.calls().iter().filter(|call| call.fate() == Some(End::Answered)) {
            if done(call) && ends.insert(call.id().to_owned(), None).is_some() {
                twice.push(call.id().to_owned());
            }
        }
        for letter in self.nats.messages(DEAD).await {
            let id = letter.expect("Queue-Worker-Call-Id").to_owned();
            if ends.insert(id.clone(), Some(letter)).is_some() {
                twice.push(id);
            }
        }
        assert_eq!(ends.len(), published, "calls without an end");
        assert!(twice.len() <= self.exposed, "of {} exposed ended twice: {twice:?}", self.exposed);
        ends
    }
}

/// The function that a call is of, behind the place of its worker.
fn function(call: &Call) -> &str {
    call.target().split('/').nth(3).unwrap_or_default()
}

/// Whether a call's id has this name.
fn is_of(id: &str, name: &str) -> bool {
    id.rsplit_once('-').is_some_and(|(named, _)| named == name)
}

/// Says what became of something.
fn told(what: &str, many: usize, by_older: usize, how: &str) {
    println!("     {what}: {many}, of which the older worker called {by_older}; {how}");
}
