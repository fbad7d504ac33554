//! The texts of a policy and where things stand in them: one line of positions for all files, so that a place says
//! which file it is in. Never reads a file.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::diagnostic::{Diagnostic, Diagnostics, Severity};

/// The text of one file.
pub(crate) struct Source {
    pub(super) path: Arc<Path>,
    pub(crate) text: String,
    /// Where relative names of this file may lead; see [`super::files::Files::read`].
    pub(super) roots: Arc<[PathBuf]>,
    /// Its name in a bundle.
    pub(super) name: PathBuf,
    /// Position of its first byte.
    base: usize,
    /// Byte offsets at which lines begin.
    lines: Vec<usize>,
}

impl Source {
    /// A file by itself; fails with the diagnostic if the bytes are not UTF-8.
    pub(crate) fn alone(path: &Path, bytes: Vec<u8>) -> Result<Self, Box<Diagnostic>> {
        Self::new(path, bytes, (path.to_owned(), Arc::default()), 0)
    }

    /// Fails with the diagnostic if the bytes are not UTF-8.
    fn new(
        path: &Path,
        bytes: Vec<u8>,
        (name, roots): (PathBuf, Arc<[PathBuf]>),
        base: usize,
    ) -> Result<Self, Box<Diagnostic>> {
        match String::from_utf8(bytes) {
            Ok(text) => {
                let breaks = text
                    .bytes()
                    .enumerate()
                    .filter(|(_, b)| *b == b'\n')
                    .map(|(at, _)| at + 1);
                let lines = std::iter::once(0).chain(breaks).collect();
                Ok(Self {
                    path: Arc::from(path),
                    text,
                    roots,
                    name,
                    base,
                    lines,
                })
            }
            Err(error) => {
                let bad = error.utf8_error().valid_up_to();
                let bytes = error.into_bytes();
                let before = &bytes[..bad];
                let number = before.split(|b| *b == b'\n').count();
                let start = before
                    .iter()
                    .rposition(|b| *b == b'\n')
                    .map_or(0, |at| at + 1);
                let line = bytes[start..]
                    .split(|b| *b == b'\n')
                    .next()
                    .unwrap_or_default();
                Err(Box::new(bad_utf8(path.to_owned(), number, start, line)))
            }
        }
    }

    /// The name in a bundle of a file that is named here.
    pub(super) fn bundled(&self, named: &str) -> PathBuf {
        // a name that is absolute stays so
        let beside = self.name.parent().unwrap_or(Path::new(""));
        super::files::plain(&beside.join(named))
    }

    /// Position of its first byte.
    pub(super) fn start(&self) -> usize {
        self.base
    }

    /// The directory that names in this file are relative to.
    pub(super) fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// The number (from 1) of the line at position `at`.
    pub(super) fn line_number(&self, at: usize) -> usize {
        let at = at.saturating_sub(self.base);
        self.lines.partition_point(|start| *start <= at)
    }

    /// What is wrong with these bytes of it.
    pub(crate) fn diagnostic(
        &self,
        code: &'static str,
        span: Range<usize>,
        message: String,
        cure: String,
    ) -> Diagnostic {
        let number = self.line_number(span.start).max(1);
        let span = span.start.saturating_sub(self.base)..span.end.saturating_sub(self.base);
        let start = self.lines.get(number - 1).copied().unwrap_or(0);
        let rest = self.text.get(start..).unwrap_or_default();
        let line = rest.split('\n').next().unwrap_or_default();
        let line = line.strip_suffix('\r').unwrap_or(line);
        let mark = span.start.saturating_sub(start).min(line.len())
            ..span.end.saturating_sub(start).min(line.len());
        Diagnostic::in_line(
            code,
            self.path.to_path_buf(),
            (number, start, line),
            mark,
            message,
            cure,
        )
    }
}

/// A line that is not UTF-8; `line` is what stands between two newlines.
pub(super) fn bad_utf8(path: PathBuf, number: usize, start: usize, line: &[u8]) -> Diagnostic {
    let good = match std::str::from_utf8(line) {
        Ok(_) => line.len(),
        Err(error) => error.valid_up_to(),
    };
    let shown = String::from_utf8_lossy(line);
    let byte = line.get(good).copied().unwrap_or_default();
    Diagnostic::in_line(
        "not-utf8",
        path,
        (number, start, &shown),
        good..good + char::REPLACEMENT_CHARACTER.len_utf8(),
        format!("byte 0x{byte:02x} is not UTF-8 text"),
        "save the file as UTF-8 (iconv -f LATIN1 -t UTF-8 converts an old encoding)".to_owned(),
    )
}

/// Collects diagnostics about the policy files.
#[derive(Default)]
pub(super) struct Report {
    sources: Vec<Source>,
    pub(super) list: Diagnostics,
}

impl Report {
    /// Adds a file; `None`, which is then reported, if it is no text.
    pub(super) fn add(
        &mut self,
        path: &Path,
        bytes: Vec<u8>,
        (name, roots): (PathBuf, Arc<[PathBuf]>),
    ) -> Option<&Source> {
        // one position lies between two files, so that the end of one is not the beginning of the next
        let base = self
            .sources
            .last()
            .map_or(0, |last| last.base + last.text.len() + 1);
        match Source::new(path, bytes, (name, roots), base) {
            Ok(source) => {
                self.sources.push(source);
                self.sources.last()
            }
            Err(diagnostic) => {
                self.list.push(*diagnostic);
                None
            }
        }
    }

    /// The file that a position is in; `None` only if there is none at all.
    pub(super) fn source(&self, at: usize) -> Option<&Source> {
        let after = self.sources.partition_point(|source| source.base <= at);
        self.sources.get(after.saturating_sub(1))
    }

    pub(super) fn error(
        &mut self,
        code: &'static str,
        span: Range<usize>,
        message: impl Into<String>,
        cure: impl Into<String>,
    ) {
        self.push(Severity::Error, code, span, message.into(), cure.into());
    }

    pub(super) fn warning(
        &mut self,
        code: &'static str,
        span: Range<usize>,
        message: impl Into<String>,
        cure: impl Into<String>,
    ) {
        self.push(Severity::Warning, code, span, message.into(), cure.into());
    }

    fn push(
        &mut self,
        severity: Severity,
        code: &'static str,
        span: Range<usize>,
        message: String,
        cure: String,
    ) {
        let after = self
            .sources
            .partition_point(|source| source.base <= span.start);
        let Some(source) = self.sources.get(after.saturating_sub(1)) else {
            return;
        };
        self.list.push_with(severity, || {
            let diagnostic = source.diagnostic(code, span, message, cure);
            match severity {
                Severity::Error => diagnostic,
                Severity::Warning => diagnostic.into_warning(),
            }
        });
    }

    /// The file and line of a position.
    pub(super) fn place(&self, at: usize) -> (Arc<Path>, usize) {
        match self.source(at) {
            Some(source) => (Arc::clone(&source.path), source.line_number(at)),
            None => (Arc::from(Path::new("")), 0),
        }
    }

    /// "line 7", or "line 7 of web.toml" if that is another file than the one the message is about.
    pub(super) fn line(&self, span: &Range<usize>, seen_from: &Range<usize>) -> String {
        let (path, line) = self.place(span.start);
        if path == self.place(seen_from.start).0 {
            format!("line {line}")
        } else {
            format!("line {line} of {}", path.display())
        }
    }
}
