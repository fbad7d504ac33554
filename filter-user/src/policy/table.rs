//! Reading typed values out of a table of a policy file, reporting what does not fit and going on.
//! Knows types and nothing of what the keys mean.

use std::ops::Range;

use toml::Spanned;

use super::document::{Map, Node, Value};
use super::keys::Key;
use super::source::Report;
use super::suggest;

/// A number or a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scalar {
    Integer(i64),
    Text(String),
}

/// A table with known keys.
pub(super) struct Table<'t> {
    table: &'t Map,
    /// "profile `edge`", for messages.
    what: String,
    keys: &'static [Key],
    pub(super) span: Range<usize>,
}

impl<'t> Table<'t> {
    /// Reports keys that are not in `keys`.
    pub(super) fn new(
        table: &'t Map,
        span: Range<usize>,
        what: String,
        keys: &'static [Key],
        report: &mut Report,
    ) -> Self {
        for entry in &table.entries {
            let name = entry.name.get_ref();
            if !keys.iter().any(|key| key.name == name) {
                let cure = if keys.is_empty() {
                    "take it out: this table has no keys".to_owned()
                } else {
                    suggest::cure(name, keys.iter().map(|key| key.name))
                };
                let shown = super::diagnostic::clean(name);
                report.error(
                    "unknown-key",
                    entry.name.span(),
                    format!("unknown key `{shown}` in {what}"),
                    cure,
                );
            }
        }
        Self::of(table, span, what, keys)
    }

    /// The same, without a word about other keys.
    pub(super) fn of(
        table: &'t Map,
        span: Range<usize>,
        what: String,
        keys: &'static [Key],
    ) -> Self {
        Self {
            table,
            what,
            keys,
            span,
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&'t Node> {
        debug_assert!(
            self.keys.iter().any(|key| key.name == name),
            "{name} is not in the table of keys"
        );
        self.table.get(name)
    }

    fn example(&self, name: &str) -> &'static str {
        self.keys
            .iter()
            .find(|key| key.name == name)
            .map_or("", |key| key.example)
    }

    /// Reports the key if it is not there.
    pub(super) fn require(&self, name: &str, report: &mut Report) {
        if self.get(name).is_none() {
            let cure = format!("add `{}`", self.example(name));
            report.error(
                "missing-key",
                self.span.clone(),
                format!("{} has no `{name}`", self.what),
                cure,
            );
        }
    }

    fn mismatch(&self, name: &str, wanted: &str, value: &Node, report: &mut Report) {
        let message = format!("`{name}` must be {wanted}, not {}", kind(&value.value));
        let cure = format!("write for example `{}`", self.example(name));
        report.error("wrong-type", value.span.clone(), message, cure);
    }

    pub(super) fn text(&self, name: &str, report: &mut Report) -> Option<Spanned<String>> {
        let value = self.get(name)?;
        let Value::Text(text) = &value.value else {
            self.mismatch(name, "a string", value, report);
            return None;
        };
        Some(Spanned::new(value.span.clone(), text.clone()))
    }

    /// A date or time as text, in quotes or without.
    pub(super) fn time(&self, name: &str, report: &mut Report) -> Option<Spanned<String>> {
        let value = self.get(name)?;
        match &value.value {
            Value::Time(time) => Some(Spanned::new(value.span.clone(), time.clone())),
            _ => self.text(name, report),
        }
    }

    pub(super) fn flag(&self, name: &str, report: &mut Report) -> Option<bool> {
        let value = self.get(name)?;
        if let Value::Flag(flag) = value.value {
            return Some(flag);
        }
        self.mismatch(name, "true or false", value, report);
        None
    }

    /// A flag with its place.
    pub(super) fn spanned_flag(&self, name: &str, report: &mut Report) -> Option<Spanned<bool>> {
        let span = self.get(name)?.span.clone();
        Some(Spanned::new(span, self.flag(name, report)?))
    }

    pub(super) fn integer(&self, name: &str, report: &mut Report) -> Option<Spanned<i64>> {
        let value = self.get(name)?;
        match scalar(value, report) {
            Read::Scalar(Scalar::Integer(number)) => Some(Spanned::new(value.span.clone(), number)),
            Read::Scalar(Scalar::Text(_)) | Read::Other => {
                self.mismatch(name, "a whole number", value, report);
                None
            }
            Read::Reported => None,
        }
    }

