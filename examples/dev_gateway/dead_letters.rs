//! `dev_gateway dead-letters`: what the worker gave up, read without consuming it.

use async_nats::jetstream::{Context, stream::RawMessageErrorKind};
use serde_json::Value;

/// Prints subject, headers and payload of every message in the queue's dead-letter stream.
///
/// # Errors
/// Where there is no such stream, or NATS does not answer.
pub async fn print(jetstream: &Context, queue: &str) -> anyhow::Result<()> {
    let stream = jetstream.get_stream(format!("{}-dead", queue.replace('.', "_"))).await?;
    let state = &stream.cached_info().state;
    for sequence in state.first_sequence..=state.last_sequence {
        let message = match stream.get_raw_message(sequence).await {
            Ok(message) => message,
            // Redriven or purged: a gap.
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => continue,
            Err(error) => return Err(error.into()),
        };
        println!("{} (message {sequence})", message.subject);
        for (name, values) in message.headers.iter() {
            values.iter().for_each(|value| println!("  {name}: {}", value.as_str()));
        }
        println!("  {}", masked(&message.payload));
    }
    Ok(())
}

/// The queued request, but for what callers sent as credentials.
fn masked(payload: &[u8]) -> String {
    let Ok(mut request) = serde_json::from_slice::<Value>(payload) else {
        return format!("({} bytes that are no JSON)", payload.len());
    };
    for (name, values) in request.get_mut("Header").and_then(Value::as_object_mut).into_iter().flatten() {
        let name = name.to_ascii_lowercase();
        if name == "authorization" || name == "cookie" || name.ends_with("-token") {
            *values = Value::from("(masked)");
        }
    }
    request.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_masked() {
        let shown =
            masked(br#"{"Header":{"Authorization":["Bearer a"],"X-Api-Token":["b"],"X-Call-Id":["c"]}}"#);
        assert_eq!(
            shown,
            r#"{"Header":{"Authorization":"(masked)","X-Api-Token":"(masked)","X-Call-Id":["c"]}}"#
        );
    }
}
