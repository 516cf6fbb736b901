//! A broker of one's own. `NATS_SERVER` says which; where the scenarios run on one that is too old for
//! message schedules, retries are parked in levels, and a scenario that looks into the streams asks
//! [`Nats::schedules`].

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use async_nats::{
    Client, ConnectOptions, HeaderMap,
    jetstream::{self, Context, consumer, stream},
};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::process::Command;

use super::{
    Invocation, Scratch, eventually, eventually_is_or, free_port, patiently,
    process::Process,
    stored::{Stored, Watch},
    worker::resident,
};

pub mod books;
mod server;

pub use books::count;
use server::old_binary;
pub use server::{binary, has_schedules, refuses_to_start};

/// The queue's stream and subject.
pub const QUEUE: &str = "faas-request";
/// The stream of its parked retries.
pub const RETRIES: &str = "faas-request-retries";
/// The stream of its dead letters.
pub const DEAD: &str = "faas-request-dead";

/// A real nats-server with a port and a store of its own, killed when dropped.
pub struct Nats {
    port: u16,
    config: PathBuf,
    process: Option<Process>,
    observer: Option<Client>,
    login: Box<dyn Fn() -> ConnectOptions + Send + Sync>,
    binary: &'static Path,
    scratch: Scratch,
}

impl Nats {
    /// A broker with JetStream, ready.
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// A broker with JetStream and more lines in its configuration, ready.
    pub async fn start_with(extra: &str) -> Self {
        let mut nats = Self::absent_with(extra);
        nats.boot().await;
        nats
    }

    /// A broker that lets the scenario in with this login only, ready.
    pub async fn start_with_login(
        extra: &str,
        login: impl Fn() -> ConnectOptions + Send + Sync + 'static,
    ) -> Self {
        let mut nats = Self { login: Box::new(login), ..Self::absent_with(extra) };
        nats.boot().await;
        nats
    }

    /// A broker that is too old for message schedules, ready. [`Nats::replace`] makes it a newer one.
    pub async fn start_old() -> Self {
        let mut nats = Self { binary: old_binary(), ..Self::absent() };
        nats.boot().await;
        nats
    }

    /// A broker whose JetStream is a domain of its own, with more lines in its configuration, ready.
    pub async fn start_in_domain(domain: &str, extra: &str) -> Self {
        let jetstream =
            |store: &Path| format!("jetstream {{ store_dir: \"{}\", domain: {domain} }}\n", store.display());
        let mut nats = Self::configured(extra, jetstream);
        nats.boot().await;
        nats
    }

    /// Ends the broker, and starts the one that all scenarios run on with the same store.
    pub async fn replace(&mut self) {
        self.end().await;
        self.binary = binary();
        self.boot().await;
    }

    /// Ends the broker as an operator does.
    pub async fn end(&mut self) {
        self.process.as_ref().unwrap().signal("TERM");
        self.process.take().unwrap().exit().await;
    }

    /// A broker without JetStream, ready.
    pub async fn start_without_jetstream() -> Self {
        Self::start_without_jetstream_with("").await
    }

    /// A broker without JetStream and with more lines in its configuration, ready.
    pub async fn start_without_jetstream_with(extra: &str) -> Self {
        let mut nats = Self::configured(extra, |_| String::new());
        nats.boot().await;
        nats
    }

    /// A broker that has an address but does not run yet.
    pub fn absent() -> Self {
        Self::absent_with("")
    }

    /// A broker with JetStream and more lines in its configuration that does not run yet.
    pub fn absent_with(extra: &str) -> Self {
        Self::configured(extra, |store| format!("jetstream {{ store_dir: \"{}\" }}\n", store.display()))
    }

    /// A broker that stores there, with more lines in JetStream's part of its configuration, and does not run
    /// yet.
    pub fn absent_in(store: &Path, extra: &str) -> Self {
        Self::configured("", |_| format!("jetstream {{ store_dir: \"{}\"\n{extra} }}\n", store.display()))
    }

