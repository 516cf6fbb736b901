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
    poster::{Post, Posted, Way, post},
    process::Process,
    run::Lab,
    table::{Table, bytes, median, number},
};

/// Messages a second for latency, and for how many seconds.
const RATE: (usize, usize) = (1_000, 5);
/// What a slow client has sent of its body when it stops.
const PART: usize = 32 << 10;
/// The longest wait for anything.
const LIMIT: Duration = Duration::from_secs(60);

/// The ways to a stream, the one that all others stand beside first.
const WAYS: [(&str, Way); 3] =
    [("publish", Way::Nats), ("publish, shared", Way::Shared), ("ingress", Way::Http)];

pub async fn measure(plan: &Plan, lab: &mut Lab) -> Result<()> {
    println!();
    // Only the names are used: the clients are the same program.
    let named = |(name, _)| Contender { name, form: Form::Http, ..Contender::worker() };
    let table = Table::begin(WAYS.map(named).into(), plan.rounds);
    let (body, clients) = plan.usual();
    let of = [bytes(body), clients.to_string()];
    let messages = plan.messages(body, clients);
    let way = |contender: &Contender| WAYS.into_iter().find(|(name, _)| *name == contender.name);
    let post = |contender: &Contender, messages, rate| Post {
        way: way(contender).map(|(_, way)| way).unwrap_or_default(),
        clients,
        messages,
        body,
        rate,
        ..Post::default()
    };
    let mut of_worker = Vec::new();
    let rates = async |contender: &Contender| {
        let costs = lab.posted(post(contender, messages, 0)).await?;
        of_worker.extend(costs.cpu);
        Ok([costs.posted.rate, costs.broker_cpu])
    };
    table.fill(&of, ["PubAcks/s", "NATS's CPU, µs"].map(str::to_owned), plan.rounds, rates).await?;
    let (rate, seconds) = if messages < 1_000 { (200, 1) } else { RATE };
    let rows = ["p50", "p99"].map(|percentile| format!("{percentile} at {rate}/s, µs"));
    let waits = async |contender: &Contender| {
        Ok(lab.posted(post(contender, rate * seconds, rate)).await?.posted.percentiles)
    };
    table.fill(&of, rows, plan.rounds, waits).await?;
    println!("\nThe worker's CPU: {} µs a POST.", number(median(of_worker.into_iter())));
    let (idle, most) = lab.slow_clients(plan.slow_clients).await?;
    println!(
        "{} clients that send slowly: {idle:.1} MiB without them, {most:.1} MiB at most.",
        plan.slow_clients
    );
    Ok(())
}

/// What a run has shown, and what it took of a message: processor time in µs.
struct Costs {
    posted: Posted,
    /// Of the worker, where there is one.
    cpu: Option<f64>,
    broker_cpu: f64,
}

/// A worker with an ingress, whose one call is never answered: the messages stay in the queue.
struct Door {
    worker: Process,
    host: String,
    _silent: TcpListener,
}

impl Door {
    /// Sends these here.
    fn takes(&self, run: Post) -> Post {
        Post { address: self.host.clone(), path: path(), ..run }
    }
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

    async fn posted(&mut self, run: Post) -> Result<Costs> {
        self.broker.fresh().await?;
        let door = if run.way == Way::Http { Some(self.door().await?) } else { None };
        let run = match &door {
            Some(door) => door.takes(run),
            None => Post { address: self.broker.url.clone(), path: SUBJECT.to_owned(), ..run },
        };
        let before = self.broker.process.meter.cpu()?;
        let posted =
            post(&run).await.with_context(|| format!("the worker's log ends so:\n{}", self.log()))?;
        let each = |all: f64| all / run.messages as f64;
        let broker_cpu = each(self.broker.process.meter.cpu()? - before);
        let cpu = door.as_ref().map(|door| door.worker.meter.cpu()).transpose()?.map(each);
        drop(door);
        self.broker.holds(run.messages).await?;
        self.runs += 1;
        self.messages += run.messages;
        Ok(Costs { posted, cpu, broker_cpu })
    }

    /// Adds messages to those that all runs have beside them: the ingress stores them, and they are not due.
    pub async fn delay(&mut self, clients: usize, messages: usize, body: usize) -> Result<()> {
        self.broker.fresh().await?;
        let door = self.door().await?;
        let run = Post { delay: "24h".to_owned(), clients, messages, body, ..Post::default() };
        post(&door.takes(run)).await?;
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
        let run = door.takes(Post { clients: 1, messages: 10, body: 10, ..Post::default() });
        let posted = timeout(LIMIT, post(&run)).await;
        ensure!(posted.is_ok_and(|posted| posted.is_ok()), "nobody is let in beside slow clients");
        Ok((idle, most))
    }
}

fn path() -> String {
    format!("/queues/{SUBJECT}/messages")
}
