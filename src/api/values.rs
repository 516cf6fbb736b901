//! What requests say: the parameters of a path and of a query, and the fields of a body. Each is of a kind,
//! which reads it and describes it in the API's document, so that the two cannot differ. Pure.

use std::{collections::BTreeMap, time::SystemTime};

use serde_json::{Map, Value as Json, json};
use url::form_urlencoded;

use super::{once::Once, problem::Fault};
use crate::{
    message::{
        audit::COMPLETED,
        decode::{FunctionName, InvalidFunctionName},
        letter::choice::Choice,
    },
    operate::cli::{Moment, cause, outcome, status},
    retry::judge::Cause,
};

/// The longest text.
const LONGEST: usize = 1_024;
/// The most sequences of one request.
const MOST: usize = 10_000;

/// A parameter of a request, or a field of its body.
#[derive(Debug)]
pub(super) struct Param {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) about: &'static str,
}

/// What a parameter may be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// Never empty: as a part of any text, an empty one would mean all.
    Text,
    /// Words for people, or none.
    Words,
    /// A function, or a target, by the name that lists have.
    Function,
    /// A function of a gateway's.
    Callee,
    Cause,
    Outcome,
    Status,
    Moment,
    Flag,
    Number(u64, u64),
    Sequences,
    /// An object of these.
    Object(&'static [Param]),
}

/// What a parameter is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Moment(Moment),
    Flag(bool),
    Number(u64),
    Sequences(Vec<u64>),
    Object(Values),
}

impl Kind {
    /// Reads a text.
    fn of_text(self, text: &str) -> Result<Value, String> {
        let texts = |text: &str| Value::Text(text.to_owned());
        match self {
            Self::Text if text.is_empty() => Err("some text".to_owned()),
            Self::Text | Self::Words if text.len() > LONGEST => Err(format!("at most {LONGEST} bytes")),
            Self::Text | Self::Words => Ok(texts(text)),
            Self::Function => named(FunctionName::stored(text.to_owned())),
            Self::Callee => named(text.parse()),
            Self::Cause => cause(text).map(Value::Text),
            Self::Outcome => outcome(text).map(Value::Text),
            Self::Status => status(text).map(Value::Text),
            Self::Moment => text.parse().map(Value::Moment),
            Self::Flag => match text {
                "true" | "1" | "" => Ok(Value::Flag(true)),
                "false" | "0" => Ok(Value::Flag(false)),
                _ => Err("true or false".to_owned()),
            },
            Self::Number(least, most) => {
                let number = text.parse().ok().filter(|number| (least..=most).contains(number));
                number.map(Value::Number).ok_or_else(|| whole(least, most))
            }
            Self::Sequences | Self::Object(_) => Err("a body in JSON".to_owned()),
        }
    }

    /// Reads a field. The faults of an object's own fields are told of there.
    fn of_json(self, name: &str, value: &Json, faults: &mut Vec<Fault>) -> Option<Value> {
        let read = match (self, value) {
            (Self::Object(fields), Json::Object(object)) => {
                return Some(Value::Object(of_object(object, fields, name, faults)));
            }
            (Self::Flag, Json::Bool(flag)) => Ok(Value::Flag(*flag)),
            (Self::Number(least, most), Json::Number(number)) => {
                let number = number.as_u64().filter(|number| (least..=most).contains(number));
                number.map(Value::Number).ok_or_else(|| whole(least, most))
            }
            // A status may be written as a number.
            (Self::Status, Json::Number(number)) => self.of_text(&number.to_string()),
            (Self::Sequences, Json::Array(all)) => sequences(all),
            (Self::Flag | Self::Number(..), _) => Err(self.expected()),
            (_, Json::String(text)) => self.of_text(text).map_err(|error| plain(&error).to_owned()),
            _ => Err(self.expected()),
        };
        read.map_err(|expected| faults.push(Fault::new(name, &shown(value), &expected))).ok()
    }

