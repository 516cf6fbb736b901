//! The requests to a consumer that are open at once, each with an inbox of its own.
//!
//! A message does not say which request brought it, and a broker that has no more ends a request without
//! saying how many it had brought (NATS 2.15). In an inbox that only one request uses, both are plain: it is
//! over when it has brought all its messages, or when the broker says so. Then the next one uses the inbox,
//! for a subject that the broker has seen before costs it less than a new one.

use std::{future::poll_fn, task::Poll};

use async_nats::Message;
use futures_util::{Stream, StreamExt};
use tokio::time::Instant;

/// So many may be open beside each other.
const MOST: usize = 8;
/// How many messages a request did not bring. Where a consumer has replicas, the answer that says so may
/// come before those that it did bring.
const NOT_BROUGHT: &str = "Nats-Pending-Messages";

/// The inboxes: first those with an open request, the oldest first, then those that are free. `M` is what
/// arrives in one, and `S` what a request has as long as it is open.
#[derive(Debug)]
pub(super) struct Requests<M, S> {
    inboxes: Vec<Inbox<M, S>>,
    to_come: usize,
}

#[derive(Debug)]
struct Inbox<M, S> {
    subject: String,
    messages: M,
    /// When its last request was sent.
    asked: Instant,
    /// What the open request has still to bring.
    open: Option<Left<S>>,
}

#[derive(Debug)]
struct Left<S> {
    messages: usize,
    _share: S,
}

/// What came to an inbox, to which one, and when its request was sent.
#[derive(Debug)]
pub(super) struct Came {
    pub message: Message,
    pub asked: Instant,
    inbox: usize,
}

/// An inbox that is given up, and when its last request was sent. It may still bring something.
#[derive(Debug)]
pub(super) struct GivenUp<M> {
    pub messages: M,
    pub asked: Instant,
}

impl<M, S> Default for Requests<M, S> {
    fn default() -> Self {
        Self { inboxes: Vec::new(), to_come: 0 }
    }
}

impl<M: Stream<Item = Message> + Unpin, S> Requests<M, S> {
    /// Whether one more may be open.
    pub fn has_room(&self) -> bool {
        self.open() < MOST
    }

    /// Whether the next one has an inbox.
    pub fn has_inbox(&self) -> bool {
        self.open() < self.inboxes.len()
    }

    /// One more inbox, for the next request.
    pub fn put(&mut self, subject: String, messages: M) {
        self.inboxes.push(Inbox { subject, messages, asked: Instant::now(), open: None });
    }

    /// A request for so many messages is sent. Returns the subject of its inbox, if there is one.
    pub fn begins(&mut self, messages: usize, asked: Instant, share: S) -> Option<String> {
        let inbox = self.inboxes.iter_mut().find(|inbox| inbox.open.is_none())?;
        inbox.asked = asked;
        inbox.open = Some(Left { messages, _share: share });
        self.to_come += messages;
        Some(inbox.subject.clone())
    }

    /// How many messages are still to come.
    pub fn to_come(&self) -> usize {
        self.to_come
    }

