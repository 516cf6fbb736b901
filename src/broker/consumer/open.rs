//! The requests to a consumer that are open at once, and how many messages they still bring.
//!
//! The broker serves them in turn, a message each, and a message does not say to which it belongs. It does
//! not matter: the first ones are counted for the oldest, which was asked at the latest when they were
//! delivered. Where there is no more to bring, the broker ends all requests. It says of each how many
//! messages it did not bring, or, as NATS 2.15 does, only that there are none: then neither it nor those
//! before it bring more. Counting too few is harmless, as the next request finds what lies unread; counting
//! too many is not, as what never comes is waited for.

use std::collections::VecDeque;

use async_nats::{Message, StatusCode};
use tokio::time::Instant;

/// How many messages a request did not bring.
const NOT_BROUGHT: &str = "Nats-Pending-Messages";
/// So many are remembered whose answers may be on their way.
const FILLED: usize = 16;

/// The open requests, the oldest first. `S` is what a request has until its messages came.
#[derive(Debug)]
pub(super) struct Open<S> {
    requests: VecDeque<Request<S>>,
    /// The last ones for which as many messages were counted as they asked for: their numbers, and how many.
    filled: VecDeque<(u64, usize)>,
    /// The number of the next one.
    next: u64,
    to_come: usize,
}

#[derive(Debug)]
struct Request<S> {
    number: u64,
    asked: Instant,
    messages: usize,
    left: usize,
    _share: S,
}

impl<S> Default for Open<S> {
    fn default() -> Self {
        Self { requests: VecDeque::new(), filled: VecDeque::new(), next: 0, to_come: 0 }
    }
}

impl<S> Open<S> {
    /// One more, for so many messages. Returns its number.
    pub fn add(&mut self, messages: usize, asked: Instant, share: S) -> u64 {
        let number = self.next;
        self.next += 1;
        self.to_come += messages;
        self.requests.push_back(Request { number, asked, messages, left: messages, _share: share });
        number
    }

    /// How many messages are still to come.
    pub fn to_come(&self) -> usize {
        self.to_come
    }

    /// When the oldest was sent.
    pub fn oldest(&self) -> Option<Instant> {
        self.requests.front().map(|oldest| oldest.asked)
    }

    /// A message came. Returns when it was asked for at the earliest.
    pub fn brought(&mut self) -> Instant {
        let asked = self.oldest().unwrap_or_else(Instant::now);
        self.less(1);
        asked
    }

    /// A request is over, as this answer says.
    pub fn answered(&mut self, answer: &Message) {
        let number = answer.subject.rsplit('.').next().and_then(|number| number.parse().ok());
        let said = answer.headers.as_ref().and_then(|headers| headers.get(NOT_BROUGHT));
        let not_brought = said.and_then(|said| said.as_str().parse().ok());
        match number {
            Some(number) if not_brought.is_none() && answer.status == Some(StatusCode::NOT_FOUND) => {
                self.ends_all(number);
            }
            Some(number) => self.ends(number, not_brought),
            None => {}
        }
    }

    /// There is no more to bring: this request is over, and all before it.
    fn ends_all(&mut self, number: u64) {
        while let Some(over) = self.requests.pop_front_if(|request| request.number <= number) {
            self.to_come -= over.left;
        }
    }

    /// A request is over, and did not bring so many messages: none at all if that is not known.
    pub fn ends(&mut self, number: u64, not_brought: Option<usize>) {
        let known = self.requests.iter().map(|request| (request.number, request.messages));
        // What was counted for one that brings nothing was another's.
        let its = known.chain(self.filled.iter().copied()).find(|(its, _)| *its == number);
        let all = its.map_or(0, |(_, messages)| messages);
        self.less(not_brought.unwrap_or(all));
    }

    /// None is open any more. Returns how many messages were still to come.
    pub fn close(&mut self) -> usize {
        self.requests.clear();
        self.filled.clear();
        std::mem::take(&mut self.to_come)
    }

