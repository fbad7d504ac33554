//! TOML syntax errors, with cures. The parser recovers and goes on, but after a list that is never
//! closed it takes the rest of the file for the list; here such a cascade becomes one error, and
//! the search goes on at the next header. Never interprets keys or values.

use std::ops::Range;

use toml::de::DeTable;

/// How often the search starts anew; each time costs a pass over the rest of the file.
const MAX_PASSES: usize = 20;

/// One syntax error.
pub(super) struct SyntaxError {
    /// Bytes in the text.
    pub(super) span: Range<usize>,
    pub(super) message: String,
    pub(super) cure: String,
}

/// What the parser says, in parts of its messages, and what to do about it.
const CURES: &[(&str, &str)] = &[
    (
        "duplicate key",
        "a key or table stands once: join the two (only rules repeat, under headers in double brackets)",
    ),
    ("unclosed array table", "close the header with `]]`"),
    ("unclosed array", "close the list with `]`"),
    ("unclosed inline table", "close the table with `}`"),
    ("unclosed table", "close the header with `]`"),
    ("missing comma", "put a comma between two values"),
    (
        "recurs",
        "nest less deeply: no key of a policy needs more than one level of lists",
    ),
    ("invalid basic string", "close the string with `\"`"),
    ("invalid literal string", "close the string with `'`"),
    ("quoted", "put the text into quotes"),
];
const GENERAL_CURE: &str = "write `key = value`, texts in quotes, lists in `[ ]` with commas, headers as `[profiles.edge]`";

/// All syntax errors, at most one a line, in the order of the text.
pub(super) fn errors(text: &str) -> Vec<SyntaxError> {
    let mut list: Vec<SyntaxError> = Vec::new();
    let mut from = 0;
    for _ in 0..MAX_PASSES {
        let Some(rest) = text.get(from..) else { break };
        let (_, errors) = DeTable::parse_recoverable(rest);
        let mut errors: Vec<_> = errors
            .iter()
            .map(|error| {
                let span = error.span().unwrap_or(0..0);
                (span.start + from..span.end + from, error.message())
            })
            .collect();
        errors.sort_by_key(|(span, _)| span.start);
        let runaway = errors
            .iter()
            .find(|(span, message)| is_runaway(text, span.start, message));
        // What was said about that line before was about its key, which was taken for a value.
        let runaway = runaway.map(|(span, _)| line_start(text, span.start));
        for (span, message) in errors {
            if runaway.is_some_and(|line| span.start >= line) {
                break;
            }
            push(&mut list, text, span, message);
        }
        let Some(line) = runaway else { break };
        let tail = text.get(line..).unwrap_or_default();
        let length = tail.lines().next().map_or(0, str::len);
        list.push(SyntaxError {
            span: line..line + length,
            message: "this is not TOML: a list that begins above is not closed before this line"
                .to_owned(),
            cure: "close the list with `]`, and put commas between its values".to_owned(),
        });
        match tail.find("\n[") {
            Some(next) => from = line + next + 1,
            None => break,
        }
    }
    if list.is_empty() {
        // The caller saw an error, so the text must not count as sound.
        push(&mut list, text, 0..0, "the file cannot be parsed");
    }
    list
}

/// A `=` inside a list, after a whole key: the list was not closed before it.
fn is_runaway(text: &str, at: usize, message: &str) -> bool {
    message.contains("in array") && text.get(at..).is_some_and(|rest| rest.starts_with('='))
}

fn line_start(text: &str, at: usize) -> usize {
    text.get(..at)
        .and_then(|before| before.rfind('\n'))
        .map_or(0, |newline| newline + 1)
}

fn push(list: &mut Vec<SyntaxError>, text: &str, span: Range<usize>, message: &str) {
    if list
        .last()
        .is_some_and(|last| line_start(text, last.span.start) == line_start(text, span.start))
    {
        return;
    }
    let cure = CURES
        .iter()
        .find(|(part, _)| message.contains(part))
        .map_or(GENERAL_CURE, |(_, cure)| cure);
    let mut message = format!(
        "this is not TOML: {}",
        message.lines().collect::<Vec<_>>().join("; ")
    );
    if let Some(key) = text
        .get(span.clone())
        .filter(|_| message.contains("duplicate key"))
    {
        message = format!("{message} `{}`", super::diagnostic::clean(key));
    }
    list.push(SyntaxError {
        span,
        message,
        cure: cure.to_owned(),
    });
}
