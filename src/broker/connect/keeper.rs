//! Replaces a client that ended by itself.
//!
//! The client library works in a task of its own, and a message that it did not reckon with can end that
//! task. Nothing tells: the client's state stays "connected", and whatever is asked of it fails. But the task
//! holds the other ends of its subscriptions, so a subscription that nobody writes to ends with the task and
//! no sooner.

use std::{convert::Infallible, sync::Arc, time::Duration};

use async_nats::Client;
use futures_util::StreamExt;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{
    ConnectError, client,
    link::{Notes, REFUSED},
    pause,
};
use crate::{config::Nats, tasks::error_backoff::ErrorBackoff};

/// A client that ends sooner is not replaced at once: what ended it may wait for the next one.
const LIVED: Duration = Duration::from_secs(1);
/// The pause then, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// Keeps a client there.
#[derive(Debug)]
pub(crate) struct Keeper {
    settings: Nats,
    notes: Arc<Notes>,
    clients: watch::Sender<Client>,
    /// Where the present client's events find it.
    place: watch::Sender<Option<Client>>,
}

impl Keeper {
    /// The keeper of `client`, and where the present client is found.
    pub(super) fn new(
        settings: &Nats,
        notes: Arc<Notes>,
        (client, place): (Client, watch::Sender<Option<Client>>),
    ) -> (Self, watch::Receiver<Client>) {
        place.send_replace(Some(client.clone()));
        let (clients, seen) = watch::channel(client);
        (Self { settings: settings.clone(), notes, clients, place }, seen)
    }

    /// Replaces each client that ends by itself. Runs until dropped.
    pub async fn keep(&mut self) -> Infallible {
        let mut soon = ErrorBackoff::new(BACKOFF);
        loop {
            let began = Instant::now();
            self.ended().await;
            // Its last events come too late to say anything about the connection.
            self.place.send_replace(None);
            self.notes.ended();
            tracing::error!(
                "the NATS client ended by itself, most likely at a message that it cannot read; another one \
                    takes its place"
            );
            if began.elapsed() < LIVED {
                soon.rest().await;
            } else {
                soon.reset();
            }
            self.replace().await;
        }
    }

    /// Returns when the task of the present client has ended.
    async fn ended(&self) {
        let client = self.clients.borrow().clone();
        if let Ok(mut sentinel) = client.subscribe(client.new_inbox()).await {
            while sentinel.next().await.is_some() {}
        }
    }

    /// Puts another client in the place of the last one, however long that takes.
    async fn replace(&mut self) {
        let began = Instant::now();
        let mut said = String::new();
        loop {
            let reason = match client(&self.settings, &self.notes).await {
                Ok(Ok((client, place))) => {
                    self.clients.send_replace(client.clone());
                    // From here on its events count, and the first of them says that it is connected.
                    place.send_replace(Some(client));
                    self.place = place;
                    return;
                }
                Ok(Err(reason)) => reason,
                Err(error) => {
                    if matches!(error, ConnectError::LoginRefused(_)) && began.elapsed() > REFUSED {
                        self.notes.deny(error.to_string());
                    }
                    error.to_string()
                }
            };
            if said != reason {
                tracing::warn!(reason, "no NATS client yet; trying again");
                said = reason;
            }
            sleep(pause()).await;
        }
    }
}
