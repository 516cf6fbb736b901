//! The plan: what the arguments ask for.

use anyhow::{Result, ensure};
use clap::{
    Arg, ArgAction, Command,
    builder::{PossibleValuesParser, RangedU64ValueParser},
};

#[derive(Clone, Copy, PartialEq)]
pub enum Part {
    Throughput,
    Latency,
    Memory,
    Inputs,
    Options,
    Ingress,
    Growth,
}

const PARTS: [(&str, Part); 7] = [
    ("throughput", Part::Throughput),
    ("latency", Part::Latency),
    ("memory", Part::Memory),
    ("inputs", Part::Inputs),
    ("options", Part::Options),
    ("ingress", Part::Ingress),
    ("growth", Part::Growth),
];

#[derive(Clone)]
pub struct Plan {
    pub parts: Vec<Part>,
    /// Bytes of a body.
    pub bodies: Vec<usize>,
    /// Calls at once.
    pub concurrency: Vec<usize>,
    /// A figure is the median of so many.
    pub rounds: usize,
    /// The size of a run for throughput is this one, or less for bodies that are large.
    pub messages: usize,
    /// Messages a second for latency, and for how many seconds; half of the maximum comes after them.
    pub rates: Vec<(usize, usize)>,
    pub half_of_maximum: bool,
    /// Calls that are open at once, and how many milliseconds each takes.
    pub slow: Vec<(usize, u64)>,
    /// Clients of the ingress that do not send their bodies to the end.
    pub slow_clients: usize,
    /// Whether the loop in Go takes part.
    pub go: bool,
    pub growth: Growth,
}

/// How much the work grows.
#[derive(Clone)]
pub struct Growth {
    /// Parked messages.
    pub parked: usize,
    /// For how many seconds nothing happens before other messages come.
    pub idle: u64,
    /// So many others fail, so many a second, and are due again after so many seconds.
    pub due: (usize, usize, u64),
    /// Messages of a queue: enough that a worker is more than at its start.
    pub messages: usize,
    pub functions: usize,
    /// Messages a second for replicas that have time, and for how many seconds.
    pub calm: (usize, usize),
    /// Messages that wait when a worker starts.
    pub backlog: usize,
}

impl Plan {
    /// `None` where cargo's own tests are asked for by a name that is not this one's, or are listed.
    pub fn of(arguments: &[String]) -> Result<Option<Self>> {
        if arguments.iter().any(|argument| argument == "--bench") {
            return Self::full(arguments).map(Some);
        }
        let mut names = arguments.iter().filter(|argument| !argument.starts_with('-')).peekable();
        let asked = names.peek().is_none() || names.any(|name| "bench".contains(name.as_str()));
        Ok((asked && !arguments.iter().any(|argument| argument == "--list")).then(Self::short))
    }

    /// Some seconds in all: times say nothing then, but nothing may be lost either.
    fn short() -> Self {
        Self {
            parts: PARTS.map(|(_, part)| part).to_vec(),
            bodies: vec![1024],
            concurrency: vec![64],
            rounds: 1,
            messages: 500,
            rates: vec![(500, 1)],
            half_of_maximum: false,
            slow: vec![(100, 500)],
            slow_clients: 600,
            go: false,
            growth: Growth {
                parked: 300,
                idle: 1,
                due: (200, 400, 1),
                messages: 500,
                functions: 250,
                calm: (500, 1),
                backlog: 500,
            },
        }
    }

    fn full(arguments: &[String]) -> Result<Self> {
        let name = ["bench".to_owned()];
        let given = command().get_matches_from(name.iter().chain(arguments));
        let numbers =
            |id: &str| given.get_many::<u64>(id).into_iter().flatten().map(|n| *n as usize).collect();
        let parts = given.get_many::<String>("parts").into_iter().flatten();
        let plan = Self {
            parts: parts
                .flat_map(|wanted| PARTS.into_iter().filter(move |(name, _)| name == wanted))
                .map(|(_, part)| part)
                .collect(),
            bodies: numbers("bodies"),
            concurrency: numbers("concurrency"),
            rounds: given.get_one::<u64>("rounds").map_or(1, |n| *n as usize),
            messages: given.get_one::<u64>("messages").map_or(1, |n| *n as usize),
            rates: vec![(100, 10), (1_000, 5)],
            half_of_maximum: true,
            slow: vec![(1_000, 5_000), (10_000, 15_000)],
            slow_clients: 10_000,
            go: true,
            growth: Growth {
                parked: given.get_one::<u64>("parked").map_or(1, |n| *n as usize),
                idle: 60,
                due: (30_000, 2_000, 20),
                messages: 100_000,
                functions: 10_000,
                calm: (2_000, 10),
                backlog: given.get_one::<u64>("backlog").map_or(1, |n| *n as usize),
            },
        };
        ensure!(!plan.parts.is_empty(), "no part");
        Ok(plan)
    }

    /// The broker stores all messages of a run before it begins, so there are fewer with large bodies. One
    /// call at a time takes longer, and costs more.
    pub fn messages(&self, body: usize, concurrency: usize) -> usize {
        let of_this_size = self.messages / (1 + body / 8192);
        if concurrency == 1 { of_this_size / 4 } else { of_this_size }.max(1)
    }

    /// Body and calls at once where neither is varied: those that are usual, or the most that is asked for.
    pub fn usual(&self) -> (usize, usize) {
        let preferred = |all: &[usize], usual: usize| {
            if all.contains(&usual) { usual } else { all.iter().copied().max().unwrap_or(usual) }
        };
        (preferred(&self.bodies, 1024), preferred(&self.concurrency, 64))
    }
}

fn command() -> Command {
    let numbers = |id: &'static str, default: &'static [&'static str], help: &'static str, least: u64| {
        Arg::new(id)
            .long(id)
            .value_delimiter(',')
            .default_values(default)
            .value_parser(RangedU64ValueParser::<u64>::new().range(least..))
            .help(help)
    };
    Command::new("bench")
        .about("Measures the worker beside a bare loop; NATS_SERVER and WORKER_BIN name the programs")
        .arg(
            Arg::new("parts")
                .num_args(0..)
                .default_values(PARTS.map(|(name, _)| name))
                .value_parser(PossibleValuesParser::new(PARTS.map(|(name, _)| name))),
        )
        .arg(numbers("bodies", &["0", "1024", "65536", "524288"], "Bytes of a body, comma separated", 0))
        .arg(numbers("concurrency", &["1", "16", "64", "256"], "Calls at once, comma separated", 1))
        .arg(numbers("rounds", &["5"], "A figure is the median of so many", 1))
        .arg(numbers("messages", &["20000"], "Messages of a run with small bodies", 1))
        .arg(numbers("parked", &["1000000"], "Parked messages beside which others are served", 1))
        .arg(numbers("backlog", &["1000000"], "Messages that wait when a worker starts", 1))
        .arg(Arg::new("bench").long("bench").hide(true).action(ArgAction::SetTrue))
}
