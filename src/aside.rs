//! A thread of its own for conversations with those whose answers may keep a thread busy.
//!
//! One thread runs the worker, and on it leases are renewed. An HTTP client passes over provisional answers (1xx) without end
//! and without giving way, as fast as they come in; of the gateway's client the connections get short turns for that, and
//! reqwest's get a thread on which nothing waits but their like.

use std::{future::Future, io, thread};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};
use tokio_util::task::AbortOnDropHandle;

/// Runs tasks on another thread, which ends with this.
#[derive(Debug)]
pub struct Aside {
    thread: Handle,
    _over: oneshot::Sender<()>,
}

impl Aside {
    /// Starts the thread.
    ///
    /// # Errors
    /// Where the system has none to give.
    pub fn start(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let thread = runtime.handle().clone();
        let (over, ended) = oneshot::channel();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            // Nothing is sent: the other end is dropped.
            let _: Result<(), _> = runtime.block_on(ended);
        })?;
        Ok(Self { thread, _over: over })
    }

    /// What the task yields; `None` where it panicked. Dropping the future ends the task.
    pub async fn run<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> Option<T> {
        AbortOnDropHandle::new(self.thread.spawn(task)).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_never_gives_way_there_keeps_nobody_busy_here() {
        let aside = Aside::start("aside").unwrap();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let busy = aside.run(async move { stopped.recv().is_err() });
        tokio::pin!(busy);
        tokio::select! {
            biased;
            _ = &mut busy => unreachable!("nobody stopped it"),
            () = tokio::task::yield_now() => {}
        }
        drop(stop);
        assert_eq!(busy.await, Some(true));
    }

    #[tokio::test]
    async fn a_task_whose_future_is_dropped_ends() {
        let aside = Aside::start("aside").unwrap();
        let (held, ended) = oneshot::channel::<()>();
        let task = aside.run(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        drop(tokio::time::timeout(std::time::Duration::ZERO, task).await);
        assert!(ended.await.is_err());
    }
}
