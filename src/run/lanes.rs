//! The lanes of a queue: one for what is fresh, one for what is due, and one for each function that was
//! paused and of which something is still held. Those but the first have one share of the permits together.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    broker::{
        consumer::{Bound, Consumer},
        jetstream::JetStream,
        pauses::Paused,
        poison::Burial,
        streams::Ready,
    },
    flow::permits::{Group, Permits},
    message::{decode::FunctionName, names::Names},
    outbound::invoke::HttpGateway,
    tasks::supervisor::{Part, Supervisor},
    worker::{
        process::Worker,
        pull::{Pull, SPAN, Unbegun},
    },
};

/// What the lanes of a queue have in common. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Lanes {
    pub jetstream: JetStream,
    pub burial: Burial,
    pub permits: Permits,
    /// The share of what is due and of what was held.
    pub due: Group,
    pub worker: Worker<JetStream, HttpGateway>,
    /// The calls that lanes begin.
    pub calls: TaskTracker,
    pub paused: Paused,
    pub supervisor: Supervisor,
}

impl Lanes {
    /// Starts those of what is fresh and of what is due, until `stop`. One that cannot be kept says why.
    pub fn start(
        &self,
        ready: &Ready,
        stop: &CancellationToken,
        track: impl Fn(std::pin::Pin<Box<dyn Future<Output = ()> + Send>>),
        give_up: &mpsc::Sender<String>,
    ) {
        for (bound, parked) in [(ready.fresh.clone(), false), (ready.due.clone(), true)] {
            let whose = format!("consumer {} of stream {}", bound.consumer, bound.stream);
            let (lanes, stop, give_up) = (self.clone(), stop.clone(), give_up.clone());
            let (unbegun, mut new_to) = (Arc::<Mutex<Unbegun>>::default(), ready.new_to);
            track(Box::pin(async move {
                // True of the first one only: what it pulls may be forgotten with its consumer.
                let start = || lanes.run(&bound, parked, &unbegun, new_to.take(), &stop);
                if let Err(reason) = lanes.supervisor.keep(Part::Lane, &whose, &stop, start).await {
                    // The first reason is enough.
                    let _ = give_up.try_send(reason.to_string());
                }
            }));
        }
        let (lanes, stop) = (self.clone(), stop.clone());
        track(Box::pin(async move {
            let queue = lanes.burial.names.queue.clone();
            let start = || lanes.keep_held(&stop);
            // This part is never given up.
            let _ = lanes.supervisor.keep(Part::Held, &queue, &stop, start).await;
        }));
    }

    /// Runs a lane whenever its queue is not paused, until `stop`. One that ends by itself is not run again.
    async fn run(
        &self,
        bound: &Bound,
        parked: bool,
        unbegun: &Arc<Mutex<Unbegun>>,
        mut new_to: Option<u64>,
        stop: &CancellationToken,
    ) {
        let mut follow = self.paused.follow();
        while !stop.is_cancelled() {
            let opens = follow.wait_for(|known| known.pauses.queue.is_none());
            let Some(Ok(_)) = stop.run_until_cancelled(opens).await.map(|opened| opened.map(drop)) else {
                return;
            };
            let until = stop.child_token();
            let shut = async {
                let _ = follow.wait_for(|known| known.pauses.queue.is_some()).await.map(drop);
                until.cancel();
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = self.lane(bound, parked, unbegun, new_to.take(), until.clone()) => {}
                () = shut => {}
            }
            if !until.is_cancelled() {
                return;
            }
        }
    }

    /// A lane, pulled from until `stop`.
    async fn lane(
        &self,
        bound: &Bound,
        parked: bool,
        unbegun: &Arc<Mutex<Unbegun>>,
        new_to: Option<u64>,
        stop: CancellationToken,
    ) {
        let source = Consumer::new(&self.jetstream, bound.clone(), self.burial.clone());
        let source = source.doubting(&self.burial.names.stream, new_to);
        let lane = if parked { self.permits.lane_of(self.due) } else { self.permits.lane() };
        let (worker, tasks, unbegun) = (self.worker.clone(), self.calls.clone(), Arc::clone(unbegun));
        Pull { worker, lane, source, parked, ahead: SPAN, tasks, stop, unbegun }.run().await;
    }

    /// Keeps a lane for each function that was paused and of which something is held, until `stop`.
    async fn keep_held(&self, stop: &CancellationToken) {
        let mut follow = self.paused.follow();
        let mut running: BTreeMap<FunctionName, CancellationToken> = BTreeMap::new();
        let tasks = TaskTracker::new();
        // Should this end in a panic, no lane is left without it.
        let stop = stop.child_token();
        let _over = stop.clone().drop_guard();
        while !stop.is_cancelled() {
            let released = follow.borrow_and_update().released();
            for (_, ended) in running.extract_if(.., |function, _| !released.contains(function)) {
                ended.cancel();
            }
            for function in released {
                running.entry(function.clone()).or_insert_with(|| {
                    let until = stop.child_token();
                    tasks.spawn(self.clone().held(function, until.clone()));
                    until
                });
            }
            let _ = stop.run_until_cancelled(follow.changed()).await;
        }
        tasks.close();
        tasks.wait().await;
    }

    /// The lane of what was held of a function.
    async fn held(self, function: FunctionName, stop: CancellationToken) {
        let (consumer, retries) = (Names::held_consumer(&function), &self.burial.names.retries);
        let whose = format!("consumer {consumer} of stream {retries}");
        let unbegun = Arc::<Mutex<Unbegun>>::default();
        let start = || async {
            if let Ok(info) = self.jetstream.consumer(retries, &consumer).await {
                self.run(&Bound::new(retries, &consumer, info.config), true, &unbegun, None, &stop).await;
            }
        };
        // This part is never given up.
        let _ = self.supervisor.keep(Part::Held, &whose, &stop, start).await;
    }
}
