//! The operations of the control API as its OpenAPI document lists them, with requests that make sense.

use anyhow::{Context, Result};
use serde_json::Value;

/// One operation.
#[derive(Clone, Debug)]
pub struct Operation {
    /// `block.add`
    pub name: String,
    /// `POST`
    pub method: String,
    /// With every part filled in.
    pub path: String,
    /// `viewer`, `operator`, `admin`
    pub role: String,
    /// A body that makes sense, or an empty object where none is known.
    pub body: String,
    /// Names of the body's fields.
    pub fields: Vec<String>,
    /// Names of what may stand after the question mark.
    pub query: Vec<String>,
    /// By media type, the answer's schema, or that of each of its lines (`true`).
    pub answers: Vec<(String, Value, bool)>,
}

/// Bodies and paths that make sense.
const EXAMPLES: &[(&str, &str)] = &[
    ("block.add", r#"{"source":"198.51.100.9","ttl_seconds":60}"#),
    ("policy.replay", REPLAY),
];

/// An empty capture (the header of a pcap file), and a policy that opens one port.
const REPLAY: &str = r#"{"capture":"1MOyoQIABAAAAAAAAAAAAP//AAABAAAA",
"bundle":{"main":"next.toml","files":{"next.toml":"version = 1\n[profiles.edge]\ninterfaces = [\"eth0\"]\n"}}}"#;
const PARTS: &[(&str, &str)] = &[("{source}", "198.51.100.9"), ("{id}", "1")];

/// All operations of a document.
pub fn all(document: &Value) -> Result<Vec<Operation>> {
    let paths = document["paths"].as_object().context("no paths")?;
    let mut list = Vec::new();
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().context("no methods")? {
            list.push(one(document, path, method, operation)?);
        }
    }
    Ok(list)
}

fn one(document: &Value, path: &str, method: &str, operation: &Value) -> Result<Operation> {
    let text = |key: &str| {
        operation[key]
            .as_str()
            .map(str::to_owned)
            .with_context(|| format!("{method} {path} has no {key}"))
    };
    let name = text("operationId")?;
    let mut filled = path.to_owned();
    for (part, value) in PARTS {
        filled = filled.replace(part, value);
    }
    // whatever part it is
    while let Some((before, rest)) = filled.clone().split_once('{') {
        let after = rest.split_once('}').map_or("", |(_, after)| after);
        filled = format!("{before}1{after}");
    }
    let example = EXAMPLES.iter().find(|(known, _)| *known == name);
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    let content = operation["responses"]["200"]["content"].as_object();
    let answers = content.into_iter().flatten().map(|(media, content)| {
        let lines = content.get("x-item-schema");
        let schema = lines.unwrap_or(&content["schema"]);
        (media.clone(), schema.clone(), lines.is_some())
    });
    let query = operation["parameters"].as_array().into_iter().flatten();
    Ok(Operation {
        method: method.to_ascii_uppercase(),
        path: filled,
        role: text("x-role")?,
        body: example.map_or("{}", |(_, body)| *body).to_owned(),
        fields: fields(document, schema),
        query: query
            .filter(|parameter| parameter["in"] == "query")
            .filter_map(|parameter| parameter["name"].as_str().map(str::to_owned))
            .collect(),
        answers: answers.collect(),
        name,
    })
}

/// The fields of an object, wherever it is described.
fn fields(document: &Value, schema: &Value) -> Vec<String> {
    let described = schema["$ref"]
        .as_str()
        .and_then(|place| document.pointer(place.strip_prefix('#')?))
        .unwrap_or(schema);
    let properties = described["properties"].as_object();
    properties
        .into_iter()
        .flatten()
        .map(|(name, _)| name.clone())
        .collect()
}
