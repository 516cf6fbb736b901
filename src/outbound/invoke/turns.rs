//! Short turns at the processor for the gateway's connections.
//!
//! One thread runs the worker. A task gives way after 128 reads that found something, and the HTTP client
//! reads up to 400 KiB at once: where each read brings ten thousand provisional answers (1xx), which it
//! passes over one by one, a turn takes a second, and leases end while nobody renews them. So the connections
//! get fewer reads a turn.

use std::{future::poll_fn, pin::pin, task::Context};

use hyper::rt::Executor;
use tokio::task::coop::poll_proceed;

/// How many of the 128 steps that a task may do in a turn are left to it: an answer takes three or four.
const STEPS: usize = 4;
const ALL: usize = 128;

/// Runs each task in short turns.
#[derive(Debug, Clone, Copy)]
pub(super) struct ShortTurns;

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for ShortTurns {
    fn execute(&self, task: F) {
        tokio::spawn(async move {
            let mut task = pin!(task);
            poll_fn(|context| {
                use_up(ALL - STEPS, context);
                task.as_mut().poll(context)
            })
            .await
        });
    }
}

/// Uses up so many steps of the turn that begins.
fn use_up(steps: usize, context: &mut Context<'_>) {
    for _ in 0..steps {
        if let std::task::Poll::Ready(step) = poll_proceed(context) {
            step.made_progress();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[tokio::test]
    async fn whoever_always_has_something_to_do_gives_way_after_some_steps() {
        let steps = Arc::new(AtomicUsize::new(0));
        let busy = Arc::clone(&steps);
        ShortTurns.execute(async move {
            loop {
                tokio::task::consume_budget().await;
                busy.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut turns = 0;
        while steps.load(Ordering::Relaxed) < 100 * STEPS {
            tokio::task::yield_now().await;
            turns += 1;
        }
        assert!(turns >= 50, "{turns} turns");
    }
}
