//! The look at the broker, for what it cannot have forgotten.

use std::time::Duration;

use tokio::time::timeout;

use super::{Consumer, Horizon};
use crate::broker::jetstream::{ApiError, Cluster, ConsumerInfo, StreamInfo, call};

/// A look may hold up the first messages after a connection for so long.
const PATIENCE: Duration = Duration::from_secs(1);

impl Consumer {
    /// Looks, where there is doubt that a look may lift.
    pub(super) async fn look(&mut self) {
        let Some(queue) = self.queue.clone().filter(|_| self.doubt.wants_look()) else { return };
        match timeout(PATIENCE, self.seen(&queue)).await {
            Ok(Ok(horizon)) => self.doubt.looked(horizon),
            Ok(Err(error)) => {
                tracing::debug!(%error, "nothing is known of what the broker may have forgotten")
            }
            Err(_) => tracing::debug!("nothing is known in time of what the broker may have forgotten"),
        }
    }

    async fn seen(&self, queue: &str) -> Result<Option<Horizon>, ApiError> {
        let (stream, consumer) = tokio::try_join!(
            self.jetstream.stream(queue),
            self.jetstream.consumer(&self.bound.stream, &self.bound.consumer)
        )?;
        let server = self.jetstream.client().server_info();
        let lone = server.jetstream
            && server.cluster.is_none()
            && self.jetstream.api_subject("") == format!("{}.", call::prefix(None));
        Ok(horizon(&stream, &consumer, Server { name: &server.server_name, lone }))
    }
}

/// The server that is connected to.
#[derive(Debug, Clone, Copy)]
struct Server<'a> {
    name: &'a str,
    /// Whether it has JetStream by itself, as far as it says. It may still be a leaf of others.
    lone: bool,
}

impl Server<'_> {
    /// Whether it has all of this stream, and of its consumer.
    ///
    /// Until NATS 2.10: one in no cluster does not say that it has a stream. Of a consumer none says so.
    fn has(self, stream: &Cluster, consumer: &Cluster) -> bool {
        let leads = |place: &Cluster| place.leader.as_deref().map(|leader| leader == self.name);
        let alone = stream.replicas.is_empty() && consumer.replicas.is_empty();
        alone && leads(stream).unwrap_or(self.lone) && leads(consumer).unwrap_or(true)
    }
}

/// What is proved where the server that is connected to has both by itself: it cannot die without a sign.
fn horizon(stream: &StreamInfo, consumer: &ConsumerInfo, server: Server<'_>) -> Option<Horizon> {
    if !server.has(&stream.cluster, &consumer.cluster) {
        return None;
    }
    let sequence = stream.state.last_seq;
    let stored = if sequence == 0 { stream.created } else { stream.state.last_ts };
    let stored = stored?;
    // Where somebody has set the clock back, times of before and after are not to be compared.
    let ordered = stream.told.is_none_or(|now| stored <= now);
    let running = consumer.delivered.last_active.filter(|_| ordered);
    Some(Horizon { sequence, stored, running })
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    const HERE: Server<'_> = Server { name: "here", lone: true };

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// What is proved of a stream and a consumer that a server tells of, to whoever is connected to `here`.
    fn proved(stream: &str, consumer: &str) -> Option<Horizon> {
        let read = |text| format!(r#"{{{text},"ts":"1970-01-01T00:02:00Z","cluster":{{"leader":"here"}}}}"#);
        let (stream, consumer) = (read(stream), read(consumer));
        let (stream, consumer) = (serde_json::from_str(&stream), serde_json::from_str(&consumer));
        horizon(&stream.unwrap(), &consumer.unwrap(), HERE)
    }

    #[test]
    fn a_look_proves_where_the_stream_ends_and_since_when_the_broker_runs() {
        let full = r#""state":{"last_seq":7,"last_ts":"1970-01-01T00:01:00Z"}"#;
        let horizon = Horizon { sequence: 7, stored: at(60), running: None };
        assert_eq!(proved(full, r#""num_pending":7"#), Some(horizon));
        let active = r#""delivered":{"stream_seq":3,"last_active":"1970-01-01T00:00:50Z"}"#;
        assert_eq!(proved(full, active), Some(Horizon { running: Some(at(50)), ..horizon }));
        let ahead = r#""state":{"last_seq":7,"last_ts":"1970-01-01T00:03:00Z"}"#;
        assert_eq!(proved(ahead, active), Some(Horizon { stored: at(180), ..horizon }));
        let empty = r#""created":"1970-01-01T00:00:09Z","state":{"last_ts":"0001-01-01T00:00:00Z"}"#;
        let horizon = Horizon { sequence: 0, stored: at(9), ..horizon };
        assert_eq!(proved(empty, r#""num_pending":0"#), Some(horizon));
        // A stream whose last message is gone may not know when it came.
        assert_eq!(proved(r#""state":{"last_seq":7,"last_ts":"0001-01-01T00:00:00Z"}"#, active), None);
    }

    #[test]
    fn nothing_is_proved_where_another_server_has_the_stream_or_the_consumer() {
        let (here, there) = (r#"{"leader":"here"}"#, r#"{"leader":"there"}"#);
        let three = r#"{"name":"c","leader":"here","replicas":[{"name":"b"},{"name":"c"}]}"#;
        for (lone, stream, consumer, proved) in [
            (false, here, here, true),
            (false, there, here, false),
            (false, here, there, false),
            (true, three, here, false),
            (true, here, three, false),
            (false, here, "{}", true),
            (false, "{}", "{}", false),
            (true, "{}", "{}", true),
            (true, "{}", there, false),
        ] {
            let stream = format!(r#"{{"created":"1970-01-01T00:00:09Z","cluster":{stream}}}"#);
            let consumer = format!(r#"{{"cluster":{consumer}}}"#);
            let (stream, consumer) = (serde_json::from_str(&stream), serde_json::from_str(&consumer));
            let horizon = horizon(&stream.unwrap(), &consumer.unwrap(), Server { lone, ..HERE });
            assert_eq!(horizon.is_some(), proved);
        }
    }
}
