//! Lines of a formatted file: code, and comments beside it in one column. Knows nothing of what the code says.

use std::fmt::Write as _;

/// One line.
#[derive(Default)]
struct Line {
    indent: usize,
    code: String,
    /// With its `#`; empty: none.
    comment: String,
}

/// The lines of a file so far.
#[derive(Default)]
pub(super) struct Lines {
    list: Vec<Line>,
}

impl Lines {
    /// Adds a line of code.
    pub(super) fn code(&mut self, indent: usize, code: String) {
        self.list.push(Line {
            indent,
            code,
            comment: String::new(),
        });
    }

    /// Adds an empty line, unless there is one already or the file begins here.
    pub(super) fn blank(&mut self) {
        if self.list.last().is_some_and(|last| !last.is_blank()) {
            self.list.push(Line::default());
        }
    }

    /// Adds what stands between two values: comments, and an empty line where there were any.
    pub(super) fn between(&mut self, indent: usize, text: &str) {
        // the last piece is the indent of what follows
        let mut pieces: Vec<&str> = text.split('\n').collect();
        pieces.pop();
        self.comments(indent, &pieces);
    }

    /// The same of a text that ends with a whole line.
    pub(super) fn comments(&mut self, indent: usize, pieces: &[&str]) {
        for piece in pieces {
            let comment = piece.trim();
            if comment.is_empty() {
                self.blank();
            } else {
                self.list.push(Line {
                    indent,
                    code: String::new(),
                    comment: comment.to_owned(),
                });
            }
        }
    }

    /// Puts a comment beside the last line.
    pub(super) fn beside(&mut self, text: &str) {
        let comment = text.trim();
        if comment.is_empty() {
            return;
        }
        match self.list.last_mut() {
            Some(last) if last.comment.is_empty() && !last.code.is_empty() => {
                comment.clone_into(&mut last.comment);
            }
            last => {
                let indent = last.map_or(0, |last| last.indent);
                self.comments(indent, &[comment]);
            }
        }
    }

    /// Takes the last line away if it is empty.
    pub(super) fn trim(&mut self) {
        if self.list.last().is_some_and(Line::is_blank) {
            self.list.pop();
        }
    }

    /// The whole text.
    pub(super) fn finish(mut self) -> String {
        self.trim();
        let mut text = String::new();
        let mut rest = self.list.as_slice();
        while !rest.is_empty() {
            // neighbours with comments have them in one column
            let run = rest.iter().take_while(|line| line.is_both()).count().max(1);
            let (lines, after) = rest.split_at(run);
            rest = after;
            let widths = lines.iter().map(|line| line.code.chars().count());
            let column = widths.max().unwrap_or(0);
            for line in lines {
                let pad = if line.is_both() {
                    column + 1 - line.code.chars().count()
                } else {
                    0
                };
                let indent = if line.is_blank() { 0 } else { line.indent };
                // writing into a String cannot fail
                let _ = writeln!(
                    text,
                    "{:indent$}{}{:pad$}{}",
                    "", line.code, "", line.comment
                );
            }
        }
        text
    }
}

impl Line {
    fn is_blank(&self) -> bool {
        self.code.is_empty() && self.comment.is_empty()
    }

    fn is_both(&self) -> bool {
        !self.code.is_empty() && !self.comment.is_empty()
    }
}
