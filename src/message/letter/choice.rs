//! Which dead letters are meant: what people type as a filter, and what a stored operation keeps of it.

use std::{fmt, time::SystemTime};

use serde::{Deserialize, Serialize};

use super::{Letter, normal::normal};
use crate::message::{call::is_id, decode::FunctionName, names::Names};

/// A choice of dead letters: those that fit all that is said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Choice {
    /// These, by their sequences; of no other number where it is empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sequences: Vec<u64>,
    /// Those of this function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// The other name of that function, if it has one: with its namespace, or without. Nobody says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// Those of this cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Those whose last attempt came out so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Those whose last error, as it is or normalised, has this text in it, in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Those of this call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// Those that died at this time or later.
    #[serde(with = "moment", skip_serializing_if = "Option::is_none")]
    pub since: Option<SystemTime>,
    /// Those that died before this time.
    #[serde(with = "moment", skip_serializing_if = "Option::is_none")]
    pub before: Option<SystemTime>,
}

impl Choice {
    /// Whether nothing is said, so that all are meant.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// The same as somebody said it.
    #[must_use]
    pub fn said(&self) -> Self {
        Self { alias: None, ..self.clone() }
    }

    /// The subjects on which the letters of this queue lie that may be meant.
    pub(crate) fn subjects(&self, names: &Names) -> Vec<String> {
        self.on(|function| names.dead_letter(Some(function)), || names.dead_subjects())
    }

    /// The subjects of the function that is meant, by its token there, under each of its names; or of all.
    pub(super) fn on(&self, of: impl Fn(&str) -> String, all: impl Fn() -> String) -> Vec<String> {
        let token = |name: &String| FunctionName::stored(name.clone()).ok().map(|name| of(&name.token()));
        let subjects: Vec<_> = self.function.iter().chain(&self.alias).filter_map(token).collect();
        if subjects.is_empty() { vec![all()] } else { subjects }
    }

    /// Whether a letter is meant.
    pub fn covers(&self, letter: &Letter) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        let status = letter.last_status.as_ref().map(super::Status::text);
        (self.sequences.is_empty() || self.sequences.contains(&letter.sequence))
            && (is(&self.function, letter.function.as_deref())
                || self.alias.is_some() && self.alias == letter.function)
            && is(&self.cause, letter.cause.as_deref())
            && is(&self.status, status.as_deref())
            && self.call_id.as_deref().is_none_or(|wanted| is_call(wanted, letter))
            && self.error.as_deref().is_none_or(|wanted| has_error(wanted, letter))
            && self.since.is_none_or(|since| letter.failed_at >= since)
            && self.before.is_none_or(|before| letter.failed_at < before)
    }
}

/// Whether a letter is this call's.
fn is_call(wanted: &str, letter: &Letter) -> bool {
    letter.call_id.as_deref().is_some_and(|id| is_id(id, wanted))
}

fn has_error(wanted: &str, letter: &Letter) -> bool {
    let wanted = wanted.to_lowercase();
    letter.last_error.as_deref().is_some_and(|error| {
        error.to_lowercase().contains(&wanted) || normal(error).to_lowercase().contains(&wanted)
    })
}

impl fmt::Display for Choice {
    /// As it would be typed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said: Vec<String> = self.sequences.iter().map(u64::to_string).collect();
        let times = [("since", self.since), ("before", self.before)]
            .map(|(name, time)| (name, time.map(|time| humantime::format_rfc3339_seconds(time).to_string())));
        let texts = [
            ("function", &self.function),
            ("cause", &self.cause),
            ("status", &self.status),
            ("error", &self.error),
            ("call-id", &self.call_id),
        ];
        for (name, text) in texts.into_iter().chain(times.iter().map(|(name, text)| (*name, text))) {
            let Some(text) = text else { continue };
            let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\'');
            said.push(if plain { format!("--{name} {text}") } else { format!("--{name} {text:?}") });
        }
        f.write_str(&if said.is_empty() { "--all".to_owned() } else { said.join(" ") })
    }
}

/// A time in RFC 3339, where there is one.
pub mod moment {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    use crate::message::envelope::rfc3339;

