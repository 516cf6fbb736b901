//! Short turns at the processor for the gateway's connections.
//!
//! One thread runs the worker. A task gives way after 128 reads that found something, and the HTTP client
//! reads up to 400 KiB at once: where each read brings ten thousand provisional answers (1xx), which it
//! passes over one by one, a turn takes a second, and leases end while nobody renews them. So each further
//! read of a long answer ends its turn.

use std::task::{Context, Poll};

use tokio::task::coop::poll_proceed;

/// Hardly any answer takes more reads.
const FEW: usize = 4;
/// The steps of a whole turn, which the library gives a task.
const STEPS: usize = 128;

/// The reads of one connection since it last wrote.
#[derive(Debug, Default)]
pub(super) struct Turns(usize);

impl Turns {
    /// The next answer begins.
    pub(super) fn wrote(&mut self) {
        self.0 = 0;
    }

    /// A read found something.
    pub(super) fn read(&mut self, context: &mut Context<'_>) {
        self.0 = self.0.saturating_add(1);
        if self.0 > FEW {
            end(context);
        }
    }
}

/// Uses up what is left of this turn.
fn end(context: &mut Context<'_>) {
    for _ in 0..STEPS {
        let Poll::Ready(step) = poll_proceed(context) else { return };
        step.made_progress();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use tokio::task::{consume_budget, yield_now};

    use super::*;

    #[tokio::test]
    async fn whoever_always_has_something_to_read_gives_way_after_some_reads() {
        let reads = Arc::new(AtomicUsize::new(0));
        let busy = Arc::clone(&reads);
        tokio::spawn(async move {
            let mut turns = Turns::default();
            loop {
                consume_budget().await;
                poll_fn(|context| {
                    turns.read(context);
                    Poll::Ready(())
                })
                .await;
                busy.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut turns = 0;
        while reads.load(Ordering::Relaxed) < 400 {
            yield_now().await;
            turns += 1;
        }
        assert!(turns >= 50, "{turns} turns");
    }
}
