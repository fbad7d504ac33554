//! The values of a policy file with their places, whether it is written in TOML or in JSON, and joining those of several
//! files. Knows nothing of what keys mean.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use jsonc_parser::ast::{ObjectPropName, Value as Json};
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use toml_parser::Source;
use toml_parser::lexer::TokenKind;

use super::source::Report;
use super::syntax::{self, SyntaxError};

/// A value and where it is written, among the texts of all files.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) span: Range<usize>,
    pub(super) value: Value,
}

/// What may be written.
#[derive(Debug)]
pub(super) enum Value {
    Text(String),
    /// `None`: far too large.
    Integer(Option<i64>),
    /// `None`: no number that can be worked with.
    Decimal(Option<f64>),
    Flag(bool),
    /// As it is written.
    Time(String),
    /// JSON's `null`.
    Nothing,
    List(Vec<Node>),
    Table(Map),
}

/// A table, in the order in which it is written.
#[derive(Debug, Default)]
pub(super) struct Map {
    pub(super) entries: Vec<Entry>,
}

/// A key and its value.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: Spanned<String>,
    pub(super) node: Node,
}

impl Map {
    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        let mut entries = self.entries.iter();
        let entry = entries.find(|entry| entry.name.get_ref() == name)?;
        Some(&entry.node)
    }

    /// Takes a key out.
    pub(super) fn remove(&mut self, name: &str) -> Option<Entry> {
        let mut entries = self.entries.iter();
        let at = entries.position(|entry| entry.name.get_ref() == name)?;
        Some(self.entries.remove(at))
    }

    /// Joins what another file says: its tables with those of the same name, its lists of tables after ours.
    pub(super) fn join(&mut self, other: Self, report: &mut Report) {
        let places = self.entries.iter().enumerate();
        let places: HashMap<String, usize> = places
            .map(|(at, entry)| (entry.name.get_ref().clone(), at))
            .collect();
        for entry in other.entries {
            let ours = places.get(entry.name.get_ref());
            match ours.and_then(|at| self.entries.get_mut(*at)) {
                Some(ours) => ours.join(entry, report),
                None => self.entries.push(entry),
            }
        }
    }
}

impl Entry {
    fn join(&mut self, other: Self, report: &mut Report) {
        let place = other.name.span();
        match (&mut self.node.value, other.node.value) {
            (Value::Table(ours), Value::Table(theirs)) => ours.join(theirs, report),
            (Value::List(ours), Value::List(theirs)) if of_tables(ours) && of_tables(&theirs) => {
                ours.extend(theirs);
            }
            _ => {
                let message = format!(
                    "`{}` is written twice; the first is in {}",
                    super::diagnostic::clean(other.name.get_ref()),
                    report.line(&self.name.span(), &place)
                );
                let cure = "write it in one of the files: of several files only tables and lists of rules are joined";
                report.error("duplicate-key", place, message, cure);
            }
        }
    }
}

/// An empty list says that there is nothing, which is not to be joined with something.
fn of_tables(list: &[Node]) -> bool {
    let tables = list
        .iter()
        .all(|node| matches!(node.value, Value::Table(_)));
    tables && !list.is_empty()
}

/// Reads a TOML text whose first byte stands at `base`. What can be made out of a broken one is returned, too.
pub(super) fn from_toml(text: &str, base: usize) -> (Map, Vec<SyntaxError>) {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut errors = if errors.is_empty() {
        Vec::new()
    } else {
        syntax::errors(text)
    };
    for error in &mut errors {
        error.span = shifted(&error.span, base);
    }
    (toml_table(document.into_inner(), base), errors)
}

/// How many values, keys and tables a text may hold at most. Reads it once, and keeps nothing.
pub(super) fn values(text: &str, json: bool) -> usize {
    if json {
        return text.bytes().filter(|b| b",:[{".contains(b)).count();
    }
    let tokens = Source::new(text).lex();
    let counted = tokens.filter(|token| {
        matches!(
            token.kind(),
            TokenKind::Comma
                | TokenKind::Equals
                | TokenKind::Dot
                | TokenKind::LeftSquareBracket
                | TokenKind::LeftCurlyBracket
        )
    });
    counted.count()
}

fn shifted(span: &Range<usize>, base: usize) -> Range<usize> {
    span.start + base..span.end + base
}

fn toml_table(table: DeTable<'_>, base: usize) -> Map {
    let entries = table.into_iter().map(|(key, value)| Entry {
        name: Spanned::new(shifted(&key.span(), base), key.into_inner().into_owned()),
        node: toml_node(value, base),
    });
    let mut entries: Vec<Entry> = entries.collect();
    entries.sort_by_key(|entry| entry.name.span().start);
    Map { entries }
}

