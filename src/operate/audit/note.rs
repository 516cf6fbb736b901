//! Records what an operator did.

use crate::{
    broker::seam::BrokerError,
    message::{
        audit::{Action, Record},
        names::Names,
        operation::Operation,
    },
    operate::desk::Desk,
    text::line::cut,
};

/// Records it, where there is an audit. Where it cannot be written that is said, and nothing else fails.
pub(crate) async fn note(desk: &Desk, names: &Names, action: Action) {
    let action = Action { at: Some(desk.now()), queue: names.queue.clone(), by: desk.by(), ..action };
    if let Err(error) = record(desk, names, &Record::Action(Box::new(action))).await {
        desk.complain(&format!("this is not recorded in the audit: {error}"));
    }
}

/// Writes a record, where there is an audit.
///
/// # Errors
/// See [`BrokerError`].
pub(crate) async fn record(desk: &Desk, names: &Names, record: &Record) -> Result<(), BrokerError> {
    let payload = serde_json::to_vec(record).unwrap_or_default();
    // Nobody is asked to make the stream: a worker does, where there is to be one.
    match desk.jetstream.append(&names.audit, &record.subject(names), payload.into()).await {
        Err(BrokerError::Unavailable(why)) if why.starts_with("no stream takes") => Ok(()),
        written => written.map(|_| ()),
    }
}

/// Something was done with an operation, for this reason.
pub(crate) fn act(action: &str, operation: &Operation) -> Action {
    Action {
        action: action.to_owned(),
        filter: serde_json::to_value(operation.choice.said()).ok(),
        count: Some(operation.matched.saturating_sub(operation.skipped)),
        reason: operation.reason.clone(),
        operation: Some(operation.operation.clone()),
        state: Some(operation.state.as_str().to_owned()),
        ..Action::default()
    }
}

/// Why, as it is recorded.
pub(crate) fn because(reason: Option<&str>) -> Option<String> {
    reason.map(|reason| cut(reason, 256).to_owned())
}

/// Who asks: the user, and the machine.
pub(crate) fn by() -> String {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let user = variable("USER").or_else(|| variable("LOGNAME")).unwrap_or_else(|| "somebody".to_owned());
    let host = variable("HOSTNAME")
        .or_else(|| std::fs::read_to_string("/etc/hostname").ok().map(|name| name.trim().to_owned()));
    let text = host.map_or_else(|| user.clone(), |host| format!("{user}@{host}"));
    cut(&text, 128).to_owned()
}
