//! Takes the settings one by one from the typed texts, and remembers all their faults.

use std::{collections::BTreeMap, fmt::Display};

use super::{
    table::{Preset, SETTINGS},
    typed::Typed,
};

/// The value cannot be had, and the reason is on the list already: nothing more is to be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reported;

/// The typed texts, and their faults.
#[derive(Debug)]
pub(super) struct Reader {
    typed: BTreeMap<&'static str, Typed>,
    faults: Vec<String>,
}

impl Reader {
    pub fn new(typed: BTreeMap<&'static str, Typed>, faults: Vec<String>) -> Self {
        Self { typed, faults }
    }

    /// Whether somebody set it.
    pub fn is_set(&self, name: &str) -> bool {
        self.typed.contains_key(name)
    }

    /// The text that was typed, if any.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.typed.get(name).map(|typed| typed.text.as_str())
    }

    /// The value that was typed, else the default of the table.
    pub fn value<T, E: Display>(
        &mut self,
        name: &'static str,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> Result<T, Reported> {
        let preset = SETTINGS.iter().find(|setting| setting.name == name).map(|setting| setting.preset);
        match (self.optional(name, &read)?, preset) {
            (Some(value), _) => Ok(value),
            (None, Some(Preset::Value(text))) => {
                read(text).map_err(|expected| self.report(format!("{name}: {expected}")))
            }
            (None, _) => Err(self.report(format!("{name}: expected a value"))),
        }
    }

    /// The value that was typed, if any.
    pub fn optional<T, E: Display>(
        &mut self,
        name: &'static str,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Reported> {
        let Some(typed) = self.typed.get(name) else {
            return Ok(None);
        };
        read(&typed.text).map(Some).map_err(|expected| self.fault(name, expected))
    }

    /// Says what is wrong with a setting.
    pub fn fault(&mut self, name: &str, expected: impl Display) -> Reported {
        self.report(format!("{}: {expected}", self.shown(name)))
    }

    /// The setting with its value, as it was typed.
    pub fn shown(&self, name: &str) -> String {
        self.typed.get(name).map_or_else(|| name.to_owned(), Typed::shown)
    }

    pub fn faults(self) -> Vec<String> {
        self.faults
    }

    pub fn is_faultless(&self) -> bool {
        self.faults.is_empty()
    }

    fn report(&mut self, line: String) -> Reported {
        self.faults.push(line);
        Reported
    }
}
