//! Lists dead letters as they come, or sums them up.

use serde_json::{Value, json};

use super::{
    item::Item,
    read::{Letters, no_stream, nothing},
};
use crate::{
    message::{
        envelope::rfc3339,
        letter::{
            Letter,
            choice::Choice,
            groups::{Alike, Group, Groups},
        },
        names::Names,
    },
    operate::{
        cli::{Filter, Output},
        desk::Desk,
        end::{Failure, cannot},
        out::{self, Page, Table, number, or_dash, time},
    },
};

/// Lists letters, oldest first, each queue's in turn.
///
/// # Errors
/// See [`Failure`].
pub(super) async fn list(desk: &Desk, filter: &Filter, limit: Option<u64>) -> Result<(), Failure> {
    let (queues, choice) = (desk.queues()?, filter.choice(desk.now()));
    let opened = open(desk, &queues, &choice).await?;
    let mut listing = Listing::new(desk.output, queues.len() > 1, limit.unwrap_or(u64::MAX));
    for (names, mut letters) in opened {
        while listing.wants_more() {
            let some = letters.next().await?;
            if some.is_empty() {
                break;
            }
            listing.add(&names.queue, &some)?;
        }
    }
    let (listed, more) = (listing.listed, listing.more);
    listing.end();
    tell_more(desk, more, listed);
    if listed > 0 { Ok(()) } else { Err(none(&queues, &choice)) }
}

/// Tells people that there is more, which JSON says itself.
fn tell_more(desk: &Desk, more: bool, listed: u64) {
    if more && desk.output == Output::Table {
        eprintln!("queue-worker: there are more; --limit {} ended the list", number(listed));
    }
}

/// The letters of each queue that has any stream of them.
async fn open<'q>(
    desk: &Desk,
    queues: &'q [Names],
    choice: &Choice,
) -> Result<Vec<(&'q Names, Letters)>, Failure> {
    let mut opened = Vec::new();
    for names in queues {
        match Letters::open(desk, names, choice, 0).await? {
            Some(letters) => opened.push((names, letters)),
            None if queues.len() == 1 => return Err(no_stream(names)),
            None => {}
        }
    }
    Ok(opened)
}

fn none(queues: &[Names], choice: &Choice) -> Failure {
    match queues {
        [names] => nothing(names, choice),
        _ => Failure::Nothing("there is no such dead letter".to_owned()),
    }
}

/// A list that grows.
struct Listing {
    page: Page,
    output: Output,
    table: Table,
    /// Whether each row says its queue.
    queues: bool,
    limit: u64,
    listed: u64,
    /// Whether there is more than was listed.
    more: bool,
}

impl Listing {
    fn new(output: Output, queues: bool, limit: u64) -> Self {
        let mut titles = vec![
            "SEQUENCE", "FAILED", "FUNCTION", "CAUSE", "STATUS", "ATTEMPTS", "REDRIVES", "CALL ID", "ERROR",
        ];
        if queues {
            titles.insert(0, "QUEUE");
        }
        let mut page = Page::new();
        if output == Output::Json {
            page.put("{\"items\":[");
        }
        Self { page, output, table: Table::new(&titles), queues, limit, listed: 0, more: false }
    }

    fn wants_more(&self) -> bool {
        !self.more && !self.page.closed
    }

    fn add(&mut self, queue: &str, letters: &[Letter]) -> Result<(), Failure> {
        let room = usize::try_from(self.limit - self.listed).unwrap_or(usize::MAX);
        let wanted = letters.get(..room).unwrap_or(letters);
        self.more = wanted.len() < letters.len();
        match self.output {
            Output::Table if !wanted.is_empty() => {
                let rows: Vec<_> = wanted.iter().map(|letter| self.row(queue, letter)).collect();
                let rows = self.table.rows(&rows);
                self.page.put(&rows);
            }
            Output::Table => {}
            Output::Json => {
                for (nth, letter) in wanted.iter().enumerate() {
                    self.page.put(if self.listed == 0 && nth == 0 { "\n" } else { ",\n" });
                    self.page.put(&serde_json::to_string(&Item::of(queue, letter)).map_err(cannot)?);
                }
            }
        }
        self.listed += wanted.len() as u64;
        Ok(())
    }

    fn row(&self, queue: &str, letter: &Letter) -> Vec<String> {
        let status = letter.last_status.as_ref().map(|status| status.text().into_owned());
        let mut row = vec![
            letter.sequence.to_string(),
            time(letter.failed_at),
            or_dash(letter.function.as_deref()),
            or_dash(letter.cause.as_deref()),
            or_dash(status.as_deref()),
            letter.attempts.to_string(),
            letter.redrives.clone().unwrap_or_else(|| "0".to_owned()),
            or_dash(letter.call_id.as_deref()),
            or_dash(letter.last_error.as_deref()),
        ];
        if self.queues {
            row.insert(0, queue.to_owned());
        }
        row
    }

    fn end(mut self) {
        if self.output == Output::Json {
            self.page.put(&format!("\n],\"more\":{}}}\n", self.more));
        }
        self.page.end();
    }
}

/// Groups as JSON has them.
pub(crate) fn sums(groups: &[(Alike, Group)]) -> Vec<Value> {
    let sum = |(alike, group): &(Alike, Group)| {
        json!({
            "function": alike.function, "cause": alike.cause, "lastStatus": alike.last_status,
            "error": alike.error, "count": group.count,
            "first": rfc3339(group.first), "last": rfc3339(group.last),
        })
    };
    groups.iter().map(sum).collect()
}

/// Sums letters up, the largest groups first.
///
/// # Errors
/// See [`Failure`].
pub(super) async fn groups(desk: &Desk, filter: &Filter, limit: Option<u64>) -> Result<(), Failure> {
    let (queues, choice) = (desk.queues()?, filter.choice(desk.now()));
    let (mut groups, mut some) = (Groups::default(), false);
    for (_, mut letters) in open(desk, &queues, &choice).await? {
        loop {
            let letters = letters.next().await?;
            if letters.is_empty() {
                break;
            }
            some = true;
            letters.iter().for_each(|letter| groups.add(letter));
        }
    }
    let mut groups = groups.largest_first();
    let all = groups.len();
    groups.truncate(limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX));
    tell_more(desk, groups.len() < all, groups.len() as u64);
    if desk.output == Output::Json {
        out::json(&json!({ "groups": sums(&groups) }))?;
    } else if some {
        let rows: Vec<_> = groups
            .iter()
            .map(|(alike, group)| {
                let status = alike.last_status.as_ref().map(|status| status.text().into_owned());
                vec![
                    number(group.count),
                    or_dash(alike.function.as_deref()),
                    or_dash(alike.cause.as_deref()),
                    or_dash(status.as_deref()),
                    time(group.first),
                    time(group.last),
                    or_dash(alike.error.as_deref()),
                ]
            })
            .collect();
        let titles = ["COUNT", "FUNCTION", "CAUSE", "STATUS", "FIRST", "LAST", "ERROR"];
        out::print(&Table::new(&titles).rows(&rows));
    }
    if some { Ok(()) } else { Err(none(&queues, &choice)) }
}
