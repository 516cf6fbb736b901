//! The headers of a call. Their texts lie in one piece: a call has some ten of them, and each by itself would
//! be three allocations.

use std::{collections::HashMap, fmt, mem, ops::Range, slice};

use crate::text::line::all_bytes;

/// Headers with all their values, in the order of the message.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    /// Each name, and its values behind it.
    text: String,
    names: Vec<Name>,
    /// Where each value ends.
    ends: Vec<usize>,
}

/// Where a name begins and ends, and which of all values are its own.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Name {
    start: usize,
    end: usize,
    first: usize,
    behind: usize,
}

/// The values of a header.
#[derive(Clone)]
pub struct Values<'h> {
    text: &'h str,
    start: usize,
    ends: slice::Iter<'h, usize>,
}

impl Values<'_> {
    /// Where the next one stands in the [text](Headers::text) of all headers.
    pub fn next_range(&mut self) -> Option<Range<usize>> {
        let end = *self.ends.next()?;
        Some(mem::replace(&mut self.start, end)..end)
    }
}

impl<'h> Iterator for Values<'h> {
    type Item = &'h str;

    fn next(&mut self) -> Option<&'h str> {
        self.text.get(self.next_range()?)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.ends.size_hint()
    }
}

impl ExactSizeIterator for Values<'_> {}

impl Headers {
    /// None yet, with room for so many with a value each.
    pub fn with_room(headers: usize, text: usize) -> Self {
        Self {
            text: String::with_capacity(text),
            names: Vec::with_capacity(headers),
            ends: Vec::with_capacity(headers),
        }
    }

    /// One more, without values yet.
    pub fn begin(&mut self, name: &str) {
        let start = self.text.len();
        self.text.push_str(name);
        let values = self.ends.len();
        self.names.push(Name { start, end: self.text.len(), first: values, behind: values });
    }

    /// One more value of the last header.
    pub fn add(&mut self, value: &str) {
        self.text.push_str(value);
        self.ends.push(self.text.len());
        if let Some(last) = self.names.last_mut() {
            last.behind = self.ends.len();
        }
    }

    /// One more, with a value.
    pub fn push(&mut self, name: &str, value: &str) {
        self.begin(name);
        self.add(value);
    }

    /// The texts of all names and values.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Each with its values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Values<'_>)> {
        self.names.iter().map(|name| (self.name(name), self.values_of(name)))
    }

    fn name(&self, name: &Name) -> &str {
        self.text.get(name.start..name.end).unwrap_or_default()
    }

    fn values_of(&self, name: &Name) -> Values<'_> {
        let ends = self.ends.get(name.first..name.behind).unwrap_or_default();
        Values { text: &self.text, start: name.end, ends: ends.iter() }
    }

    /// Each value with its name.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter().flat_map(|(name, values)| values.map(move |value| (name, value)))
    }

    /// The values of a header, whose name matches in any case.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        let is_it = move |header: &&Name| self.name(header).eq_ignore_ascii_case(name);
        self.names.iter().filter(is_it).flat_map(|header| self.values_of(header))
    }

    /// The first value of a header that HTTP allows and that is not empty. The blanks around it are no part
    /// of it.
    pub fn usable(&self, name: &str) -> Option<&str> {
        let is_fit = |byte: u8| !byte.is_ascii_control() | (byte == b'\t');
        let allowed = |value: &&str| !value.is_empty() && all_bytes(value, is_fit);
        self.values(name).map(|value| value.trim_matches([' ', '\t'])).find(allowed)
    }

    /// Those with such names.
    #[must_use]
    pub fn only(&self, of: impl Fn(&str) -> bool) -> Self {
        self.iter().filter(|(name, _)| of(name)).collect()
    }

    /// The same with the last values of each name, in the place of its first. Hardly any message has two of a
    /// name, and that is soon seen.
    pub(super) fn last_of_each(self) -> Self {
        let mut names: Vec<_> = self.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        if names.windows(2).all(|pair| pair.first() != pair.last()) {
            return self;
        }
        let (mut places, mut kept) = (HashMap::new(), Vec::<(&str, Values<'_>)>::new());
        for (name, values) in self.iter() {
            let place = *places.entry(name).or_insert(kept.len());
            match kept.get_mut(place) {
                Some(earlier) => earlier.1 = values,
                None => kept.push((name, values)),
            }
        }
        kept.into_iter().collect()
    }
}

impl<N: AsRef<str>, V: IntoIterator<Item: AsRef<str>>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(all: I) -> Self {
        let mut headers = Self::default();
        for (name, values) in all {
            headers.begin(name.as_ref());
            values.into_iter().for_each(|value| headers.add(value.as_ref()));
        }
        headers
    }
}

impl fmt::Debug for Headers {
    /// Without what callers wrote.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} headers", self.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_usable_value_counts_whatever_the_case_of_its_name() {
        let headers: Headers =
            [("A", vec![]), ("a", vec!["", "x\ny"]), ("B", vec!["1"]), ("A", vec![" \t2 3\t"])]
                .into_iter()
                .collect();
        assert_eq!(headers.usable("a"), Some("2 3"));
        assert_eq!(headers.values("A").count(), 3);
        assert_eq!((headers.usable("b"), headers.usable("c")), (Some("1"), None));
    }

    proptest! {
        #[test]
        fn all_that_was_put_in_is_there_in_its_order(
            all in prop::collection::vec((".{0,5}", prop::collection::vec(".{0,5}", 0..3)), 0..6),
        ) {
            let headers: Headers = all.iter().map(|(name, values)| (name, values)).collect();
            let read: Vec<(String, Vec<String>)> = headers
                .iter()
                .map(|(name, values)| (name.to_owned(), values.map(str::to_owned).collect()))
                .collect();
            prop_assert_eq!(&read, &all);
            prop_assert_eq!((headers.len(), headers.is_empty()), (all.len(), all.is_empty()));
            let pairs: Vec<_> = all
                .iter()
                .flat_map(|(name, values)| values.iter().map(|value| (name.as_str(), value.as_str())))
                .collect();
            prop_assert_eq!(headers.pairs().collect::<Vec<_>>(), pairs);
            let even = |name: &str| name.len().is_multiple_of(2);
            let kept = read.into_iter().filter(|(name, _)| even(name));
            prop_assert!(headers.only(even) == kept.collect());
        }
    }
}
