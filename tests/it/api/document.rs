//! The API's document, held against a worker that runs.

use std::collections::BTreeSet;

use serde_json::Value;

use super::answer;
use crate::support::{DEAD, Door, Gateway, Invocation, Nats, QUEUE, Worker, eventually};

/// A document and what it says of answers.
pub struct Document(Value);

impl Document {
    pub async fn of(door: &Door, headers: &[(&str, &str)]) -> Self {
        Self(door.ask("GET", "/api/v1/openapi.json", headers, b"").await.json())
    }

    /// Holds an answer against what the document says of this request.
    #[track_caller]
    pub fn check_answer(&self, method: &str, target: &str, status: u16, found: &Value) {
        let parts: Vec<_> = target.split('?').next().unwrap().split('/').collect();
        let fits = |path: &str| {
            let wanted: Vec<_> = path.split('/').collect();
            wanted.len() == parts.len()
                && wanted.iter().zip(&parts).all(|(wanted, part)| wanted == part || wanted.starts_with('{'))
        };
        let paths = self.0["paths"].as_object().unwrap();
        let (_, operations) = paths.iter().find(|(path, _)| fits(path)).unwrap();
        let responses = &operations[&method.to_lowercase()]["responses"];
        let schema = match &responses[status.to_string()]["content"]["application/json"]["schema"] {
            Value::Null => &self.0["components"]["schemas"]["Problem"],
            schema => schema,
        };
        self.check(schema, found, &format!("{method} {target} {status}"));
    }

    /// Holds an answer against a schema: each property is there, and no other.
    fn check(&self, schema: &Value, found: &Value, place: &str) {
        if let Some(name) = schema["$ref"].as_str() {
            let name = name.rsplit('/').next().unwrap();
            return self.check(&self.0["components"]["schemas"][name], found, &format!("{place} ({name})"));
        }
        if let Some(any) = schema["anyOf"].as_array() {
            if !found.is_null() {
                self.check(&any[0], found, place);
            }
            return;
        }
        let kind = match found {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_u64() => "integer",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let types: Vec<_> = match &schema["type"] {
            Value::Null => vec![kind],
            Value::Array(all) => all.iter().map(|one| one.as_str().unwrap()).collect(),
            one => vec![one.as_str().unwrap()],
        };
        assert!(types.contains(&kind), "{place}: {found} is no {types:?}");
        if let Some(all) = found.as_array() {
            all.iter().for_each(|one| self.check(&schema["items"], one, &format!("{place}[]")));
        }
        let (Some(found), Some(properties)) = (found.as_object(), schema["properties"].as_object()) else {
            return;
        };
        for name in schema["required"].as_array().unwrap() {
            assert!(found.contains_key(name.as_str().unwrap()), "{place}: {name} is missing");
        }
        for (name, value) in found {
            let property =
                properties.get(name).unwrap_or_else(|| panic!("{place}: {name} is not documented"));
            self.check(property, value, &format!("{place}.{name}"));
        }
    }
}

#[tokio::test]
async fn each_documented_path_answers_as_documented_and_no_other_does() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(answer).await;
    let settings = Worker::of(&nats, &gateway).set("audit", "all").set("initial_retry_wait", "1h");
    let (door, settings) = Door::to_api(settings);
    let _worker = settings.start().await;
    for function in ["bad", "slow", "good"] {
        nats.publish(&Invocation::of(function).call_id(function)).await;
    }
    nats.await_counts([0, 1, 1]).await;
    let redriven = settings.run("dead-letters redrive --all --yes --output json").await.done();
    settings.run("queue pause --function other --yes").await;
    eventually("it is dead again", async || nats.count(DEAD).await == 1).await;
    eventually("there are records", async || {
        door.get("/audit").await["items"].as_array().unwrap().len() >= 4
    })
    .await;
    let sequence = door.get("/queues/faas-request/dead-letters").await["items"][0]["sequence"].to_string();
    let document = Document(door.get("/openapi.json").await);
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
    assert_eq!(serde_json::from_str::<Value>(&std::fs::read_to_string(file).unwrap()).unwrap(), document.0);

    let params = [
        ("{queue}", QUEUE),
        ("{sequence}", &sequence),
        ("{operation}", redriven["operation"].as_str().unwrap()),
        ("{callId}", "slow"),
        ("{function}", "f"),
    ];
    for (path, operations) in document.0["paths"].as_object().unwrap() {
        let target = params.iter().fold(path.clone(), |path, (name, value)| path.replace(name, value));
        assert!(!target.contains('{'), "{target}");
        let operations = operations.as_object().unwrap();
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
            let reply = door.ask(method, &target, &[], b"").await;
            match operations.get(&method.to_lowercase()) {
                None => assert_eq!(reply.status, 405, "{method} {target}"),
                // Its answer is looked at where there is a token.
                Some(_) if method != "GET" => assert_eq!(reply.status, 403, "{method} {target}"),
                Some(operation) => {
                    let found = String::from_utf8_lossy(&reply.message.body).into_owned();
                    assert_eq!(reply.status, 200, "{method} {target}: {found}");
                    let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"];
                    document.check(schema, &reply.json(), &target);
                }
            }
        }
        let elsewhere = format!("{target}/x/elsewhere");
        assert_eq!(door.ask("GET", &elsewhere, &[], b"").await.status, 404, "{elsewhere}");
    }
    let ids: Vec<_> = document.0["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|path| {
            path.as_object().unwrap().values().map(|operation| operation["operationId"].as_str().unwrap())
        })
        .collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "two operations have one name");
}
