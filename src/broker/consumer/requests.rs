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
    request: Option<Request<S>>,
}

#[derive(Debug)]
struct Request<S> {
    asked: Instant,
    left: usize,
    _share: S,
}

/// What came to an inbox, and to which one.
#[derive(Debug)]
pub(super) struct Came {
    pub message: Message,
    inbox: usize,
}

/// An inbox whose request was given up, and when that was sent. It may still bring something.
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
        self.inboxes.push(Inbox { subject, messages, request: None });
    }

    /// A request for so many messages is sent. Returns the subject of its inbox, if there is one.
    pub fn begins(&mut self, messages: usize, asked: Instant, share: S) -> Option<String> {
        let inbox = self.inboxes.iter_mut().find(|inbox| inbox.request.is_none())?;
        inbox.request = Some(Request { asked, left: messages, _share: share });
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
            let open = self.inboxes.iter_mut().take_while(|inbox| inbox.request.is_some());
            for (inbox, Inbox { messages, .. }) in open.enumerate() {
                if let Poll::Ready(message) = messages.poll_next_unpin(context) {
                    return Poll::Ready(message.map(|message| Came { message, inbox }));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// This was a message. Returns it, and when it was asked for.
    pub fn brought(&mut self, came: Came) -> (Message, Instant) {
        let request = self.inboxes.get_mut(came.inbox).and_then(|inbox| inbox.request.as_mut());
        let Some(request) = request else { return (came.message, Instant::now()) };
        let asked = request.asked;
        request.left -= 1;
        self.to_come -= 1;
        if request.left == 0 {
            self.ends(came.inbox);
        }
        (came.message, asked)
    }

    /// This said that its request is over.
    pub fn ended(&mut self, came: &Came) {
        self.ends(came.inbox);
    }

    /// All are over, though they may still bring something. Returns how many messages were to come.
    pub fn give_up(&mut self) -> (usize, impl Iterator<Item = GivenUp<M>>) {
        let open = self.open();
        let given_up = self.inboxes.drain(..open).filter_map(|Inbox { messages, request, .. }| {
            request.map(|Request { asked, .. }| GivenUp { messages, asked })
        });
        (std::mem::take(&mut self.to_come), given_up)
    }

    fn open(&self) -> usize {
        self.inboxes.iter().take_while(|inbox| inbox.request.is_some()).count()
    }

    fn ends(&mut self, inbox: usize) {
        if inbox < self.inboxes.len() {
            let mut inbox = self.inboxes.remove(inbox);
            self.to_come -= inbox.request.take().map_or(0, |request| request.left);
            self.inboxes.push(inbox);
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
            let (message, asked) = requests.brought(came);
            Some((message.subject.into_string(), (asked - first).as_millis()))
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
    fn what_was_given_up_may_still_come_and_was_asked_for_then() {
        let (mut requests, feeds, first) = open(&[1, 20, 16]);
        feeds[0].send(message("a")).unwrap();
        feeds[1].send(message("b")).unwrap();
        assert_eq!(brought(&mut requests, first).len(), 2);
        let (lost, given_up) = requests.give_up();
        let asked: Vec<_> = given_up.map(|request| (request.asked - first).as_millis()).collect();
        assert_eq!((lost, asked), (35, vec![1, 2]));
        // The inbox of the one that was over is as good as before.
        assert_eq!((requests.to_come(), requests.begins(1, first, ())), (0, Some("0".to_owned())));
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
