//! Diagnostics for people (miette's graphical form) and for programs (JSON). Never decides by
//! itself whether to use colours: the caller knows the terminal.

use std::fmt::{self, Write as _};

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents,
    SourceCode, SourceSpan, SpanContents,
};

use super::diagnostic::{Diagnostic, Diagnostics, Severity};

impl std::error::Error for Diagnostic {}

impl miette::Diagnostic for Diagnostic {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.cure))
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let mark = self.excerpt.as_ref()?.mark.clone();
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(
            Some("here".to_owned()),
            mark,
        ))))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.excerpt.as_ref().map(|_| self as &dyn SourceCode)
    }
}

/// The one line a diagnostic keeps, presented at its true place in the file.
impl SourceCode for Diagnostic {
    fn read_span<'a>(
        &'a self,
        _: &SourceSpan,
        lines_before: usize,
        lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let (Some(excerpt), Some(at)) = (&self.excerpt, &self.location) else {
            return Err(MietteError::OutOfBounds);
        };
        // Without context lines miette asks where the mark is, with them what to print.
        let header = lines_before == 0 && lines_after == 0;
        let column = if header {
            at.column.saturating_sub(1)
        } else {
            0
        };
        Ok(Box::new(MietteSpanContents::new_named(
            self.file.display().to_string(),
            excerpt.line.as_bytes(),
            (0, excerpt.line.len()).into(),
            at.line.saturating_sub(1),
            column,
            1,
        )))
    }
}

impl Diagnostics {
    /// For people: a picture of each with its line; `width` in columns of the terminal.
    pub fn render(&self, colour: bool, width: usize) -> String {
        let theme = if colour {
            GraphicalTheme::unicode()
        } else {
            GraphicalTheme::unicode_nocolor()
        };
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_width(width.clamp(40, 400))
            .with_links(false);
        let mut out = String::new();
        for diagnostic in self {
            if handler.render_report(&mut out, diagnostic).is_err() {
                // Writing to a string does not fail; should miette refuse, the plain line remains.
                out.push_str(&diagnostic.message);
            }
            if diagnostic.excerpt.is_none() {
                // Writing to a string does not fail.
                let _ = writeln!(out, "  file: {}", diagnostic.text);
            }
            out.push('\n');
        }
        if self.omitted() > 0 {
            let _ = writeln!(out, "... and {} more", self.omitted());
        }
        out
    }

    /// For `--json`: `{"errors": [..], "warnings": [..], "omitted": n}`.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "errors": self.errors().map(to_value).collect::<Vec<_>>(),
            "warnings": self.warnings().map(to_value).collect::<Vec<_>>(),
            "omitted": self.omitted(),
        })
    }
}

fn to_value(diagnostic: &Diagnostic) -> serde_json::Value {
    // Built by hand rather than derived: a path that is not UTF-8 must not cost the whole report.
    let mut value = serde_json::json!({
        "severity": diagnostic.severity,
        "code": diagnostic.code,
        "file": diagnostic.file.to_string_lossy(),
        "text": diagnostic.text,
        "message": diagnostic.message,
        "cure": diagnostic.cure,
    });
    if let Some(at) = &diagnostic.location {
        value["line"] = at.line.into();
        value["column"] = at.column.into();
        value["span"] = serde_json::json!({"start": at.span.start, "end": at.span.end});
    }
    value
}
