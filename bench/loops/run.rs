//! One run: a fresh queue, so many messages, a contender, one sink, and the account of what came.

use std::{fs, process::Stdio, time::Duration};

use anyhow::{Context as _, Result};
use futures_util::future::{select_all, try_join_all};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{BufReader, Lines},
    process::{ChildStdin, ChildStdout},
    time::timeout,
};

use crate::{
    answers::Answers,
    broker::Broker,
    contender::{Contender, Place},
    process::{Meter, Process, role},
    publisher::publish,
    scratch::Scratch,
    sink::Report,
};

/// No run comes near it, nor to so few messages a second: whatever has not come by then is lost.
const LIMIT: Duration = Duration::from_secs(180);
const SLOWEST: usize = 1_000;

/// The worker's settings for how long a failed call waits.
const WAITS: [&str; 2] = ["initial_retry_wait", "max_retry_wait"];

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

#[derive(Clone, Copy, Deserialize, Serialize)]
pub struct Run {
    pub messages: usize,
    pub body: usize,
    pub concurrency: usize,
    /// Messages a second; 0: all of them wait in the queue before the contender starts.
    pub rate: usize,
    /// How many milliseconds a call takes.
    pub delay: u64,
    /// Functions that the messages are for, in turn.
    pub functions: usize,
    /// Contenders of the same kind on the one queue.
    pub replicas: usize,
    pub answers: Answers,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            messages: 0,
            body: 1024,
            concurrency: 64,
            rate: 0,
            delay: 0,
            functions: 1,
            replicas: 1,
            answers: Answers::Success,
        }
    }
}

impl Run {
    fn limit(self) -> Duration {
        LIMIT + Duration::from_secs((self.messages / SLOWEST) as u64)
    }
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
    /// The same from time to time, and how many messages were still in NATS.
    pub looks: Vec<Look>,
    /// The most calls that were open at once.
    pub open: f64,
    /// From when a message was due again to its next call, in ms: p50 and p99.
    pub lateness: [f64; 2],
    /// Calls by each replica.
    pub shares: Vec<usize>,
}

/// Of one that does nothing.
pub struct Idle {
    /// Memory in MiB.
    pub resident: f64,
    /// Processor time a second in ms, of the contender and of the broker.
    pub cpu: f64,
    pub broker_cpu: f64,
}

#[derive(Clone, Copy)]
pub struct Look {
    pub left: u64,
    pub resident: f64,
}