    fn configured(extra: &str, jetstream: impl FnOnce(&Path) -> String) -> Self {
        let (scratch, port) = (Scratch::new(), free_port());
        let jetstream = jetstream(&scratch.path().join("store"));
        let config =
            scratch.write("nats.conf", &format!("listen: \"127.0.0.1:{port}\"\n{jetstream}{extra}\n"));
        // Where the configuration names users, it names this one with all rights; else the broker lets in
        // everyone.
        let login =
            Box::new(|| ConnectOptions::with_user_and_password("observer".to_owned(), "observer".to_owned()));
        Self { port, config, process: None, observer: None, login, binary: binary(), scratch }
    }

    /// Starts the broker, on the same port and store each time, and awaits that it answers.
    pub async fn boot(&mut self) {
        let mut command = Command::new(self.binary);
        command.arg("--config").arg(&self.config);
        let process = Process::spawn("nats-server", command);
        process.log().await_line("Server is ready", |line| line.contains("Server is ready")).await;
        self.process = Some(process);
        let login = (self.login)().reconnect_delay_callback(|_| Duration::from_millis(50));
        self.observer =
            Some(patiently("a connection to the broker", login.connect(self.url())).await.unwrap());
    }

    /// Ends the broker by SIGKILL.
    pub async fn kill(&mut self) {
        self.process.take().unwrap().kill().await;
    }

    /// Replaces a text in the configuration, for the next start.
    pub fn reconfigure(&self, old: &str, new: &str) {
        let text = std::fs::read_to_string(&self.config).unwrap();
        assert!(text.contains(old), "{old} is not in the configuration");
        std::fs::write(&self.config, text.replace(old, new)).unwrap();
    }

    /// Makes the broker read its configuration anew while it runs.
    pub async fn reload(&self) {
        let process = self.process.as_ref().unwrap();
        let said = |lines: &[String]| {
            lines.iter().filter(|line| line.contains("Reloaded server configuration")).count()
        };
        let before = said(&process.log().lines());
        process.signal("HUP");
        eventually("the broker reads its configuration anew", async || said(&process.log().lines()) > before)
            .await;
    }

    /// What the broker has noted on the disk about a consumer that delivers nothing just now, and where.
    pub async fn notes(&self, stream: &str, consumer: &str) -> (PathBuf, Vec<u8>) {
        let path =
            self.scratch.path().join(format!("store/jetstream/$G/streams/{stream}/obs/{consumer}/o.dat"));
        // It writes ten times a second while there is something new, and nothing says when it is through.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let notes = std::fs::read(&path).unwrap();
        (path, notes)
    }

    /// Ends the broker by SIGKILL and starts it again.
    pub async fn restart(&mut self) {
        self.kill().await;
        self.boot().await;
    }

    /// Stops the broker's process in its tracks, connections left open.
    pub fn pause(&self) {
        self.process.as_ref().unwrap().signal("STOP");
    }

    pub fn resume(&self) {
        self.process.as_ref().unwrap().signal("CONT");
    }

