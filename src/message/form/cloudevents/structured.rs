//! Events in structured mode: the JSON format (its version 1.0.2).

use std::collections::BTreeMap;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use serde_json::value::RawValue;

use super::{Event, attribute::shown};

/// The members that are no attributes.
const DATA: [&str; 2] = ["data", "data_base64"];
/// What data is whose type nobody told.
const USUAL_TYPE: &str = "application/json";

/// Reads an event.
pub(super) fn read(payload: &[u8], event: &mut Event) -> Result<(), String> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_slice(payload)
        .map_err(|_| "the message is neither an event in JSON nor one in headers".to_owned())?;
    let is_name = |name: &str| matches!(name, "id" | "source");
    // A message is worth telling apart even when it cannot be used: so its name comes first.
    for first in [true, false] {
        for (name, value) in members.iter().filter(|(name, _)| is_name(name) == first) {
            if !DATA.contains(&name.as_str())
                && let Some(value) = text(name, value.get())?
            {
                event.add(name, value)?;
            }
        }
    }
    let [data, base64] = DATA.map(|name| members.get(name).map(|value| value.get()));
    event.data = match (data, base64.filter(|text| *text != "null")) {
        (None, None) => Bytes::new(),
        (Some(_), Some(_)) => return Err("the event has data and data_base64".to_owned()),
        (None, Some(text)) => binary(text).ok_or("the event's data_base64 is no base64")?.into(),
        (Some(data), None) => plain(data, event)?,
    };
    Ok(())
}

/// The value of an attribute; `None` where there is none.
fn text(name: &str, json: &str) -> Result<Option<String>, String> {
    let digits = json.strip_prefix('-').unwrap_or(json);
    let is_integer = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    match json {
        "null" => Ok(None),
        "true" | "false" => Ok(Some(json.to_owned())),
        _ if is_integer => Ok(Some(json.to_owned())),
        _ => serde_json::from_str(json)
            .map(Some)
            .map_err(|_| format!("{} is no string, no integer and no boolean", shown(name))),
    }
}

fn binary(json: &str) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(serde_json::from_str::<String>(json).ok()?).ok()
}

/// The data of the member `data`: JSON as it stands there, or the text in it.
fn plain(json: &str, event: &mut Event) -> Result<Bytes, String> {
    let media_type = event.content_type.get_or_insert_with(|| USUAL_TYPE.to_owned());
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence.ends_with("/json") || essence.ends_with("+json") {
        return Ok(Bytes::copy_from_slice(json.as_bytes()));
    }
    let text: Option<String> = serde_json::from_str(json)
        .map_err(|_| "the event's data is no string, and its type is not JSON's".to_owned())?;
    Ok(text.unwrap_or_default().into())
}
