//! Reading typed values out of a parsed TOML table, reporting what does not fit and going on.
//! Knows TOML's types and nothing of what the keys mean.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::source::Report;
use super::suggest;

/// A number or a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scalar {
    Integer(i64),
    Text(String),
}

/// One key of a table: its name, and an example for cures.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) example: &'static str,
}

/// Shorthand for tables of keys.
pub(super) const fn key(name: &'static str, example: &'static str) -> Key {
    Key { name, example }
}

/// One entry of a table whose keys are names chosen by the writer.
pub(super) struct Entry<'t, 'i> {
    pub(super) name: Spanned<String>,
    pub(super) value: &'t Spanned<DeValue<'i>>,
}

/// The entries of a table in the order of the file.
pub(super) fn entries<'t, 'i>(table: &'t DeTable<'i>) -> Vec<Entry<'t, 'i>> {
    let mut list: Vec<_> = table
        .iter()
        .map(|(key, value)| Entry {
            name: Spanned::new(key.span(), key.get_ref().to_string()),
            value,
        })
        .collect();
    list.sort_by_key(|entry| entry.name.span().start);
    list
}

/// A table with known keys.
pub(super) struct Table<'t, 'i> {
    table: &'t DeTable<'i>,
    /// "profile `edge`", for messages.
    what: String,
    keys: &'static [Key],
    pub(super) span: Range<usize>,
}

impl<'t, 'i> Table<'t, 'i> {
    /// Reports keys that are not in `keys`.
    pub(super) fn new(
        table: &'t DeTable<'i>,
        span: Range<usize>,
        what: String,
        keys: &'static [Key],
        report: &mut Report<'_>,
    ) -> Self {
        for entry in entries(table) {
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
        Self {
            table,
            what,
            keys,
            span,
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&'t Spanned<DeValue<'i>>> {
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
    pub(super) fn require(&self, name: &str, report: &mut Report<'_>) {
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

    fn mismatch(
        &self,
        name: &str,
        wanted: &str,
        value: &Spanned<DeValue<'i>>,
        report: &mut Report<'_>,
    ) {
        let message = format!("`{name}` must be {wanted}, not {}", kind(value.get_ref()));
        let cure = format!("write for example `{}`", self.example(name));
        report.error("wrong-type", value.span(), message, cure);
    }

    pub(super) fn text(&self, name: &str, report: &mut Report<'_>) -> Option<Spanned<String>> {
        let value = self.get(name)?;
        let Some(text) = value.get_ref().as_str() else {
            self.mismatch(name, "a string", value, report);
            return None;
        };
        Some(Spanned::new(value.span(), text.to_owned()))
    }

    /// A date or time as text, in quotes or without.
    pub(super) fn time(&self, name: &str, report: &mut Report<'_>) -> Option<Spanned<String>> {
        let value = self.get(name)?;
        match value.get_ref() {
            DeValue::Datetime(time) => Some(Spanned::new(value.span(), time.to_string())),
            _ => self.text(name, report),
        }
    }

    pub(super) fn flag(&self, name: &str, report: &mut Report<'_>) -> Option<bool> {
        let value = self.get(name)?;
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            self.mismatch(name, "true or false", value, report);
        }
        flag
    }

    /// A flag with its place.
    pub(super) fn spanned_flag(
        &self,
        name: &str,
        report: &mut Report<'_>,
    ) -> Option<Spanned<bool>> {
        let span = self.get(name)?.span();
        Some(Spanned::new(span, self.flag(name, report)?))
    }

    pub(super) fn integer(&self, name: &str, report: &mut Report<'_>) -> Option<Spanned<i64>> {
        let value = self.get(name)?;
        match scalar(value, report) {
            Read::Scalar(Scalar::Integer(number)) => Some(Spanned::new(value.span(), number)),
            Read::Scalar(Scalar::Text(_)) | Read::Other => {
                self.mismatch(name, "a whole number", value, report);
                None
            }
            Read::Reported => None,
        }
    }

    /// A number, whole or decimal.
    pub(super) fn decimal(&self, name: &str, report: &mut Report<'_>) -> Option<Spanned<f64>> {
        let value = self.get(name)?;
        let number = match value.get_ref() {
            DeValue::Float(float) => float.as_str().parse().ok(),
            DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str().parse().ok(),
            _ => None,
        };
        if number.is_none() {
            self.mismatch(name, "a number", value, report);
        }
        Some(Spanned::new(value.span(), number?))
    }

    /// A table under this key.
    pub(super) fn table(
        &self,
        name: &str,
        report: &mut Report<'_>,
    ) -> Option<(&'t DeTable<'i>, Range<usize>)> {
        let value = self.get(name)?;
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.mismatch(name, "a table", value, report);
        }
        Some((table?, value.span()))
    }

    /// A list of tables, as `[[..]]` makes it.
    pub(super) fn tables(
        &self,
        name: &str,
        report: &mut Report<'_>,
    ) -> Vec<(&'t DeTable<'i>, Range<usize>)> {
        let Some(value) = self.get(name) else {
            return Vec::new();
        };
        let Some(array) = value.get_ref().as_array() else {
            self.mismatch(
                name,
                "a list of tables, each under a header in double brackets",
                value,
                report,
            );
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in array {
            match item.get_ref().as_table() {
                Some(table) => tables.push((table, item.span())),
                None => self.mismatch(name, "a list of tables", item, report),
            }
        }
        tables
    }

    /// A list of numbers and texts; a single one stands for a list of one.
    pub(super) fn list(
        &self,
        name: &str,
        report: &mut Report<'_>,
    ) -> Option<Spanned<Vec<Spanned<Scalar>>>> {
        let value = self.get(name)?;
        let mut list = Vec::new();
        let single = std::slice::from_ref(value);
        let items: &mut dyn Iterator<Item = &Spanned<DeValue<'i>>> =
            match value.get_ref().as_array() {
                Some(array) => &mut array.iter(),
                None => &mut single.iter(),
            };
        for item in items {
            match scalar(item, report) {
                Read::Scalar(scalar) => list.push(Spanned::new(item.span(), scalar)),
                Read::Other if value.get_ref().is_array() => {
                    let message = format!(
                        "`{name}` holds strings or numbers, not {}",
                        kind(item.get_ref())
                    );
                    let cure = format!("write for example `{}`", self.example(name));
                    report.error("wrong-type", item.span(), message, cure);
                }
                Read::Other => self.mismatch(name, "a list", item, report),
                Read::Reported => {}
            }
        }
        let written = value.get_ref().as_array().map_or(1, |array| array.len());
        // A list that only became empty by losing its wrong items is not an empty list.
        (list.len() == written || !list.is_empty()).then(|| Spanned::new(value.span(), list))
    }

    /// A list of texts; a single one stands for a list of one.
    pub(super) fn texts(
        &self,
        name: &str,
        report: &mut Report<'_>,
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

fn scalar(value: &Spanned<DeValue<'_>>, report: &mut Report<'_>) -> Read {
    match value.get_ref() {
        DeValue::String(text) => Read::Scalar(Scalar::Text(text.to_string())),
        DeValue::Integer(integer) => {
            if let Ok(number) = i64::from_str_radix(integer.as_str(), integer.radix()) {
                Read::Scalar(Scalar::Integer(number))
            } else {
                report.error(
                    "out-of-range",
                    value.span(),
                    "this number is far too large",
                    "write a smaller number",
                );
                Read::Reported
            }
        }
        _ => Read::Other,
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
