//! The schema for editors accepts what the reader accepts, as far as shapes go.

use std::fs;

use jsonschema::Validator;
use serde_json::{Value, json};

use super::super::keys::{Key, Kind, POLICY_KEYS};
use super::super::*;
use super::{fixtures, repository};

fn validator() -> Validator {
    jsonschema::validator_for(&schema()).unwrap()
}

/// A TOML text as the JSON that editors check.
fn as_json(text: &str) -> Value {
    fn convert(value: toml::Value) -> Value {
        match value {
            toml::Value::String(text) => text.into(),
            toml::Value::Integer(number) => number.into(),
            toml::Value::Float(number) => number.into(),
            toml::Value::Boolean(flag) => flag.into(),
            toml::Value::Datetime(time) => time.to_string().into(),
            toml::Value::Array(list) => list.into_iter().map(convert).collect(),
            toml::Value::Table(table) => table.into_iter().map(|(k, v)| (k, convert(v))).collect(),
        }
    }
    convert(toml::Value::Table(text.parse().unwrap()))
}

#[test]
fn every_policy_there_is_fits_the_schema() {
    let validator = validator();
    let mut texts: Vec<String> = fixtures("good")
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    for entry in fs::read_dir(repository().join("configs")).unwrap() {
        let path = entry.unwrap().path();
        // the daemon's own settings are no policy
        let is_policy = !path.ends_with("daemon.toml");
        if is_policy && path.extension().is_some_and(|kind| kind == "toml") {
            texts.push(fs::read_to_string(path).unwrap());
        }
    }
    for page in ["README.md", "docs/policy.md"] {
        let page = fs::read_to_string(repository().join(page)).unwrap();
        let blocks = page.split("```toml\n").skip(1);
        texts.extend(blocks.filter_map(|rest| rest.split("```").next().map(str::to_owned)));
    }
    assert!(texts.len() > 20);
    for text in texts {
        let value = as_json(&text);
        let errors: Vec<_> = validator
            .iter_errors(&value)
            .map(|e| e.to_string())
            .collect();
        assert!(errors.is_empty(), "{text}\n{errors:?}");
    }
}

/// Gets a key, and what builds a policy around a value of it.
type See<'a> = dyn FnMut(&Key, &dyn Fn(Value) -> Value) + 'a;

/// Every key there is, with a policy around its value. `place` builds what is around the table.
fn each_key(keys: &'static [Key], place: &dyn Fn(Value) -> Value, see: &mut See<'_>) {
    for key in keys {
        let here = |value: Value| {
            // what the table needs beside this key
            let mut table: serde_json::Map<String, Value> = keys
                .iter()
                .filter(|other| other.required && other.name != key.name)
                .map(|other| (other.name.to_owned(), other_value(other)))
                .collect();
            table.insert(key.name.to_owned(), value);
            place(table.into())
        };
        see(key, &here);
        match key.kind {
            Kind::Table(inner) => each_key(inner, &here, see),
            Kind::Named(inner) => each_key(inner, &|table| here(json!({ "x": table })), see),
            Kind::Tables(inner) => each_key(inner, &|table| here(json!([table])), see),
            _ => {}
        }
    }
}

/// A value of the right type.
fn other_value(key: &Key) -> Value {
    match key.kind {
        Kind::Whole(from, _) => from.into(),
        Kind::Number => json!(2.5),
        Kind::Flag => true.into(),
        Kind::Text | Kind::Time | Kind::Texts | Kind::Scalars => "text".into(),
        Kind::Word(words) => words[0].into(),
        Kind::Table(_) | Kind::Named(_) => json!({}),
        Kind::Tables(_) => json!([]),
    }
}

#[test]
fn reader_and_schema_refuse_the_same_shapes() {
    let validator = validator();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.json");
    // a mistake in the shape of a value, or in a key
    let refuses = |policy: &Value| {
        fs::write(&path, policy.to_string()).unwrap();
        let errors = load(&path).err();
        errors.is_some_and(|list| {
            list.errors()
                .any(|d| ["wrong-type", "unknown-key"].contains(&d.code))
        })
    };
    let mut seen = 0;
    each_key(POLICY_KEYS, &|policy| policy, &mut |key, place| {
        let good = place(other_value(key));
        // a table with keys of its own may need some
        if !matches!(key.kind, Kind::Table(_)) {
            let errors: Vec<_> = validator
                .iter_errors(&good)
                .map(|e| e.to_string())
                .collect();
            assert!(errors.is_empty(), "{good}: {errors:?}");
        }
        assert!(!refuses(&good), "{good}");
        let wrong = match key.kind {
            Kind::Table(_) | Kind::Named(_) | Kind::Tables(_) => json!("text"),
            _ => json!({ "unknown": 1 }),
        };
        let wrong = place(wrong);
        assert!(!validator.is_valid(&wrong), "{wrong}");
        assert!(refuses(&wrong), "{wrong}");
        if let Kind::Table(_) = key.kind {
            let unknown = place(json!({ "unknown": 1 }));
            assert!(
                !validator.is_valid(&unknown) && refuses(&unknown),
                "{unknown}"
            );
        }
        seen += 1;
    });
    assert!(seen > 90, "{seen} keys");
}

#[test]
fn words_of_the_schema_are_words_of_the_reader() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.json");
    each_key(POLICY_KEYS, &|policy| policy, &mut |key, place| {
        let Kind::Word(words) = key.kind else { return };
        for word in words.iter().copied().chain(["none-of-these"]) {
            fs::write(&path, place(word.into()).to_string()).unwrap();
            let errors = load(&path).err();
            let refused = errors.is_some_and(|list| list.errors().any(|d| d.code == "value"));
            assert_eq!(refused, word == "none-of-these", "{} = {word}", key.name);
        }
    });
}
