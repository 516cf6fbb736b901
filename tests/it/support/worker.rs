//! The program under test.

use std::{collections::BTreeMap, ffi::OsString, fs, sync::Arc};

use tokio::process::Command;

use super::{
    Gateway, Nats, Scratch, eventually, free_port, http, metrics::Metrics, patiently, process::Process,
};

/// A running queue-worker.
pub struct Worker {
    process: Process,
    port: u16,
}

/// How a worker is to be started. Each start is a new process on a new port.
#[derive(Clone)]
pub struct Settings {
    /// The program to start, and what stands before its own arguments.
    program: Vec<OsString>,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    scratch: Arc<Scratch>,
}

impl Worker {
    /// The program. What is measured is built for release, which cargo does not do for tests.
    pub fn program() -> OsString {
        std::env::var_os("WORKER_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_queue-worker").into())
    }

    /// Settings for a worker between this broker and this gateway, everything else at its default.
    pub fn of(nats: &Nats, gateway: &Gateway) -> Settings {
        Self::bare().set("nats_url", nats.url()).set("gateway_url", gateway.url())
    }

    /// Settings with nothing set but the address for metrics, which is each worker's own.
    pub fn bare() -> Settings {
        Settings {
            program: vec![Self::program()],
            arguments: Vec::new(),
            environment: BTreeMap::new(),
            scratch: Arc::new(Scratch::new()),
        }
    }

    /// Awaits that `/readyz` says 200.
    pub async fn ready(&self) {
        eventually("the worker is ready", async || {
            assert!(!self.process.log().is_over(), "the worker ended before it was ready");
            self.readyz().await.is_some_and(|(status, _)| status == 200)
        })
        .await;
    }

    /// Status and body of `/readyz`; `None` while nobody listens.
    pub async fn readyz(&self) -> Option<(u16, String)> {
        self.get("/readyz").await
    }

    /// Status and body of a path; `None` while nobody listens.
    pub async fn get(&self, path: &str) -> Option<(u16, String)> {
        http::get(self.port, path).await.ok()
    }

    pub async fn metrics(&self) -> Metrics {
        let (status, text) = self.get("/metrics").await.expect("nobody listens for /metrics");
        assert_eq!(status, 200, "/metrics: {text}");
        Metrics::new(text)
    }

    /// The first log line, written already or yet to come, that contains all these texts, whatever their
    /// case.
    pub async fn await_log(&self, texts: &[&str]) -> String {
        let wanted: Vec<_> = texts.iter().map(|text| text.to_lowercase()).collect();
        self.process
            .log()
            .await_line(&format!("{texts:?}"), |line| {
                let line = line.to_lowercase();
                wanted.iter().all(|text| line.contains(text))
            })
            .await
    }

    /// The log lines so far that contain the text.
    pub fn log_with(&self, text: &str) -> Vec<String> {
        self.process.log().lines().into_iter().filter(|line| line.contains(text)).collect()
    }

    /// Ends the worker by SIGKILL.
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// Sends SIGTERM, and does not wait.
    pub fn terminate(&self) {
        self.process.signal("TERM");
    }

    /// Awaits the exit code; panics when a signal ended the worker.
    pub async fn exit(&mut self) -> i32 {
        let status = self.process.exit().await;
        status.code().unwrap_or_else(|| panic!("the worker was killed: {status}"))
    }

    /// SIGTERM, then the exit code.
    pub async fn drain(&mut self) -> i32 {
        self.terminate();
        self.exit().await
    }

    /// Stops the process in its tracks.
    pub fn pause(&self) {
        self.process.signal("STOP");
    }

    pub fn resume(&self) {
        self.process.signal("CONT");
    }

    /// The port that `/metrics` answers on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Resident memory in bytes.
    pub fn rss(&self) -> u64 {
        resident(self.process.id())
    }

    /// The most that it ever was.
    pub fn most_rss(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// Fails where the worker took more memory, since it was so large, than so many MiB.
    #[track_caller]
    pub fn took_at_most(&self, idle: u64, most: u64) {
        let taken = self.most_rss().saturating_sub(idle) >> 20;
        assert!(taken <= most, "the worker took {taken} MiB");
    }

    fn memory(&self, figure: &str) -> u64 {
        memory(self.process.id(), figure)
    }
}

