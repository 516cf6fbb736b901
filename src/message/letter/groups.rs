//! Dead letters that are alike: the same function, cause, status and normalised error.

use std::{collections::BTreeMap, time::SystemTime};

use super::{Letter, Status, normal::normal};

/// So many groups are told apart. Whoever calls functions chooses some of the words in them.
const MOST: usize = 2_000;
/// The error of the group of all others.
pub const OTHERS: &str = "(others)";

/// What the letters of a group have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alike {
    /// The function.
    pub function: Option<String>,
    /// The cause.
    pub cause: Option<String>,
    /// The last status.
    pub last_status: Option<Status>,
    /// The last error, normalised.
    pub error: Option<String>,
}

/// A group of letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// How many they are.
    pub count: u64,
    /// When the first of them died.
    pub first: SystemTime,
    /// When the last of them died.
    pub last: SystemTime,
}

/// Letters by what they have in common.
#[derive(Debug, Default)]
pub struct Groups(BTreeMap<Alike, Group>);

impl Groups {
    /// Counts a letter.
    pub fn add(&mut self, letter: &Letter) {
        let mut alike = Alike {
            function: letter.function.clone(),
            cause: letter.cause.clone(),
            last_status: letter.last_status.clone(),
            error: letter.last_error.as_deref().map(normal),
        };
        if self.0.len() >= MOST && !self.0.contains_key(&alike) {
            alike = Alike { error: Some(OTHERS.to_owned()), ..Alike::default() };
        }
        let at = letter.failed_at;
        let group = self.0.entry(alike).or_insert(Group { count: 0, first: at, last: at });
        group.count += 1;
        group.first = group.first.min(at);
        group.last = group.last.max(at);
    }

    /// The groups, the largest first.
    pub fn largest_first(self) -> Vec<(Alike, Group)> {
        let mut all: Vec<_> = self.0.into_iter().collect();
        all.sort_by_key(|(_, group)| std::cmp::Reverse(group.count));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::letter, *};
    use crate::message::names;

    #[test]
    fn letters_whose_errors_differ_in_figures_only_are_one_group() {
        let mut groups = Groups::default();
        for n in 0..300 {
            let error = format!("dial tcp 10.0.{}.{}:80: refused", n / 256, n % 256);
            let status = if n % 3 == 0 { "502" } else { "504" };
            let (at, told) = (format!("1970-01-01T00:{:02}:{:02}Z", n / 60, n % 60), names::LAST_ERROR);
            groups.add(&letter(
                "q-dead.f",
                &[(names::LAST_STATUS, status), (told, &error), (names::FAILED_AT, &at)],
            ));
        }
        let groups = groups.largest_first();
        let seen: Vec<_> = groups
            .iter()
            .map(|(alike, group)| {
                let lasted = group.last.duration_since(group.first).unwrap().as_secs();
                (alike.last_status.as_ref().unwrap().text().into_owned(), group.count, lasted)
            })
            .collect();
        assert_eq!(seen, [("504".to_owned(), 200, 298), ("502".to_owned(), 100, 297)]);
        assert_eq!(groups[0].0.error.as_deref(), Some("dial tcp <address>: refused"));
    }

    #[test]
    fn no_more_groups_are_kept_than_fit_into_memory() {
        let mut groups = Groups::default();
        let word = |n: usize| {
            let letters = [n / 676 % 26, n / 26 % 26, n % 26];
            letters.map(|at| char::from(b'a' + u8::try_from(at).unwrap())).iter().collect::<String>()
        };
        for n in 0..MOST + 500 {
            groups.add(&letter("q-dead.f", &[(names::LAST_ERROR, &word(n))]));
        }
        let groups = groups.largest_first();
        assert_eq!(groups.len(), MOST + 1);
        assert_eq!((groups[0].0.error.as_deref(), groups[0].1.count), (Some(OTHERS), 500));
    }
}
