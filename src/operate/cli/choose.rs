//! Which dead letters a command means: their numbers, a filter, or all.

use std::{
    str::FromStr,
    time::{Duration, SystemTime},
};

use clap::{Args, builder::NonEmptyStringValueParser};

use crate::{
    message::letter::choice::Choice,
    retry::judge::Cause,
    text::{duration, time},
};

/// Which letters are meant.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Filter")]
pub(crate) struct Filter {
    /// Those of this function, such as f or f.openfaas-fn
    #[arg(long, value_name = "FUNCTION", value_parser = NonEmptyStringValueParser::new())]
    function: Option<String>,
    /// Those of this cause: exhausted, refused, undecodable, expired, interrupted, cancelled or callback
    #[arg(long, value_name = "CAUSE", value_parser = cause)]
    cause: Option<String>,
    /// Those whose last attempt came out so: 502, or timeout, unreachable, broken
    #[arg(long, value_name = "STATUS", value_parser = status)]
    status: Option<String>,
    /// Those with this text in their last error, in any case
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    error: Option<String>,
    /// Those of this call
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    call_id: Option<String>,
    /// Those that died since: an age such as 1h, or a time in RFC 3339
    #[arg(long, value_name = "AGE", value_parser = Moment::from_str)]
    since: Option<Moment>,
    /// Those that died before that: an age such as 10m, or a time in RFC 3339
    #[arg(long, value_name = "AGE", value_parser = Moment::from_str)]
    before: Option<Moment>,
}

/// Letters for a command that does something with them.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Choosing {
    /// These, by their numbers in the list
    #[arg(value_name = "SEQUENCE", value_parser = sequence)]
    sequences: Vec<u64>,
    /// All of them
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: Filter,
}

/// The heading of the flags that say how.
pub(super) const HOW: &str = "How";

/// How letters are sent round again.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Redriving {
    #[command(flatten)]
    pub(crate) chosen: Choosing,
    /// Send this many a second at most
    #[arg(long, help_heading = HOW, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,
    /// Call this function instead
    #[arg(long, help_heading = HOW, value_name = "FUNCTION")]
    pub(crate) to: Option<String>,
    /// Send this many first, wait for their ends, and go on only if enough succeeded
    #[arg(long, help_heading = HOW, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) canary: Option<u32>,
    /// So many of a hundred canaries have to succeed [default: 100]
    #[arg(long, help_heading = HOW, value_name = "PERCENT", requires = "canary",
        value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(crate) require: Option<u32>,
    /// Only say how many are meant
    #[arg(long, help_heading = HOW)]
    pub(crate) dry_run: bool,
    /// Do not wait for the end
    #[arg(long, help_heading = HOW)]
    pub(crate) detach: bool,
    /// Why, for the record
    #[arg(long, help_heading = HOW, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

/// A time, as people say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// So long ago.
    Ago(Duration),
    /// Then.
    At(SystemTime),
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(time) = time::parse(text) {
            return Ok(Self::At(time));
        }
        duration::parse(text)
            .map(Self::Ago)
            .map_err(|error| format!("{error}, or a time such as 2026-11-26T08:00:00Z"))
    }
}

impl Moment {
    /// When that was.
    pub fn before(self, now: SystemTime) -> SystemTime {
        match self {
            Self::Ago(age) => now.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH),
            Self::At(time) => time,
        }
    }
}

impl Filter {
    fn is_empty(&self) -> bool {
        self.choice(SystemTime::UNIX_EPOCH).is_all()
    }

    /// The choice that it means at this time.
    pub fn choice(&self, now: SystemTime) -> Choice {
        Choice {
            sequences: Vec::new(),
            function: self.function.clone(),
            alias: None,
            cause: self.cause.clone(),
            status: self.status.clone(),
            error: self.error.clone(),
            call_id: self.call_id.clone(),
            since: self.since.map(|moment| moment.before(now)),
            before: self.before.map(|moment| moment.before(now)),
        }
    }
}

impl Choosing {
    /// The choice that it means at this time.
    pub fn choice(&self, now: SystemTime) -> Choice {
        Choice { sequences: self.sequences.clone(), ..self.filter.choice(now) }
    }

    /// Ways to choose that contradict each other.
    pub fn fault(&self) -> Option<String> {
        let ways = [!self.sequences.is_empty(), !self.filter.is_empty(), self.all];
        (ways.iter().filter(|way| **way).count() > 1)
            .then(|| "expected sequences, or a filter, or --all, and not several of these".to_owned())
    }

    /// Whether all of these things are meant, and nobody said so.
    pub fn unlimited(&self, things: &str) -> Option<String> {
        let meant = self.all || !self.sequences.is_empty() || !self.filter.is_empty();
        (!meant).then(|| {
            format!(
                "nothing says which {things} are meant: give their sequences, or a filter such as \
                --function, or --all"
            )
        })
    }
}

/// Reads the number of a letter or a retry.
///
/// # Errors
/// What is expected.
pub(crate) fn sequence(text: &str) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "expected a number from the column SEQUENCE of the list".to_owned())
}

/// Reads the name of a cause.
///
/// # Errors
/// What is expected.
pub(crate) fn cause(text: &str) -> Result<String, String> {
    text.parse::<Cause>().map(|cause| cause.as_str().to_owned()).map_err(|error| error.to_string())
}

/// Reads how an attempt came out.
///
/// # Errors
/// What is expected.
pub(crate) fn status(text: &str) -> Result<String, String> {
    let is_word = ["timeout", "unreachable", "broken"].contains(&text);
    let is_status = text.parse::<u16>().is_ok_and(|status| (100..=599).contains(&status));
    (is_word || is_status)
        .then(|| text.to_owned())
        .ok_or_else(|| "expected an HTTP status such as 502, or timeout, unreachable or broken".to_owned())
}
