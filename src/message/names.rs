//! The names on the wire: streams, subjects and header names. They are promises to other people's tools, so
//! that they are written down once, here.

mod id;
mod room;

pub use id::Id;

/// Headers with this prefix are ours.
pub(crate) const PREFIX: &str = "Queue-Worker-";
/// Headers with this prefix, in any case, are the broker's: a copied roll-up or schedule header can wipe a
/// stream.
const BROKERS: &str = "nats-";
/// Clones between a message and its first arrival.
pub const HOP: &str = "Queue-Worker-Hop";
/// Attempts made.
pub const ATTEMPTS: &str = "Queue-Worker-Attempts";
/// Delayed waits so far, which the back-off counts; absent where each attempt was followed by one.
pub const DELAYED: &str = "Queue-Worker-Delayed-Retries";
/// RFC 3339, when the next attempt may start.
pub const DUE: &str = "Queue-Worker-Due";
/// RFC 3339, when the message was parked; only where its waits are traced.
pub(crate) const PARKED_AT: &str = "Queue-Worker-Parked-At";
/// `<stream>:<id>`.
pub const ORIGINAL_ID: &str = "Queue-Worker-Original-Id";
/// RFC 3339, when the message first arrived.
pub const FIRST_SEEN: &str = "Queue-Worker-First-Seen";
/// The call id, for people who look.
pub const CALL_ID: &str = "Queue-Worker-Call-Id";
/// The subject on which a message first arrived that is called at a target, percent-encoded.
pub(crate) const SUBJECT: &str = "Queue-Worker-Subject";
/// What its producer calls an event (dead letters).
pub const EVENT_ID: &str = "Queue-Worker-Event-Id";
/// Who produced it (dead letters).
pub const EVENT_SOURCE: &str = "Queue-Worker-Event-Source";
/// The function, for people who look.
pub(crate) const FUNCTION: &str = "Queue-Worker-Function";
/// The last HTTP status, if any.
pub const LAST_STATUS: &str = "Queue-Worker-Last-Status";
/// Why the last attempt failed, one line.
pub(crate) const LAST_ERROR: &str = "Queue-Worker-Last-Error";
/// The last attempts: `n:status:milliseconds:worker`.
pub const HISTORY: &str = "Queue-Worker-History";
/// When those attempts were begun: `n:milliseconds since 1970`.
pub const ATTEMPT_TIMES: &str = "Queue-Worker-Attempt-Times";
/// Calls in a row that were cut off with their worker.
pub const INTERRUPTIONS: &str = "Queue-Worker-Interruptions";
/// How often in a row the gateway did not find the function, and since when: `n:RFC 3339`; absent where the
/// last attempt ended otherwise.
pub const NOT_FOUND: &str = "Queue-Worker-Not-Found";
/// Absent: an invocation; `callback`: its answer, on its way to the URL that the caller asked for.
pub const KIND: &str = "Queue-Worker-Kind";
/// The kind of what was parked with headers that cannot be read.
pub(crate) const UNREADABLE: &str = "unreadable";
/// Absent: the payload as it arrived; `gzip`: compressed to fit.
pub const ENCODING: &str = "Queue-Worker-Encoding";
/// How often an operator sent the invocation round again.
pub const REDRIVES: &str = "Queue-Worker-Redrives";
/// Who cancelled the call, and why: it is not to be made.
pub(crate) const CANCELLED: &str = "Queue-Worker-Cancelled";
/// RFC 3339, when an operator last did so: its age counts from then.
pub const REDRIVEN_AT: &str = "Queue-Worker-Redriven-At";
/// RFC 3339, when a call that its caller put off may begin: its age counts from then.
pub(crate) const NOT_BEFORE: &str = "Queue-Worker-Not-Before";
/// The header block of a message that the NATS client cannot read, in base64.
pub(crate) const RAW_HEADERS: &str = "Queue-Worker-Raw-Headers";
/// Absent: the block as it was; `gzip`: compressed to fit.
pub(crate) const RAW_ENCODING: &str = "Queue-Worker-Raw-Headers-Encoding";
/// How many bytes the block had, where only its beginning fitted.
pub(crate) const RAW_BYTES: &str = "Queue-Worker-Raw-Headers-Bytes";
/// Why a message is dead.
pub const CAUSE: &str = "Queue-Worker-Cause";
/// RFC 3339, when it died.
pub(crate) const FAILED_AT: &str = "Queue-Worker-Failed-At";