fn toml_node(value: Spanned<DeValue<'_>>, base: usize) -> Node {
    let span = shifted(&value.span(), base);
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(integer) => {
            Value::Integer(i64::from_str_radix(integer.as_str(), integer.radix()).ok())
        }
        DeValue::Float(float) => Value::Decimal(float.as_str().parse().ok()),
        DeValue::Boolean(flag) => Value::Flag(flag),
        DeValue::Datetime(time) => Value::Time(time.to_string()),
        DeValue::Array(list) => {
            Value::List(list.into_iter().map(|item| toml_node(item, base)).collect())
        }
        DeValue::Table(table) => Value::Table(toml_table(table, base)),
    };
    Node { span, value }
}

/// JSON as the standard has it (RFC 8259).
pub(super) const STRICT: ParseOptions = ParseOptions {
    allow_comments: false,
    allow_loose_object_property_names: false,
    allow_trailing_commas: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// Reads a JSON text, likewise. Of a broken one nothing is left.
pub(super) fn from_json(text: &str, base: usize) -> (Map, Vec<SyntaxError>) {
    let error = |span: Range<usize>, message: String, cure: &str| SyntaxError {
        span: shifted(&span, base),
        message,
        cure: cure.to_owned(),
    };
    let parsed = match parse_to_ast(text, &CollectOptions::default(), &STRICT) {
        Ok(parsed) => parsed.value,
        Err(wrong) => {
            let range = wrong.range();
            let message = format!("this is not JSON: {}", lower(&wrong.kind().to_string()));
            let cure = "write `\"key\": value` in braces, texts in double quotes, with a comma between two and none after the last";
            return (
                Map::default(),
                vec![error(range.start..range.end, message, cure)],
            );
        }
    };
    let mut errors = Vec::new();
    let map = match parsed.map(|value| json_node(value, base, &mut errors)) {
        Some(Node {
            value: Value::Table(map),
            ..
        }) => map,
        _ => {
            let message = "a policy is a JSON object".to_owned();
            errors.push(error(0..1, message, "begin with `{ \"version\": 1,`"));
            Map::default()
        }
    };
    (map, errors)
}

/// The crate's messages are sentences of their own.
fn lower(text: &str) -> String {
    let mut rest = text.chars();
    let first = rest.next().map(|c| c.to_ascii_lowercase());
    first.into_iter().chain(rest).collect()
}

fn json_node(value: Json<'_>, base: usize, errors: &mut Vec<SyntaxError>) -> Node {
    let span = |range: jsonc_parser::common::Range| range.start + base..range.end + base;
    match value {
        Json::StringLit(text) => Node {
            span: span(text.range),
            value: Value::Text(text.value.into_owned()),
        },
        Json::NumberLit(number) => Node {
            span: span(number.range),
            value: if number.value.contains(['.', 'e', 'E']) {
                Value::Decimal(number.value.parse().ok().filter(|n: &f64| n.is_finite()))
            } else {
                Value::Integer(number.value.parse().ok())
            },
        },
        Json::BooleanLit(flag) => Node {
            span: span(flag.range),
            value: Value::Flag(flag.value),
        },
        Json::NullKeyword(null) => Node {
            span: span(null.range),
            value: Value::Nothing,
        },
        Json::Array(list) => Node {
            span: span(list.range),
            value: Value::List(
                list.elements
                    .into_iter()
                    .map(|item| json_node(item, base, errors))
                    .collect(),
            ),
        },
        Json::Object(object) => {
            let mut seen = HashSet::new();
            let mut entries = Vec::with_capacity(object.properties.len());
            for property in object.properties {
                let (name, range) = match property.name {
                    ObjectPropName::String(name) => (name.value, name.range),
                    ObjectPropName::Word(name) => (Cow::Borrowed(name.value), name.range),
                };
                if !seen.insert(name.clone()) {
                    errors.push(SyntaxError {
                        span: span(range),
                        message: format!(
                            "this is not JSON: duplicate key `{}`",
                            super::diagnostic::clean(&name)
                        ),
                        cure: "a key stands once in an object: join the two".to_owned(),
                    });
                }
                entries.push(Entry {
                    name: Spanned::new(span(range), name.into_owned()),
                    node: json_node(property.value, base, errors),
                });
            }
            Node {
                span: span(object.range),
                value: Value::Table(Map { entries }),
            }
        }
    }
}
