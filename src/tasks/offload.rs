//! A thread of its own for conversations with those whose answers may keep a thread busy.
//!
//! One thread runs the worker, and on it leases are renewed. An HTTP client passes over provisional answers
//! (1xx) without end and without giving way, as fast as they come in; of the gateway's client the connections
//! get short turns for that, and reqwest's get a thread on which nothing waits but their like.

use std::{future::Future, io, time::Duration};

use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::watch,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::tasks::supervisor::{Part, Supervisor, faulty};

/// How many threads look names up and read files at once, for one thread of work.
const HELPERS: usize = 16;
/// How long one of them waits for more to do. The last one has to stay: without any, and where the system has
/// no thread to give, a task that needs one panics; with one it waits.
const IDLE: Duration = Duration::from_secs(1 << 30);

/// One thread of work, and helpers for what cannot but wait.
fn runtime() -> io::Result<Runtime> {
    built(&mut Builder::new_current_thread())
}

/// The same for the worker, which has many tasks, each with little to do. It asks the system what has come in
/// after 256 of their steps instead of 61, or once there is nothing left to do: so more comes in at once, and
/// more goes out with each system call.
///
/// # Errors
/// Where the system has no thread or file to give.
pub fn worker() -> io::Result<Runtime> {
    built(Builder::new_current_thread().event_interval(256))
}

fn built(builder: &mut Builder) -> io::Result<Runtime> {
    let runtime = builder.enable_all().max_blocking_threads(HELPERS).thread_keep_alive(IDLE).build()?;
    runtime.spawn_blocking(|| {});
    Ok(runtime)
}

/// Runs tasks on another thread, which ends with this.
#[derive(Debug)]
pub struct Offload {
    /// Where tasks go; absent while the thread's part has ended and is not started again yet.
    thread: watch::Receiver<Option<Handle>>,
    over: CancellationToken,
}

impl Offload {
    /// Starts the thread of this part.
    ///
    /// # Errors
    /// Where the system has none to give.
    pub fn start(part: Part, supervisor: &Supervisor) -> io::Result<Self> {
        let mut runtime = Some(runtime()?);
        let (handle, thread) = watch::channel(runtime.as_ref().map(|runtime| runtime.handle().clone()));
        let over = CancellationToken::new();
        let (ended, is_over) = (over.clone(), over.clone());
        let run = move || {
            // The first is there already; if the next cannot be had, that is the end of a part, too.
            let Some(runtime) = runtime.take().or_else(|| self::runtime().ok()) else { return };
            handle.send_replace(Some(runtime.handle().clone()));
            let _place = Place(&handle);
            runtime.block_on(faulty(part, ended.cancelled()));
        };
        supervisor.thread(part, move || is_over.is_cancelled(), run)?;
        Ok(Self { thread, over })
    }

    /// What the task yields; `None` where it panicked, or ended with its thread. Dropping the future ends the
    /// task.
    pub async fn run<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let thread = self.thread.clone().wait_for(Option::is_some).await.ok()?.clone()?;
        AbortOnDropHandle::new(thread.spawn(task)).await.ok()
    }
}

impl Drop for Offload {
    fn drop(&mut self) {
        self.over.cancel();
    }
}

/// Where the runtime's handle is left for those who have tasks, until the runtime ends in whatever way.
struct Place<'a>(&'a watch::Sender<Option<Handle>>);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.send_replace(None);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_never_gives_way_there_keeps_nobody_busy_here() {
        let offload = Offload::start(Part::Callbacks, &Supervisor::default()).unwrap();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let busy = offload.run(async move { stopped.recv().is_err() });
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
        let offload = Offload::start(Part::Callbacks, &Supervisor::default()).unwrap();
        let (held, ended) = oneshot::channel::<()>();
        let task = offload.run(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        drop(tokio::time::timeout(std::time::Duration::ZERO, task).await);
        assert!(ended.await.is_err());
    }
}
