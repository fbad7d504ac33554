//! The JSON Schema of policy files, for editors. Made of the keys that the reader accepts; says nothing of what only
//! the whole policy can tell, such as whether a group exists.

use serde_json::{Map, Value, json};

use super::keys::{Key, Kind, POLICY_KEYS};

/// The schema of one policy file, which may be a part of a policy. Draft 7: what editors for TOML know.
#[must_use]
pub fn schema() -> Value {
    let mut schema = table(POLICY_KEYS);
    schema["$schema"] = "http://json-schema.org/draft-07/schema#".into();
    schema["title"] = "edgefilter policy".into();
    schema["description"] = "A policy file of edgefilter, or a part of one.".into();
    schema["properties"]["$schema"] = json!({
        "type": "string",
        "description": "In JSON files: where this schema is, for editors.",
    });
    schema
}

fn table(keys: &[Key]) -> Value {
    let properties: Map<String, Value> = keys
        .iter()
        .map(|key| {
            let mut schema = kind(&key.kind);
            schema["description"] = key.about.into();
            (key.name.to_owned(), schema)
        })
        .collect();
    let required: Vec<&str> = keys
        .iter()
        .filter(|key| key.required)
        .map(|key| key.name)
        .collect();
    let mut schema = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    });
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    schema
}

fn kind(kind: &Kind) -> Value {
    match kind {
        Kind::Whole(from, to) => json!({ "type": "integer", "minimum": from, "maximum": to }),
        Kind::Number => json!({ "type": "number" }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Text | Kind::Time => json!({ "type": "string" }),
        Kind::Word(words) => json!({ "enum": words }),
        Kind::Texts => one_or_many(&json!({ "type": "string" })),
        Kind::Scalars => one_or_many(&json!({ "type": ["integer", "string"] })),
        Kind::Table(keys) => table(keys),
        Kind::Named(keys) => json!({
            "type": "object",
            "propertyNames": { "pattern": "^[a-z0-9][a-z0-9_-]{0,63}$" },
            "additionalProperties": table(keys),
        }),
        Kind::Tables(keys) => json!({ "type": "array", "items": table(keys) }),
    }
}

fn one_or_many(item: &Value) -> Value {
    json!({ "anyOf": [item, { "type": "array", "items": item }] })
}
