//! JSON as it is best read: two columns of indent, short lists and objects on one line.

use jsonc_parser::ast::{Object, Value};
use jsonc_parser::{CollectOptions, parse_to_ast};

use super::{FormatError, Order, WIDTH, line_of};
use crate::policy::document::{STRICT, from_json};

/// Columns of each level.
const INDENT: usize = 2;

pub(super) fn format(text: &str) -> Result<String, FormatError> {
    let (_, errors) = from_json(text, 0);
    if let Some(error) = errors.into_iter().next() {
        return Err(FormatError::Syntax {
            line: line_of(text, error.span.start),
            message: error.message,
        });
    }
    let parsed = parse_to_ast(text, &CollectOptions::default(), &STRICT);
    let Some(value) = parsed.ok().and_then(|parsed| parsed.value) else {
        return Err(FormatError::Meaning);
    };
    let mut formatted = String::new();
    write(&mut formatted, &value, 0, 0, Order::POLICY);
    formatted.push('\n');
    if meaning(&formatted) != meaning(text) {
        return Err(FormatError::Meaning);
    }
    Ok(formatted)
}

fn meaning(text: &str) -> Option<serde_json::Value> {
    serde_json::from_str(text).ok()
}

/// Writes a value after `used` columns of its line.
fn write(text: &mut String, value: &Value<'_>, indent: usize, used: usize, order: Order) {
    if let Some(line) = one_line(value, order)
        && line.chars().count() + used <= WIDTH
    {
        text.push_str(&line);
        return;
    }
    let inner = indent + INDENT;
    let pad = |text: &mut String, columns: usize| {
        text.push('\n');
        text.extend(std::iter::repeat_n(' ', columns));
    };
    match value {
        Value::Array(list) => {
            text.push('[');
            for (at, item) in list.elements.iter().enumerate() {
                text.push_str(if at == 0 { "" } else { "," });
                pad(text, inner);
                write(text, item, inner, inner + 1, order);
            }
            pad(text, indent);
            text.push(']');
        }
        Value::Object(object) => {
            text.push('{');
            for (at, (name, value)) in sorted(object, order).into_iter().enumerate() {
                text.push_str(if at == 0 { "" } else { "," });
                pad(text, inner);
                let key = format!("{}: ", quoted(name));
                text.push_str(&key);
                let used = inner + key.chars().count() + 1;
                write(text, value, inner, used, order.under(name));
            }
            pad(text, indent);
            text.push('}');
        }
        _ => text.push_str(&one_line(value, order).unwrap_or_default()),
    }
}

/// The members of an object, in the order of the reference.
fn sorted<'o>(object: &'o Object<'_>, order: Order) -> Vec<(&'o str, &'o Value<'o>)> {
    let mut list: Vec<_> = object
        .properties
        .iter()
        .map(|property| (property.name.as_str(), &property.value))
        .collect();
    // what tells an editor the schema comes first
    list.sort_by_key(|(name, _)| (*name != "$schema", order.place(name)));
    list
}

/// A value on one line, if it holds nothing but simple values.
fn one_line(value: &Value<'_>, order: Order) -> Option<String> {
    let simple = |value: &Value<'_>| match value {
        Value::Array(list) => list.elements.is_empty(),
        Value::Object(object) => object.properties.is_empty(),
        _ => true,
    };
    match value {
        Value::StringLit(text) => Some(quoted(&text.value)),
        Value::NumberLit(number) => Some(number.value.to_owned()),
        Value::BooleanLit(flag) => Some(flag.value.to_string()),
        Value::NullKeyword(_) => Some("null".to_owned()),
        Value::Array(list) => {
            let mut items = list.elements.iter();
            items.all(simple).then(|| {
                let items = list
                    .elements
                    .iter()
                    .filter_map(|item| one_line(item, order));
                format!("[{}]", items.collect::<Vec<_>>().join(", "))
            })
        }
        Value::Object(object) if object.properties.is_empty() => Some("{}".to_owned()),
        Value::Object(object) => {
            let mut values = object.properties.iter().map(|property| &property.value);
            values.all(simple).then(|| {
                let entries = sorted(object, order)
                    .into_iter()
                    .filter_map(|(name, value)| {
                        let value = one_line(value, order.under(name))?;
                        Some(format!("{}: {value}", quoted(name)))
                    });
                format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
            })
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
