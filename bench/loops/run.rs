//! One run: a fresh queue, so many messages, one contender, one sink, and the account of what came.

use std::{fs, process::Stdio, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{
    io::{BufReader, Lines},
    process::{ChildStdin, ChildStdout},
    time::timeout,
};

use crate::{
    broker::{Broker, SUBJECT},
    contender::{Contender, Place},
    process::{Process, role},
    publisher::publish,
    scratch::Scratch,
    sink::Report,
};

/// No run comes near it: whatever has not come by then is lost.
const LIMIT: Duration = Duration::from_secs(180);

/// How often the broker is asked whether something is left to come.
const LOOK: Duration = Duration::from_secs(1);

/// What the runs have in common.
pub struct Lab {
    pub broker: Broker,
    pub runs: usize,
    pub messages: usize,
    // The folder goes after the broker that stores in it.
    scratch: Scratch,
}

#[derive(Clone, Copy)]
pub struct Run {
    pub messages: usize,
    pub body: usize,
    pub concurrency: usize,
    /// Messages a second; 0: all of them wait in the queue before the contender starts.
    pub rate: usize,
    /// How many milliseconds a call takes.
    pub delay: u64,
}

pub struct Figures {
    /// Calls a second, from the first to the last.
    pub rate: f64,
    /// Processor time a message in µs, of the contender from its start on, and of the broker meanwhile.
    pub cpu: f64,
    pub broker_cpu: f64,
    /// From publishing to the function in µs: p50, p99 and p99.9.
    pub percentiles: [f64; 3],
    /// Memory in MiB, when the last message had come to the function, and the most that there was.
    pub resident: f64,
    pub peak: f64,
    /// The most calls that were open at once.
    pub open: f64,
}

impl Lab {
    pub async fn start() -> Result<Self> {
        let scratch = Scratch::new()?;
        Ok(Self { broker: Broker::start(&scratch).await?, runs: 0, messages: 0, scratch })
    }

    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// The end of all: a run with anything else would have ended it before.
    pub fn conserved(&self) -> String {
        let Self { runs, messages, .. } = self;
        format!("{runs} runs of {messages} messages in all: none was lost, repeated or damaged.")
    }

    pub async fn run(&mut self, contender: &Contender, run: Run) -> Result<Figures> {
        let figures = self.measure(contender, run).await;
        self.runs += 1;
        self.messages += run.messages;
        if figures.is_err() {
            eprintln!("\n{} ends its log so:\n{}", contender.name, self.log());
        }
        figures.context(contender.name)
    }

    /// What a contender takes that has been ready for a while and has done nothing.
    pub async fn idle(&mut self, contender: &Contender, concurrency: usize, wait: Duration) -> Result<f64> {
        self.broker.fresh().await?;
        let place =
            Place { broker: &self.broker.url, gateway: "http://127.0.0.1:9", concurrency, settings: &[] };
        let process = contender.start(&place, &self.scratch.path().join("log"))?;
        timeout(LIMIT, self.broker.asked()).await.context("it never asked for messages")??;
        tokio::time::sleep(wait).await;
        let resident = process.memory("VmRSS")?;
        process.stop().await?;
        Ok(resident)
    }

    async fn measure(&self, contender: &Contender, run: Run) -> Result<Figures> {
        let Run { messages, body, concurrency, rate, delay } = run;
        let broker = &self.broker;
        broker.fresh().await?;
        if rate == 0 {
            publish(&broker.url, SUBJECT, contender.form, messages, body, rate)
                .await
                .context("the publisher")?;
            broker.holds(messages).await?;
        }
        let mut sink = Sink::start(messages, body, delay).await.context("the sink")?;
        let before = broker.process.cpu()?;
        let place = Place { broker: &broker.url, gateway: &sink.url, concurrency, settings: &[] };
        let mut process = contender.start(&place, &self.scratch.path().join("log"))?;
        let work = async {
            if rate > 0 {
                broker.asked().await?;
                publish(&broker.url, SUBJECT, contender.form, messages, body, rate)
                    .await
                    .context("the publisher")?;
            }
            // Those that were acknowledged and never called will not come any more.
            while timeout(LOOK, sink.complete()).await.is_err() && broker.left().await? > 0 {}
            anyhow::Ok(())
        };
        // Where they do not come in time, the account says how many were lost.
        tokio::select! {
            ended = process.ended() => ended?,
            done = timeout(LIMIT, work) => done.unwrap_or(Ok(()))?,
        }
        let resident = process.memory("VmRSS")?;
        let emptied = timeout(LIMIT, broker.emptied()).await;
        let (cpu, broker_cpu) = (process.cpu()?, broker.process.cpu()? - before);
        let peak = process.memory("VmHWM")?;
        process.stop().await?;
        let report = sink.report().await.context("the sink")?;
        report.conserved(messages)?;
        emptied.context("messages that were called are still in NATS")??;
        let each = |all: f64| all / messages as f64;
        let rate = (messages - 1) as f64 / report.seconds;
        let (cpu, broker_cpu, open) = (each(cpu), each(broker_cpu), report.open as f64);
        Ok(Figures { rate, cpu, broker_cpu, percentiles: report.percentiles, resident, peak, open })
    }

    /// The last that the contender has printed.
    pub fn log(&self) -> String {
        let log = fs::read(self.scratch.path().join("log")).unwrap_or_default();
        let lines: Vec<_> = String::from_utf8_lossy(&log).lines().map(str::to_owned).collect();
        lines.iter().skip(lines.len().saturating_sub(10)).map(|line| format!("    {line}\n")).collect()
    }
}

/// The sink of one run, as its process is seen from here.
struct Sink {
    url: String,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    process: Process,
}

impl Sink {
    async fn start(messages: usize, body: usize, delay: u64) -> Result<Self> {
        let mut command = role("sink", &[messages.to_string(), body.to_string(), delay.to_string()])?;
        let mut process = Process::spawn({
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            command
        })?;
        let (input, mut output) = process.pipes()?;
        let port = output.next_line().await?.context("it has ended")?;
        Ok(Self { url: format!("http://127.0.0.1:{port}"), input, output, process })
    }

    /// Awaits that all messages have come.
    async fn complete(&mut self) -> Result<()> {
        self.output.next_line().await?.context("the sink has ended").map(drop)
    }

    async fn report(self) -> Result<Report> {
        let Self { input, mut output, process, .. } = self;
        drop(input);
        let mut report = None;
        while let Some(line) = output.next_line().await? {
            report = Some(line);
        }
        process.done().await?;
        Ok(serde_json::from_str(&report.context("it has ended")?)?)
    }
}
