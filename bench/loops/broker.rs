//! A NATS of its own: its port, its store, and the queue in it.

use std::{env, net::TcpListener, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, ensure};
use async_nats::{
    ConnectOptions,
    jetstream::{
        self, Context,
        consumer::{AckPolicy, pull},
        stream,
    },
};
use futures_util::TryStreamExt as _;
use tokio::{process::Command, time::sleep};

use crate::{process::Process, scratch::Scratch};

pub const STREAM: &str = "bench";
pub const SUBJECT: &str = "bench";
pub const DURABLE: &str = "bench-workers";

/// How often the broker is asked. There is no event for what it counts.
const LOOK: Duration = Duration::from_millis(5);

pub struct Broker {
    pub process: Process,
    pub url: String,
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
        Ok(Self { process, url, js: jetstream::new(client) })
    }

    /// An empty queue with a consumer, and nothing else.
    pub async fn fresh(&self) -> Result<()> {
        let names: Vec<_> = self.js.stream_names().try_collect().await?;
        for name in names {
            self.js.delete_stream(name).await?;
        }
        let queue = stream::Config {
            name: STREAM.to_owned(),
            subjects: vec![SUBJECT.to_owned()],
            retention: stream::RetentionPolicy::WorkQueue,
            ..stream::Config::default()
        };
        let consumer = pull::Config {
            durable_name: Some(DURABLE.to_owned()),
            filter_subject: SUBJECT.to_owned(),
            ack_policy: AckPolicy::Explicit,
            ack_wait: Duration::from_secs(60),
            max_ack_pending: 100_000,
            ..pull::Config::default()
        };
        self.js.create_stream(queue).await?.create_consumer(consumer).await?;
        Ok(())
    }

    /// Awaits that somebody asks for messages.
    pub async fn asked(&self) -> Result<()> {
        while self.js.get_stream_no_info(STREAM).await?.consumer_info(DURABLE).await?.num_waiting == 0 {
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Awaits that no message is left in any stream: none is queued, none waits for another attempt, none is
    /// a dead letter.
    pub async fn emptied(&self) -> Result<()> {
        while self.left().await? > 0 {
            sleep(LOOK).await;
        }
        Ok(())
    }

    pub async fn left(&self) -> Result<u64> {
        Ok(self.js.streams().try_fold(0, async |sum, stream| Ok(sum + stream.state.messages)).await?)
    }

    pub async fn holds(&self, messages: usize) -> Result<()> {
        let held = self.left().await?;
        ensure!(held == messages as u64, "the broker holds {held} of {messages} messages");
        Ok(())
    }
}

pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
