//! Where a list goes on, as callers are told it: opaque, and good for that list only, asked for in the same
//! words. Pure.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use ring::digest::{SHA256, digest};

use super::{
    problem::{Fault, Problem},
    values::Values,
};
use crate::message::names::Names;

/// The parameters that may change from one part of a list to the next.
const FREE: [&str; 2] = ["cursor", "limit"];

/// A list that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct List {
    name: &'static str,
    /// A hash of all that is said of it.
    said: String,
}

impl List {
    /// The list of this name of which a request says this. Words with an age in them stay the same words.
    pub(super) fn new(name: &'static str, said: &Values) -> Self {
        let hash = digest(&SHA256, format!("{:?}", said.without(&FREE)).as_bytes());
        let said = hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Self { name, said }
    }
}

/// A place in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The queue.
    pub(super) queue: String,
    /// The sequence behind which it goes on.
    pub(super) after: u64,
}

impl Cursor {
    /// As callers are told it, for this list.
    pub(super) fn written(&self, list: &List) -> String {
        let List { name, said } = list;
        BASE64_URL_SAFE_NO_PAD.encode(format!("2 {name} {said} {} {}", self.after, self.queue))
    }

    /// Reads one of this list, and of one of these queues.
    ///
    /// # Errors
    /// Where it is none.
    pub(super) fn read(list: &List, queues: &[Names], text: &str) -> Result<Self, Problem> {
        let read = || {
            let told = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
            let begin = format!("2 {} {} ", list.name, list.said);
            let (after, queue) = told.strip_prefix(&begin)?.split_once(' ')?;
            Some(Self { queue: queue.to_owned(), after: after.parse().ok()? })
        };
        let fault =
            || Fault::new("cursor", text, "next of an answer to the same request, with the same filter");
        let is_its = |cursor: &Self| queues.iter().any(|names| names.queue == cursor.queue);
        read().filter(is_its).ok_or_else(|| Problem::faulty(vec![fault()]))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::values::Param, *};
    use crate::api::values::Kind;

    fn said(all: &[(&'static str, &str)]) -> Values {
        let mut values = Values::default();
        for (name, text) in all {
            values.add(&Param { name, kind: Kind::Text, about: "" }, text).unwrap();
        }
        values
    }

    #[test]
    fn a_cursor_is_read_by_its_own_list_only() {
        let queues = [Names::new("a", "a"), Names::new("b", "b")];
        let cursor = Cursor { queue: "b".to_owned(), after: 7 };
        let retries = List::new("retries", &said(&[]));
        let written = cursor.written(&retries);
        assert_eq!(Cursor::read(&retries, &queues, &written), Ok(cursor));
        assert!(Cursor::read(&retries, &queues[..1], &written).is_err());
        let audit = List::new("audit", &said(&[]));
        for (list, text) in
            [(audit, written.as_str()), (retries.clone(), ""), (retries.clone(), "MQ"), (retries, "%")]
        {
            assert!(Cursor::read(&list, &queues, text).is_err(), "{list:?} {text}");
        }
    }

    #[test]
    fn a_cursor_is_good_with_its_own_filter_only() {
        let queues = [Names::new("a", "a")];
        let cursor = Cursor { queue: "a".to_owned(), after: 7 };
        let list = |all: &[(&'static str, &str)]| List::new("retries", &said(all));
        let written = cursor.written(&list(&[("function", "f"), ("since", "1h"), ("limit", "1")]));
        for (all, good) in [
            (&[("since", "1h"), ("function", "f")][..], true),
            (&[("since", "1h"), ("function", "f"), ("limit", "9"), ("cursor", &written)], true),
            (&[("since", "2h"), ("function", "f")], false),
            (&[("since", "1h"), ("function", "g")], false),
            (&[("function", "f")], false),
            (&[], false),
        ] {
            assert_eq!(Cursor::read(&list(all), &queues, &written).is_ok(), good, "{all:?}");
        }
    }
}
