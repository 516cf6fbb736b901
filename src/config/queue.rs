//! The queues that are served, and the names in NATS that follow from their own.

use std::{collections::BTreeMap, iter::zip};

use super::{
    names,
    reader::{Reader, Reported},
    target::{Request, forms},
    values::{Read, choice, list},
};
use crate::message::{
    form::Form,
    names::{Names, covers},
};

/// A queue that is served.
#[derive(Debug, Clone)]
pub struct Queue {
    /// The subject invocations arrive on.
    pub name: String,
    /// Its stream.
    pub stream: String,
    /// The subjects that the consumer takes from the stream.
    pub filter_subject: String,
    /// The durable pull consumer of fresh invocations.
    pub durable: String,
    /// Where a new durable starts on an existing stream that is no work queue.
    pub deliver: Option<Deliver>,
    /// The form of its messages.
    pub form: Form,
    /// How its messages' target is called, where they name no function.
    pub request: Option<Request>,
}

/// The start of a new durable consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deliver {
    /// With what arrives from now on.
    New,
    /// With the oldest message stored.
    All,
}

impl Queue {
    /// The subject of the queue's stream when it is made: the queue's name, unless the consumer is to take
    /// other subjects. Newer gateways of OpenFaaS put the function's name into the subject, behind the
    /// queue's.
    #[must_use]
    pub fn subject(&self) -> &str {
        if covers(&self.filter_subject, &self.name) { &self.name } else { &self.filter_subject }
    }

    /// Whether subjects carry the function: then it is what the filter's wildcards stand for.
    #[must_use]
    pub fn subjects_carry_function(&self) -> bool {
        self.subject().contains(['*', '>'])
    }

    /// What the program calls everything that belongs to it.
    #[must_use]
    pub fn names(&self) -> Names {
        Names::new(&self.name, &self.stream)
    }
}

pub(super) fn queues(reader: &mut Reader) -> Result<Vec<Queue>, Reported> {
    let streams = reader.optional("nats_stream", list(names::name));
    let names = reader.optional("queue_name", list(names::queue));
    let filters = reader.optional("nats_filter_subject", list(names::filter));
    let durable = reader.value("nats_durable", names::name);
    let deliver = reader.optional("nats_deliver", choice(&[("new", Deliver::New), ("all", Deliver::All)]));

    let (streams, filters) = (streams?, filters?);
    let names = match (names?, &streams) {
        (Some(names), _) => names,
        // A stream's name is a queue's name now and has to do for one.
        (None, Some(streams)) => {
            let names: Read<_> = streams.iter().map(|stream| names::queue(stream)).collect();
            names.map_err(|expected| reader.fault("nats_stream", expected))?
        }
        (None, None) => vec!["faas-request".to_owned()],
    };
    let streams = one_each(reader, "nats_stream", streams, &names);
    let filters = one_each(reader, "nats_filter_subject", filters, &names);
    let filters: Vec<_> =
        zip(filters?, &names).map(|(filter, name)| filter.unwrap_or_else(|| name.clone())).collect();
    let named: Vec<_> =
        zip(&names, &filters).map(|(name, filter)| (name.as_str(), filter.as_str())).collect();
    let forms = forms(reader, &named);
    let (durable, deliver, streams, forms) = (durable?, deliver?, streams?, forms?);
    let queues: Vec<_> = zip(zip(names, forms), zip(streams, filters))
        .map(|((name, (form, request)), (stream, filter_subject))| Queue {
            stream: stream.unwrap_or_else(|| Names::usual_stream(&name)),
            filter_subject,
            durable: durable.clone(),
            deliver,
            form,
            request,
            name,
        })
        .collect();
    keep_apart(reader, &queues)?;
    Ok(queues)
}

/// What was set for each queue, by position.
fn one_each(
    reader: &mut Reader,
    setting: &'static str,
    values: Option<Vec<String>>,
    queues: &[String],
) -> Result<Vec<Option<String>>, Reported> {
    match values {
        None => Ok(vec![None; queues.len()]),
        Some(values) if values.len() == queues.len() => Ok(values.into_iter().map(Some).collect()),
        Some(_) => Err(reader.fault(
            setting,
            format!("expected one value for each queue ({}), in that order", queues.join(", ")),
        )),
    }
}

/// That no stream is taken twice, by two queues or for two purposes of one.
fn keep_apart(reader: &mut Reader, queues: &[Queue]) -> Result<(), Reported> {
    let named_by = if reader.is_set("queue_name") { "queue_name" } else { "nats_stream" };
    let mut taken: BTreeMap<String, (&str, &str)> = BTreeMap::new();
    for queue in queues {
        let name = queue.name.as_str();
        let cancels = queue.names().cancels();
        let Names { stream, retries, dead, operations, audit, .. } = queue.names();
        let streams = [
            (stream, "stream"),
            (retries, "stream of the retries"),
            (dead, "stream of the dead letters"),
            (operations, "stream of the operations"),
            (audit, "stream of the audit"),
            (cancels, "stream of cancelled calls"),
        ];
        for (stream, purpose) in streams {
            let Some((other, its)) = taken.insert(stream.clone(), (name, purpose)) else { continue };
            return Err(if other != name {
                let both = format!("{stream} is the {its} of {other} and the {purpose} of {name}");
                reader.fault(named_by, format!("expected queues with streams of their own, but {both}"))
            } else if its == purpose {
                reader.fault(named_by, format!("expected each queue once, but {name} stands there twice"))
            } else {
                reader.fault("nats_stream", format!("expected another name, this is the {purpose} of {name}"))
            });
        }
    }
    Ok(())
}
