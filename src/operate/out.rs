//! What a command prints: tables that people read, and JSON.

use std::{
    borrow::Cow,
    io::{self, BufWriter, StdoutLock, Write},
    time::SystemTime,
};

use serde::Serialize;

use super::end::{Failure, cannot};
use crate::text::line::escaped;

/// Prints to whoever reads it; a reader that has seen enough and left is no error.
pub fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints a JSON document.
///
/// # Errors
/// Where it cannot be written.
pub(super) fn json(document: &impl Serialize) -> Result<(), Failure> {
    print(&format!("{}\n", serde_json::to_string_pretty(document).map_err(cannot)?));
    Ok(())
}

/// A text that is printed piece by piece.
#[derive(Debug)]
pub(super) struct Page {
    out: BufWriter<StdoutLock<'static>>,
    /// Whether the reader has left.
    pub(super) closed: bool,
}

impl Page {
    /// An empty one.
    pub fn new() -> Self {
        Self { out: BufWriter::with_capacity(1 << 16, io::stdout().lock()), closed: false }
    }

    /// Prints one more piece.
    pub fn put(&mut self, text: &str) {
        self.closed = self.closed || self.out.write_all(text.as_bytes()).is_err();
    }

    /// Prints what is left.
    pub fn end(mut self) {
        // A reader that has seen enough is no error.
        let _ = self.out.flush();
    }
}

/// Rows in columns, as wide as the first rows take; only the last column is of any length.
#[derive(Debug)]
pub(super) struct Table {
    titles: Vec<&'static str>,
    widths: Option<Vec<usize>>,
}

/// The longest that a column of many rows gets.
const WIDEST: usize = 40;

impl Table {
    /// A table with these titles.
    pub fn new(titles: &[&'static str]) -> Self {
        Self { titles: titles.to_vec(), widths: None }
    }

    /// Some rows; above the first of them the titles.
    pub fn rows(&mut self, rows: &[Vec<String>]) -> String {
        let rows: Vec<Vec<Cow<'_, str>>> =
            rows.iter().map(|row| row.iter().map(|cell| shown(cell)).collect()).collect();
        let mut text = String::new();
        let widths = match &self.widths {
            Some(widths) => widths.clone(),
            None => {
                let longest = |column: usize| {
                    let cells =
                        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
                    cells.max().unwrap_or(0).min(WIDEST)
                };
                let widths: Vec<_> = self
                    .titles
                    .iter()
                    .enumerate()
                    .map(|(column, title)| title.len().max(longest(column)))
                    .collect();
                let titles: Vec<_> = self.titles.iter().map(|title| Cow::Borrowed(*title)).collect();
                text.push_str(&line(&titles, &widths));
                self.widths.insert(widths).clone()
            }
        };
        rows.iter().for_each(|row| text.push_str(&line(row, &widths)));
        text
    }
}

fn line(cells: &[Cow<'_, str>], widths: &[usize]) -> String {
    let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
    format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
}

/// Text of others, fit for a terminal.
pub(super) fn shown(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c.escape_default().to_string())
}

/// A text that may be absent.
pub(super) fn or_dash(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}

/// A time, to the second.
pub(super) fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// A number of bytes, as people say it.
pub(super) fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB"];
    let mut unit = units.iter();
    let (mut rest, mut name) = (bytes, unit.next());
    while rest >= 10 << 10 {
        let Some(next) = unit.next() else { break };
        (rest, name) = (rest >> 10, Some(next));
    }
    format!("{rest} {}", name.copied().unwrap_or_default())
}

/// A number with its thousands apart.
pub(super) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_as_wide_as_its_first_rows_and_shows_no_control_characters() {
        let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
        let mut table = Table::new(&["SEQ", "ERROR"]);
        assert_eq!(
            table.rows(&[row(&["1", "a\nb"]), row(&["1000", ""])]),
            "SEQ   ERROR\n1     a\\nb\n1000\n"
        );
        assert_eq!(table.rows(&[row(&["100000", "late"])]), "100000  late\n");
    }

    #[test]
    fn figures_are_written_for_people() {
        for (figure, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(number(figure), text);
        }
        for (bytes, text) in [
            (0, "0 B"),
            (10_239, "10239 B"),
            (10_240, "10 KiB"),
            (50 << 20, "50 MiB"),
            (20 << 40, "20480 GiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
