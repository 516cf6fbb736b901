//! The pause after an error: twice as long each time, up to a bound. The back-off of invocations is another:
//! it waits in the broker.

use std::time::Duration;

use tokio::time::sleep;

/// A pause that grows.
#[derive(Debug)]
pub struct ErrorBackoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl ErrorBackoff {
    /// Pauses of `first`, twice that, and so on, none longer than `longest`.
    pub fn new((first, longest): (Duration, Duration)) -> Self {
        Self { first, longest, next: first }
    }

    /// Waits, and longer the next time.
    pub async fn rest(&mut self) {
        let now = self.next;
        self.next = self.longest.min(now * 2);
        sleep(now).await;
    }

    /// Begins anew: there was an answer.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_pause_is_twice_the_one_before_up_to_the_longest_and_a_reset_begins_anew() {
        let seconds = Duration::from_secs;
        let mut pause = ErrorBackoff::new((seconds(1), seconds(5)));
        for expected in [1, 2, 4, 5, 5] {
            let began = Instant::now();
            pause.rest().await;
            assert_eq!(began.elapsed(), seconds(expected));
        }
        pause.reset();
        let began = Instant::now();
        pause.rest().await;
        assert_eq!(began.elapsed(), seconds(1));
    }
}
