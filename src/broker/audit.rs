//! The audit of a queue: its records are read here, and written by the [`writer`].

pub mod writer;

use crate::{
    broker::jetstream::{ApiError, JetStream, Stored, if_stream},
    message::{audit::Record, names::Names},
};

/// The records that tell of a call, oldest first, and when each was stored. There are none where there is no
/// stream.
///
/// # Errors
/// See [`ApiError`].
pub(crate) async fn records_of(
    jetstream: &JetStream,
    names: &Names,
    call_id: &str,
) -> Result<Vec<Record>, ApiError> {
    let stored = if_stream(jetstream.stored_on(&names.audit, &names.audit_of(call_id)).await)?;
    let stored = stored.unwrap_or_default();
    let mut records: Vec<_> = stored.iter().filter_map(read).collect();
    records.retain(|record| record.call_id() == Some(call_id));
    // A record whose acknowledgement was lost may have been written twice.
    records.dedup();
    Ok(records)
}

/// A record, where it is one that this version knows.
fn read(stored: &Stored) -> Option<Record> {
    serde_json::from_slice(&stored.payload).ok()
}
