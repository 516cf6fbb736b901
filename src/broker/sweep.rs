//! Looks at every message of a stream that nobody may have a consumer of: the API gives them one by one, at
//! many places side by side.

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::broker::jetstream::{ApiError, JetStream, Stored, if_stream};

/// At how many places at once.
const PLACES: u64 = 64;

/// What `wanted` makes of the messages of a stream on these subjects, in their order. There are none where
/// there is no stream.
///
/// # Errors
/// See [`ApiError`].
pub(crate) async fn sweep<T>(
    jetstream: &JetStream,
    stream_name: &str,
    subjects: &str,
    wanted: impl Fn(Stored) -> Option<T>,
) -> Result<Vec<T>, ApiError> {
    let Some(info) = if_stream(jetstream.stream(stream_name).await)? else { return Ok(Vec::new()) };
    let (first, last) = (info.state.first_seq.max(1), info.state.last_seq);
    let part = (last.saturating_sub(first) / PLACES).saturating_add(1);
    let wanted = &wanted;
    let places = (0..PLACES).map(|place| {
        let from = first.saturating_add(part.saturating_mul(place));
        let to = from.saturating_add(part - 1).min(last);
        async move {
            let (mut found, mut next) = (Vec::new(), from);
            while next <= to {
                let Some(stored) = jetstream.next_stored(stream_name, subjects, next).await? else { break };
                if stored.sequence > to {
                    break;
                }
                next = stored.sequence + 1;
                found.extend(wanted(stored));
            }
            Ok::<_, ApiError>(found)
        }
    });
    let found: Vec<Vec<T>> = stream::iter(places).buffered(PLACES as usize).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}
