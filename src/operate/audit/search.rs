//! Finds records: those of a call by the index, others by a walk over all.

use std::time::SystemTime;

use tokio::time::Instant;

use super::{
    none,
    show::{document, row, table},
};
use crate::{
    broker::{audit::records_of, walk::Walk},
    message::{audit::Record, decode::FunctionName, names::Names},
    operate::{
        cli::{Output, Searching},
        dead_letters::read::Part,
        desk::Desk,
        end::{Failure, cannot},
        out::{self, Page},
    },
};

/// The clocks of workers and of the broker agree to so many seconds.
const SKEW: std::time::Duration = std::time::Duration::from_secs(60);

/// Shows the records that are meant.
///
/// # Errors
/// See [`Failure`].
pub(super) async fn search(desk: &Desk, wanted: &Searching) -> Result<(), Failure> {
    let (now, mut found, mut page) = (desk.now(), Found::new(wanted), None);
    let mut streams = 0;
    for names in desk.queues()? {
        if desk.stream(&names.audit).await?.is_none() {
            continue;
        }
        streams += 1;
        let alias = alias(desk, &names, wanted);
        let mut source = Source::open(desk, &names, wanted, 0).await?;
        while let Some(records) = source.next().await? {
            let fit = records.into_iter().filter(|record| fits(record, wanted, alias.as_deref(), now));
            let some = found.take(fit);
            if desk.output == Output::Table && !some.is_empty() {
                let (page, table) = page.get_or_insert_with(|| (Page::new(), table()));
                page.put(&table.rows(&some.iter().map(row).collect::<Vec<_>>()));
            } else {
                found.kept.extend(some);
            }
            if found.more || page.as_ref().is_some_and(|(page, _)| page.closed) {
                break;
            }
        }
    }
    if streams == 0 {
        return Err(none(desk));
    }
    if desk.output == Output::Json {
        out::json(&document(&found.kept, found.more))?;
    }
    let any = found.seen > 0;
    page.into_iter().for_each(|(page, _)| page.end());
    if any { Ok(()) } else { Err(Failure::Nothing("there is no record that matches".to_owned())) }
}

/// At most so many of a queue's records that fit, behind this sequence, and those that can be read until
/// then. Those of a call are all there at once, and counted in the place of sequences.
///
/// # Errors
/// See [`Failure`].
pub(crate) async fn part(
    desk: &Desk,
    names: &Names,
    wanted: &Searching,
    (after, limit): (u64, usize),
    until: Instant,
) -> Result<Part<Record>, Failure> {
    let (now, mut part) = (desk.now(), Part { items: Vec::new(), next: None });
    let alias = alias(desk, names, wanted);
    let fits = |record: &Record| fits(record, wanted, alias.as_deref(), now);
    if desk.stream(&names.audit).await?.is_none() {
        return Ok(part);
    }
    let mut walk = match Source::open(desk, names, wanted, after).await? {
        Source::Walk(walk) => walk,
        Source::Index(records) => {
            let fit = records.unwrap_or_default().into_iter().filter(&fits);
            let mut fit = fit.skip(usize::try_from(after).unwrap_or(usize::MAX));
            part.items = fit.by_ref().take(limit).collect();
            part.next = fit.next().map(|_| after.saturating_add(part.items.len() as u64));
            return Ok(part);
        }
    };
    'read: loop {
        let seen = walk.next().await.map_err(cannot)?;
        for one in &seen {
            let record = serde_json::from_slice(&one.payload).ok();
            let Some(record) = record.filter(&fits) else { continue };
            if part.items.len() == limit {
                // The one before it is the last.
                part.next = Some(one.sequence - 1);
                break 'read;
            }
            part.items.push(record);
        }
        if seen.is_empty() || Instant::now() >= until {
            part.next = (!seen.is_empty()).then(|| walk.seen());
            break;
        }
    }
    walk.end().await;
    Ok(part)
}

/// What was found so far.
struct Found {
    left: Option<u64>,
    seen: u64,
    more: bool,
    kept: Vec<Record>,
}

impl Found {
    fn new(wanted: &Searching) -> Self {
        Self { left: wanted.limit, seen: 0, more: false, kept: Vec::new() }
    }

    /// As many as may be shown.
    fn take(&mut self, records: impl Iterator<Item = Record>) -> Vec<Record> {
        let mut taken = Vec::new();
        for record in records {
            if self.left == Some(0) {
                self.more = true;
                break;
            }
            self.left = self.left.map(|left| left - 1);
            self.seen += 1;
            taken.push(record);
        }
        taken
    }
}

/// Where records come from.
enum Source {
    Index(Option<Vec<Record>>),
    Walk(Box<Walk>),
}