/// The id by which the broker knows a message, for as long as it remembers ids.
pub(crate) const MESSAGE_ID: &str = "Nats-Msg-Id";
/// The stream that has to take a message.
pub(crate) const EXPECTED_STREAM: &str = "Nats-Expected-Stream";
/// The sequence that the last message on the subject has to have.
pub(crate) const EXPECTED_LAST: &str = "Nats-Expected-Last-Subject-Sequence";
/// The subject for which [`EXPECTED_LAST`] holds, where it is another one than the message's.
pub(crate) const EXPECTED_LAST_ON: &str = "Nats-Expected-Last-Subject-Sequence-Subject";
/// The sequence that the last message of the stream has to have.
pub(crate) const EXPECTED_LAST_OF_ALL: &str = "Nats-Expected-Last-Sequence";
/// The id that the last message of the stream has to have.
pub(crate) const EXPECTED_LAST_ID: &str = "Nats-Expected-Last-Msg-Id";
/// When the broker is to wake a message.
pub(crate) const SCHEDULE: &str = "Nats-Schedule";
/// The subject on which the broker publishes the message then.
pub(crate) const SCHEDULE_TARGET: &str = "Nats-Schedule-Target";
/// The subject of the scheduled message from which this one was made.
pub(crate) const SCHEDULER: &str = "Nats-Scheduler";
/// What becomes of that scheduled message.
pub(crate) const SCHEDULE_NEXT: &str = "Nats-Schedule-Next";

/// The consumer of the retries whose time has come.
pub(crate) const DUE_CONSUMER: &str = "due";
/// In a subject, stands for the function of a message that names none.
pub(crate) const UNDECODABLE: &str = "_undecodable";

/// The generations of a life: so many clones no invocation has before it ends. What an operator sends round
/// again begins with the next multiple; a callback in the middle between two.
pub(crate) const HALF_LIFE: u64 = 500_000;

/// Whether a header is the broker's own.
pub fn is_brokers(header: &str) -> bool {
    begins(header, BROKERS)
}

/// Whether a header is ours.
pub(crate) fn is_ours(header: &str) -> bool {
    begins(header, PREFIX)
}

