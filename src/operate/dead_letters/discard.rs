//! Deletes dead letters for good: those that were there when the command was given, and none that died later.

use futures_util::{StreamExt, stream};
use serde_json::json;

use super::{
    export,
    read::{Letters, no_stream, nothing},
};
use crate::operate::{
    cli::{Choosing, Output},
    desk::Desk,
    end::{Failure, cannot},
    out::{self, number},
};

/// How many deletions are under way at once.
const AT_ONCE: usize = 32;

/// Deletes the letters that are meant.
///
/// # Errors
/// See [`Failure`].
pub(super) async fn discard(desk: &Desk, chosen: &Choosing, to: Option<&str>) -> Result<(), Failure> {
    desk.may_ask()?;
    let (names, choice) = (desk.queue()?, chosen.choice(desk.now()));
    let Some(letters) = Letters::open(desk, &names, &choice).await? else { return Err(no_stream(&names)) };
    let end = letters.end;
    let matched = letters.count().await?;
    if matched == 0 {
        return Err(nothing(&names, &choice));
    }
    let (many, queue) = (number(matched), &names.queue);
    desk.confirm(&format!("Delete {many} dead letters of {queue} ({choice}) for good?"))?;
    if let Some(to) = to {
        export::until(desk, &names, &choice, end, to).await?;
    }
    let (mut letters, mut discarded) = (Letters::until(desk, &names, &choice, end), 0);
    loop {
        let some = letters.next().await?;
        if some.is_empty() {
            break;
        }
        let deletions = some.iter().map(|letter| desk.jetstream.delete(&names.dead, letter.sequence));
        let mut deletions = stream::iter(deletions).buffer_unordered(AT_ONCE);
        while let Some(deleted) = deletions.next().await {
            deleted.map_err(cannot)?;
            discarded += 1;
        }
        if desk.is_watched() {
            eprint!("\r{} of {many} discarded", number(discarded));
        }
    }
    if desk.is_watched() {
        eprintln!();
    }
    match desk.output {
        Output::Json => out::json(&json!({ "matched": matched, "discarded": discarded })),
        Output::Table => {
            out::print(&format!("{} dead letters of {queue} are discarded\n", number(discarded)));
            Ok(())
        }
    }
}