    /// What comes next, of the oldest request that something has come for. None where an inbox is closed.
    pub async fn next(&mut self) -> Option<Came> {
        poll_fn(|context| {
            // Nothing is expected in those that are free; but what is there is not left to lie.
            for (inbox, Inbox { messages, asked, .. }) in self.inboxes.iter_mut().enumerate() {
                if let Poll::Ready(message) = messages.poll_next_unpin(context) {
                    return Poll::Ready(message.map(|message| Came { message, asked: *asked, inbox }));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// This was a message.
    pub fn brought(&mut self, came: &Came) {
        self.less(came.inbox, 1);
    }

    /// This said that its request is over.
    pub fn ended(&mut self, came: &Came) {
        let said = came.message.headers.as_ref().and_then(|headers| headers.get(NOT_BROUGHT));
        let not_brought = said.and_then(|said| said.as_str().parse().ok());
        self.less(came.inbox, not_brought.unwrap_or(usize::MAX));
    }

    /// All are over, though they may still bring something. Returns how many messages were to come.
    pub fn give_up(&mut self) -> (usize, impl Iterator<Item = GivenUp<M>>) {
        let given_up =
            self.inboxes.drain(..).map(|Inbox { messages, asked, .. }| GivenUp { messages, asked });
        (std::mem::take(&mut self.to_come), given_up)
    }

    fn open(&self) -> usize {
        self.inboxes.iter().take_while(|inbox| inbox.open.is_some()).count()
    }

    /// So many messages less are to come to an inbox. It is free when there are none.
    fn less(&mut self, inbox: usize, messages: usize) {
        let Some(left) = self.inboxes.get_mut(inbox).and_then(|inbox| inbox.open.as_mut()) else { return };
        let less = left.messages.min(messages);
        left.messages -= less;
        self.to_come -= less;
        if left.messages == 0 {
            let mut free = self.inboxes.remove(inbox);
            free.open = None;
            self.inboxes.push(free);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;
    use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

    use super::*;

    /// An inbox as a test fills it.
    #[derive(Debug)]
    struct Fed(UnboundedReceiver<Message>);

    impl Stream for Fed {
        type Item = Message;

        fn poll_next(
            mut self: std::pin::Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
        ) -> Poll<Option<Message>> {
            self.0.poll_recv(context)
        }
    }

    fn message(subject: &str) -> Message {
        Message {
            subject: subject.into(),
            reply: None,
            payload: bytes::Bytes::new(),
            headers: None,
            status: None,
            description: None,
            length: 0,
        }
    }

    type Feeds = Vec<UnboundedSender<Message>>;

    /// Requests for so many messages each, a millisecond apart, and what feeds their inboxes.
    fn open(messages: &[usize]) -> (Requests<Fed, ()>, Feeds, Instant) {
        let (mut requests, first) = (Requests::default(), Instant::now());
        let mut feeds = Vec::new();
        for (number, messages) in messages.iter().enumerate() {
            let (feed, fed) = unbounded_channel();
            feeds.push(feed);
            assert!(!requests.has_inbox());
            requests.put(number.to_string(), Fed(fed));
            let asked = first + Duration::from_millis(number as u64);
            assert_eq!(requests.begins(*messages, asked, ()), Some(number.to_string()));
        }
        (requests, feeds, first)
    }

    fn next(requests: &mut Requests<Fed, ()>) -> Option<Came> {
        requests.next().now_or_never().map(Option::unwrap)
    }

    /// What comes of messages alone: their subjects, and by how many milliseconds after the first request
    /// they were asked for.
    fn brought(requests: &mut Requests<Fed, ()>, first: Instant) -> Vec<(String, u128)> {
        std::iter::from_fn(|| {
            let came = next(requests)?;
            requests.brought(&came);
            Some((came.message.subject.into_string(), (came.asked - first).as_millis()))
        })
        .collect()
    }

    #[test]
    fn each_message_counts_for_the_request_in_whose_inbox_it_is_the_oldest_first() {
        let (mut requests, feeds, first) = open(&[3, 2]);
        for (feed, subject) in [(1, "a"), (0, "b"), (1, "c"), (0, "d")] {
            feeds[feed].send(message(subject)).unwrap();
        }
        let expected = [("b", 0), ("d", 0), ("a", 1), ("c", 1)];
        assert_eq!(
            brought(&mut requests, first),
            expected.map(|(subject, asked)| (subject.to_owned(), asked))
        );
        // The second one has all, so its inbox is free.
        assert_eq!((requests.to_come(), requests.has_inbox()), (1, true));
        assert_eq!(requests.begins(4, first + Duration::from_millis(7), ()), Some("1".to_owned()));
        feeds[1].send(message("e")).unwrap();
        feeds[0].send(message("f")).unwrap();
        let expected = [("f", 0), ("e", 7)];
        assert_eq!(
            brought(&mut requests, first),
            expected.map(|(subject, asked)| (subject.to_owned(), asked))
        );
        assert_eq!((requests.to_come(), requests.has_inbox()), (3, true));
    }

    #[test]
    fn what_an_ended_request_did_not_bring_is_not_to_come_whatever_the_others_brought() {
        // How many messages each of two requests brings, which ends, and what is then still to come.
        for (brings, ends, left) in [
            ([0, 0], 0, 16),
            ([0, 0], 1, 20),
            ([5, 0], 0, 16),
            ([0, 5], 0, 11),
            ([19, 15], 1, 1),
            ([7, 16], 0, 0),
            ([20, 3], 1, 0),
        ] {
            let (mut requests, feeds, first) = open(&[20, 16]);
            for (feed, brings) in feeds.iter().zip(brings) {
                (0..brings).for_each(|_| feed.send(message("a")).unwrap());
            }
            brought(&mut requests, first);
            feeds[ends].send(message("over")).unwrap();
            let came = next(&mut requests).unwrap();
            requests.ended(&came);
            assert_eq!(requests.to_come(), left, "{brings:?} {ends}");
        }
    }

    #[test]
    fn a_request_whose_end_overtakes_its_messages_is_open_until_they_came() {
        let (mut requests, feeds, first) = open(&[5, 1]);
        let mut end = message("over");
        let mut headers = async_nats::HeaderMap::new();
        crate::message::header::put(&mut headers, NOT_BROUGHT, "2");
        end.headers = Some(headers);
        feeds[0].send(end).unwrap();
        let came = next(&mut requests).unwrap();
        requests.ended(&came);
        assert_eq!(requests.to_come(), 4);
        (0..3).for_each(|_| feeds[0].send(message("a")).unwrap());
        assert_eq!(brought(&mut requests, first).len(), 3);
        assert_eq!((requests.to_come(), requests.begins(1, first, ())), (1, Some("0".to_owned())));
    }

    #[test]
    fn what_nobody_expects_is_found_and_counts_for_none() {
        let (mut requests, feeds, first) = open(&[1, 1]);
        (0..3).for_each(|_| feeds[0].send(message("a")).unwrap());
        assert_eq!(brought(&mut requests, first), vec![("a".to_owned(), 0); 3]);
        assert_eq!(requests.to_come(), 1);
    }

    #[test]
    fn what_was_given_up_may_still_come_and_was_asked_for_then() {
        let (mut requests, feeds, first) = open(&[1, 20, 16]);
        feeds[0].send(message("a")).unwrap();
        feeds[1].send(message("b")).unwrap();
        assert_eq!(brought(&mut requests, first).len(), 2);
        let (lost, given_up) = requests.give_up();
        let asked: Vec<_> = given_up.map(|inbox| (inbox.asked - first).as_millis()).collect();
        assert_eq!((lost, asked), (35, vec![1, 2, 0]));
        // Its inboxes may be of a client that has ended.
        assert_eq!((requests.to_come(), requests.has_inbox()), (0, false));
    }

    #[test]
    fn a_closed_inbox_ends_the_wait_and_only_so_many_are_open() {
        let (mut requests, mut feeds, _) = open(&[1; MOST]);
        assert!(!requests.has_room() && next(&mut requests).is_none());
        feeds.truncate(MOST - 1);
        assert!(requests.next().now_or_never().is_some_and(|came| came.is_none()));
        drop(requests.give_up());
        assert!(requests.has_room());
    }
}
