//! `queue-worker policy show`: when the attempts of a call would be that always fails.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use serde_json::{Value, json};

use super::{
    cli::{Output, PolicyCommand},
    end::{Failure, cannot},
    out::{self, Table},
};
use crate::{
    config::Config,
    message::decode::{FunctionName, Invocation},
    observe::metrics::Registry,
    outbound::{invoke::Trust, lookup::Lookup},
    retry::{
        plan::{self, Planned},
        policy::RetryPolicy,
    },
    tasks::supervisor::Supervisor,
    text::duration,
};

/// How wide the plot is, in characters.
const WIDTH: f64 = 48.0;
/// Of more attempts only the first and the last are shown to people.
const SHOWN: usize = 24;

/// Does what was asked for.
///
/// # Errors
/// See [`Failure`].
pub(super) async fn run(config: &Config, output: Output, command: PolicyCommand) -> Result<(), Failure> {
    let PolicyCommand::Show { function } = command;
    let function: Option<FunctionName> = match &function {
        None => None,
        Some(name) => {
            let read = name.parse().map_err(|error| Failure::Usage(format!("function {name:?}: {error}")));
            Some(read?)
        }
    };
    let planned = plan(config, function.clone(), &lookup(config, function.is_some())?).await;
    for warning in &planned.warnings {
        eprintln!("queue-worker: {warning}");
    }
    if function.is_some() && config.function_lookup.is_none() {
        eprintln!(
            "queue-worker: annotations in messages change this; function_lookup=true asks the gateway for \
                them"
        );
    }
    if output == Output::Json {
        return out::json(&planned.document());
    }
    out::print(&told(config, &planned));
    Ok(())
}

/// The attempts of a call that always fails.
#[derive(Debug)]
pub(crate) struct Plan {
    function: Option<FunctionName>,
    policy: RetryPolicy,
    attempts: Vec<Planned>,
    /// When the last of them begins.
    last: (Duration, Duration),
    /// When it ends, if all take as long as they may.
    worst: Duration,
    /// What people should know.
    pub warnings: Vec<String>,
}

/// Plans the attempts of a call of this function, or of any.
pub(crate) async fn plan(config: &Config, function: Option<FunctionName>, lookup: &Lookup) -> Plan {
    let annotations = match &function {
        Some(function) => lookup.annotations(&Invocation::of(function.clone())).await.into_owned(),
        None => BTreeMap::new(),
    };
    let (policy, invalid) = config.retry.for_annotations(&annotations);
    let warnings = invalid.iter().map(|annotation| format!("{annotation}; the worker's setting is used"));
    let attempts = plan::attempts(&policy);
    let last = attempts.last().map_or((Duration::ZERO, Duration::ZERO), |last| last.after);
    let calls = u32::try_from(attempts.len()).unwrap_or(u32::MAX);
    let worst = last.1.saturating_add(config.upstream_timeout.saturating_mul(calls));
    Plan { function, attempts, last, worst, warnings: warnings.collect(), policy }
}

impl Plan {
    /// As JSON has it.
    pub fn document(&self) -> Value {
        let policy = &self.policy;
        let range = |(least, most): (Duration, Duration)| {
            let (least, most) = (least.as_secs_f64(), most.as_secs_f64());
            json!({ "least": least, "most": most })
        };
        let of = |one: &Planned| {
            let (wait, after) = (range(one.wait), range(one.after));
            json!({ "n": one.n, "waitSeconds": wait, "afterSeconds": after })
        };
        json!({
            "function": self.function.as_ref().map(FunctionName::as_str),
            "maxAttempts": policy.max_attempts.max(1), "immediateRetries": policy.immediate_retries,
            "initialRetryWaitSeconds": policy.backoff.initial.as_secs_f64(),
            "maxRetryWaitSeconds": policy.backoff.max.as_secs_f64(),
            "maxMessageAgeSeconds": policy.max_message_age.map(|age| age.as_secs_f64()),
            "httpRetryCodes": policy.codes.to_string(),
            "attempts": self.attempts.iter().map(of).collect::<Vec<_>>(),
            "totalWaitSeconds": range(self.last), "worstCaseSeconds": self.worst.as_secs_f64(),
        })
    }
}

/// The same for people.
fn told(config: &Config, plan: &Plan) -> String {
    let Plan { policy, attempts: planned, last, worst, .. } = plan;
    let (last, worst) = (*last, *worst);
    let mut text = table(planned, last.1);
    let _ = writeln!(
        text,
        "\nretried: {}, no answer, and 503 with Retry-After\nlast attempt after {} of waiting; worst case \
            {}, where each call takes upstream_timeout ({})",
        policy.codes,
        span(last),
        duration::shown(worst),
        duration::shown(config.upstream_timeout),
    );
    if let Some(age) = policy.max_message_age {
        let _ = writeln!(text, "max_message_age: no attempt begins after {}", duration::shown(age));
    }
    text
}

/// Asks the gateway about the function, where there is one and the settings say so.
fn lookup(config: &Config, has_function: bool) -> Result<Lookup, Failure> {
    if !has_function {
        return Ok(Lookup::Off);
    }
    let trust = Trust::read(config.gateway_ca_file.as_deref()).map_err(cannot)?;
    let registry = Registry::new(&config.function_namespace).map_err(cannot)?;
    let supervisor = Supervisor::default();
    Ok(Lookup::new(&config.gateway_url, &trust, config.function_lookup.as_ref(), registry, &supervisor))
}

fn table(planned: &[Planned], end: Duration) -> String {
    let mut rows: Vec<_> = planned.iter().map(|one| row(one, end)).collect();
    if rows.len() > SHOWN {
        let dots = vec!["…".to_owned(); 4];
        let last = rows.split_off(rows.len() - 1);
        rows.truncate(SHOWN - 2);
        rows.push(dots);
        rows.extend(last);
    }
    Table::new(&["ATTEMPT", "WAIT", "AFTER", "WHEN"]).rows(&rows)
}

fn row(one: &Planned, end: Duration) -> Vec<String> {
    let share = if end.is_zero() { 0.0 } else { one.after.1.as_secs_f64() / end.as_secs_f64() };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of the width")]
    let before = (share.clamp(0.0, 1.0) * WIDTH) as usize;
    vec![one.n.to_string(), span(one.wait), span(one.after), format!("{}o", "-".repeat(before))]
}

/// A range of durations, as people say it.
fn span((least, most): (Duration, Duration)) -> String {
    if least == most {
        duration::shown(most)
    } else {
        format!("{}–{}", duration::shown(least), duration::shown(most))
    }
}
