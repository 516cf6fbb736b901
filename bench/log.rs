//! The log buffer beside tracing-appender's non-blocking writer: `cargo bench --bench log`.
//!
//! Each run is a process of its own, which logs to a pipe as the worker does; this one is the reader. A line
//! has 200 bytes and is formatted already: the figures are those of the writers alone.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a measurement may fail")]

use std::{
    env, fs,
    io::{self, Read, Write},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use buffer::Buffer;
use tokio::time::Instant;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

#[path = "../src/observe/log/buffer.rs"]
#[allow(dead_code, reason = "the supervisor's part of it has no place here")]
mod buffer;

/// Bytes that the worker's buffer holds.
const CAPACITY: usize = 1 << 20;
const WRITERS: [&str; 3] = ["none", "buffer", "appender"];
const SCENARIOS: [&str; 4] = ["steady", "flood", "stalled", "exit"];

enum Writer {
    None,
    Buffer(Arc<Buffer>),
    Appender(NonBlocking, ErrorCounter, WorkerGuard),
}

impl Writer {
    fn new(name: &str) -> Self {
        match name {
            "buffer" => {
                let buffer = Arc::new(Buffer::new(CAPACITY));
                let drained = buffer.clone();
                let drain = move || drained.drain(io::stderr(), |lines| format!("{lines} dropped\n"));
                thread::spawn(drain);
                Self::Buffer(buffer)
            }
            "appender" => {
                let (writer, guard) = NonBlockingBuilder::default().lossy(true).finish(io::stderr());
                let dropped = writer.error_counter();
                Self::Appender(writer, dropped, guard)
            }
            _ => Self::None,
        }
    }

    fn write(&mut self, line: &[u8]) {
        match self {
            Self::None => {}
            Self::Buffer(buffer) => (&**buffer).write_all(line).unwrap(),
            Self::Appender(writer, ..) => writer.write_all(line).unwrap(),
        }
    }

    /// What the end of the program does; returns how many lines were dropped, if the writer says so itself.
    fn close(self) -> Option<usize> {
        match self {
            Self::None => None,
            Self::Buffer(buffer) => {
                buffer.close(Duration::from_secs(1));
                None
            }
            Self::Appender(_, dropped, guard) => {
                drop(guard);
                Some(dropped.dropped_lines())
            }
        }
    }
}

/// Nanoseconds that all threads of this process have computed.
fn computed() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let of = |path: &std::path::Path| fs::read_to_string(path.join("schedstat")).unwrap_or_default();
    tasks
        .map(|task| of(&task.unwrap().path()))
        .filter_map(|text| text.split(' ').next()?.parse::<u64>().ok())
        .sum()
}

/// KiB of memory that this process has.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Logs as the scenario says, and prints the figures.
fn log(writer: &str, scenario: &str) {
    let line = [&[b'x'; 199][..], b"\n"].concat();
    let mut writer = Writer::new(writer);
    let (lines, at_once) = match scenario {
        "steady" => (100_000, 20),
        "exit" => (5_000, usize::MAX),
        _ => (1_000_000, usize::MAX),
    };
    let (memory, before, began) = (resident(), computed(), Instant::now());
    let mut slowest = Duration::ZERO;
    for n in 1..=lines {
        let moment = Instant::now();
        writer.write(&line);
        slowest = slowest.max(moment.elapsed());
        if n % at_once == 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
    let took = began.elapsed();
    if scenario == "steady" || scenario == "flood" {
        thread::sleep(Duration::from_millis(500));
    }
    let (cpu, memory) = (computed() - before, resident().saturating_sub(memory));
    let ends = Instant::now();
    let dropped = writer.close();
    println!(
        "{:>8} {:>10.0} {:>10.1} {:>10} {:>8.2} {:>10}",
        cpu / lines as u64,
        lines as f64 / took.as_secs_f64() / 1000.0,
        slowest.as_secs_f64() * 1000.0,
        memory,
        ends.elapsed().as_secs_f64(),
        dropped.map_or("-".to_owned(), |lines| lines.to_string()),
    );
}

/// Reads what a process logs, or does not while the process lives; returns whole lines of the log, and the
/// figures.
fn run(writer: &str, scenario: &str) -> (usize, String) {
    let program = env::current_exe().unwrap();
    let mut command = Command::new(program);
    command.args(["log", writer, scenario]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut text = String::new();
    if scenario == "stalled" {
        child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        child.wait().unwrap();
        return (lines(&mut child), text);
    }
    let read = lines(&mut child);
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    child.wait().unwrap();
    (read, text)
}

fn lines(child: &mut Child) -> usize {
    let mut log = Vec::new();
    child.stderr.take().unwrap().read_to_end(&mut log).unwrap();
    log.iter().filter(|byte| **byte == b'\n').count()
}

fn main() {
    let asked: Vec<String> = env::args().skip(1).collect();
    if let [verb, writer, scenario] = asked.as_slice()
        && verb == "log"
    {
        return log(writer, scenario);
    }
    println!("scenario writer     ns/line 1000/s    slowest ms  KiB more    end s    dropped     read");
    for scenario in SCENARIOS {
        for writer in WRITERS {
            let (read, figures) = run(writer, scenario);
            // The appender's guard prints to stdout, too, when it cannot tell its thread to end.
            let figures = figures.lines().last().unwrap_or_default();
            println!("{scenario:<8} {writer:<8} {figures} {read:>8}");
        }
    }
}
