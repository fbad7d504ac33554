//! Loading a policy: file to text, text to document, document to policy, with everything that is
//! wrong. Never panics on any input, and never returns a policy that has an error.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::bundle::Bundle;
use super::diagnostic::Diagnostics;
use super::files::Files;
use super::group::Groups;
use super::include::{self, Document};
use super::lint;
use super::model::{MAX_POLICY_BYTES, Policy};
use super::raw;
use super::source::Report;
use super::validate;

/// A policy without errors.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The policy.
    pub policy: Policy,
    /// What somebody should look at.
    pub warnings: Diagnostics,
    /// SHA-256 over all files of the policy, in hex: equal if nothing changed.
    pub fingerprint: String,
}

/// The text of one policy file, for whoever does not want to know what it means.
///
/// # Errors
/// Why it cannot be read, and what to do about it.
pub fn read_text(path: &Path) -> Result<String, String> {
    let bytes = Files::on_disk(None).read(path, None, MAX_POLICY_BYTES);
    let bytes = bytes.map_err(|error| format!("{error} ({})", error.cure()))?;
    String::from_utf8(bytes.into_owned())
        .map_err(|_| "the file is not UTF-8 text (save it as UTF-8)".to_owned())
}

/// Reads a policy and the files it names: a file, or a directory whose `*.toml` and `*.json` are one policy.
///
/// # Errors
/// Every error there is in all of the files at once, with the warnings.
pub fn load(path: &Path) -> Result<Loaded, Diagnostics> {
    load_from(path, &mut Files::on_disk(None))
}

/// The same, and the files as they were read.
///
/// # Errors
/// See [`load`].
pub fn gather(path: &Path) -> Result<(Loaded, Bundle), Diagnostics> {
    let mut files = BTreeMap::new();
    let loaded = load_from(path, &mut Files::on_disk(Some(&mut files)))?;
    // the same policy in another place is the same bundle: names are those seen from its directory
    let main = path.file_name().filter(|_| !path.is_dir());
    let bundle = Bundle {
        main: main.unwrap_or_default().to_string_lossy().into_owned(),
        files,
    };
    Ok((loaded, bundle))
}

/// Loads what was gathered before. Reads no file.
///
/// # Errors
/// See [`load`].
pub fn load_bundle(bundle: &Bundle) -> Result<Loaded, Diagnostics> {
    load_from(Path::new(&bundle.main), &mut Files::of(bundle))
}

fn load_from(path: &Path, files: &mut Files<'_>) -> Result<Loaded, Diagnostics> {
    let mut hash = Sha256::new();
    let mut report = Report::default();
    let document = include::read(path, files, &mut hash, &mut report);
    let policy = document.and_then(|document| check(path, document, files, &mut hash, &mut report));
    let mut list = report.list;
    list.sort(path);
    match policy {
        Some(policy) if !list.has_errors() => Ok(Loaded {
            policy,
            warnings: list,
            fingerprint: hex(&hash.finalize()),
        }),
        _ => Err(list),
    }
}

fn check(
    path: &Path,
    document: Document,
    files: &mut Files<'_>,
    hash: &mut Sha256,
    report: &mut Report,
) -> Option<Policy> {
    let Document { map, syntax } = document;
    let mut raw = raw::read(&map, report);
    drop(map);
    let mut groups = Groups::load(std::mem::take(&mut raw.groups), files, hash, report);
    let (policy, marks) = validate::validate(&raw, path.to_owned(), &mut groups, report);
    if syntax.is_empty() {
        if !report.list.has_errors() {
            groups.warn_unused(report);
            lint::lint(&policy, &marks, report);
        }
        return Some(policy);
    }
    // After a syntax error the parser guesses, and what was found past it may be its invention.
    // What stands before is sound, except for what may be defined further down.
    let mut broken: HashMap<Arc<Path>, usize> = HashMap::new();
    for error in &syntax {
        let (file, line) = report.place(error.span.start);
        let first = broken.entry(file).or_insert(line);
        *first = line.min(*first);
    }
    report.list.retain(|d| {
        let before = match (broken.get(d.file.as_path()), &d.location) {
            (Some(first), Some(at)) => at.line < *first,
            (Some(_), None) => false,
            (None, _) => true,
        };
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
        before && final_word
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
