//! The state of the connection, read off what the client says of itself.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_nats::{Event, ServerError, ServerInfo};
use tokio::{sync::watch, time::Instant};

use super::denials::{Complaints, Denials};

/// Credentials that are refused for so long after the connection broke were taken away; a restart reads their
/// files again.
pub(super) const REFUSED: Duration = Duration::from_secs(30);
/// So many servers are told apart.
const SERVERS: usize = 64;

/// The state of the connection.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    /// How often it was made, by whichever client.
    pub made: u64,
    /// Whether it stands.
    pub up: bool,
    /// Since when it stands, or does not.
    pub since: Instant,
    /// How often it was made again although no server's restart explains that it broke. Something that came
    /// over it may have ended it: the client gives up on a message that it cannot read, and does not say so.
    pub cuts: u64,
    /// How often it led to another server than before.
    pub moves: u64,
    /// How often it led to a server that may have started since the last connection. One that starts again is
    /// another.
    pub lives: u64,
}

impl Default for Link {
    fn default() -> Self {
        Self { made: 0, up: false, since: Instant::now(), cuts: 0, moves: 0, lives: 0 }
    }
}

impl Link {
    /// The state after a connection was made. `moved`: to another server than before. `explained`: a restart
    /// of the server is why it was not there.
    fn connected(self, moved: bool, explained: bool) -> Self {
        let again = self.made > 0;
        Self {
            made: self.made + 1,
            up: true,
            since: Instant::now(),
            cuts: self.cuts + u64::from(again && !explained),
            moves: self.moves + u64::from(moved),
            lives: self.lives + u64::from(moved || !again),
        }
    }

    fn broken(self) -> Self {
        Self { up: false, since: Instant::now(), ..self }
    }
}

/// Notes of the events of all clients.
#[derive(Debug, Default)]
pub(super) struct Notes {
    link: watch::Sender<Link>,
    denied: Complaints,
    servers: Mutex<Servers>,
    said: Mutex<Option<Event>>,
}

impl Notes {
    pub(super) fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    pub(super) fn denied(&self) -> Denials {
        self.denied.all()
    }

    /// Notes that the log-in, or something else, is denied for good.
    pub(super) fn deny(&self, complaint: String) {
        self.denied.add(complaint);
    }

    /// Notes that the client ended by itself: nobody else says so, and its own state stays "connected".
    pub(super) fn ended(&self) {
        self.link.send_modify(|link| *link = link.broken());
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        servers.ended = true;
    }

    /// Notes an event of the client, which is connected to `server` or was last.
    pub(super) fn note(&self, event: &Event, server: Option<ServerInfo>) {
        // While a broker is away the same is said several times a second.
        let again = self
            .said
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(event.clone())
            .is_some_and(|before| before == *event);
        match event {
            Event::Connected => {
                let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
                let (moved, explained) = server.map_or((true, false), |server| {
                    servers.connected(&server.server_id, server.cluster.is_some())
                });
                self.link.send_modify(|link| *link = link.connected(moved, explained));
                tracing::info!("connected to NATS");
            }
            Event::Disconnected => {
                self.link.send_modify(|link| *link = link.broken());
                tracing::warn!("lost the connection to NATS");
            }
            Event::ServerError(ServerError::Other(text))
                if text.to_lowercase().contains("permissions violation") =>
            {
                self.deny(text.clone());
            }
            other => {
                let text = other.to_string();
                if !again {
                    tracing::warn!(event = text, "NATS");
                }
                let state = *self.link.borrow();
                if text.to_lowercase().contains("authorization violation")
                    && !state.up
                    && state.since.elapsed() > REFUSED
                {
                    self.deny(text);
                }
            }
        }
    }
}

/// The servers that connections were made to. One that starts again has another id.
#[derive(Debug, Default)]
struct Servers {
    seen: Vec<String>,
    last: Option<String>,
    /// Whether the last client ended by itself.
    ended: bool,
}

impl Servers {
    /// Notes a connection. Returns whether it leads to another server than the last one, and whether a
    /// restart explains that the last one broke: then the server has an id that was not seen before, and is
    /// no other member of a cluster.
    fn connected(&mut self, id: &str, clustered: bool) -> (bool, bool) {
        let known = self.seen.iter().any(|seen| seen == id);
        if !known {
            self.seen.truncate(SERVERS - 1);
            self.seen.insert(0, id.to_owned());
        }
        let moved = self.last.replace(id.to_owned()).is_some_and(|last| last != id);
        let ended = std::mem::take(&mut self.ended);
        (moved, !known && !clustered && !ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_broke_is_explained_by_nothing_but_a_restart() {
        let mut servers = Servers::default();
        for (id, clustered, moved, explained) in [
            ("a", false, false, true),
            ("a", false, false, false),
            ("b", false, true, true),
            ("a", false, true, false),
            ("c", true, true, false),
            ("c", true, false, false),
        ] {
            assert_eq!(servers.connected(id, clustered), (moved, explained), "{id}");
        }
        servers.ended = true;
        assert_eq!(servers.connected("d", false), (true, false), "the client ended by itself");
        assert_eq!(servers.connected("e", false), (true, true));
    }

    #[test]
    fn a_link_counts_its_cuts_from_the_second_connection_on() {
        let link = Link::default().connected(false, false);
        assert_eq!((link.made, link.up, link.cuts, link.moves), (1, true, 0, 0));
        let link = link.broken().connected(true, false);
        assert_eq!((link.made, link.up, link.cuts, link.moves), (2, true, 1, 1));
        assert_eq!(link.broken().connected(false, true).cuts, 1);
    }

    #[test]
    fn a_link_lives_on_with_its_server() {
        let mut link = Link::default();
        for (moved, lives) in [(false, 1), (false, 1), (true, 2), (false, 2), (true, 3)] {
            link = link.broken().connected(moved, false);
            assert_eq!(link.lives, lives, "connection {}", link.made);
        }
    }
}
