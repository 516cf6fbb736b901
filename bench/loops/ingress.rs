//! The ingress: POSTs with an acknowledgement of NATS each, beside clients of NATS that wait for theirs; and
//! clients that send slowly.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

use crate::{
    broker::{SUBJECT, free_port},
    contender::{Contender, Place},
    message::Form,
    plan::Plan,
    poster::{Posted, post},
    process::Process,
    run::Lab,
    table::{Table, bytes},
};

/// Messages a second for latency, and for how many seconds.
const RATE: (usize, usize) = (1_000, 5);
/// What a slow client has sent of its body when it stops.
const PART: usize = 32 << 10;
/// The longest wait for anything.
const LIMIT: Duration = Duration::from_secs(60);

const BARE: &str = "publish";

pub async fn measure(plan: &Plan, lab: &mut Lab) -> Result<()> {
    println!();
    // Only the names are used: the clients are the same program.
    let named = |name| Contender { name, form: Form::Http, ..Contender::worker() };
    let table = Table::begin(vec![named(BARE), named("ingress")], plan.rounds);
    let (body, clients) = plan.usual();
    let of = [bytes(body), clients.to_string()];
    let messages = plan.messages(body, clients);
    let rates =
        async |contender: &Contender| Ok([lab.posted(contender, clients, messages, body, 0).await?.rate]);
    table.fill(&of, ["PubAcks/s".to_owned()], plan.rounds, rates).await?;
    let (rate, seconds) = if messages < 1_000 { (200, 1) } else { RATE };
    let rows = ["p50", "p99"].map(|percentile| format!("{percentile} at {rate}/s, µs"));
    let waits = async |contender: &Contender| {
        Ok(lab.posted(contender, clients, rate * seconds, body, rate).await?.percentiles)
    };
    table.fill(&of, rows, plan.rounds, waits).await?;
    let (idle, most) = lab.slow_clients(plan.slow_clients).await?;
    println!(
        "\n{} clients that send slowly: {idle:.1} MiB without them, {most:.1} MiB at most.",
        plan.slow_clients
    );
    Ok(())
}

/// A worker with an ingress, whose one call is never answered: the messages stay in the queue.
struct Door {
    worker: Process,
    host: String,
    _silent: TcpListener,
}

impl Lab {
    async fn door(&self) -> Result<Door> {
        let silent = TcpListener::bind(("127.0.0.1", 0)).await?;
        let (gateway, host) =
            (format!("http://{}", silent.local_addr()?), format!("127.0.0.1:{}", free_port()?));
        // A call that timed out would be parked.
        let settings = [("ingress_addr", host.as_str()), ("upstream_timeout", "1h")];
        let place =
            Place { broker: &self.broker.url, gateway: &gateway, concurrency: 1, settings: &settings };
        let worker = Contender { form: Form::Http, ..Contender::worker() };
        let worker = worker.start(&place, &self.scratch().path().join("log"))?;
        timeout(LIMIT, self.broker.asked(1)).await.context("it never asked for messages")??;
        Ok(Door { worker, host, _silent: silent })
    }

    async fn posted(
        &mut self,
        contender: &Contender,
        clients: usize,
        messages: usize,
        body: usize,
        rate: usize,
    ) -> Result<Posted> {
        self.broker.fresh().await?;
        let posted = if contender.name == BARE {
            post(&self.broker.url, SUBJECT, clients, messages, body, rate, "").await?
        } else {
            let door = self.door().await?;
            let posted = post(&door.host, &path(), clients, messages, body, rate, "").await;
            let posted = posted.with_context(|| format!("the worker's log ends so:\n{}", self.log()))?;
            drop(door);
            posted
        };
        self.broker.holds(messages).await?;
        self.runs += 1;
        self.messages += messages;
        Ok(posted)
    }

    /// Adds messages to those that all runs have beside them: the ingress stores them, and they are not due.
    pub async fn delay(&mut self, clients: usize, messages: usize, body: usize) -> Result<()> {
        self.broker.fresh().await?;
        let door = self.door().await?;
        post(&door.host, &path(), clients, messages, body, 0, "24h").await?;
        door.worker.stop().await?;
        self.broker.emptied(messages).await?;
        self.broker.parked += messages as u64;
        self.runs += 1;
        self.messages += messages;
        Ok(())
    }

    /// Memory in MiB of a worker without clients, and the most that it has when so many send a part of a body
    /// and then nothing more.
    async fn slow_clients(&self, clients: usize) -> Result<(f64, f64)> {
        self.broker.fresh().await?;
        let door = self.door().await?;
        let idle = door.worker.meter.memory("VmRSS")?;
        let mut open = Vec::new();
        for _ in 0..clients {
            let mut stream = TcpStream::connect(&door.host).await?;
            let head = format!("POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n", path());
            // The worker may have closed it for a younger one.
            let sent = timeout(LIMIT, async {
                stream.write_all(head.as_bytes()).await?;
                stream.write_all(&[b'x'; PART]).await
            });
            let _ = sent.await.context("a slow client is kept waiting")?;
            open.push(stream);
        }
        sleep(Duration::from_secs(1)).await;
        let most = door.worker.meter.memory("VmHWM")?;
        // Whoever sends all at once gets an answer meanwhile.
        let posted = timeout(LIMIT, post(&door.host, &path(), 1, 10, 10, 0, "")).await;
        ensure!(posted.is_ok_and(|posted| posted.is_ok()), "nobody is let in beside slow clients");
        Ok((idle, most))
    }
}

fn path() -> String {
    format!("/queues/{SUBJECT}/messages")
}
