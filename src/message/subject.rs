//! The subject of a message: the tokens that stand in it for a filter's wildcards, and its form in a header.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::message::names::covers;

/// What a header does not hold as it is, beside everything that is not ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

/// The tokens that stand in a subject for the wildcards of a filter, in order: one for each `*`, all that are
/// left for `>`. `None` where the filter does not take the subject.
pub fn wildcards<'s>(filter: &str, subject: &'s str) -> Option<Vec<&'s str>> {
    if !covers(filter, subject) {
        return None;
    }
    let mut tokens = subject.split('.');
    let mut found = Vec::new();
    for wanted in filter.split('.') {
        match wanted {
            "*" => found.extend(tokens.next()),
            ">" => found.extend(tokens.by_ref()),
            _ => drop(tokens.next()),
        }
    }
    Some(found)
}

/// A subject as a header holds it.
pub(crate) fn written(subject: &str) -> String {
    utf8_percent_encode(subject, ENCODED).to_string()
}

/// The subject that a header holds; `None` where it holds none.
pub(crate) fn read(header: &str) -> Option<String> {
    percent_decode_str(header).decode_utf8().ok().map(Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_stand_for_tokens() {
        for (filter, subject, tokens) in [
            ("orders", "orders", Some(vec![])),
            ("orders.*.created", "orders.eu.created", Some(vec!["eu"])),
            ("*.orders.*", "eu.orders.new", Some(vec!["eu", "new"])),
            ("orders.>", "orders.eu", Some(vec!["eu"])),
            ("orders.*.>", "orders.eu.a.b", Some(vec!["eu", "a", "b"])),
            (">", "a.b", Some(vec!["a", "b"])),
            ("orders.*", "orders", None),
            ("orders.*", "orders.a.b", None),
            ("orders.>", "orders", None),
            ("orders", "other", None),
        ] {
            assert_eq!(wildcards(filter, subject), tokens, "{filter} {subject}");
        }
    }

    #[test]
    fn a_subject_is_read_as_it_was_written() {
        for (subject, header) in
            [("orders.eu", "orders.eu"), ("a%2E.é", "a%252E.%C3%A9"), ("a\u{1}.\u{a0}", "a%01.%C2%A0")]
        {
            assert_eq!(written(subject), header);
            assert_eq!(read(header).as_deref(), Some(subject));
        }
        assert_eq!(read("a.%FF"), None);
    }
}