impl Source {
    /// The records behind this sequence.
    async fn open(desk: &Desk, names: &Names, wanted: &Searching, after: u64) -> Result<Self, Failure> {
        if let Some(id) = wanted.call_id.as_deref().filter(|_| wanted.action.is_none()) {
            return Ok(Self::Index(Some(records_of(&desk.jetstream, names, id).await.map_err(cannot)?)));
        }
        let last = desk.stream(&names.audit).await?.map_or(0, |info| info.state.last_seq);
        let only_actions = wanted.action.is_some() || wanted.by.is_some();
        let subjects = if only_actions { names.audit_actions() } else { names.audit_subjects() };
        let since = wanted.since.and_then(|since| since.before(desk.now()).checked_sub(SKEW));
        let walk =
            Walk::new(&desk.jetstream, (&names.audit, &subjects), after.saturating_add(1), last, since)
                .whole();
        Ok(Self::Walk(Box::new(walk)))
    }

    async fn next(&mut self) -> Result<Option<Vec<Record>>, Failure> {
        match self {
            Self::Index(records) => Ok(records.take()),
            Self::Walk(walk) => {
                let seen = walk.next().await.map_err(cannot)?;
                let records = seen.iter().filter_map(|one| serde_json::from_slice(&one.payload).ok());
                Ok((!seen.is_empty()).then(|| records.collect()))
            }
        }
    }
}

/// The other name of the function whose records are wanted, in this queue.
fn alias(desk: &Desk, names: &Names, wanted: &Searching) -> Option<String> {
    let function = FunctionName::stored(wanted.function.clone()?).ok()?;
    desk.alias(names, &function).map(|alias| alias.as_str().to_owned())
}

/// Whether a record is meant; `alias`: another name of the function that is. That a call is parked is for
/// `calls show` only.
fn fits(record: &Record, wanted: &Searching, alias: Option<&str>, now: SystemTime) -> bool {
    let is = |wanted: &Option<String>, found: Option<&str>| {
        wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
    };
    let in_time = wanted.since.is_none_or(|since| record.at() >= Some(since.before(now)))
        && wanted.before.is_none_or(|before| record.at() < Some(before.before(now)));
    let fits = match record {
        Record::Parked(_) => false,
        Record::Call(call) => {
            (is(&wanted.function, call.function.as_deref())
                || alias.is_some() && alias == call.function.as_deref())
                && is(&wanted.outcome, Some(&call.outcome))
                && wanted.action.is_none()
                && wanted.by.is_none()
        }
        Record::Action(action) => {
            let is_word = |word: &str| word == "any" || word == action.action;
            wanted.function.is_none()
                && wanted.outcome.is_none()
                && wanted.action.as_deref().is_none_or(is_word)
                && wanted.by.as_deref().is_none_or(|by| action.by.contains(by))
        }
    };
    fits && in_time && is(&wanted.call_id, record.call_id())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(text: &str) -> Record {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_record_fits_all_that_is_said() {
        let call = record(
            r#"{"record":"call","queue":"q","function":"f","callId":"a","originalId":"q:1-1",
            "outcome":"exhausted","at":"1970-01-01T00:10:00Z"}"#,
        );
        let action = record(r#"{"record":"action","action":"redrive","by":"ann@host"}"#);
        let parked = record(r#"{"record":"parked","callId":"a","originalId":"q:1-1"}"#);
        let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_200);
        let none = Searching::default;
        let of = |text: &str| Some(text.to_owned());
        for (wanted, fit) in [
            (none(), [true, true, false]),
            (Searching { call_id: of("a"), ..none() }, [true, false, false]),
            (Searching { call_id: of("b"), ..none() }, [false, false, false]),
            (Searching { function: of("f"), ..none() }, [true, false, false]),
            (Searching { outcome: of("completed"), ..none() }, [false, false, false]),
            (Searching { action: of("any"), ..none() }, [false, true, false]),
            (Searching { action: of("redrive"), by: of("ann"), ..none() }, [false, true, false]),
            (Searching { action: of("discard"), ..none() }, [false, false, false]),
            (Searching { since: "15m".parse().ok(), ..none() }, [true, false, false]),
            (Searching { since: "5m".parse().ok(), ..none() }, [false, false, false]),
            (Searching { before: "5m".parse().ok(), function: of("f"), ..none() }, [true, false, false]),
        ] {
            let found = [&call, &action, &parked].map(|one| fits(one, &wanted, None, now));
            assert_eq!(found, fit, "{wanted:?}");
        }
        let by_another_name = Searching { function: of("f.ns"), ..none() };
        assert!(fits(&call, &by_another_name, Some("f"), now) && !fits(&call, &by_another_name, None, now));
    }
}
