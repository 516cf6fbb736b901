//! The policy: when the attempts of a call would be that always fails.

use std::sync::Arc;

use super::{Answer, problem::Problem, request::Asked};
use crate::{config::Config, message::decode::FunctionName, operate::policy::plan, outbound::lookup::Lookup};

/// Says so of a function, or of any. Only whoever has a token has the gateway asked: the worker keeps so many
/// functions in mind, and each that anybody names would push out one that is called.
pub(super) async fn show(config: Arc<Config>, asked: Asked) -> Result<Answer, Problem> {
    let name = asked.values.text("function").unwrap_or_default();
    let function = FunctionName::stored(name.to_owned()).ok();
    let is_gateways = name.parse::<FunctionName>().is_ok();
    let lookup = if asked.trusted && is_gateways { &asked.lookup } else { &Lookup::Off };
    Ok(Answer::ok(plan(&config, function, lookup).await.document()))
}
