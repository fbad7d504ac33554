//! Where output goes and in which form. Everything a command says passes through here: nothing else prints, so that a
//! closed pipe is an error value and never a panic.

use std::io::{self, IsTerminal, Write};

use anyhow::{Context, Result};
use serde::Serialize;

use super::{Color, Globals};
use crate::policy::Diagnostics;

/// Columns when nobody tells.
const WIDTH: usize = 100;

/// Standard output, and what it is.
pub struct Output<'a> {
    out: &'a mut dyn Write,
    /// JSON is wanted.
    pub json: bool,
    /// Colours are wanted.
    pub colour: bool,
    /// It is a terminal.
    pub terminal: bool,
}

impl<'a> Output<'a> {
    /// Standard output as the options say.
    pub fn standard(out: &'a mut io::Stdout, globals: &Globals) -> Self {
        let terminal = out.is_terminal();
        Self {
            out,
            json: globals.json,
            colour: wants_colour(globals.color, terminal),
            terminal,
        }
    }

    /// Something else than standard output, plain.
    pub fn plain(out: &'a mut dyn Write, json: bool) -> Self {
        Self {
            out,
            json,
            colour: false,
            terminal: false,
        }
    }

    /// Writes text as it is.
    pub fn text(&mut self, text: &str) -> Result<()> {
        self.out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.flush())
            .context("cannot write to standard output")
    }

    /// Writes a JSON document, laid out for people.
    pub fn document(&mut self, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string_pretty(value).context("this has no JSON form")?;
        self.text(&(text + "\n"))
    }

    /// Writes a JSON document on one line, as one of many.
    pub fn line(&mut self, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string(value).context("this has no JSON form")?;
        self.text(&(text + "\n"))
    }

    /// The document or the text, as wanted.
    pub fn show(
        &mut self,
        value: &impl Serialize,
        text: impl FnOnce(bool) -> String,
    ) -> Result<()> {
        if self.json {
            self.document(value)
        } else {
            self.text(&text(self.colour))
        }
    }
}

/// Says something on standard error. That it cannot be said is no reason to fail.
pub(super) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Shows diagnostics on standard error.
pub(super) fn show_diagnostics(diagnostics: &Diagnostics, color: Color) {
    let colour = wants_colour(color, io::stderr().is_terminal());
    let width = comfy_table::Table::new().width().map_or(WIDTH, usize::from);
    let _ = write!(io::stderr(), "{}", diagnostics.render(colour, width));
}

/// Shows why a command failed: on standard error, and as `{"error": ..}` where one JSON document is promised.
pub fn report_error(error: &anyhow::Error, globals: &Globals) {
    if let Some(diagnostics) = error.downcast_ref::<Diagnostics>() {
        show_diagnostics(diagnostics, globals.color);
        note("edgefilter: the policy has errors, nothing was changed");
    } else {
        note(&format!("edgefilter: {error:#}"));
    }
    if globals.json {
        let document = serde_json::json!({ "error": format!("{error:#}") });
        let _ = writeln!(io::stdout(), "{document:#}");
    }
}

fn wants_colour(color: Color, terminal: bool) -> bool {
    match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        }
    }
}
