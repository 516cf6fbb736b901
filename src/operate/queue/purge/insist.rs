//! What is asked of the broker again and again, for a while.

use std::time::Duration;

use tokio::time::Instant;

use crate::tasks::error_backoff::ErrorBackoff;

/// For so long, and with these pauses.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The first answer that is no error, or an error that does not pass.
pub(super) async fn insist<T, E>(
    attempt: impl AsyncFn() -> Result<T, E>,
    passes: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let (mut pause, until) = (ErrorBackoff::new(PAUSE), Instant::now() + PATIENCE);
    loop {
        match attempt().await {
            Err(error) if passes(&error) && Instant::now() < until => pause.rest().await,
            other => return other,
        }
    }
}