fn begins(header: &str, prefix: &str) -> bool {
    header.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// The names of everything that belongs to one queue.
#[derive(Debug, Clone)]
pub struct Names {
    /// The queue's name: the subject that invocations arrive on.
    pub queue: String,
    /// The stream of fresh invocations.
    pub stream: String,
    /// The stream of parked retries.
    pub retries: String,
    /// The stream of dead letters.
    pub dead: String,
    /// The stream of what operators had done.
    pub operations: String,
    /// The stream of what became of calls, and of what operators did.
    pub audit: String,
}

impl Names {
    /// The names of `queue`, whose fresh invocations lie in `stream`.
    pub fn new(queue: &str, stream: &str) -> Self {
        let base = Self::usual_stream(queue);
        Self {
            queue: queue.to_owned(),
            stream: stream.to_owned(),
            retries: format!("{base}-retries"),
            dead: format!("{base}-dead"),
            operations: room::fitting(&base, "operations", "ops"),
            audit: format!("{base}-audit"),
        }
    }

    /// The stream of `queue`, where none is set: names of streams have no dots.
    pub(crate) fn usual_stream(queue: &str) -> String {
        queue.replace('.', "_")
    }

    /// All subjects of the parked retries.
    pub fn retries_subjects(&self) -> String {
        format!("{}-retries.>", self.queue)
    }

    /// The subjects of retries whose time has come.
    pub fn due_subjects(&self) -> String {
        format!("{}-retries.due.>", self.queue)
    }

    /// The subjects of retries that wait for their schedule.
    pub fn scheduled_subjects(&self) -> String {
        format!("{}-retries.at.>", self.queue)
    }

    /// The subjects of retries that wait in delay level `k`.
    pub fn level_subjects(&self, k: u32) -> String {
        format!("{}-retries.l{k}.>", self.queue)
    }

    /// The consumer of delay level `k`.
    pub(crate) fn level_consumer(k: u32) -> String {
        format!("l{k}")
    }

    /// The delay level of a consumer's name; `None` if it is no level's.
    pub fn level_of(consumer: &str) -> Option<u32> {
        let k = consumer.strip_prefix('l')?.parse().ok()?;
        (Self::level_consumer(k) == consumer).then_some(k)
    }

    /// All subjects of the dead letters.
    pub fn dead_subjects(&self) -> String {
        format!("{}-dead.>", self.queue)
    }

    /// Where the clone `id.generation` of a call to `function` (a token) waits for its schedule.
    pub fn scheduled(&self, function: &str, id: Id, generation: u64) -> String {
        format!("{}-retries.at.{function}.{id}.{generation}", self.queue)
    }

    /// Where the clone `id.generation` of a call to `function` (a token) waits in delay level `k`.
    pub fn level(&self, k: u32, function: &str, id: Id, generation: u64) -> String {
        format!("{}-retries.l{k}.{function}.{id}.{generation}", self.queue)
    }

    /// Where the clone `id.generation` arrives when its time has come.
    pub fn due(&self, function: &str, id: Id, generation: u64) -> String {
        format!("{}-retries.due.{function}.{id}.{generation}", self.queue)
    }

    /// Wherever the clones of `id` lie, whichever timer parked them.
    pub fn clones(&self, function: &str, id: Id) -> String {
        format!("{}-retries.*.{function}.{id}.*", self.queue)
    }

    /// The generation at the end of a clone's subject.
    pub fn generation_of(subject: &str) -> Option<u64> {
        subject.rsplit('.').next()?.parse().ok()
    }

    /// All subjects of the operations.
    pub fn operations_subjects(&self) -> String {
        format!("{}-operations.>", self.queue)
    }

    /// Where the record of an operation lies.
    pub fn operation(&self, id: &str) -> String {
        format!("{}-operations.{id}", self.queue)
    }

    /// A subject of the retries that no message has: questions are asked on it.
    pub(crate) fn retries_probe(&self) -> String {
        format!("{}-retries._probe", self.queue)
    }

    /// A subject of the dead letters that no message has: questions are asked on it.
    pub(crate) fn dead_probe(&self) -> String {
        format!("{}-dead._probe", self.queue)
    }

    /// Whether the clone of the generation `later` followed from the one of the generation `earlier`, if both
    /// have the same identity: each life of an invocation counts its own, and so does a callback that was
    /// sent round again.
    pub(crate) fn is_successor(later: u64, earlier: u64) -> bool {
        later > earlier && later / HALF_LIFE == earlier / HALF_LIFE
    }

    /// Where what is parked on a subject arrives when its time has come, or what a pause holds there where it
    /// need not wait for the end of that; `None` where nothing is parked or held.
    /// All messages there go the same way: a message of the wrong form is dead-lettered by whoever reads
    /// it, and lost by nobody.
    pub fn target_of(&self, parked: &str) -> Option<String> {
        let (place, rest) = parked.strip_prefix(&format!("{}-retries.", self.queue))?.split_once('.')?;
        (place == "at" || place == "held" || Self::level_of(place).is_some())
            .then(|| format!("{}-retries.due.{rest}", self.queue))
    }

    /// The identity and the generation at the end of a clone's subject.
    pub fn clone_of(subject: &str) -> Option<(Id, u64)> {
        let mut tokens = subject.rsplit('.');
        let (generation, id) = (tokens.next()?, tokens.next()?);
        Some((id.parse().ok()?, generation.parse().ok()?))
    }

    /// Where the dead letters of `function` (a token) lie; of messages that name no function, for `None`.
    pub fn dead_letter(&self, function: Option<&str>) -> String {
        format!("{}-dead.{}", self.queue, function.unwrap_or(UNDECODABLE))
    }
}

/// Whether a subject with wildcards covers another, which may have some too.
pub fn covers(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for wanted in pattern.split('.') {
        match (wanted, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(token)) if token != ">" => {}
            (wanted, Some(token)) if wanted == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_cover_words() {
        for (pattern, subject, expected) in [
            ("a", "a", true),
            ("a", "b", false),
            ("a.b", "a", false),
            ("a", "a.b", false),
            ("*", "a", true),
            ("*", "a.b", false),
            ("*.b", "a.b", true),
            (">", "a.b", true),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            ("a.>", "a.*", true),
            ("a.*", "a.>", false),
            ("a.>", "a.>", true),
        ] {
            assert_eq!(covers(pattern, subject), expected, "{pattern} {subject}");
        }
    }

    #[test]
    fn derived_names_follow_the_queue() {
        let names = Names::new("a.b", "s");
        assert_eq!((names.retries.as_str(), names.dead.as_str()), ("a_b-retries", "a_b-dead"));
        assert_eq!(Names::usual_stream("a.b"), "a_b");
        let id = Id { sequence: 7, stored: 36 };
        assert_eq!(names.scheduled("f%2Ens", id, 2), "a.b-retries.at.f%2Ens.7-10.2");
        assert_eq!(names.target_of("a.b-retries.at.f%2Ens.7-10.2"), Some(names.due("f%2Ens", id, 2)));
        assert_eq!(names.target_of(&names.held("f%2Ens", id, 2)), Some(names.due("f%2Ens", id, 2)));
        assert_eq!(names.target_of(&names.level(16, "f%2Ens", id, 2)), Some(names.due("f%2Ens", id, 2)));
        for elsewhere in [
            "a.b-retries.due.f.7-10.2",
            "a.b-retries.l.f.7-10.2",
            "a.b-retries.l01.f.7-10.2",
            "a.b.l1.f",
            "a.b-retries.at",
        ] {
            assert_eq!(names.target_of(elsewhere), None, "{elsewhere}");
        }
        assert_eq!(Names::clone_of(&names.due("f%2Ens", id, 12)), Some((id, 12)));
        assert_eq!(Names::clone_of("a.b-retries.due.x.1"), None);
        assert_eq!(Names::generation_of(&names.due("f%2Ens", id, 12)), Some(12));
        assert_eq!(names.dead_letter(None), "a.b-dead._undecodable");
    }
}
