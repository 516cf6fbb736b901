//! A process, and what the system says of it.

use std::{env, fs, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// How long a process may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(30);

/// Linux shows a hundred ticks a second on every architecture.
const TICK: f64 = 10_000.0;

/// Killed when dropped.
pub struct Process {
    child: Child,
    pub meter: Meter,
}

/// Reads what a process takes, while others await its end.
#[derive(Clone, Copy)]
pub struct Meter(u32);

impl Process {
    pub fn spawn(mut command: Command) -> Result<Self> {
        let child = command.kill_on_drop(true).spawn();
        let child = child.with_context(|| format!("{:?} does not start", command.as_std().get_program()))?;
        let id = child.id().context("it has ended already")?;
        Ok(Self { child, meter: Meter(id) })
    }

    /// The end of a process that should go on.
    pub async fn ended(&mut self) -> Result<()> {
        bail!("it ended by itself: {}", self.child.wait().await?)
    }

    /// Awaits that a process has done what it was started for.
    pub async fn done(mut self) -> Result<()> {
        let status = self.child.wait().await?;
        if status.success() { Ok(()) } else { bail!("it failed: {status}") }
    }

    /// SIGTERM, and SIGKILL for those that do not heed it.
    pub async fn stop(mut self) -> Result<()> {
        let id = i32::try_from(self.meter.0).ok().and_then(Pid::from_raw).context("no process id")?;
        // It may have ended before.
        let _ = kill_process(id, Signal::TERM);
        if timeout(GRACE, self.child.wait()).await.is_err() {
            self.child.kill().await?;
        }
        Ok(())
    }

    /// What is written to it, and the lines that it writes; where its command has pipes for both.
    pub fn pipes(&mut self) -> Result<(ChildStdin, Lines<BufReader<ChildStdout>>)> {
        let input = self.child.stdin.take().context("no pipe to it")?;
        let output = self.child.stdout.take().context("no pipe from it")?;
        Ok((input, BufReader::new(output).lines()))
    }
}

impl Meter {
    /// Processor time so far, in µs.
    pub fn cpu(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0))?;
        // The second field is the program's name, in brackets, and may contain anything.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let own = fields.skip(11).take(2).map(str::parse::<u32>);
        Ok(f64::from(own.sum::<Result<u32, _>>()?) * TICK)
    }

    /// Memory in MiB: `VmRSS` is what is resident now, `VmHWM` the most that ever was.
    pub fn memory(&self, figure: &str) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0))?;
        let of_it = |line: &str| line.strip_prefix(figure)?.strip_prefix(':').map(str::to_owned);
        let line = status.lines().find_map(of_it).context("the process has ended")?;
        Ok(f64::from(line.trim_end_matches("kB").trim().parse::<u32>()?) / 1024.0)
    }
}

/// This program in another role.
pub fn role(name: &str, arguments: &[String]) -> Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.env("BENCH_ROLE", name).args(arguments).stdin(Stdio::null());
    Ok(command)
}
