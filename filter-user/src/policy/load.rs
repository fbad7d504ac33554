//! Loading a policy: file to text, text to document, document to policy, with everything that is
//! wrong. Never panics on any input, and never returns a policy that has an error.

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest, Sha256};
use toml::de::DeTable;

use super::bundle::Bundle;
use super::diagnostic::{Diagnostic, Diagnostics};
use super::group::{self, Groups};
use super::lint;
use super::model::{MAX_POLICY_BYTES, Policy};
use super::raw;
use super::source::{Files, Report, Source};
use super::syntax;
use super::validate;

/// A policy without errors.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The policy.
    pub policy: Policy,
    /// What somebody should look at.
    pub warnings: Diagnostics,
    /// SHA-256 over the policy file and its prefix files, in hex: equal if nothing changed.
    pub fingerprint: String,
}

/// Reads a policy file and the files it names.
///
/// # Errors
/// Every error there is in all of the files at once, with the warnings.
pub fn load(path: &Path) -> Result<Loaded, Diagnostics> {
    load_from(path, &mut Files::Disk)
}

/// The same, and the files as they were read.
///
/// # Errors
/// See [`load`].
pub fn gather(path: &Path) -> Result<(Loaded, Bundle), Diagnostics> {
    let mut files = BTreeMap::new();
    let base = path.parent().unwrap_or(Path::new(""));
    let loaded = load_from(path, &mut Files::Gather(base, &mut files))?;
    let name = path.strip_prefix(base).unwrap_or(path);
    let main = name.to_string_lossy().into_owned();
    Ok((loaded, Bundle { main, files }))
}

/// Loads what was gathered before. Reads no file.
///
/// # Errors
/// See [`load`].
pub fn load_bundle(bundle: &Bundle) -> Result<Loaded, Diagnostics> {
    load_from(Path::new(&bundle.main), &mut Files::Bundle(bundle))
}

fn load_from(path: &Path, files: &mut Files<'_>) -> Result<Loaded, Diagnostics> {
    let fail = |diagnostic: Diagnostic| {
        let mut list = Diagnostics::default();
        list.push(diagnostic);
        list
    };
    let bytes = files
        .read(path, MAX_POLICY_BYTES)
        .map_err(|error| fail(group::unreadable(path, &error)))?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(fail(Diagnostic::about_file(
            "file-empty",
            path.to_owned(),
            "the policy file is empty".to_owned(),
            "begin with `version = 1` and a profile, or copy one of the example policies"
                .to_owned(),
        )));
    }
    let mut hash = Sha256::new();
    group::hash_file(&mut hash, &bytes);
    let source = Source::new(path.to_owned(), bytes).map_err(|diagnostic| fail(*diagnostic))?;
    let mut report = Report {
        source: &source,
        list: Diagnostics::default(),
    };
    let policy = check(&source, files, &mut hash, &mut report);
    report.list.sort(path);
    match policy {
        Some(policy) if !report.list.has_errors() => {
            let fingerprint = hex(&hash.finalize());
            Ok(Loaded {
                policy,
                warnings: report.list,
                fingerprint,
            })
        }
        _ => Err(report.list),
    }
}

fn check(
    source: &Source,
    files: &mut Files<'_>,
    hash: &mut Sha256,
    report: &mut Report<'_>,
) -> Option<Policy> {
    let (document, errors) = DeTable::parse_recoverable(&source.text);
    let syntax = if errors.is_empty() {
        Vec::new()
    } else {
        syntax::errors(&source.text)
    };
    let base = source.path.parent().unwrap_or(Path::new(""));
    let mut raw = raw::read(document.get_ref(), report);
    let mut groups = Groups::load(std::mem::take(&mut raw.groups), base, files, hash, report);
    let (policy, marks) = validate::validate(&raw, source.path.clone(), &mut groups, report);
    if syntax.is_empty() {
        if !report.list.has_errors() {
            groups.warn_unused(report);
            lint::lint(&policy, &marks, report);
        }
        return Some(policy);
    }
    // After a syntax error the parser guesses, and what was found past it may be its invention.
    // What stands before is sound, except for what may be defined further down.
    let first = syntax
        .iter()
        .map(|error| error.span.start)
        .min()
        .unwrap_or(0);
    let line = source.line_number(first);
    report.list.retain(|d| {
        let elsewhere = d.file != source.path;
        let before = d.location.as_ref().is_some_and(|at| at.line < line);
        let final_word = !matches!(
            d.code,
            "missing-key"
                | "unknown-group"
                | "empty-group"
                | "empty-rule"
                | "container-profile"
                | "block-times"
                | "windows"
        );
        elsewhere || before && final_word
    });
    for error in syntax {
        report.error("syntax", error.span, error.message, error.cure);
    }
    None
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('?');
    let digits = bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    digits.collect()
}
