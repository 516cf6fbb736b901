//! The gateway, and the receiver of callbacks: each message's calls and POSTs go as its scripts say, while it
//! lives.

use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use queue_worker::{
    message::{answer::Answer, decode::Invocation, posting::Posting},
    outbound::{
        callback::{NotPosted, Post},
        invoke::{Call, Gateway, NotCalled},
    },
    retry::judge::{Outcome, Reply},
};
use tokio::time::{Instant, sleep};

use crate::{client::Client, plan, shared::Shared};

/// A call under way. Dropped before its end it was cut.
struct Running<'a> {
    shared: &'a Shared,
    key: &'a str,
    nth: usize,
    over: bool,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.shared.state().ledger.cut(self.key, self.nth);
        }
    }
}

impl Gateway for Client {
    async fn call(&self, call: Call<'_>) -> Result<Answer, NotCalled> {
        let fault = self.step("call").await;
        let began = Instant::now();
        let (nth, step) = self.shared.state().ledger.called(call.call_id, call.retry, self.worker);
        let mut running = Running { shared: &self.shared, key: call.call_id, nth, over: false };
        if fault == Some(crate::failpoint::Fault::CrashAfter) {
            drop(running);
            return self.dies().await;
        }
        self.stepped(fault).await;
        let lives = self.shared.state().gateway.clone();
        let answer = if lives.is_cancelled() {
            plan::Answer::Unreachable
        } else {
            tokio::select! {
                biased;
                () = self.crashed.cancelled() => {
                    drop(running);
                    return std::future::pending().await;
                }
                () = sleep(step.takes) => step.answer,
                () = lives.cancelled() => plan::Answer::Broken,
            }
        };
        if answer == plan::Answer::Poison {
            drop(running);
            return self.dies().await;
        }
        running.over = true;
        self.shared.state().ledger.answered(call.call_id, nth, answer);
        let fault = self.step("answer").await;
        self.stepped(fault).await;
        Ok(Answer {
            outcome: self.outcome(answer),
            took: began.elapsed(),
            headers: http::HeaderMap::new(),
            body: bytes::Bytes::new(),
            truncated: false,
        })
    }

    fn target(&self, invocation: &Invocation) -> String {
        invocation.function.as_str().to_owned()
    }
}

impl Post for Client {
    fn post<'a>(&'a self, posting: &'a Posting, _id: &'a str) -> BoxFuture<'a, Result<Outcome, NotPosted>> {
        async move {
            let fault = self.step("post").await;
            let step = self.shared.state().ledger.posts(&posting.call_id, self.worker);
            self.stepped(fault).await;
            self.pause(step.takes).await;
            self.shared.state().ledger.posted(&posting.call_id, step.answer);
            let fault = self.step("posted").await;
            self.stepped(fault).await;
            Ok(self.outcome(step.answer))
        }
        .boxed()
    }
}

impl Client {
    fn outcome(&self, answer: plan::Answer) -> Outcome {
        let replied =
            |status, retry_after| Outcome::Replied(Reply { status, retry_after, ..Reply::default() });
        match answer {
            plan::Answer::Status(status) => replied(status, None),
            plan::Answer::PushedBack(status, seconds) => replied(status, Some(self.retry_after(seconds))),
            plan::Answer::TimedOut => Outcome::TimedOut,
            plan::Answer::Unreachable => Outcome::Unreachable("refused".to_owned()),
            plan::Answer::Broken | plan::Answer::Poison => Outcome::Broken("cut".to_owned()),
        }
    }

    /// When to come back, in seconds or as a date.
    fn retry_after(&self, seconds: u64) -> String {
        if self.shared.plan.dates {
            httpdate::fmt_http_date(self.shared.wall_time() + Duration::from_secs(seconds))
        } else {
            seconds.to_string()
        }
    }
}
