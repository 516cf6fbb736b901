//! Where messages are published, called and booked.

use std::{
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_nats::{HeaderMap, jetstream::Context};
use bytes::Bytes;
use futures_util::{StreamExt, stream::iter};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::script::{Input, Mood, Pace, came, invocation, number, takes_callback, wants_callback, worker};
use crate::{
    ledger::{Entry, Fault, Ledger, Verdict},
    size,
    support::{
        Answer, Call, DEAD, End, Gateway, Invocation, QUEUE, RETRIES, Settings, Worker, binary,
        has_schedules,
        nats::books::{books, messages, unsettled},
    },
    until_or,
};

/// So many publishes may wait for their acknowledgement.
const WINDOW: usize = 100;

/// So many messages lie in the queue before the publisher makes a pause: enough for every permit, and no
/// more.
const BACKLOG: u64 = 300;

/// At least so often is struck, in the short form and in the full one.
const LEAST: (usize, usize) = (3, 4);

/// A publisher, a gateway, a receiver of callbacks, and the books about what passes between them.
pub struct House {
    pub js: Context,
    pub gateway: Gateway,
    pub receiver: Gateway,
    pub start: Instant,
    pub ledger: Arc<Mutex<Ledger>>,
    mood: Arc<Mutex<Mood>>,
    input: Input,
    message: fn(usize, &str) -> Invocation,
    next: Arc<AtomicUsize>,
    /// Dead letters up to here are in the books.
    read: u64,
}

impl House {
    /// A house beside the broker that `js` leads to.
    pub async fn open(js: Context, pace: Pace) -> Self {
        Self::of_input(js, Input::OpenFaas, pace).await
    }

    /// The same with messages of another form.
    pub async fn of_input(js: Context, input: Input, pace: Pace) -> Self {
        let answer = move |call: &Call, mood| input.answer(call, mood, pace);
        Self { input, ..Self::playing(js, invocation, answer).await }
    }

    /// A house whose messages are these, by their number and the URL for callbacks, and whose gateway answers
    /// so.
    pub async fn playing(
        js: Context,
        message: fn(usize, &str) -> Invocation,
        answer: impl Fn(&Call, Mood) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let mood = Arc::new(Mutex::new(Mood::Well));
        let felt = Arc::clone(&mood);
        Self {
            js,
            gateway: Gateway::start(move |call| {
                let mood = *felt.lock().unwrap();
                answer(call, mood)
            })
            .await,
            receiver: Gateway::start(|call| Answer::status(if takes_callback(call) { 200 } else { 503 }))
                .await,
            start: Instant::now(),
            ledger: Arc::default(),
            mood,
            input: Input::OpenFaas,
            message,
            next: Arc::default(),
            read: 0,
        }
    }

    /// Settings of the nth worker, which finds the broker there.
    pub fn worker(&self, n: usize, broker: &str) -> Settings {
        let settings = Worker::bare()
            .set("nats_url", broker)
            .set("gateway_url", format!("{}/worker-{n}", self.gateway.url()));
        // Faults of the gateway are no attempts that a message should die of; those that are to die say so
        // themselves.
        let settings = settings
            .set("max_retry_attempts", 1_000)
            .set("callback_attempts", 100)
            .set("upstream_timeout", "8s");
        let settings = settings.set("initial_retry_wait", "300ms").set("max_retry_wait", "2s");
        // The books are about calls of functions only.
        let settings = settings.set("function_lookup", false);
        let settings = settings.set("ack_wait", "4s").set("max_inflight", size(8, 30));
        let input = match self.input {
            Input::OpenFaas => return settings,
            Input::Http => "http",
            Input::CloudEvents => "cloudevents",
        };
        settings.set("input", input).set("target_url", format!("{}/worker-{n}/hooks", self.gateway.url()))
    }

    pub fn feel(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// Publishes so many messages, as fast as they are called. Those whose acknowledgement does not come are
    /// not sent again.
    pub fn publish(&self, messages: usize) -> JoinHandle<()> {
        self.publish_while(messages, || true)
    }

    /// Publishes for as long as `going` says, at most so many messages.
    pub fn publish_while(&self, most: usize, going: impl Fn() -> bool + Send + 'static) -> JoinHandle<()> {
        let (js, ledger, next, callbacks) =
            (self.js.clone(), Arc::clone(&self.ledger), Arc::clone(&self.next), self.receiver.url());
        let (message, input) = (self.message, self.input);
        tokio::spawn(async move {
            let mut left = most;
            while left > 0 && going() {
                let batch = WINDOW.min(left);
                let numbers = announce(&ledger, &next, input, batch);
                left -= batch;
                let published = |number| input.published(number, &message(number, &callbacks), &callbacks);
                let mut publishing = iter(numbers)
                    .map(|number| publish(&js, &ledger, number, published(number)))
                    .buffer_unordered(WINDOW);
                while publishing.next().await.is_some() {}
                while going() && unsettled(&js, QUEUE).await.is_some_and(|left| left > BACKLOG) {
                    sleep(Duration::from_millis(50)).await;
                }
            }
        })
    }

    /// Puts so many messages into the books that are about to be published.
    pub fn announce(&self, messages: usize) -> Range<usize> {
        announce(&self.ledger, &self.next, self.input, messages)
    }

    /// The message of this number.
    pub fn invocation(&self, number: usize) -> Invocation {
        (self.message)(number, &self.receiver.url())
    }

    /// Publishes a message that is in the books, and says whether the broker took it.
    pub async fn publish_one(&self, number: usize, invocation: Invocation) -> bool {
        let message = self.input.published(number, &invocation, &self.receiver.url());
        publish(&self.js, &self.ledger, number, message).await
    }

    /// Strikes every so often while so many messages are published and called. The last tenth is left in
    /// peace: with few to run, the same ones would be cut off again and again.
    pub async fn under_fire(
        &mut self,
        messages: usize,
        every: Duration,
        mut strike: impl AsyncFnMut(&mut Self, usize),
    ) {
        let publishing = self.publish(messages);
        let mut strikes = 0;
        while strikes < size(LEAST.0, LEAST.1)
            || !publishing.is_finished()
            || self.unfinished().await.is_none_or(|left| left > BACKLOG / 3)
        {
            sleep(every).await;
            strike(self, strikes).await;
            strikes += 1;
        }
        publishing.await.unwrap();
        println!("     {strikes} strikes");
    }

    /// How many messages are neither done nor dead, as the consumers have it; `None` where the broker does
    /// not say.
    pub async fn unfinished(&self) -> Option<u64> {
        Some(unsettled(&self.js, QUEUE).await? + unsettled(&self.js, RETRIES).await?)
    }

    /// Notes that something is done to one worker, or to all, until `mended` notes its end.
    pub fn fault(&self, what: &'static str, worker: Option<usize>) -> Fault {
        let now = Instant::now();
        Fault { what, from: now, to: now, worker }
    }

    pub fn mended(&self, fault: Fault) {
        self.ledger.lock().unwrap().fault(Fault { to: Instant::now(), ..fault });
    }

    /// Writes into the books what has ended since it was last done.
    pub async fn collect(&mut self) {
        let letters = messages(&self.js, DEAD, self.read + 1).await;
        let mut ledger = self.ledger.lock().unwrap();
        for call in self.gateway.take_ended() {
            let entry = Entry {
                worker: worker(&call),
                retry: call.retry(),
                from: call.arrived,
                to: call.end.unwrap().0,
                came: came(&call),
            };
            ledger.called(number(&call), entry);
        }
        for call in self.receiver.take_ended() {
            if call.fate() == Some(End::Answered) && takes_callback(&call) {
                ledger.told(number(&call));
            }
        }
        for letter in letters {
            self.read = letter.sequence;
            let number = letter
                .expect("Queue-Worker-Call-Id")
                .strip_prefix("call-")
                .and_then(|number| number.parse().ok());
            // The dead letter of a callback is an end of the callback, and none of the message.
            match letter.header("Queue-Worker-Kind") {
                None => ledger.died(number.unwrap(), letter.expect("Queue-Worker-Cause")),
                Some(_callback) => ledger.told(number.unwrap()),
            }
        }
    }

    /// Awaits the end of everything, prints what the books say, and checks it.
    pub async fn settle(&mut self, what: &str) -> Verdict {
        let verdict = self.judge(what).await;
        let complaints = [verdict.losses(), verdict.surprises()].concat();
        assert!(complaints.is_empty(), "{what}: {}\n{}", complaints.join("\n"), self.story(&verdict));
        verdict
    }

    /// Awaits the end of everything, and prints what the books say.
    pub async fn judge(&mut self, what: &str) -> Verdict {
        println!("     {what}: mended after {:.0} s", self.start.elapsed().as_secs_f64());
        let orphans = self.ended().await;
        self.collect().await;
        let verdict = self.ledger.lock().unwrap().verdict(orphans);
        println!("{verdict}");
        if orphans > 0 {
            println!("{}", books(&self.js).await);
        }
        let Verdict { accepted, lost, repeated, in_flight, .. } = &verdict;
        println!("row: | {what} | {accepted} | {} | {repeated}, of {in_flight} in flight |", lost.len());
        verdict
    }

    /// Awaits the end of everything, and says how many orphans are left.
    pub async fn ended(&self) -> u64 {
        let js = self.js.clone();
        // What was acknowledged last may be about to be removed, and what an enqueuer insisted on may come
        // late: only what lies there for five seconds in which nothing is to be done is an orphan.
        let (mut looks, mut orphans) = (0, 0);
        let idle = async || {
            sleep(Duration::from_millis(500)).await;
            let idle =
                self.unfinished().await == Some(0) && self.gateway.running() + self.receiver.running() == 0;
            looks = if idle { looks + 1 } else { 0 };
            orphans = self.left().await;
            idle && (orphans == 0 || looks >= 10)
        };
        until_or("all have ended", idle, async || books(&js).await).await;
        orphans
    }

    /// The first few messages that something is wrong with, and when which fault was.
    pub fn story(&self, verdict: &Verdict) -> String {
        let ledger = self.ledger.lock().unwrap();
        let stories: Vec<_> =
            verdict.suspects().into_iter().map(|number| ledger.story(number, self.start)).collect();
        format!("{}\n{}", stories.join("\n"), ledger.faults(self.start))
    }

    /// How many messages lie in the streams. A server before 2.11 keeps what was acknowledged: there nobody
    /// can tell.
    async fn left(&self) -> u64 {
        let mut left = 0;
        for name in [QUEUE, RETRIES].into_iter().filter(|_| has_schedules(binary())) {
            left += self.js.get_stream(name).await.map_or(0, |found| found.cached_info().state.messages);
        }
        left
    }
}

fn announce(ledger: &Mutex<Ledger>, next: &AtomicUsize, input: Input, messages: usize) -> Range<usize> {
    let first = next.fetch_add(messages, Ordering::Relaxed);
    let mut ledger = ledger.lock().unwrap();
    for number in first..first + messages {
        ledger.announce(number, input.fate(number), wants_callback(number));
    }
    first..first + messages
}

async fn publish(
    js: &Context,
    ledger: &Mutex<Ledger>,
    number: usize,
    (mut headers, payload): (HeaderMap, Bytes),
) -> bool {
    // The client may send once more what it was sending when its connection ended: that is one message, not
    // two.
    headers.insert("Nats-Msg-Id", format!("call-{number}"));
    let accepted = match js.publish_with_headers(QUEUE, headers, payload).await {
        Ok(acknowledged) => acknowledged.await.is_ok(),
        Err(_) => false,
    };
    if accepted {
        ledger.lock().unwrap().accepted(number);
    }
    accepted
}