    /// The process id, while it runs.
    pub fn id(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    /// Resident memory in bytes.
    pub fn rss(&self) -> u64 {
        resident(self.id())
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The scenario's own connection, with all rights.
    pub fn client(&self) -> &Client {
        self.observer.as_ref().unwrap()
    }

    /// A connection that is made again whenever the broker comes back.
    pub async fn connect(&self) -> Context {
        let login = (self.login)().reconnect_delay_callback(|_| Duration::from_millis(50));
        jetstream::new(login.connect(self.url()).await.unwrap())
    }

    pub fn js(&self) -> Context {
        jetstream::new(self.client().clone())
    }

    /// Publishes to the default queue and returns the sequence.
    pub async fn publish(&self, invocation: &Invocation) -> u64 {
        self.publish_raw(QUEUE, HeaderMap::new(), invocation.to_bytes()).await
    }

    /// Publishes to the default queue without awaiting each in turn.
    pub async fn publish_all(&self, invocations: impl Iterator<Item = Invocation>) {
        let js = self.js();
        let mut acks = Vec::new();
        for invocation in invocations {
            acks.push(js.publish(QUEUE, invocation.to_bytes().into()).await.unwrap());
            // The client bounds how many may be outstanding.
            if acks.len() == 500 {
                for ack in acks.drain(..) {
                    ack.await.unwrap();
                }
            }
        }
        for ack in acks {
            ack.await.unwrap();
        }
    }

    /// Publishes anything and returns the sequence.
    pub async fn publish_raw(&self, subject: &str, headers: HeaderMap, payload: impl Into<Bytes>) -> u64 {
        let sent = self.js().publish_with_headers(subject.to_owned(), headers, payload.into()).await.unwrap();
        sent.await.unwrap_or_else(|error| panic!("{subject} takes no message: {error}")).sequence
    }

    /// Makes the default queue as operators do.
    pub async fn make_queue(&self) -> stream::Stream {
        self.make_stream(stream::Config {
            retention: stream::RetentionPolicy::WorkQueue,
            ..Default::default()
        })
        .await
    }

    /// Makes a stream; name and subject are the default queue's where the configuration gives none.
    pub async fn make_stream(&self, mut config: stream::Config) -> stream::Stream {
        if config.name.is_empty() {
            config.name = QUEUE.to_owned();
        }
        if config.subjects.is_empty() {
            config.subjects = vec![config.name.clone()];
        }
        self.js().create_stream(config).await.unwrap()
    }

    pub async fn stream(&self, name: &str) -> stream::Info {
        self.js()
            .get_stream(name)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"))
            .cached_info()
            .clone()
    }

    /// The names of all streams, sorted.
    pub async fn streams(&self) -> Vec<String> {
        let mut names: Vec<_> = self.js().stream_names().map(Result::unwrap).collect().await;
        names.sort();
        names
    }

    /// How many messages a stream holds; 0 when there is no such stream.
    pub async fn count(&self, stream: &str) -> u64 {
        count(&self.js(), stream, self.schedules()).await
    }

    /// How many messages the queue, its retries and its dead letters hold.
    pub async fn counts(&self) -> [u64; 3] {
        [self.count(QUEUE).await, self.count(RETRIES).await, self.count(DEAD).await]
    }

    /// Awaits that the queue, its retries and its dead letters hold so many messages.
    pub async fn await_counts(&self, expected: [u64; 3]) {
        eventually_is_or(
            "queued, parked, dead",
            expected,
            async || self.counts().await,
            async || self.books().await,
        )
        .await;
    }

    /// What the queue and its retries hold and what their consumers know about it, for people who ask why it
    /// does not go away.
    pub async fn books(&self) -> String {
        books::books(&self.js()).await
    }

    /// Awaits that nothing is queued or parked, and returns the dead letters, of which there must be so many.
    pub async fn dead_letters(&self, n: u64) -> Vec<Stored> {
        self.await_counts([0, 0, n]).await;
        if n == 0 { Vec::new() } else { self.messages(DEAD).await }
    }

    /// Awaits that nothing is queued or parked, and returns the one dead letter.
    pub async fn dead_letter(&self) -> Stored {
        self.dead_letters(1).await.remove(0)
    }

    /// Every message of a stream, oldest first.
    pub async fn messages(&self, stream: &str) -> Vec<Stored> {
        books::messages(&self.js(), stream, 1).await
    }

    pub async fn consumer(&self, stream: &str, name: &str) -> consumer::Info {
        let stream = self.js().get_stream_no_info(stream).await.unwrap();
        stream.consumer_info(name).await.unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Whether this server fires message schedules, so that retries are parked with them.
    pub fn schedules(&self) -> bool {
        has_schedules(self.binary)
    }

    /// The token in a parked retry's subject that names its timer, for a wait of so long.
    pub fn place(&self, wait: Duration) -> String {
        let level = (1..=16).rev().find(|k| wait.as_secs() >= 1 << k).unwrap_or(0);
        if self.schedules() { "at".to_owned() } else { format!("l{level}") }
    }

    /// The headers that the timer adds to a clone, but for the broker's own marks.
    pub fn timer_headers(&self) -> &'static [&'static str] {
        if self.schedules() {
            &["Nats-Msg-Id", "Nats-Schedule", "Nats-Schedule-Target"]
        } else {
            &["Nats-Msg-Id"]
        }
    }

    /// Sees every retry that is parked from now on.
    pub async fn watch_parked(&self) -> Watch {
        self.watch(&format!("{RETRIES}.*.*.*.*")).await.without(format!("{RETRIES}.due."))
    }

    /// Sees every message that is published to the subject from now on, whatever becomes of it.
    pub async fn watch(&self, subject: &str) -> Watch {
        let subscriber = self.client().subscribe(subject.to_owned()).await.unwrap();
        self.client().flush().await.unwrap();
        Watch::new(subject, subscriber)
    }
}
