//! The OpenAPI 3.1 document, made from the table of operations and the types they speak.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::operations::{self, Operation, Reply};
use super::server::Service;
use crate::access::Role;

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/v1/openapi.json", "openapi.show", Role::Viewer, show)
            .summary("This document")
            .answers::<Map<String, Value>>(),
    ]
}

async fn show(State(_): State<Service>) -> Response {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(document);
    Json(&*DOCUMENT).into_response()
}

/// The whole document.
#[must_use]
pub fn document() -> Value {
    let mut generator = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into())
        .into_generator();
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for operation in operations::table() {
        let method = operation.method.as_str().to_ascii_lowercase();
        // `{*rest}` is the router's way to say that a part may hold slashes
        let path = operation.path.replace("{*", "{");
        paths
            .entry(path)
            .or_default()
            .insert(method, describe(&operation, &mut generator));
    }
    let schemas = generator.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "edgefilter",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Control of the edge filter's daemon",
            "description": "HTTP over the Unix socket control.sock in the run directory, and over TLS with client \
                certificates if the daemon's settings say so. One request a connection. `x-role` is the least role of \
                whoever asks; `x-audited` says whether the operation is recorded; `x-body-bytes` and \
                `x-answer-seconds` are its bounds.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "http://edgefilter", "description": "the control socket" }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {
                "Refused": {
                    "description": "Why it is not done. 400: it makes no sense; 403: the role is missing; 404: it is \
                        not there; 408: the body took too long; 409: it must not be done, or there is no room; 413: \
                        the body is too long; 503: not now; 504: no answer in time.",
                    "content": { "application/json": { "schema": {
                        "type": "object",
                        "properties": { "error": { "type": "string", "description": "For people." } },
                        "required": ["error"],
                    } } },
                },
            },
        },
    })
}

fn describe(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let mut parameters: Vec<Value> = operation
        .path_parameters
        .iter()
        .map(|(name, meaning)| {
            json!({
                "name": name,
                "in": "path",
                "required": true,
                "description": meaning,
                "schema": { "type": "string" },
            })
        })
        .collect();
    if let Some(query) = operation.query {
        let schema = query(generator);
        let fields = schema.get("properties").and_then(Value::as_object);
        for (name, field) in fields.into_iter().flatten() {
            let mut field = field.clone();
            let meaning = field
                .as_object_mut()
                .and_then(|field| field.remove("description"))
                .unwrap_or_default();
            parameters.push(json!({
                "name": name,
                "in": "query",
                "description": meaning,
                "schema": field,
            }));
        }
    }
    let mut described = json!({
        "operationId": operation.name,
        "summary": operation.summary,
        "responses": {
            "200": { "description": "Done", "content": content(operation.reply, generator) },
            "default": { "$ref": "#/components/responses/Refused" },
        },
        "x-role": operation.role.name(),
        "x-audited": operation.audited,
        "x-answer-seconds": operation.time.as_secs(),
    });
    if !parameters.is_empty() {
        described["parameters"] = parameters.into();
    }
    if let Some(request) = operation.request {
        described["x-body-bytes"] = operation.body.into();
        described["requestBody"] = json!({
            "required": true,
            "content": { "application/json": { "schema": request(generator) } },
        });
    }
    described
}

fn content(reply: Reply, generator: &mut SchemaGenerator) -> Value {
    match reply {
        Reply::Document(document) => {
            json!({ "application/json": { "schema": document(generator) } })
        }
        Reply::Lines(line) => json!({ "application/x-ndjson": lines(line(generator)) }),
        Reply::DocumentOrLines(document, line) => json!({
            "application/json": { "schema": document(generator) },
            "application/x-ndjson": lines(line(generator)),
        }),
        Reply::Text(media_type) => json!({ media_type: { "schema": { "type": "string" } } }),
    }
}

/// OpenAPI 3.1 has no word for "a document a line"; 3.2 says `itemSchema`, and so does this.
fn lines(line: schemars::Schema) -> Value {
    let lost = json!({
        "type": "object",
        "properties": { "lost": { "type": "integer", "minimum": 1, "description": "More that were not read in time." } },
        "required": ["lost"],
    });
    json!({ "x-item-schema": { "anyOf": [line, lost] }, "schema": { "type": "string" } })
}
