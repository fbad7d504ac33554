//! `edgefilter fmt`: writes policy files as they are best read. A file is replaced as a whole, or not at all.

use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use similar::TextDiff;

use super::output::note;
use super::{Fmt, Outcome, Output};
use crate::durable;
use crate::policy::{self, Language, MAX_POLICY_BYTES};

/// What stands for standard input.
const STDIN: &str = "-";

/// What became of one file.
#[derive(Serialize)]
struct Formatted {
    file: String,
    /// It is not as it is best read; without `--check` and `--diff`: it was not.
    changed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<String>,
}

/// Formats the files, or says which are not formatted.
pub fn fmt(arguments: &Fmt, out: &mut Output<'_>) -> Result<Outcome> {
    if arguments.files.iter().any(|file| file.as_os_str() == STDIN) {
        ensure!(
            arguments.files.len() == 1,
            "`-` stands alone: standard input is not formatted together with files"
        );
        return stdin(arguments, out);
    }
    let looks_only = arguments.check || arguments.diff;
    let mut list = Vec::new();
    for file in &arguments.files {
        let name = file.display().to_string();
        let formatted = match file_formatted(file, !looks_only) {
            Ok((before, after)) => Formatted {
                file: name.clone(),
                changed: before != after,
                error: None,
                diff: (arguments.diff && before != after)
                    .then(|| difference(&name, &before, &after)),
            },
            Err(error) => Formatted {
                file: name,
                changed: false,
                error: Some(format!("{error:#}")),
                diff: None,
            },
        };
        if !out.json {
            show(&formatted, arguments, out)?;
        }
        list.push(formatted);
    }
    if out.json {
        out.document(&serde_json::json!({ "files": list }))?;
    }
    let refused = |one: &Formatted| one.error.is_some() || looks_only && one.changed;
    Ok(if list.iter().any(refused) {
        Outcome::Refused
    } else {
        Outcome::Done
    })
}

fn show(formatted: &Formatted, arguments: &Fmt, out: &mut Output<'_>) -> Result<()> {
    if let Some(error) = &formatted.error {
        note(&format!("{}: error: {error}", formatted.file));
    } else if let Some(diff) = &formatted.diff {
        out.text(diff)?;
    } else if formatted.changed && arguments.check {
        out.text(&format!("{}\n", formatted.file))?;
    } else if formatted.changed {
        note(&format!("{}: formatted", formatted.file));
    }
    Ok(())
}

/// The text of a file before and after; replaced if `write` says so.
fn file_formatted(file: &Path, write: bool) -> Result<(String, String)> {
    let before = policy::read_text(file).map_err(anyhow::Error::msg)?;
    let after = policy::format(&before, Language::of(file))?;
    if write && before != after {
        replace(file, &after)?;
    }
    Ok((before, after))
}

/// Puts a new text in the place of a file; a link keeps leading to it.
fn replace(file: &Path, text: &str) -> Result<()> {
    let real = file.canonicalize()?;
    let rights = real.metadata()?.permissions();
    durable::replace(&real, |writer| {
        writer.get_ref().set_permissions(rights)?;
        writer.write_all(text.as_bytes())
    })
    .with_context(|| format!("cannot write {}", real.display()))
}

fn stdin(arguments: &Fmt, out: &mut Output<'_>) -> Result<Outcome> {
    let mut before = String::new();
    let limit = MAX_POLICY_BYTES + 1;
    let read = io::stdin().take(limit).read_to_string(&mut before);
    let read = read.context("cannot read standard input as UTF-8 text")?;
    ensure!(
        (read as u64) < limit,
        "a policy has at most {} MiB",
        MAX_POLICY_BYTES >> 20
    );
    // no TOML file begins with a brace
    let language = if before.trim_start().starts_with('{') {
        Language::Json
    } else {
        Language::Toml
    };
    let after = policy::format(&before, language)?;
    if arguments.diff {
        out.text(&difference("stdin", &before, &after))?;
    } else if !arguments.check {
        out.text(&after)?;
    }
    let refused = (arguments.check || arguments.diff) && before != after;
    Ok(if refused {
        Outcome::Refused
    } else {
        Outcome::Done
    })
}

fn difference(name: &str, before: &str, after: &str) -> String {
    let diff = TextDiff::from_lines(before, after);
    let mut unified = diff.unified_diff();
    unified
        .header(name, &format!("{name} (formatted)"))
        .to_string()
}