    /// Writes it.
    ///
    /// # Errors
    /// Those of the writer.
    #[allow(clippy::ref_option, reason = "what serde asks for")]
    pub fn serialize<S: Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
        time.map(rfc3339).serialize(serializer)
    }

    /// Reads it.
    ///
    /// # Errors
    /// Where it is no time.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SystemTime>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| humantime::parse_rfc3339(&text).map_err(D::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::tests::letter, *};
    use crate::message::names;

    fn at(seconds: u64) -> Option<SystemTime> {
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn example() -> Letter {
        letter(
            "q-dead.f",
            &[
                (names::CALL_ID, "call/%C3%BC"),
                (names::CAUSE, "exhausted"),
                (names::LAST_STATUS, "502"),
                (names::LAST_ERROR, "dial tcp 10.0.0.7:8080: Connection refused"),
                (names::FAILED_AT, "1970-01-01T00:01:40Z"),
            ],
        )
    }

    #[test]
    fn a_letter_is_meant_that_fits_all_that_is_said() {
        let none = Choice::default;
        for (choice, meant) in [
            (none(), true),
            (Choice { sequences: vec![6, 7], ..none() }, true),
            (Choice { sequences: vec![6], ..none() }, false),
            (Choice { function: text("f"), cause: text("exhausted"), ..none() }, true),
            (Choice { function: text("f"), cause: text("refused"), ..none() }, false),
            (Choice { function: text("F"), ..none() }, false),
            (Choice { function: text("f.ns"), alias: text("f"), ..none() }, true),
            (Choice { function: text("f.ns"), alias: text("f"), cause: text("refused"), ..none() }, false),
            (Choice { function: text("f.ns"), alias: text("g"), ..none() }, false),
            (Choice { status: text("502"), ..none() }, true),
            (Choice { status: text("50"), ..none() }, false),
            (Choice { error: text("connection REFUSED"), ..none() }, true),
            (Choice { error: text("tcp <address>: connection"), ..none() }, true),
            (Choice { error: text("timeout"), ..none() }, false),
            (Choice { call_id: text("call/ü"), ..none() }, true),
            (Choice { call_id: text("call/%C3%BC"), ..none() }, true),
            (Choice { call_id: text("call"), ..none() }, false),
            (Choice { since: at(100), before: at(101), ..none() }, true),
            (Choice { since: at(101), ..none() }, false),
            (Choice { before: at(100), ..none() }, false),
        ] {
            assert_eq!(choice.covers(&example()), meant, "{choice}");
        }
        let silent = letter("q-dead._undecodable", &[]);
        for choice in [
            Choice { function: text(""), ..none() },
            Choice { error: text(""), ..none() },
            Choice { status: text(""), ..none() },
            Choice { call_id: text(""), ..none() },
        ] {
            assert!(!choice.covers(&silent), "{choice}");
        }
    }

    #[test]
    fn a_function_is_looked_for_under_each_of_its_names() {
        let (names, none) = (Names::new("q", "q"), Choice::default());
        let one = Choice { function: text("f.ns"), ..none.clone() };
        let both = Choice { alias: text("f"), ..one.clone() };
        assert_eq!(none.subjects(&names), ["q-dead.>"]);
        assert_eq!(one.subjects(&names), ["q-dead.f%2Ens"]);
        assert_eq!(both.subjects(&names), ["q-dead.f%2Ens", "q-dead.f"]);
        assert_eq!(both.retries_subjects(&names), ["q-retries.*.f%2Ens.>", "q-retries.*.f.>"]);
        assert_eq!((both.said(), both.to_string()), (one, "--function f.ns".to_owned()));
    }

    #[test]
    fn a_choice_reads_back_as_it_was_stored_and_is_shown_as_it_was_typed() {
        let choice = Choice {
            sequences: vec![3, 9],
            function: text("f"),
            error: text("it's <n>"),
            since: at(60),
            ..Choice::default()
        };
        let written = serde_json::to_string(&choice).unwrap();
        assert_eq!(serde_json::from_str::<Choice>(&written).unwrap(), choice, "{written}");
        assert_eq!(choice.to_string(), "3 9 --function f --error \"it's <n>\" --since 1970-01-01T00:01:00Z");
        assert_eq!((Choice::default().to_string(), Choice::default().is_all()), ("--all".to_owned(), true));
        assert!(serde_json::from_str::<Choice>(r#"{"since":"yesterday"}"#).is_err());
    }
}
