//! A program under test: its signals, its end and its log.

use std::{
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::watch,
};

use super::patiently;

const TAIL: usize = 60;

/// A child process whose stderr is captured. Killed when dropped; in a test that panics its last lines are
/// printed.
pub struct Process {
    name: &'static str,
    child: Child,
    log: Log,
}

impl Process {
    pub fn spawn(name: &'static str, mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let log = Log::follow(BufReader::new(child.stderr.take().unwrap()));
        Self { name, child, log }
    }

    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The process id, while it runs.
    pub fn id(&self) -> u32 {
        self.child.id().unwrap_or_else(|| panic!("{} has ended", self.name))
    }

    /// Sends a signal by its name (`TERM`), through the command: the crate forbids the unsafe call.
    pub fn signal(&self, signal: &str) {
        let sent =
            std::process::Command::new("kill").arg(format!("-{signal}")).arg(self.id().to_string()).status();
        assert!(sent.unwrap().success(), "{} takes no {signal}", self.name);
    }

    /// Awaits the end of the process and of its log.
    pub async fn exit(&mut self) -> ExitStatus {
        let status = patiently(&format!("{} exits", self.name), self.child.wait()).await.unwrap();
        self.log.ended().await;
        status
    }

    /// Ends the process by SIGKILL and awaits the end. Does nothing to one that has ended.
    pub async fn kill(&mut self) {
        if self.child.id().is_some() {
            self.child.start_kill().unwrap();
        }
        self.exit().await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let lines = self.log.lines();
            eprintln!("--- {}: the last of {} lines", self.name, lines.len());
            lines.iter().skip(lines.len().saturating_sub(TAIL)).for_each(|line| eprintln!("{line}"));
        }
    }
}

/// The lines that a process has written so far.
#[derive(Clone)]
pub struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    grown: watch::Receiver<()>,
}

impl Log {
    fn follow(mut source: BufReader<tokio::process::ChildStderr>) -> Self {
        let (growing, grown) = watch::channel(());
        let lines = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::clone(&lines);
        tokio::spawn(async move {
            let mut line = Vec::new();
            while source.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
                written.lock().unwrap().push(String::from_utf8_lossy(&line).trim_end().to_owned());
                line.clear();
                let _ = growing.send(());
            }
        });
        Self { lines, grown }
    }

    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Whether the process has closed it, as it does when it ends.
    pub fn is_over(&self) -> bool {
        self.grown.has_changed().is_err()
    }

    /// The first line, written already or yet to come, that the predicate takes; panics when the log ends
    /// without one.
    pub async fn await_line(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let mut grown = self.grown.clone();
        patiently(&format!("a log line with {what}"), async {
            loop {
                grown.mark_unchanged();
                if let Some(line) = self.lines().into_iter().find(|line| wanted(line)) {
                    return line;
                }
                if grown.changed().await.is_err() {
                    // The writer is gone, and what it wrote between the look and its end is looked at once
                    // more.
                    let line = self.lines().into_iter().find(|line| wanted(line));
                    return line.unwrap_or_else(|| panic!("the log ended without {what}"));
                }
            }
        })
        .await
    }

    async fn ended(&self) {
        let mut grown = self.grown.clone();
        patiently("the log ends", async { while grown.changed().await.is_ok() {} }).await;
    }
}
