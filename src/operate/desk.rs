//! What every command works with: the connection, the queues, and how to answer.

use std::{
    io::{self, IsTerminal},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::timeout;

use super::{
    audit::by,
    cli::Output,
    end::{Failure, cannot},
};
use crate::{
    broker::{
        connect::{Connection, Denials, attempt},
        jetstream::{ApiError, JetStream, Settings, StreamInfo, code, if_stream},
        seam::Broker,
        streams::desired,
    },
    config::{self, Config, Queue},
    message::{decode::FunctionName, letter::choice::Choice, names::Names},
};

/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(10);

/// A place to work: a command's, or that of a request to the API.
#[derive(Debug)]
pub(crate) struct Desk {
    /// The broker.
    pub jetstream: JetStream,
    /// The form of the answer.
    pub(super) output: Output,
    yes: bool,
    queue: Option<String>,
    /// The settings.
    pub config: Arc<Config>,
    /// Who asks, where that is not whoever started this process.
    asks: Option<String>,
}

impl Desk {
    /// Connects, and works as long as that takes.
    ///
    /// # Errors
    /// See [`Failure`].
    pub(super) async fn open(
        config: Config,
        queue: Option<String>,
        output: Output,
        yes: bool,
        work: impl AsyncFnOnce(Self) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let servers = config.nats.servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let absent = |reason: &str| Failure::Cannot(format!("no connection to NATS at {servers}: {reason}"));
        let attempted = timeout(CONNECT, attempt(&config.nats)).await;
        let connected = attempted.map_err(|_| absent("no answer in time"))?.map_err(cannot)?;
        let Connection { client, link, denied, mut keeper } = connected.map_err(|reason| absent(&reason))?;
        let jetstream = JetStream::new(client, config.nats.js_domain.as_deref(), link);
        let desk = Self { jetstream, output, yes, queue, config: config.into(), asks: None };
        let done = tokio::select! {
            done = work(desk) => done,
            never = keeper.keep() => match never {},
        };
        done.map_err(|failure| with_denial(failure, &denied))
    }

    /// The place of a request to the API that comes from `asks`: about this queue, or all.
    pub fn of_request(
        jetstream: JetStream,
        config: Arc<Config>,
        queue: Option<String>,
        asks: String,
    ) -> Self {
        Self { jetstream, output: Output::Json, yes: true, queue, config, asks: Some(asks) }
    }

    /// Who asks.
    pub fn by(&self) -> String {
        self.asks.clone().unwrap_or_else(by)
    }

    /// Says what went wrong beside the thing that was asked for.
    pub fn complain(&self, text: &str) {
        match &self.asks {
            None => eprintln!("queue-worker: {text}"),
            Some(by) => tracing::warn!(by, "{text}"),
        }
    }

    /// The queues that are meant: the one that is named, else all of the settings.
    ///
    /// # Errors
    /// Where the name is none.
    pub fn queues(&self) -> Result<Vec<Names>, Failure> {
        let Some(queue) = &self.queue else {
            return Ok(self.config.queues.iter().map(Queue::names).collect());
        };
        if let Some(known) = self.config.queues.iter().find(|known| known.name == *queue) {
            return Ok(vec![known.names()]);
        }
        // Whoever looks from afar need not repeat the worker's settings.
        let queue = config::queue_name(queue)
            .map_err(|expected| Failure::Usage(format!("--queue={queue:?}: {expected}")))?;
        Ok(vec![Names::new(&queue, &Names::usual_stream(&queue))])
    }

    /// The one queue that is meant.
    ///
    /// # Errors
    /// Where there are several.
    pub fn queue(&self) -> Result<Names, Failure> {
        let mut queues = self.queues()?;
        let others: Vec<_> = queues.iter().map(|names| names.queue.clone()).collect();
        match queues.pop() {
            Some(queue) if queues.is_empty() => Ok(queue),
            _ => Err(Failure::Usage(format!(
                "there are several queues: name one with --queue ({})",
                others.join(", ")
            ))),
        }
    }

    /// The other name of a function of this queue, if it has one: with the namespace of those that say none,
    /// or without. Gateways write both.
    pub fn alias(&self, names: &Names, function: &FunctionName) -> Option<FunctionName> {
        let queue = self.config.queues.iter().find(|queue| queue.name == names.queue);
        let namespace = self.config.function_namespace.as_str();
        let other = match function.namespace() {
            // Targets have no namespaces.
            _ if queue.is_some_and(|queue| queue.request.is_some()) => None,
            None => Some(format!("{function}.{namespace}")),
            Some(its) => (its == namespace).then(|| function.name().to_owned()),
        };
        other?.parse().ok()
    }

    /// The same choice in this queue, of a function under both its names.
    pub fn choice(&self, names: &Names, choice: &Choice) -> Choice {
        let function = choice.function.clone().and_then(|name| FunctionName::stored(name).ok());
        let alias = function.and_then(|function| self.alias(names, &function));
        Choice { alias: alias.map(|alias| alias.as_str().to_owned()), ..choice.clone() }
    }

    /// A stream; `None` where there is none.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn stream(&self, stream: &str) -> Result<Option<StreamInfo>, Failure> {
        let found = if_stream(self.jetstream.stream(stream).await);
        found.map_err(|error| Failure::Cannot(format!("stream {stream}: {error}")))
    }

    /// Makes a stream with these settings, where there is none.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn ensure(&self, stream: &str, settings: &Settings) -> Result<(), Failure> {
        if self.stream(stream).await?.is_some() {
            return Ok(());
        }
        if !self.config.nats.manage {
            return Err(Failure::Cannot(format!(
                "there is no stream {stream}, and nats_manage=false: create it as {settings}"
            )));
        }
        match self.jetstream.make_stream(stream, settings).await {
            Ok(_) | Err(ApiError::Refused { code: code::NAME_IN_USE, .. }) => Ok(()),
            Err(error) => Err(Failure::Cannot(format!("stream {stream} cannot be created: {error}"))),
        }
    }

    /// Makes the stream of operations, where there is none.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn ensure_operations(&self, names: &Names) -> Result<(), Failure> {
        self.ensure(&names.operations, &desired::operations(&self.config, names)).await
    }

    /// The broker's time.
    pub fn now(&self) -> SystemTime {
        self.jetstream.now()
    }

    /// Whether anybody sees progress.
    pub fn is_watched(&self) -> bool {
        self.asks.is_none() && io::stderr().is_terminal()
    }

    /// Refuses what nobody could be asked about.
    ///
    /// # Errors
    /// Where there is no terminal, and no `--yes`.
    pub fn may_ask(&self) -> Result<(), Failure> {
        if self.yes || (io::stdin().is_terminal() && io::stderr().is_terminal()) {
            return Ok(());
        }
        Err(Failure::Usage("there is no terminal to ask on: nothing is changed without --yes".to_owned()))
    }

    /// Asks whether to do something, unless that was said.
    ///
    /// # Errors
    /// Where it is not to be done.
    pub fn confirm(&self, question: &str) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        self.may_ask()?;
        eprint!("{question} [y/N] ");
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).map_err(cannot)?;
        if ["y", "yes"].contains(&answer.trim().to_lowercase().as_str()) {
            return Ok(());
        }
        Err(Failure::Cannot("nothing is changed".to_owned()))
    }
}

/// The failure, with what the broker denied if that is why.
fn with_denial(failure: Failure, denied: &Denials) -> Failure {
    match (failure, denied.newest()) {
        (Failure::Cannot(reason), Some(denied)) => {
            Failure::Cannot(format!("{reason}; NATS denies what this needs: {denied}"))
        }
        (failure, _) => failure,
    }
}
