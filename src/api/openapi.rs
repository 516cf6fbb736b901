//! The API's document, made of the routes.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{
    Answer,
    problem::Problem,
    request::Asked,
    routes::{BASE, PATH, ROUTES, Route},
    schemas,
    values::{self, Param},
};
use crate::config::Config;

/// The document, in OpenAPI 3.1.
#[must_use]
pub fn document() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let path = paths.entry(format!("{BASE}{}", route.path)).or_insert_with(|| json!({}));
        if let Value::Object(path) = path {
            path.insert(route.method.to_lowercase(), operation(route));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "queue-worker", "version": "1",
            "description": "Looks at queues, dead letters, retries and calls, and changes them. It is off \
                unless api_addr is set. Without api_token_file it only reads, and shows no bodies and no \
                values of headers.",
            "license": { "name": "MIT", "identifier": "MIT" },
        },
        "security": [{}, { "token": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http", "scheme": "bearer", "description": "A line of api_token_file",
                },
            },
            "responses": {
                "Problem": {
                    "description": "Why there is no other answer (RFC 9457): 400 for what is malformed; \
                        401 without a token; 403 with a wrong one, and for a change without \
                        api_token_file; 404 for what is not there; 405 for another method; 408 for a body \
                        that does not come in; 409 for what does not fit to how things are; 413 for a body \
                        over 64 KiB; 415 for one that is no JSON; 422 for a key that was sent before with \
                        another body; 500 for a change that broke off; 503 with Retry-After where NATS does \
                        not answer",
                    "content": { "application/problem+json": { "schema": reference("Problem") } },
                },
            },
            "schemas": schemas::all(),
        },
    })
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

fn operation(route: &Route) -> Value {
    let in_path = PATH.iter().filter(|param| route.path.contains(&format!("{{{}}}", param.name)));
    let mut params: Vec<_> = in_path.map(|param| parameter("path", param)).collect();
    params.extend(route.params().map(|param| parameter("query", param)));
    let mut responses: Map<_, _> = route.answers.iter().map(answer).collect();
    responses.insert("default".to_owned(), json!({ "$ref": "#/components/responses/Problem" }));
    if route.answers.contains(&(202, "Operation")) {
        params.push(json!({
            "name": "Idempotency-Key", "in": "header", "schema": { "type": "string", "maxLength": 255 },
            "description": "A request with the same key and body has the same operation for an answer",
        }));
    }
    let mut operation = json!({
        "operationId": route.name, "summary": route.about, "parameters": params, "responses": responses,
    });
    if let (Some(fields), Value::Object(operation)) = (route.body, &mut operation) {
        let content = json!({ "application/json": { "schema": values::object(fields) } });
        operation.insert("requestBody".to_owned(), json!({ "content": content }));
    }
    operation
}

/// A status, and what is answered with it.
fn answer((status, schema): &(u16, &str)) -> (String, Value) {
    let description = if *status == 202 { "It was begun" } else { "Done" };
    let content = json!({ "application/json": { "schema": reference(schema) } });
    let mut answer = json!({ "description": description, "content": content });
    if (*status, *schema) == (202, "Operation")
        && let Value::Object(answer) = &mut answer
    {
        let location = json!({ "description": "Where the operation is", "schema": { "type": "string" } });
        answer.insert("headers".to_owned(), json!({ "Location": location }));
    }
    (status.to_string(), answer)
}

fn parameter(place: &str, param: &Param) -> Value {
    json!({
        "name": param.name, "in": place, "required": place == "path", "description": param.about,
        "schema": param.kind.schema(),
    })
}

/// The document, as an answer.
pub(super) async fn show(_: Arc<Config>, _: Asked) -> Result<Answer, Problem> {
    Ok(Answer::ok(document()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_in_docs_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
        let made = format!("{:#}\n", document());
        if std::env::var_os("WRITE_OPENAPI").is_some() {
            std::fs::write(path, &made).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap();
        assert!(written == made, "write it anew: WRITE_OPENAPI=1 cargo test --all-features --lib openapi");
    }

    #[test]
    fn each_reference_leads_to_a_schema_and_each_schema_is_referred_to() {
        let document = document();
        let text = document.to_string();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        for name in schemas.keys() {
            assert!(text.contains(&format!("\"#/components/schemas/{name}\"")), "{name}");
        }
        for rest in text.split("\"#/components/schemas/").skip(1) {
            let name = rest.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
        }
    }
}