    /// A number, whole or decimal.
    pub(super) fn decimal(&self, name: &str, report: &mut Report) -> Option<Spanned<f64>> {
        let value = self.get(name)?;
        let number = match value.value {
            Value::Decimal(number) => number,
            Value::Integer(number) => number.map(|number| number as f64),
            _ => None,
        };
        if number.is_none() {
            self.mismatch(name, "a number", value, report);
        }
        Some(Spanned::new(value.span.clone(), number?))
    }

    /// A table under this key.
    pub(super) fn table(&self, name: &str, report: &mut Report) -> Option<(&'t Map, Range<usize>)> {
        let value = self.get(name)?;
        if let Value::Table(table) = &value.value {
            return Some((table, value.span.clone()));
        }
        self.mismatch(name, "a table", value, report);
        None
    }

    /// A list of tables, as `[[..]]` makes it.
    pub(super) fn tables(&self, name: &str, report: &mut Report) -> Vec<(&'t Map, Range<usize>)> {
        let Some(value) = self.get(name) else {
            return Vec::new();
        };
        let Value::List(list) = &value.value else {
            self.mismatch(
                name,
                "a list of tables, each under a header in double brackets",
                value,
                report,
            );
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in list {
            match &item.value {
                Value::Table(table) => tables.push((table, item.span.clone())),
                _ => self.mismatch(name, "a list of tables", item, report),
            }
        }
        tables
    }

    /// A list of numbers and texts; a single one stands for a list of one.
    pub(super) fn list(
        &self,
        name: &str,
        report: &mut Report,
    ) -> Option<Spanned<Vec<Spanned<Scalar>>>> {
        let value = self.get(name)?;
        let mut list = Vec::new();
        let (items, is_list) = match &value.value {
            Value::List(items) => (items.as_slice(), true),
            _ => (std::slice::from_ref(value), false),
        };
        for item in items {
            match scalar(item, report) {
                Read::Scalar(scalar) => list.push(Spanned::new(item.span.clone(), scalar)),
                Read::Other if is_list => {
                    let message = format!(
                        "`{name}` holds strings or numbers, not {}",
                        kind(&item.value)
                    );
                    let cure = format!("write for example `{}`", self.example(name));
                    report.error("wrong-type", item.span.clone(), message, cure);
                }
                Read::Other => self.mismatch(name, "a list", item, report),
                Read::Reported => {}
            }
        }
        // A list that only became empty by losing its wrong items is not an empty list.
        (list.len() == items.len() || !list.is_empty())
            .then(|| Spanned::new(value.span.clone(), list))
    }

    /// A list of texts; a single one stands for a list of one.
    pub(super) fn texts(
        &self,
        name: &str,
        report: &mut Report,
    ) -> Option<Spanned<Vec<Spanned<String>>>> {
        let list = self.list(name, report)?;
        let span = list.span();
        let written = list.get_ref().len();
        let mut texts = Vec::new();
        for item in list.into_inner() {
            let place = item.span();
            match item.into_inner() {
                Scalar::Text(text) => texts.push(Spanned::new(place, text)),
                Scalar::Integer(number) => report.error(
                    "wrong-type",
                    place,
                    format!("`{name}` holds strings, not numbers"),
                    format!("put it into quotes: `\"{number}\"`"),
                ),
            }
        }
        (texts.len() == written || !texts.is_empty()).then(|| Spanned::new(span, texts))
    }
}

/// What became of reading a number or a text.
enum Read {
    Scalar(Scalar),
    /// It is something else; not reported yet.
    Other,
    Reported,
}

fn scalar(value: &Node, report: &mut Report) -> Read {
    match &value.value {
        Value::Text(text) => Read::Scalar(Scalar::Text(text.clone())),
        Value::Integer(Some(number)) => Read::Scalar(Scalar::Integer(*number)),
        Value::Integer(None) => {
            report.error(
                "out-of-range",
                value.span.clone(),
                "this number is far too large",
                "write a smaller number",
            );
            Read::Reported
        }
        _ => Read::Other,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Text(_) => "a string",
        Value::Integer(_) => "a whole number",
        Value::Decimal(_) => "a decimal number",
        Value::Flag(_) => "a boolean",
        Value::Time(_) => "a date",
        Value::Nothing => "null",
        Value::List(_) => "a list",
        Value::Table(_) => "a table",
    }
}
