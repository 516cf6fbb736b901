//! Keeps a queue still: no worker begins a call of it.

use std::time::Duration;

use tokio::time::sleep;

use crate::{
    broker::pauses::Record,
    message::{names::Names, pause::Pause},
    operate::{audit::by, desk::Desk, end::Failure, queue::write},
};

/// After so long every worker knows a pause.
const KNOWN: Duration = Duration::from_millis(1_500);

/// A queue that is paused, by whomever.
pub(super) struct Still {
    /// The pause, where it is this command's own.
    ours: Option<Pause>,
}

impl Still {
    /// Pauses a queue, if it is not, and waits until all workers know it.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn begin(desk: &Desk, names: &Names) -> Result<Self, Failure> {
        desk.ensure_operations(names).await?;
        let reason = "queue purge is taking calls away".to_owned();
        let pause = Pause { since: Some(desk.now()), by: by(), reason: Some(reason) };
        let record = Record::new(&desk.jetstream, names);
        let after = write(&record, |pauses| {
            pauses.queue.get_or_insert_with(|| pause.clone());
            Ok(())
        })
        .await?;
        let since = after.queue.as_ref().and_then(|pause| pause.since);
        let age = since.and_then(|since| desk.now().duration_since(since).ok()).unwrap_or_default();
        sleep(KNOWN.saturating_sub(age)).await;
        Ok(Self { ours: Some(pause).filter(|pause| after.queue.as_ref() == Some(pause)) })
    }

    /// Lets calls begin again, unless somebody else paused the queue.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn end(self, desk: &Desk, names: &Names) -> Result<(), Failure> {
        let Some(ours) = self.ours else { return Ok(()) };
        let record = Record::new(&desk.jetstream, names);
        let ended = write(&record, |pauses| {
            pauses.queue.take_if(|pause| *pause == ours);
            Ok(())
        });
        ended.await.map(drop).map_err(|failure| {
            Failure::Cannot(format!("the queue is still paused, and queue resume ends that: {failure}"))
        })
    }
}
