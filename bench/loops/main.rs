//! `make bench`: the worker beside a bare loop that does the same and guarantees nothing (README.md here).
//!
//! Each part that costs processor time is a process of its own. All of them but the broker, the worker and
//! the loop in Go are this program again, which `BENCH_ROLE` tells what to be.
//!
//! It is a target of the worker's package, for it needs nothing that the tests do not build already. Without
//! `--bench`, which only `cargo bench` says, it runs in its short form: as one more test.

mod answers;
mod bare;
mod broker;
mod client;
mod contender;
mod growth;
mod ingress;
mod latency;
mod memory;
mod message;
mod plan;
mod poster;
mod process;
mod publisher;
mod run;
mod scratch;
mod sink;
mod table;
mod throughput;

use std::{env, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use tokio::runtime::Builder;

use crate::{
    contender::Contender,
    plan::{Part, Plan},
    run::Lab,
    table::Table,
};

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    match play(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Plays the role that the environment names, or directs the others.
fn play(arguments: &[String]) -> Result<()> {
    let one_thread = || Builder::new_current_thread().enable_all().build();
    match env::var("BENCH_ROLE").ok().as_deref() {
        // Its pace is kept by the first thread, and its connection by the others.
        Some("publisher") => {
            Builder::new_multi_thread().enable_all().build()?.block_on(publisher::main(arguments))
        }
        Some("sink") => one_thread()?.block_on(sink::main(arguments)),
        Some("poster") => one_thread()?.block_on(poster::main(arguments)),
        Some("bare") => one_thread()?.block_on(bare::main()),
        Some(role) => bail!("BENCH_ROLE is {role:?}: publisher, sink, poster or bare expected"),
        None => match Plan::of(arguments)? {
            Some(plan) => one_thread()?.block_on(bench(&plan)),
            None => Ok(()),
        },
    }
}

async fn bench(plan: &Plan) -> Result<()> {
    allow_ten_thousand_connections()?;
    let mut lab = Lab::start("usual").await?;
    beside_others(plan, &mut lab).await.context("this bench is void")?;
    for part in &plan.parts {
        match part {
            Part::Throughput | Part::Latency | Part::Memory => Ok(()),
            Part::Inputs => throughput::beside_itself(Contender::inputs(), plan, &mut lab).await,
            Part::Options => throughput::beside_itself(Contender::options(), plan, &mut lab).await,
            Part::Ingress => ingress::measure(plan, &mut lab).await,
            Part::Growth => growth::measure(plan, &mut lab).await,
        }
        .context("this bench is void")?;
    }
    println!("\n{}", lab.conserved());
    Ok(())
}

/// The parts in which the worker stands beside others, in one table.
async fn beside_others(plan: &Plan, lab: &mut Lab) -> Result<()> {
    if !plan.parts.iter().any(|part| matches!(part, Part::Throughput | Part::Latency | Part::Memory)) {
        return Ok(());
    }
    let contenders = Contender::all(plan, lab.scratch()).await?;
    let mut table = Table::begin(contenders, plan.rounds);
    for part in &plan.parts {
        match part {
            Part::Throughput => throughput::measure(plan, lab, &mut table).await?,
            Part::Latency => latency::measure(plan, lab, &mut table).await?,
            Part::Memory => memory::measure(plan, lab, &mut table).await?,
            Part::Inputs | Part::Options | Part::Ingress | Part::Growth => {}
        }
    }
    Ok(())
}

/// Those that are started by this process have its limits. A sink has a connection for each call.
fn allow_ten_thousand_connections() -> Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("the limit of open files")
}