    fn expected(self) -> String {
        match self {
            Self::Flag => "true or false".to_owned(),
            Self::Number(least, most) => whole(least, most),
            Self::Sequences => sequences_expected(),
            Self::Object(_) => "an object".to_owned(),
            _ => "a string".to_owned(),
        }
    }

    /// Its schema.
    pub(super) fn schema(self) -> Json {
        match self {
            Self::Text => json!({ "type": "string", "minLength": 1, "maxLength": LONGEST }),
            Self::Words => json!({ "type": "string", "maxLength": LONGEST }),
            Self::Function => json!({ "type": "string", "pattern": "^[-A-Za-z0-9_.%]+$" }),
            Self::Callee => json!({ "type": "string", "pattern": "^[-A-Za-z0-9_.]+$" }),
            Self::Cause => json!({ "type": "string", "enum": causes().collect::<Vec<_>>() }),
            Self::Outcome => {
                let outcomes: Vec<_> = std::iter::once(COMPLETED).chain(causes()).collect();
                json!({ "type": "string", "enum": outcomes })
            }
            Self::Status => {
                json!({ "type": "string", "pattern": "^([1-5][0-9]{2}|timeout|unreachable|broken)$" })
            }
            Self::Moment => json!({ "type": "string", "examples": ["1h", "2026-11-26T08:00:00Z"] }),
            Self::Flag => json!({ "type": "boolean" }),
            Self::Number(least, u64::MAX) => json!({ "type": "integer", "minimum": least }),
            Self::Number(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
            Self::Sequences => {
                let items = json!({ "type": "integer", "minimum": 1 });
                json!({ "type": "array", "minItems": 1, "maxItems": MOST, "items": items })
            }
            Self::Object(fields) => object(fields),
        }
    }
}

/// The schema of an object with these fields.
pub(super) fn object(fields: &[Param]) -> Json {
    let field = |field: &Param| {
        let mut schema = field.kind.schema();
        if let Json::Object(schema) = &mut schema {
            schema.insert("description".to_owned(), field.about.into());
        }
        (field.name.to_owned(), schema)
    };
    let properties: Map<_, _> = fields.iter().map(field).collect();
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}

fn named(read: Result<FunctionName, InvalidFunctionName>) -> Result<Value, String> {
    let expected = |_| "the name of a function, such as f or f.openfaas-fn".to_owned();
    read.map(|name| Value::Text(name.as_str().to_owned())).map_err(expected)
}

fn whole(least: u64, most: u64) -> String {
    match most {
        u64::MAX => format!("a whole number from {least} on"),
        _ => format!("a whole number from {least} to {most}"),
    }
}

fn sequences_expected() -> String {
    format!("a list of 1 to {MOST} numbers of letters")
}

fn sequences(all: &[Json]) -> Result<Value, String> {
    let numbers: Option<Vec<u64>> = all.iter().map(|one| one.as_u64().filter(|one| *one > 0)).collect();
    let numbers = numbers.filter(|numbers| (1..=MOST).contains(&numbers.len()));
    numbers.map(Value::Sequences).ok_or_else(sequences_expected)
}

fn shown(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Why calls are given up.
fn causes() -> impl Iterator<Item = &'static str> {
    Cause::ALL.into_iter().map(Cause::as_str)
}

/// What is expected, without the word.
fn plain(error: &str) -> &str {
    error.strip_prefix("expected ").unwrap_or(error)
}

/// What a request says, by the names of its parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Values(BTreeMap<&'static str, Value>);

impl Values {
    /// One more.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn add(&mut self, param: &Param, text: &str) -> Result<(), Fault> {
        let read = param.kind.of_text(text);
        let value = read.map_err(|expected| Fault::new(param.name, text, plain(&expected)))?;
        match self.0.insert(param.name, value) {
            None => Ok(()),
            Some(_) => Err(Fault::new(param.name, text, "one value")),
        }
    }

