//! TOML as it is best read.

use std::collections::HashMap;

use ::toml::Table as Meaning;
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Key, Table, Value};
use toml_parser::Source;
use toml_parser::lexer::TokenKind;

use super::lines::Lines;
use super::{FormatError, Order, WIDTH, line_of};

/// Columns of an item in a list of several lines.
const INDENT: usize = 4;
/// Position of what stands before all headers.
const ROOT: isize = isize::MIN;

pub(super) fn format(text: &str) -> Result<String, FormatError> {
    let meaning = meaning(text)?;
    let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| {
        let at = error.span().map_or(0, |span| span.start);
        syntax(text, at, error.message())
    })?;
    let mut writer = Writer {
        lines: Lines::default(),
        path: Vec::new(),
        prefixes: HashMap::new(),
        tails: HashMap::new(),
    };
    writer.assign_comments(document.as_table_mut());
    writer.table(document.as_table(), ROOT, Order::POLICY);
    let trailing = document.trailing().as_str().unwrap_or_default();
    let pieces: Vec<&str> = trailing.split('\n').collect();
    writer.lines.comments(0, &pieces);
    let formatted = writer.lines.finish();
    if let Some(lost) = lost_comment(text, &formatted) {
        return Err(FormatError::Comment(lost));
    }
    match self::meaning(&formatted) {
        Ok(now) if same_tables(&meaning, &now) => Ok(formatted),
        _ => Err(FormatError::Meaning),
    }
}

/// Whether two tables say the same, in whatever order. `==` would not do: `nan` is not equal to itself.
fn same_tables(one: &Meaning, other: &Meaning) -> bool {
    let same_entry = |(key, value)| other.get(key).is_some_and(|found| same(value, found));
    one.len() == other.len() && one.iter().all(same_entry)
}

fn same(one: &::toml::Value, other: &::toml::Value) -> bool {
    use ::toml::Value::{Array, Float, Table};
    match (one, other) {
        (Float(one), Float(other)) => one.total_cmp(other).is_eq(),
        (Table(one), Table(other)) => same_tables(one, other),
        (Array(one), Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        _ => one == other,
    }
}

fn meaning(text: &str) -> Result<Meaning, FormatError> {
    text.parse::<Meaning>().map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        syntax(text, at, error.message())
    })
}

fn syntax(text: &str, at: usize, message: &str) -> FormatError {
    FormatError::Syntax {
        line: line_of(text, at),
        message: format!("this is not TOML: {}", message.replace('\n', "; ")),
    }
}

/// A comment of the one text that the other does not have.
fn lost_comment(text: &str, formatted: &str) -> Option<String> {
    let mut kept = comments(formatted);
    comments(text).into_iter().find_map(|comment| {
        match kept.iter().position(|other| *other == comment) {
            Some(at) => {
                kept.swap_remove(at);
                None
            }
            None => Some(comment.to_owned()),
        }
    })
}

fn comments(text: &str) -> Vec<&str> {
    let tokens = Source::new(text).lex();
    let comments = tokens.filter(|token| token.kind() == TokenKind::Comment);
    comments
        .filter_map(|token| text.get(token.span().start()..token.span().end()))
        .map(str::trim_end)
        .collect()
}

struct Writer {
    lines: Lines,
    /// Names of the tables around, as they are written.
    path: Vec<String>,
    /// By position of a header: what stands before it and belongs to it.
    prefixes: HashMap<isize, String>,
    /// By position of a header: comments right after its last key.
    tails: HashMap<isize, String>,
}

impl Writer {
    /// Decides which comments belong to what, before anything is moved.
    fn assign_comments(&mut self, root: &mut Table) {
        let mut headers = Vec::new();
        collect_headers(root, &mut headers);
        headers.sort_by_key(|(position, _)| *position);
        let values = root.get_values();
        let only_tables = values.is_empty();
        let first_key = values.first().and_then(|(path, _)| match path.as_slice() {
            [only] => Some(only.get().to_owned()),
            _ => None,
        });
        // the head of the file stays there, whatever comes first
        if let Some(mut key) = first_key.and_then(|name| root.key_mut(&name)) {
            let decor = key.leaf_decor_mut();
            let prefix = decor.prefix().and_then(|text| text.as_str());
            let rest = self.take_head(prefix.unwrap_or_default());
            decor.set_prefix(rest);
        }
        let mut before = ROOT;
        for (at, (position, prefix)) in headers.into_iter().enumerate() {
            let rest = if at == 0 && only_tables {
                self.take_head(&prefix)
            } else {
                let (tail, rest) = split_tail(&prefix);
                if !tail.is_empty() {
                    self.tails.insert(before, tail);
                }
                rest
            };
            self.prefixes.insert(position, rest);
            before = position;
        }
    }

