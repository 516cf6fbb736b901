//! Where a list goes on, as callers are told it: opaque, and good for that list only. Pure.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};

use super::problem::{Fault, Problem};
use crate::message::names::Names;

/// A place in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The queue.
    pub(super) queue: String,
    /// The sequence behind which it goes on.
    pub(super) after: u64,
}

impl Cursor {
    /// As callers are told it, for a list of this name.
    pub(super) fn written(&self, list: &str) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(format!("1 {list} {} {}", self.after, self.queue))
    }

    /// Reads one of this list, and of one of these queues.
    ///
    /// # Errors
    /// Where it is none.
    pub(super) fn read(list: &str, queues: &[Names], text: &str) -> Result<Self, Problem> {
        let read = || {
            let told = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
            let (after, queue) =
                told.strip_prefix("1 ")?.strip_prefix(list)?.strip_prefix(' ')?.split_once(' ')?;
            Some(Self { queue: queue.to_owned(), after: after.parse().ok()? })
        };
        let fault = || Fault::new("cursor", text, "next of an answer to the same request");
        let is_its = |cursor: &Self| queues.iter().any(|names| names.queue == cursor.queue);
        read().filter(is_its).ok_or_else(|| Problem::faulty(vec![fault()]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_by_its_own_list_only() {
        let queues = [Names::new("a", "a"), Names::new("b", "b")];
        let cursor = Cursor { queue: "b".to_owned(), after: 7 };
        let written = cursor.written("retries");
        assert_eq!(Cursor::read("retries", &queues, &written), Ok(cursor));
        assert!(Cursor::read("retries", &queues[..1], &written).is_err());
        for (list, text) in
            [("audit", written.as_str()), ("retries", ""), ("retries", "MQ"), ("retries", "%")]
        {
            assert!(Cursor::read(list, &queues, text).is_err(), "{list} {text}");
        }
    }
}