    /// The same without these.
    pub(super) fn without(&self, names: &[&str]) -> Self {
        Self(
            self.0
                .iter()
                .filter(|(name, _)| !names.contains(name))
                .map(|(name, value)| (*name, value.clone()))
                .collect(),
        )
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        match self.0.get(name) {
            Some(Value::Number(number)) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.0.get(name) == Some(&Value::Flag(true))
    }

    pub(super) fn moment(&self, name: &str) -> Option<Moment> {
        match self.0.get(name) {
            Some(Value::Moment(moment)) => Some(*moment),
            _ => None,
        }
    }

    pub(super) fn sequences(&self, name: &str) -> &[u64] {
        match self.0.get(name) {
            Some(Value::Sequences(numbers)) => numbers,
            _ => &[],
        }
    }

    pub(super) fn object(&self, name: &str) -> Option<&Self> {
        match self.0.get(name) {
            Some(Value::Object(values)) => Some(values),
            _ => None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The choice of letters that these filter, at this time.
    pub(super) fn choice(&self, now: SystemTime) -> Choice {
        let text = |name: &str| self.text(name).map(str::to_owned);
        let moment = |name: &str| self.moment(name).map(|moment| moment.before(now));
        Choice {
            sequences: Vec::new(),
            function: text("function"),
            alias: None,
            cause: text("cause"),
            status: text("status"),
            error: text("error"),
            call_id: text("call_id").or(text("callId")),
            since: moment("since"),
            before: moment("before"),
        }
    }
}

/// Reads a query with these parameters. Each name that is none of them is a fault: a filter that nobody heeds
/// would mean all.
pub(super) fn query<'p>(
    query: &str,
    params: impl Iterator<Item = &'p Param> + Clone,
    values: &mut Values,
) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (name, text) in form_urlencoded::parse(query.as_bytes()) {
        match params.clone().find(|param| param.name == name) {
            Some(param) => faults.extend(values.add(param, &text).err()),
            None => {
                let names: Vec<_> = params.clone().map(|param| param.name).collect();
                let expected = match names.as_slice() {
                    [] => "no parameters".to_owned(),
                    names => format!("one of {}", names.join(", ")),
                };
                faults.push(Fault::new("(query)", &name, &expected));
            }
        }
    }
    faults
}

/// Reads a body with these fields.
pub(super) fn body(body: &[u8], fields: &[Param]) -> Result<Values, Vec<Fault>> {
    // Whoever has nothing to say may say nothing.
    let body = if body.is_empty() { b"{}" } else { body };
    let Once(json) = serde_json::from_slice(body).map_err(|error| {
        let (came, expected) = (String::from_utf8_lossy(body), format!("an object in JSON ({error})"));
        vec![Fault::new("(body)", &came, &expected)]
    })?;
    let Json::Object(object) = json else {
        return Err(vec![Fault::new("(body)", &shown(&json), "an object in JSON")]);
    };
    let mut faults = Vec::new();
    let values = of_object(&object, fields, "", &mut faults);
    if faults.is_empty() { Ok(values) } else { Err(faults) }
}

fn of_object(object: &Map<String, Json>, fields: &[Param], of: &str, faults: &mut Vec<Fault>) -> Values {
    let mut values = Values::default();
    for (name, value) in object.iter().filter(|(_, value)| !value.is_null()) {
        let path = if of.is_empty() { name.clone() } else { format!("{of}.{name}") };
        match fields.iter().find(|field| field.name == name) {
            Some(field) => {
                if let Some(value) = field.kind.of_json(&path, value, faults) {
                    values.0.insert(field.name, value);
                }
            }
            None => {
                let names: Vec<_> = fields.iter().map(|field| field.name).collect();
                let expected = format!("none but {}", names.join(", "));
                faults.push(Fault::new(&path, &shown(value), &expected));
            }
        }
    }
    values
}
