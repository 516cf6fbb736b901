//! The settings of a stream or a consumer: an operator's as much as this program's. They are kept as JSON,
//! and written back with all that this program does not know. Those that it knows are read here.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::text::duration::shown;

/// The settings of a stream or a consumer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Settings(Value);

impl Settings {
    /// Whether none were given.
    pub fn is_none(&self) -> bool {
        self.0.is_null()
    }

    /// The names of those that are set.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.0.as_object().into_iter().flat_map(serde_json::Map::keys)
    }

    /// A setting.
    pub fn get(&self, setting: &str) -> Option<&Value> {
        self.0.get(setting)
    }

    /// Sets one, in place of what was set.
    pub fn set(&mut self, setting: &str, value: impl Into<Value>) {
        if let Some(settings) = self.0.as_object_mut() {
            settings.insert(setting.to_owned(), value.into());
        }
    }

    /// Leaves one to the broker.
    pub(crate) fn unset(&mut self, setting: &str) {
        if let Some(settings) = self.0.as_object_mut() {
            settings.remove(setting);
        }
    }

    /// A text; empty where there is none.
    pub fn text(&self, setting: &str) -> &str {
        self.get(setting).and_then(Value::as_str).unwrap_or_default()
    }

    /// A number, -1 being none; 0 where there is none.
    pub fn number(&self, setting: &str) -> i64 {
        self.get(setting).and_then(Value::as_i64).unwrap_or_default()
    }

    /// A limit, if there is one: none is -1, and 0 in some answers.
    pub fn limit(&self, setting: &str) -> Option<u64> {
        self.get(setting).and_then(Value::as_u64).filter(|most| *most > 0)
    }

    /// A duration; zero where there is none.
    pub fn duration(&self, setting: &str) -> Duration {
        Duration::from_nanos(self.get(setting).and_then(Value::as_u64).unwrap_or_default())
    }

    /// Whether something is turned on.
    pub fn is(&self, setting: &str) -> bool {
        self.get(setting).and_then(Value::as_bool) == Some(true)
    }

    /// A list; empty where there is none.
    pub fn list(&self, setting: &str) -> impl Iterator<Item = &Value> {
        self.get(setting).and_then(Value::as_array).into_iter().flatten()
    }

    /// A setting as people read it: durations in Go's notation.
    pub fn shown(&self, setting: &str) -> String {
        match setting {
            "max_age" | "ack_wait" | "duplicate_window" | "inactive_threshold" => {
                shown(self.duration(setting))
            }
            _ => match self.get(setting) {
                None | Some(Value::Null) => "none".to_owned(),
                Some(Value::String(text)) => text.clone(),
                Some(Value::Array(items)) if items.iter().all(Value::is_string) => {
                    items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
                }
                Some(other) => other.to_string(),
            },
        }
    }
}

/// The settings of a stream that are read.
impl Settings {
    /// Its name.
    pub fn name(&self) -> &str {
        self.text("name")
    }

    /// The subjects that it takes.
    pub fn subjects(&self) -> impl Iterator<Item = &str> {
        self.list("subjects").filter_map(Value::as_str)
    }

    /// Whether it holds just what is not settled.
    pub(crate) fn is_work_queue(&self) -> bool {
        self.text("retention") == "workqueue"
    }

    /// Whether it refuses what exceeds a limit, rather than remove what is old.
    pub(crate) fn refuses_new(&self) -> bool {
        self.text("discard") == "new"
    }

    /// Whether it allows message schedules: a server that does not know the setting does not give it back.
    pub(crate) fn allows_schedules(&self) -> bool {
        self.is("allow_msg_schedules")
    }

    /// On how many servers it is to lie.
    pub fn replicas(&self) -> u64 {
        self.get("num_replicas").and_then(Value::as_u64).unwrap_or(1)
    }
}

/// The settings of a consumer that are read.
impl Settings {
    /// The subjects that it takes.
    pub(crate) fn filters(&self) -> Vec<&str> {
        let one = Some(self.text("filter_subject")).filter(|filter| !filter.is_empty());
        let several = self.list("filter_subjects").filter_map(Value::as_str);
        let filters: Vec<_> = several.chain(one).collect();
        if filters.is_empty() { vec![">"] } else { filters }
    }

    /// The level of JetStream's API that its server has: 1 is NATS 2.11, 2 is 2.12. Older servers tell none.
    pub(crate) fn api_level(&self) -> Option<u32> {
        self.get("metadata")?.get("_nats.level")?.as_str()?.parse().ok()
    }
}

impl From<Value> for Settings {
    fn from(settings: Value) -> Self {
        Self(settings)
    }
}

impl fmt::Display for Settings {
    /// As JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_consumer_without_filters_takes_all() {
        for (settings, expected) in [
            (json!({}), vec![">"]),
            (json!({ "filter_subject": "" }), vec![">"]),
            (json!({ "filter_subject": "q" }), vec!["q"]),
            (json!({ "filter_subjects": ["q", "r.>"] }), vec!["q", "r.>"]),
        ] {
            assert_eq!(Settings(settings).filters(), expected);
        }
    }

    #[test]
    fn settings_that_nobody_here_knows_are_kept() {
        let mut settings: Settings =
            serde_json::from_str(r#"{"name":"q","of_tomorrow":{"a":[1]},"max_age":5}"#).unwrap();
        settings.set("max_age", 7);
        settings.unset("name");
        assert_eq!(settings, Settings(json!({ "of_tomorrow": { "a": [1] }, "max_age": 7 })));
        assert_eq!(serde_json::to_string(&settings).unwrap(), settings.to_string());
    }

    #[test]
    fn a_limit_that_is_none_is_told_from_one() {
        let settings = Settings(json!({ "none": -1, "zero": 0, "some": 9 }));
        assert_eq!(
            ["none", "zero", "some", "absent"].map(|limit| settings.limit(limit)),
            [None, None, Some(9), None]
        );
    }

    #[test]
    fn the_level_of_the_api_is_read_where_it_is_told() {
        for (metadata, level) in [
            (json!({ "_nats.level": "2", "_nats.ver": "2.14.0" }), Some(2)),
            (json!({ "_nats.level": "new" }), None),
            (json!({}), None),
            (json!(null), None),
        ] {
            assert_eq!(Settings(json!({ "metadata": metadata })).api_level(), level);
        }
    }
}
