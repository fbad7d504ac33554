//! Errors and warnings about a policy, each with file, line, column, offending text and cure.
//! Self-contained values: a diagnostic holds the line it is about, never a whole file.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use serde::Serialize;

/// Most diagnostics kept of one load; what goes beyond is counted.
pub(super) const MAX_DIAGNOSTICS: usize = 1000;
/// Most characters of a line, and of an offending text, that a diagnostic keeps.
const MAX_EXCERPT: usize = 160;

/// Whether a diagnostic refuses the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The policy is refused.
    Error,
    /// The policy is accepted; somebody should look.
    Warning,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// Bytes from the start of the file.
    pub span: Range<usize>,
}

/// One error or warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// A stable name for the kind of mistake, such as `unknown-key`.
    pub code: &'static str,
    /// The policy file or a prefix file.
    pub file: PathBuf,
    /// Where in the file (`line`, `column`, `span` in JSON); absent when it is about the whole file.
    pub location: Option<Location>,
    /// The offending text, shortened to one line, control characters replaced.
    pub text: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub cure: String,
    pub(super) excerpt: Option<Excerpt>,
}

/// The line a diagnostic is about, cut and cleaned for a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Excerpt {
    pub(super) line: String,
    /// Bytes of `line` to underline.
    pub(super) mark: Range<usize>,
}

impl Diagnostic {
    /// About a whole file.
    pub(crate) fn about_file(
        code: &'static str,
        file: PathBuf,
        message: String,
        cure: String,
    ) -> Self {
        let text = clean(&file.display().to_string());
        Self {
            severity: Severity::Error,
            code,
            file,
            location: None,
            text,
            message,
            cure,
            excerpt: None,
        }
    }

    /// About `mark` (bytes) of one line that starts at byte `start` of the file.
    pub(super) fn in_line(
        code: &'static str,
        file: PathBuf,
        (number, start, line): (usize, usize, &str),
        mark: Range<usize>,
        message: String,
        cure: String,
    ) -> Self {
        let from = line.floor_char_boundary(mark.start);
        let to = line.ceil_char_boundary(mark.end.max(from)).min(line.len());
        let (before, rest) = line.split_at(from);
        let (marked, after) = rest.split_at(to - from);
        let location = Location {
            line: number,
            column: before.chars().count() + 1,
            span: start + from..start + to.max(from),
        };
        // A very long line is cut around the mark, so the mark stays in sight.
        let cut = before
            .char_indices()
            .rev()
            .nth(MAX_EXCERPT / 2)
            .map(|(at, _)| at);
        let mut excerpt = if cut.is_some() {
            "… ".to_owned()
        } else {
            String::new()
        };
        excerpt.push_str(&clean(before.get(cut.unwrap_or(0)..).unwrap_or_default()));
        let mut text = clean(marked);
        let mut mark = excerpt.len()..excerpt.len() + text.len();
        excerpt.push_str(&text);
        excerpt.push_str(&clean(after));
        if text.is_empty() {
            // Something is missing here, often at the end of the line: point at one column.
            text = clean(line);
            excerpt.push(' ');
            let width = excerpt[mark.start..]
                .chars()
                .next()
                .map_or(0, char::len_utf8);
            mark.end += width;
        }
        Self {
            severity: Severity::Error,
            code,
            file,
            location: Some(location),
            text,
            message,
            cure,
            excerpt: Some(Excerpt {
                line: excerpt,
                mark,
            }),
        }
    }

    pub(super) fn into_warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }
}

/// Shortens to one line's worth and replaces control characters: the text comes from a file and
/// ends on somebody's terminal.
pub(super) fn clean(text: &str) -> String {
    let mut cleaned: String = text
        .chars()
        .take(MAX_EXCERPT)
        .map(|c| match c {
            '\t' => ' ',
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            // Bidirectional overrides can make a line read differently from what it says.
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                char::REPLACEMENT_CHARACTER
            }
            c => c,
        })
        .collect();
    if text.chars().nth(MAX_EXCERPT).is_some() {
        cleaned.push('…');
    }
    cleaned
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Errors and warnings of one load, in the order of the files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    /// How many more there are that were not kept.
    omitted: usize,
}

impl Diagnostics {
    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        self.push_with(diagnostic.severity, || diagnostic);
    }

    /// Builds the diagnostic only if there is room for it: finding the column of the millionth
    /// mistake in one long line would take for ever.
    pub(super) fn push_with(&mut self, severity: Severity, build: impl FnOnce() -> Diagnostic) {
        let full = self.list.len() >= MAX_DIAGNOSTICS;
        if full {
            self.omitted += 1;
        }
        if !full {
            self.list.push(build());
        } else if severity == Severity::Error
            && let Some(warning) = self
                .list
                .iter_mut()
                .rfind(|d| d.severity == Severity::Warning)
        {
            // An error always has room while a warning is kept.
            *warning = build();
        }
    }

    /// Counts diagnostics that the caller did not build.
    pub(super) fn omit(&mut self, count: usize) {
        self.omitted += count;
    }

    /// Keeps what `keep` says.
    pub(super) fn retain(&mut self, keep: impl FnMut(&Diagnostic) -> bool) {
        self.list.retain(keep);
    }

    /// By place in the policy file; what is about other files comes after, in its own order.
    pub(super) fn sort(&mut self, policy: &std::path::Path) {
        self.list.sort_by_cached_key(|d| {
            let start = d.location.as_ref().map_or(0, |l| l.span.start);
            (d.file != policy, d.file.clone(), start)
        });
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }

    /// The errors.
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter().filter(|d| d.severity == Severity::Error)
    }

    /// The warnings.
    pub fn warnings(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter().filter(|d| d.severity == Severity::Warning)
    }

    /// Whether the policy is refused.
    pub fn has_errors(&self) -> bool {
        self.errors().next().is_some()
    }

    /// Whether a mistake of this kind was reported.
    pub(super) fn has_code(&self, code: &str) -> bool {
        self.list.iter().any(|d| d.code == code)
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many more there are beyond those kept.
    pub fn omitted(&self) -> usize {
        self.omitted
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Diagnostics {
    /// One line each: `file:line:column: error: message (cure)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, d) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}", d.file.display())?;
            if let Some(at) = &d.location {
                write!(f, ":{}:{}", at.line, at.column)?;
            }
            let severity = match d.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            write!(f, ": {severity}: {} ({})", d.message, d.cure)?;
        }
        if self.omitted > 0 {
            write!(f, "\n... and {} more", self.omitted)?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}
