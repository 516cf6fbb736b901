//! Shows the last records, and those that come.

use std::time::Duration;

use tokio::time::sleep;

use super::{
    none,
    show::{document, row, table},
};
use crate::{
    broker::walk::Walk,
    message::{audit::Record, names::Names},
    operate::{
        cli::Output,
        desk::Desk,
        end::{Failure, cannot},
        out::{self, Table},
    },
};

/// How often it is asked for more.
const LOOK: Duration = Duration::from_millis(500);
/// Records of parked calls are not shown, so that so many more are read.
const HIDDEN: u64 = 4;

/// Shows the last `limit` records, and goes on if it is to.
///
/// # Errors
/// See [`Failure`].
pub(super) async fn tail(desk: &Desk, limit: u64, follow: bool) -> Result<(), Failure> {
    let (mut places, mut records) = (Vec::new(), Vec::new());
    for names in desk.queues()? {
        let Some(info) = desk.stream(&names.audit).await? else { continue };
        let last = info.state.last_seq;
        let from = last.saturating_sub(limit.saturating_mul(HIDDEN)).saturating_add(1);
        records.extend(read(desk, &names, from, last).await?);
        places.push((names, last));
    }
    if places.is_empty() {
        return Err(none(desk));
    }
    records.sort_by_key(Record::at);
    let many = records.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
    records.drain(..many);
    let mut table = table();
    match (desk.output, follow) {
        (Output::Json, false) => out::json(&document(&records, false))?,
        _ => print(desk, &mut table, &records)?,
    }
    if !follow {
        return if records.is_empty() {
            Err(Failure::Nothing("there is no record".to_owned()))
        } else {
            Ok(())
        };
    }
    loop {
        sleep(LOOK).await;
        for (names, seen) in &mut places {
            let last = desk.stream(&names.audit).await?.map_or(*seen, |info| info.state.last_seq);
            if last > *seen {
                print(desk, &mut table, &read(desk, names, *seen + 1, last).await?)?;
                *seen = last;
            }
        }
    }
}

async fn read(desk: &Desk, names: &Names, from: u64, last: u64) -> Result<Vec<Record>, Failure> {
    let subjects = names.audit_subjects();
    let mut walk = Walk::new(&desk.jetstream, (&names.audit, &subjects), from, last, None).whole();
    let mut records = Vec::new();
    loop {
        let seen = walk.next().await.map_err(cannot)?;
        if seen.is_empty() {
            return Ok(records);
        }
        let read = seen.iter().filter_map(|one| serde_json::from_slice(&one.payload).ok());
        records.extend(read.filter(|record| !matches!(record, Record::Parked(_))));
    }
}

/// Prints records as rows, or as an object a line.
fn print(desk: &Desk, table: &mut Table, records: &[Record]) -> Result<(), Failure> {
    if desk.output == Output::Table {
        if !records.is_empty() {
            out::print(&table.rows(&records.iter().map(row).collect::<Vec<_>>()));
        }
        return Ok(());
    }
    for record in records {
        out::print(&format!("{}\n", serde_json::to_string(record).map_err(cannot)?));
    }
    Ok(())
}