impl Lab {
    pub async fn start(name: &str) -> Result<Self> {
        let scratch = Scratch::new(name)?;
        Ok(Self { broker: Broker::start(&scratch).await?, runs: 0, messages: 0, scratch })
    }

    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Ends another, and counts its runs as those of this one.
    pub fn merge(&mut self, other: Self) {
        self.runs += other.runs;
        self.messages += other.messages;
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
    pub async fn idle(&self, contender: &Contender, concurrency: usize, wait: Duration) -> Result<Idle> {
        let broker = &self.broker;
        self.fresh_for(contender).await?;
        let place = Place { broker: &broker.url, gateway: "http://127.0.0.1:9", concurrency, settings: &[] };
        let process = contender.start(&place, &self.scratch.path().join("log"))?;
        timeout(LIMIT, broker.asked(1)).await.context("it never asked for messages")??;
        let cpu = || anyhow::Ok([process.meter.cpu()?, broker.process.meter.cpu()?]);
        let [before, of_broker_before] = cpu()?;
        tokio::time::sleep(wait).await;
        let resident = process.meter.memory("VmRSS")?;
        let [after, of_broker_after] = cpu()?;
        process.stop().await?;
        let each = |all: f64| all / wait.as_secs_f64() / 1e3;
        Ok(Idle { resident, cpu: each(after - before), broker_cpu: each(of_broker_after - of_broker_before) })
    }

    /// An empty queue, with a consumer for those that do not make it themselves.
    async fn fresh_for(&self, contender: &Contender) -> Result<()> {
        if contender.own_consumer {
            self.broker.fresh_queue().await.map(drop)
        } else {
            self.broker.fresh().await
        }
    }

    async fn measure(&self, contender: &Contender, run: Run) -> Result<Figures> {
        let Run { messages, rate, answers, .. } = run;
        let broker = &self.broker;
        self.fresh_for(contender).await?;
        if rate == 0 {
            publish(&broker.url, contender.form, run).await?;
            broker.holds(messages).await?;
        }
        let mut sink = Sink::start(run).await.context("the sink")?;
        let before = broker.process.meter.cpu()?;
        let mut replicas = self.replicas(contender, &sink.url, run)?;
        let meters: Vec<_> = replicas.iter().map(|replica| replica.meter).collect();
        let mut looks = Vec::new();
        let work = async {
            if rate > 0 {
                broker.asked(run.replicas).await?;
                publish(&broker.url, contender.form, run).await?;
            }
            // Those that were acknowledged and never called will not come any more.
            while timeout(LOOK, sink.complete()).await.is_err() {
                let left = broker.left().await?.iter().sum();
                looks.push(Look { left, resident: memory(&meters, "VmRSS")? });
                if left == 0 {
                    break;
                }
            }
            anyhow::Ok(())
        };
        // Where they do not come in time, the account says how many were lost.
        tokio::select! {
            (ended, ..) = select_all(replicas.iter_mut().map(|replica| Box::pin(replica.ended()))) => ended?,
            done = timeout(run.limit(), work) => done.unwrap_or(Ok(()))?,
        }
        let resident = memory(&meters, "VmRSS")?;
        looks.push(Look { left: 0, resident });
        let emptied = timeout(LIMIT, broker.emptied(if answers.park() { messages } else { 0 })).await;
        let broker_cpu = broker.process.meter.cpu()? - before;
        let cpu: f64 = meters.iter().map(Meter::cpu).sum::<Result<f64>>()?;
        let peak = memory(&meters, "VmHWM")?;
        try_join_all(replicas.into_iter().map(Process::stop)).await?;
        let report = sink.report().await.context("the sink")?;
        report.conserved(messages)?;
        emptied.context("messages that were called are still in NATS")??;
        let each = |all: f64| all / messages as f64;
        let Report { percentiles, lateness, shares, .. } = report;
        Ok(Figures {
            rate: (messages - 1) as f64 / report.seconds,
            cpu: each(cpu),
            broker_cpu: each(broker_cpu),
            percentiles,
            resident,
            peak,
            looks,
            open: report.open as f64,
            lateness,
            shares,
        })
    }

    /// Several can be told apart by the path of their gateway.
    fn replicas(&self, contender: &Contender, sink: &str, run: Run) -> Result<Vec<Process>> {
        let wait = run.answers.setting();
        let settings: Vec<_> =
            wait.iter().flat_map(|wait| WAITS.map(|setting| (setting, wait.as_str()))).collect();
        let start = |number: usize| {
            let gateway = if run.replicas > 1 { format!("{sink}/{number}") } else { sink.to_owned() };
            let (broker, concurrency) = (self.broker.url.as_str(), run.concurrency);
            let place = Place { broker, gateway: &gateway, concurrency, settings: &settings };
            let log = if number == 0 { "log".to_owned() } else { format!("log-{number}") };
            contender.start(&place, &self.scratch.path().join(log))
        };
        (0..run.replicas).map(start).collect()
    }

    /// The last that the contender has printed.
    pub fn log(&self) -> String {
        let log = fs::read(self.scratch.path().join("log")).unwrap_or_default();
        let lines: Vec<_> = String::from_utf8_lossy(&log).lines().map(str::to_owned).collect();
        lines.iter().skip(lines.len().saturating_sub(10)).map(|line| format!("    {line}\n")).collect()
    }
}

/// Of all these together.
fn memory(meters: &[Meter], figure: &str) -> Result<f64> {
    meters.iter().map(|meter| meter.memory(figure)).sum()
}

/// The sink of one run, as its process is seen from here.
struct Sink {
    url: String,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    process: Process,
}

impl Sink {
    async fn start(run: Run) -> Result<Self> {
        let mut command = role("sink", &[serde_json::to_string(&run)?])?;
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
