//! Commands that mend what was found, as somebody would type them. Those for NATS are of its own tool,
//! `nats`, and were each tried on a server in the state that they mend.

use serde::Serialize;

use crate::{
    broker::{
        jetstream::{
            Settings,
            call::{self, PutConsumer},
        },
        streams::rules,
    },
    config::Config,
    text::duration::shown,
};

/// The tool for NATS, in the domain of the settings.
#[derive(Debug, Clone)]
pub struct Nats(Option<String>);

impl Nats {
    /// The tool as these settings need it.
    pub fn of(config: &Config) -> Self {
        Self(config.nats.js_domain.clone())
    }

    fn run(&self, command: &str) -> String {
        match &self.0 {
            None => format!("nats {command}"),
            Some(domain) => format!("nats --js-domain={domain} {command}"),
        }
    }

    /// Changes a stream.
    pub(crate) fn edit_stream(&self, stream: &str, flag: &str) -> String {
        self.run(&format!("stream edit {stream} {} --force", quoted(flag)))
    }

    /// Changes a consumer.
    pub(crate) fn edit_consumer(&self, stream: &str, consumer: &str, flag: &str) -> String {
        self.run(&format!("consumer edit {stream} {consumer} {} --force", quoted(flag)))
    }

    /// Lets a consumer go on.
    pub fn resume(&self, stream: &str, consumer: &str) -> String {
        self.run(&format!("consumer resume {stream} {consumer} --force"))
    }

    /// Shows a stream.
    pub fn show(&self, stream: &str) -> String {
        self.run(&format!("stream info {stream}"))
    }

    /// Makes a stream.
    pub fn make_stream(&self, wanted: &Settings) -> String {
        self.call(&call::make_stream(wanted.name()), wanted)
    }

    /// Makes a consumer.
    pub fn make_consumer(&self, stream: &str, wanted: &Settings) -> String {
        let question = PutConsumer { stream_name: stream, config: wanted };
        self.call(&call::put_consumer(stream, wanted.text("durable_name")), &question)
    }

    /// Makes a consumer that cannot be changed be made anew.
    pub(crate) fn remake_consumer(&self, stream: &str, consumer: &str) -> String {
        format!(
            "{}   # then a worker makes it anew, or the doctor tells how; what it had delivered is delivered \
                again",
            self.run(&format!("consumer rm {stream} {consumer} --force"))
        )
    }

    /// Makes a stream that cannot be changed be made anew.
    pub(crate) fn remake_stream(&self, stream: &str) -> String {
        format!(
            "{}   # once it is empty; then a worker makes it anew, or the doctor tells how",
            self.run(&format!("stream rm {stream} --force"))
        )
    }

    /// The subject of a call of JetStream's API.
    pub fn subject(&self, call: &str) -> String {
        format!("{}.{call}", call::prefix(self.0.as_deref()))
    }

    fn call(&self, call: &str, question: &impl Serialize) -> String {
        let question = String::from_utf8_lossy(&call::written(question)).into_owned();
        format!("nats req {} {}", quoted(&self.subject(call)), quoted(&question))
    }

    /// Mends a setting of a stream, which has to take `subject`.
    pub(crate) fn stream_setting(&self, stream: &Settings, setting: &str, subject: &str) -> String {
        let name = stream.name();
        let flag = match setting {
            "subjects" => {
                format!("--subjects={}", stream.subjects().chain([subject]).collect::<Vec<_>>().join(","))
            }
            "max_age" => "--max-age=0".to_owned(),
            "max_msgs" => "--max-msgs=-1".to_owned(),
            "max_bytes" => "--max-bytes=-1".to_owned(),
            "max_msgs_per_subject" => "--max-msgs-per-subject=-1".to_owned(),
            "max_msg_size" => "--max-msg-size=-1".to_owned(),
            "discard" => "--discard=old".to_owned(),
            "no_ack" => "--ack".to_owned(),
            _ => return self.remake_stream(name),
        };
        self.edit_stream(name, &flag)
    }

    /// Keeps a stream with a size from dropping accepted messages. One with message schedules has to
    /// drop.
    pub(crate) fn refuse_what_is_new(&self, stream: &Settings) -> String {
        let name = stream.name();
        if stream.allows_schedules() {
            return self.remake_stream(name);
        }
        self.edit_stream(name, "--discard=new")
    }

    /// Mends a setting of a consumer that is to take `filter`.
    pub(crate) fn consumer_setting(
        &self,
        stream: &str,
        consumer: &str,
        setting: &str,
        filter: &str,
        config: &Config,
    ) -> String {
        let flag = match setting {
            "backoff" => "--backoff=none".to_owned(),
            "filter_subject" => format!("--filter={filter}"),
            "max_deliver" => "--max-deliver=-1".to_owned(),
            "ack_wait" => format!("--wait={}", shown(config.ack_wait)),
            "max_ack_pending" => format!("--max-pending={}", rules::least_pending(config.max_inflight)),
            "inactive_threshold" => "--inactive-threshold=8760h".to_owned(),
            "num_replicas" => "--replicas=0".to_owned(),
            _ => return self.remake_consumer(stream, consumer),
        };
        self.edit_consumer(stream, consumer, &flag)
    }
}

/// A word of a shell's command. Subjects have stars and angles, and some are other people's.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.,=/:".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_a_word_as_it_is() {
        for (word, expected) in [
            ("--subjects=a,b.c", "--subjects=a,b.c"),
            ("--filter=q-retries.due.>", "'--filter=q-retries.due.>'"),
            ("$JS.API.INFO", "'$JS.API.INFO'"),
            ("--subjects=a'$(reboot)'", r"'--subjects=a'\''$(reboot)'\'''"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }
}
