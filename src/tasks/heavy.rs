//! Work that takes long and waits for nothing: packing and unpacking large payloads.
//!
//! The thread that runs the worker also renews leases, so such work is done beside it. It is done one by one,
//! because each takes memory of its payload's size: when a receiver goes away, all callbacks under way fail
//! together.

use tokio::{sync::Semaphore, task::spawn_blocking};

/// Payloads of more bytes take so long that leases might suffer.
pub const LARGE: usize = 64 << 10;

static TURNS: Semaphore = Semaphore::const_new(2);

/// Does work on so many bytes: here if they are few, else beside the loop when it is its turn. `None` where
/// it panicked.
pub async fn done<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if bytes <= LARGE {
        return Some(work());
    }
    // Never closed.
    let _turn = TURNS.acquire().await;
    spawn_blocking(work).await.ok()
}

#[cfg(test)]
mod tests {
    use std::{
        sync::mpsc,
        thread::{self, ThreadId},
    };

    use super::*;

    #[tokio::test]
    async fn large_work_keeps_nobody_busy_here() {
        let here: ThreadId = thread::current().id();
        assert_eq!(done(LARGE, || thread::current().id()).await, Some(here));
        assert_ne!(done(LARGE + 1, || thread::current().id()).await, Some(here));
        // A wait there holds nothing up here.
        let (go_on, held) = mpsc::channel::<()>();
        let work = tokio::spawn(done(LARGE + 1, move || held.recv().is_err()));
        tokio::task::yield_now().await;
        drop(go_on);
        assert_eq!(work.await.unwrap(), Some(true));
    }

    #[tokio::test]
    async fn work_that_panics_yields_nothing_and_ends_nothing_else() {
        assert_eq!(done(LARGE + 1, || -> u8 { panic!("on purpose") }).await, None);
        assert_eq!(done(LARGE + 1, || 1).await, Some(1));
    }
}