    /// Writes what stands before the last empty line, and returns the rest.
    fn take_head(&mut self, prefix: &str) -> String {
        let lines: Vec<&str> = prefix.split('\n').collect();
        let comments = lines.len().saturating_sub(1);
        let blank = lines
            .get(..comments)
            .and_then(|lines| lines.iter().rposition(|line| line.trim().is_empty()));
        let Some(blank) = blank else {
            return prefix.to_owned();
        };
        let (head, rest) = lines.split_at(blank + 1);
        self.lines.comments(0, head);
        rest.join("\n")
    }

    fn table(&mut self, table: &Table, position: isize, order: Order) {
        let mut values = table.get_values();
        values.sort_by_cached_key(|(path, _)| places(order, path));
        let mut first = true;
        for (path, value) in values {
            let prefix = path.last().and_then(|key| key.leaf_decor().prefix());
            let prefix = prefix.and_then(|text| text.as_str()).unwrap_or_default();
            if first && !self.path.is_empty() {
                // no empty line after a header
                self.lines
                    .between(0, prefix.trim_start_matches([' ', '\t', '\r', '\n']));
            } else {
                self.lines.between(0, prefix);
            }
            first = false;
            let names: Vec<_> = path.iter().map(|key| key.display_repr()).collect();
            let under = path.iter().fold(order, |order, key| order.under(key.get()));
            self.value(0, &format!("{} = ", names.join(".")), value, "", under);
            self.beside(value.decor().suffix());
        }
        if let Some(tail) = self.tails.remove(&position) {
            self.lines.between(0, &tail);
        }
        self.tables(table, order);
    }

    /// The tables in a table, each under its header.
    fn tables(&mut self, table: &Table, order: Order) {
        let mut inner: Vec<(&str, &Item)> = table.iter().collect();
        inner.sort_by_key(|(name, _)| order.place(name));
        for (name, item) in inner {
            let shown = table
                .key(name)
                .map(|key| key.display_repr().into_owned())
                .unwrap_or_default();
            self.path.push(shown);
            let order = order.under(name);
            match item {
                Item::Table(inner) if inner.is_dotted() => self.tables(inner, order),
                Item::Table(inner) if inner.is_implicit() => self.tables(inner, order),
                Item::Table(inner) => self.under_header(inner, ("[", "]"), order),
                Item::ArrayOfTables(list) => self.list(list, order),
                Item::Value(_) | Item::None => {}
            }
            self.path.pop();
        }
    }

    fn list(&mut self, list: &ArrayOfTables, order: Order) {
        for table in list {
            self.under_header(table, ("[[", "]]"), order);
        }
    }

    fn under_header(&mut self, table: &Table, (open, close): (&str, &str), order: Order) {
        let position = table.position().unwrap_or(ROOT);
        let prefix = self.prefixes.remove(&position).unwrap_or_default();
        self.lines.blank();
        self.lines.between(0, &prefix);
        let header = format!("{open}{}{close}", self.path.join("."));
        self.lines.code(0, header);
        self.beside(table.decor().suffix());
        self.table(table, position, order);
    }

    fn beside(&mut self, text: Option<&toml_edit::RawString>) {
        self.lines
            .beside(text.and_then(|text| text.as_str()).unwrap_or_default());
    }