/// Resident memory of a process in bytes.
pub fn resident(process: u32) -> u64 {
    memory(process, "VmRSS:")
}

fn memory(process: u32, figure: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(figure)).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

impl Settings {
    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.environment.insert(name.to_owned(), value.to_string());
        self
    }

    /// Sets the name to a file that contains the text.
    pub fn file(self, name: &str, text: &str) -> Self {
        let path = self.scratch.write(name, text);
        self.set(name, path.display())
    }

    /// Adds an argument.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Starts another program, with arguments of its own and the worker's binary as the last of them.
    pub fn through(mut self, program: &[&str]) -> Self {
        self.program.splice(..0, program.iter().map(Into::into));
        self
    }

    /// Takes the worker of another build.
    pub fn built(mut self, program: impl Into<OsString>) -> Self {
        self.program = vec![program.into()];
        self
    }

    /// Calls the worker by another name: that of a link.
    pub fn called(mut self, name: &str) -> Self {
        let link = self.scratch.path().join(name);
        std::os::unix::fs::symlink(&self.program[0], &link).unwrap();
        self.program[0] = link.into();
        self
    }

    /// Lets parts of the worker be ended by way of this folder.
    pub fn mortal(self, faults: &Faults) -> Self {
        let folder = faults.0.path().display().to_string();
        self.set("QUEUE_WORKER_FAULTS", folder)
    }

    /// Turns `basic_auth` on, with a mounted secret of this user and this password.
    pub fn login(self, user: &str, password: &str) -> Self {
        self.scratch.write("basic-auth-user", user);
        self.scratch.write("basic-auth-password", password);
        let folder = self.scratch.path().display().to_string();
        self.set("basic_auth", true).set("secret_mount_path", folder)
    }

    /// Starts a worker and awaits that it is ready.
    pub async fn start(&self) -> Worker {
        let worker = self.spawn();
        worker.ready().await;
        worker
    }

    /// Asks the doctor, and returns its exit code and what it prints.
    pub async fn doctor(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = Command::new(&self.program[0]);
        command.args(&self.program[1..]).arg("doctor").args(&self.arguments).args(arguments);
        command.env_clear().env("listen_addr", format!("127.0.0.1:{}", free_port())).envs(&self.environment);
        let output = patiently("the doctor has looked", command.kill_on_drop(true).output()).await.unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code().unwrap(), text)
    }

    /// The program with these settings, and nothing of the environment of whoever runs the tests.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program[0]);
        command.args(&self.program[1..]).args(&self.arguments).env_clear().envs(&self.environment);
        command
    }

    /// Starts a worker.
    pub fn spawn(&self) -> Worker {
        let port = free_port();
        let mut command = Command::new(&self.program[0]);
        command.args(&self.program[1..]).args(&self.arguments);
        // Nothing of the environment of whoever runs the tests gets in.
        command.env_clear().env("listen_addr", format!("127.0.0.1:{port}")).envs(&self.environment);
        Worker { process: Process::spawn("queue-worker", command), port }
    }
}

/// Ends parts of a worker on purpose (src/supervisor/fault.rs).
pub struct Faults(Scratch);

impl Faults {
    pub fn new() -> Self {
        Self(Scratch::new())
    }

    /// Ends a part, in one of the ways that there are: `lane` or `lane.panic` once, `lane.always` whenever it
    /// runs. `lane.hold` keeps it from being started again.
    pub fn add(&self, fault: &str) {
        self.0.write(fault, "");
    }

    pub fn remove(&self, fault: &str) {
        fs::remove_file(self.0.path().join(fault)).unwrap();
    }

    /// Whether the fault has struck, or was never there.
    pub fn has_struck(&self, fault: &str) -> bool {
        !self.0.path().join(fault).exists()
    }
}
