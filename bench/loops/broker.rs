//! A NATS of its own: its port, its store, and the queue in it.

use std::{env, net::TcpListener, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, ensure};
use async_nats::{
    ConnectOptions,
    jetstream::{
        self, Context,
        consumer::{AckPolicy, pull},
        stream::{self, Stream},
    },
};
use futures_util::TryStreamExt as _;
use tokio::{process::Command, time::sleep};

use crate::{process::Process, scratch::Scratch};

pub const STREAM: &str = "bench";
pub const SUBJECT: &str = "bench";
pub const DURABLE: &str = "bench-workers";
/// The worker's stream of parked messages.
const RETRIES: &str = "bench-retries";
/// The worker's stream of what became of calls.
const AUDIT: &str = "bench-audit";

/// How often the broker is asked. There is no event for what it counts.
const LOOK: Duration = Duration::from_millis(5);

pub struct Broker {
    pub process: Process,
    pub url: String,
    /// The parked messages that all runs have beside them.
    pub parked: u64,
    js: Context,
}

impl Broker {
    pub async fn start(scratch: &Scratch) -> Result<Self> {
        let program = env::var("NATS_SERVER").context("NATS_SERVER=$(tests/nats-server.sh) is needed")?;
        let port = free_port()?;
        let mut command = Command::new(program);
        command.args(["--addr", "127.0.0.1", "--port", &port.to_string(), "--jetstream"]);
        command.arg("--store_dir").arg(scratch.path().join("store"));
        let process = Process::spawn({
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command
        })?;
        let url = format!("nats://127.0.0.1:{port}");
        let options = ConnectOptions::new().retry_on_initial_connect();
        let client = options.reconnect_delay_callback(|_| LOOK).connect(&url).await?;
        client.flush().await?;
        Ok(Self { process, url, parked: 0, js: jetstream::new(client) })
    }

    /// An empty queue with a consumer, and nothing else but what all runs have beside them.
    pub async fn fresh(&self) -> Result<()> {
        let consumer = pull::Config {
            durable_name: Some(DURABLE.to_owned()),
            filter_subject: SUBJECT.to_owned(),
            ack_policy: AckPolicy::Explicit,
            ack_wait: Duration::from_secs(60),
            max_ack_pending: 100_000,
            ..pull::Config::default()
        };
        self.fresh_queue().await?.create_consumer(consumer).await?;
        Ok(())
    }

    /// The same without the consumer.
    pub async fn fresh_queue(&self) -> Result<Stream> {
        let names: Vec<_> = self.js.stream_names().try_collect().await?;
        for name in names.iter().filter(|name| self.parked == 0 || *name != RETRIES) {
            self.js.delete_stream(name).await?;
        }
        let queue = stream::Config {
            name: STREAM.to_owned(),
            subjects: vec![SUBJECT.to_owned()],
            retention: stream::RetentionPolicy::WorkQueue,
            ..stream::Config::default()
        };
        Ok(self.js.create_stream(queue).await?)
    }

    /// Awaits that so many ask for messages, or are bound to a consumer that pushes them.
    pub async fn asked(&self, by: usize) -> Result<()> {
        let stream = self.js.get_stream_no_info(STREAM).await?;
        loop {
            let consumers: Vec<_> = stream.consumers().try_collect().await?;
            let asking = consumers.iter().map(|one| one.num_waiting + usize::from(one.push_bound));
            if asking.sum::<usize>() >= by {
                return Ok(());
            }
            sleep(LOOK).await;
        }
    }

    /// Awaits that no message is left in any stream but those that are parked: none is queued, none is a dead
    /// letter, and so many were parked by now.
    pub async fn emptied(&self, parked: usize) -> Result<()> {
        while self.left().await? != [parked as u64, 0] {
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Messages that are parked, beyond those that always are, and all others but the records of the audit.
    pub async fn left(&self) -> Result<[u64; 2]> {
        let mut streams = self.js.streams();
        let (mut parked, mut others) = (0, 0);
        while let Some(stream) = streams.try_next().await? {
            if stream.config.name == AUDIT {
                continue;
            }
            let of_this = if stream.config.name == RETRIES { &mut parked } else { &mut others };
            *of_this += stream.state.messages;
        }
        ensure!(parked >= self.parked, "of {} that were parked {parked} are left", self.parked);
        Ok([parked - self.parked, others])
    }

    pub async fn holds(&self, messages: usize) -> Result<()> {
        let held = self.left().await?;
        ensure!(held == [0, messages as u64], "the broker holds {held:?} of {messages} messages");
        Ok(())
    }
}

pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
