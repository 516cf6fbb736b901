//! The environment: finds the settings among its variables, in any spelling.

use std::{collections::BTreeMap, ffi::OsString};

use super::{
    foreign,
    table::{self, Kind, Setting},
    typed::Typed,
};

/// The settings in the environment.
#[derive(Debug, Default)]
pub(super) struct Environment {
    /// The values, by the names of the settings.
    pub values: BTreeMap<&'static str, Typed>,
    /// A line for each known variable that is ignored.
    pub notes: Vec<String>,
    /// The faults.
    pub faults: Vec<String>,
}

/// Reads our variables. It leaves others alone, even those that are not UTF-8. An empty one is not set.
pub(super) fn read(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Environment {
    let mut environment = Environment::default();
    let mut spellings: BTreeMap<&'static str, Vec<Typed>> = BTreeMap::new();
    for (name, value) in variables {
        let Some(name) = name.to_str().map(str::to_owned) else {
            continue;
        };
        let is_blank = value.to_str().is_some_and(|text| text.trim().is_empty());
        if let Some(setting) = table::find(&name) {
            let text = value.to_str().map(str::trim);
            if let Some(note) = foreign::stranger(&name, setting, text).filter(|_| !is_blank) {
                environment.notes.push(note);
                continue;
            }
            match text {
                None => environment.faults.push(format!("{name}: expected a value in UTF-8")),
                Some(text) if is_blank || is_service_link(setting, text) => {}
                Some(text) => {
                    spellings.entry(setting.name).or_default().push(Typed { name, text: text.to_owned() })
                }
            }
        } else if let Some(why) = foreign::reason(&name).filter(|_| !is_blank) {
            environment.notes.push(format!("{name} is a setting of other workers and is ignored: {why}"));
        }
    }
    for (setting, mut spelt) in spellings {
        // Sorted, so that a report reads the same twice.
        spelt.sort_by(|a, b| a.name.cmp(&b.name));
        let mut spelt = spelt.into_iter();
        let Some(first) = spelt.next() else { continue };
        for other in spelt.filter(|other| other.text != first.text) {
            let (one, two) = (first.shown(), other.shown());
            environment.faults.push(format!("{one} and {two}: both are {setting}, expected one value"));
        }
        environment.values.insert(setting, first);
    }
    environment.notes.sort();
    environment
}

/// Kubernetes tells every container about the services beside it, in the manner of Docker's links: for a
/// service called `nats` there is `NATS_PORT=tcp://10.0.0.1:4222`. That is no port.
fn is_service_link(setting: &Setting, text: &str) -> bool {
    setting.kind == Kind::Port && text.contains("://")
}
