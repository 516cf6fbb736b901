//! The look-up of a function's annotations where its messages carry none. The gateway of OpenFaaS's community
//! edition puts none into messages, but answers questions about them.
//!
//! Nothing depends on an answer. A call waits at most half a second for one, and goes on with the last
//! answer, else with the worker's policy. The look-up itself goes on and serves later calls.

mod cache;
pub(crate) mod system;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use http::HeaderValue;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use url::Url;

use crate::{
    config::FunctionLookup,
    message::decode::{FunctionName, Invocation},
    observe::metrics::Registry,
    outbound::invoke::Trust,
    tasks::supervisor::Supervisor,
};

use cache::{Cache, Step};
use system::{Failure, System};

/// The annotations of a function about its calls.
pub type Annotations = BTreeMap<String, String>;

/// Finds the annotations of functions. Cheap to clone; the clones remember together.
#[derive(Debug, Clone)]
pub enum Lookup {
    /// Nobody is asked: only the message's own annotations count.
    Off,
    /// The gateway is asked.
    On(Arc<Directory>),
}

/// The functions, as the gateway knows them.
#[derive(Debug)]
pub struct Directory {
    system: System,
    cache: Mutex<Cache>,
    /// Says that a look-up has ended.
    ended: watch::Sender<()>,
    failing: AtomicBool,
    metrics: Registry,
}

impl Lookup {
    /// Asks the gateway at `base` if the settings say so. A login that cannot be read is warned about and
    /// done without: a gateway may want none, and no call is worth less without its annotations.
    pub fn new(
        base: &Url,
        trust: &Trust,
        settings: Option<&FunctionLookup>,
        metrics: Registry,
        supervisor: &Supervisor,
    ) -> Self {
        let Some(settings) = settings else { return Self::Off };
        let login = settings.secrets.as_deref().and_then(login);
        tracing::info!(login = login.is_some(), ttl = ?settings.ttl, "Functions' retry annotations are \
            looked up where messages carry none");
        match System::new(base, trust, login, supervisor) {
            Ok(system) => {
                let (cache, ended) = (Mutex::new(Cache::new(settings.ttl)), watch::Sender::new(()));
                Self::On(Arc::new(Directory {
                    system,
                    cache,
                    ended,
                    failing: AtomicBool::new(false),
                    metrics,
                }))
            }
            Err(error) => {
                tracing::error!(%error, "functions cannot be looked up");
                Self::Off
            }
        }
    }

    /// The annotations that hold for an invocation: its own, else what is known of its function. A message in
    /// which they are absent, null or empty carries none: gateways that send them leave out an empty object.
    pub async fn annotations<'i>(&self, invocation: &'i Invocation) -> Cow<'i, Annotations> {
        let own = Cow::Borrowed(&invocation.annotations);
        match self {
            Self::On(directory) if own.is_empty() => {
                directory.find(&invocation.function).await.map_or(own, Cow::Owned)
            }
            _ => own,
        }
    }
}

fn login(folder: &Path) -> Option<HeaderValue> {
    let login = system::login(folder);
    login
        .inspect_err(|error| {
            tracing::warn!(folder = %folder.display(), %error, "functions are looked up without a \
                login: its files cannot be read")
        })
        .ok()
}

impl Directory {
    async fn find(self: &Arc<Self>, function: &FunctionName) -> Option<Annotations> {
        // Subscribed before the look at the cache, so that no end is missed in between.
        let mut ended = self.ended.subscribe();
        let look = self.cache().look(function.as_str(), Instant::now());
        let until = match look {
            Step::Settled(known) => return known,
            Step::Join(until) => until,
            Step::Begin(until) => {
                // It outlives the call that began it, and nothing is lost with it when the process ends.
                tokio::spawn(self.clone().ask(function.clone()));
                until
            }
        };
        let _ = timeout_at(until, ended.wait_for(|()| !self.cache().is_asking(function.as_str()))).await;
        self.cache().known(function.as_str())
    }

    async fn ask(self: Arc<Self>, function: FunctionName) {
        let answer = self.system.annotations(&function).await;
        self.metrics.function_lookup(match &answer {
            Ok(Some(_)) => "found",
            Ok(None) => "not_found",
            Err(_) => "failed",
        });
        self.note(&function, answer.as_ref().err());
        // A function that is not there has no annotations, and is not asked for more often than others.
        let learned = answer.ok().map(Option::unwrap_or_default);
        self.cache().ended(function.as_str(), learned, Instant::now());
        self.ended.send_replace(());
    }

    /// Says once that look-ups fail, and once that they work again.
    fn note(&self, function: &FunctionName, failure: Option<&Failure>) {
        match (failure, self.failing.swap(failure.is_some(), Ordering::Relaxed)) {
            (Some(reason), false) => {
                tracing::warn!(function = function.as_str(), %reason, "Look-ups of functions fail: calls go \
                    on with what is known, else with the worker's retry policy");
            }
            (None, true) => tracing::info!("Look-ups of functions work again"),
            _ => {}
        }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