    /// A value after `before`, on one line if it was on one and fits.
    fn value(&mut self, indent: usize, before: &str, value: &Value, after: &str, order: Order) {
        let line = format!("{before}{}{after}", inline(value, order));
        match value {
            Value::Array(list)
                if is_long(list) || !list.is_empty() && line.chars().count() + indent > WIDTH =>
            {
                self.lines.code(indent, format!("{before}["));
                for item in list {
                    self.between_items(indent + INDENT, item.decor().prefix());
                    self.value(indent + INDENT, "", item, ",", order);
                    self.between_items(indent + INDENT, item.decor().suffix());
                }
                self.between_items(indent + INDENT, Some(list.trailing()));
                self.lines.trim();
                self.lines.code(indent, format!("]{after}"));
            }
            _ => self.lines.code(indent, line),
        }
    }

    /// What stands between an item and its comma or the next item: up to the end of the line it belongs to the one
    /// before.
    fn between_items(&mut self, indent: usize, text: Option<&toml_edit::RawString>) {
        let text = text.and_then(|text| text.as_str()).unwrap_or_default();
        if let Some((line, rest)) = text.split_once('\n') {
            self.lines.beside(line);
            self.lines.between(indent, rest);
        }
    }
}

/// Where a key of several parts belongs.
fn places(order: Order, path: &[&Key]) -> Vec<usize> {
    let mut order = order;
    path.iter()
        .map(|key| {
            let place = order.place(key.get());
            order = order.under(key.get());
            place
        })
        .collect()
}

/// Whether a list was written on several lines.
fn is_long(list: &Array) -> bool {
    let broken = |text: Option<&toml_edit::RawString>| {
        text.and_then(|text| text.as_str())
            .is_some_and(|text| text.contains('\n'))
    };
    let mut items = list.iter();
    !list.is_empty()
        && (broken(Some(list.trailing()))
            || items.any(|item| broken(item.decor().prefix()) || broken(item.decor().suffix())))
        || list.is_empty()
            && list
                .trailing()
                .as_str()
                .is_some_and(|text| text.contains('#'))
}

/// A value on one line, without comments.
fn inline(value: &Value, order: Order) -> String {
    match value {
        Value::Array(list) => {
            let items: Vec<String> = list.iter().map(|item| inline(item, order)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::InlineTable(table) => inline_table(table, order),
        Value::String(text) => text.display_repr().into_owned(),
        Value::Integer(number) => number.display_repr().into_owned(),
        Value::Float(number) => number.display_repr().into_owned(),
        Value::Boolean(flag) => flag.display_repr().into_owned(),
        Value::Datetime(time) => time.display_repr().into_owned(),
    }
}

fn inline_table(table: &InlineTable, order: Order) -> String {
    let mut values = table.get_values();
    values.sort_by_cached_key(|(path, _)| places(order, path));
    let entries: Vec<String> = values
        .into_iter()
        .map(|(path, value)| {
            let under = path.iter().fold(order, |order, key| order.under(key.get()));
            let names: Vec<_> = path.iter().map(|key| key.display_repr()).collect();
            format!("{} = {}", names.join("."), inline(value, under))
        })
        .collect();
    if entries.is_empty() {
        "{}".to_owned()
    } else {
        format!("{{ {} }}", entries.join(", "))
    }
}

/// What stands before each header.
fn collect_headers(table: &Table, headers: &mut Vec<(isize, String)>) {
    let mut see = |inner: &Table| {
        if let (Some(position), false) = (inner.position(), inner.is_implicit()) {
            let prefix = inner.decor().prefix().and_then(|text| text.as_str());
            headers.push((position, prefix.unwrap_or_default().to_owned()));
        }
        collect_headers(inner, headers);
    };
    for (_, item) in table {
        match item {
            Item::Table(inner) => see(inner),
            Item::ArrayOfTables(list) => list.iter().for_each(&mut see),
            Item::Value(_) | Item::None => {}
        }
    }
}

/// Comments that follow the last key without an empty line, if one comes after them; and the rest.
fn split_tail(prefix: &str) -> (String, String) {
    let mut tail = String::new();
    let mut rest = prefix;
    while let Some((line, after)) = rest.split_once('\n') {
        if line.trim().is_empty() {
            return (tail, rest.to_owned());
        }
        tail.push_str(line);
        tail.push('\n');
        rest = after;
    }
    // right before the header: its own
    (String::new(), prefix.to_owned())
}