    /// So many less are to come. Whatever comes later was delivered later, so the oldest go first.
    fn less(&mut self, mut messages: usize) {
        while let Some(oldest) = self.requests.front_mut() {
            let taken = oldest.left.min(messages);
            oldest.left -= taken;
            messages -= taken;
            self.to_come -= taken;
            if oldest.left > 0 {
                return;
            }
            self.filled.push_back((oldest.number, oldest.messages));
            if self.filled.len() > FILLED {
                self.filled.pop_front();
            }
            self.requests.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Two requests, for 20 and for 16 messages, and when they were sent.
    fn two() -> (Open<()>, [Instant; 2]) {
        let (mut open, first) = (Open::default(), Instant::now());
        let second = first + Duration::from_millis(1);
        assert_eq!((open.add(20, first, ()), open.add(16, second, ())), (0, 1));
        (open, [first, second])
    }

    #[test]
    fn the_first_messages_count_for_the_oldest_request() {
        let (mut open, [first, second]) = two();
        assert_eq!(open.oldest(), Some(first));
        let asked: Vec<_> = (0..36).map(|_| open.brought()).collect();
        assert!(asked[..20].iter().all(|asked| *asked == first));
        assert!(asked[20..].iter().all(|asked| *asked == second));
        assert_eq!(open.oldest(), None);
        assert_eq!((open.to_come(), open.requests.len()), (0, 0));
        // One too many harms nothing.
        open.brought();
        assert_eq!(open.to_come(), 0);
    }

    #[test]
    fn what_requests_did_not_bring_is_not_to_come_in_whatever_order_they_end() {
        // Each brought messages in turn, as long as there were some.
        for (brought, ends) in [
            (20, [(0, Some(10)), (1, Some(6))]),
            (20, [(1, Some(6)), (0, Some(10))]),
            (5, [(0, Some(17)), (1, Some(14))]),
            (5, [(1, Some(14)), (0, Some(17))]),
            (0, [(0, Some(20)), (1, Some(16))]),
            // One that brings nothing says no number.
            (20, [(1, None), (9, None)]),
            (0, [(0, None), (1, None)]),
        ] {
            let (mut open, _) = two();
            for _ in 0..brought {
                open.brought();
            }
            ends.into_iter().for_each(|(number, not_brought)| open.ends(number, not_brought));
            assert_eq!((open.to_come(), open.requests.len()), (0, 0), "{brought}, {ends:?}");
        }
    }

    #[test]
    fn one_that_brings_nothing_is_not_counted_though_its_place_was_taken() {
        let (mut open, second) = two();
        open.add(8, second[1], ());
        // The first and the third brought all of theirs, and the second one was turned away.
        for _ in 0..28 {
            open.brought();
        }
        open.ends(1, None);
        assert_eq!((open.to_come(), open.requests.len()), (0, 0));
        let (mut open, second) = two();
        open.add(40, second[1], ());
        for _ in 0..40 {
            open.brought();
        }
        open.ends(1, None);
        assert_eq!(open.to_come(), 20);
    }

    #[test]
    fn the_brokers_answer_says_which_request_it_ends_and_what_that_did_not_bring() {
        let answer = |subject: &str, not_brought: Option<&str>| Message {
            subject: subject.into(),
            reply: None,
            payload: bytes::Bytes::new(),
            headers: not_brought.map(|number| {
                let mut headers = async_nats::HeaderMap::new();
                crate::message::header::put(&mut headers, NOT_BROUGHT, number);
                headers
            }),
            status: None,
            description: None,
            length: 0,
        };
        let none_left =
            |subject: &str| Message { status: Some(StatusCode::NOT_FOUND), ..answer(subject, None) };
        for (brought, subject, left) in [
            (5, "_INBOX.a.0", 16),
            (5, "_INBOX.a.1", 0),
            // Counted for the first, though the second brought some of them.
            (25, "_INBOX.a.0", 11),
            (25, "_INBOX.a.1", 0),
        ] {
            let (mut open, _) = two();
            for _ in 0..brought {
                open.brought();
            }
            open.answered(&none_left(subject));
            assert_eq!(open.to_come(), left, "{brought} {subject}");
            // Those before it may say the same later.
            open.answered(&none_left("_INBOX.a.0"));
            assert_eq!(open.to_come(), left, "{brought} {subject}");
        }
        for (subject, not_brought, left) in [
            ("_INBOX.a.0", Some("7"), 29),
            ("_INBOX.a.1", None, 20),
            ("_INBOX.a.2", None, 36),
            ("_INBOX.a.x", Some("7"), 36),
            ("_INBOX.a.0", Some("99"), 0),
        ] {
            let (mut open, _) = two();
            open.answered(&answer(subject, not_brought));
            assert_eq!(open.to_come(), left, "{subject} {not_brought:?}");
        }
    }
}
