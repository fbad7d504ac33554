//! Reading the settings' file. It says who may do what, so it is believed only if nobody but root can write it.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::unistd::geteuid;

use super::Settings;
use crate::policy::{self, Diagnostic, Diagnostics, Source};

/// Longest file.
const BYTES: u64 = 1 << 20;
/// Write permission of group and others.
const SHARED: u32 = 0o022;

/// Reads the settings.
///
/// # Errors
/// What is wrong with the file, with its place and its cure.
pub fn read(path: &Path) -> Result<Settings, Diagnostics> {
    let failed = |code, message: String, cure: &str| {
        one(Diagnostic::about_file(
            code,
            path.to_owned(),
            message,
            cure.to_owned(),
        ))
    };
    let unreadable = |error: io::Error| {
        failed(
            "file-unreadable",
            format!("the settings cannot be read: {error}"),
            "check the path and its permissions",
        )
    };
    // opening a pipe or a device must not make us wait
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
        .open(path)
        .map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    check(&metadata).map_err(|(message, cure)| failed("file-untrusted", message, cure))?;
    let bytes = whole(file).map_err(unreadable)?;
    if bytes.len() as u64 > BYTES {
        return Err(failed(
            "file-too-large",
            format!("the settings are longer than {} MiB", BYTES >> 20),
            "this is not a settings file",
        ));
    }
    let source = Source::alone(path, bytes).map_err(|diagnostic| one(*diagnostic))?;
    parse(&source).map_err(|wrong| {
        let (code, span, message, cure) = *wrong;
        one(source.diagnostic(code, span, message, cure))
    })
}

/// Whoever can write the file can make themselves an admin.
fn check(metadata: &Metadata) -> Result<(), (String, &'static str)> {
    if !metadata.is_file() {
        return Err((
            "the settings are not in a regular file".to_owned(),
            "name a regular file",
        ));
    }
    let owner = metadata.uid();
    if owner != 0 && owner != geteuid().as_raw() {
        return Err((
            format!("the settings belong to user {owner}, who could make anybody an admin"),
            "chown root it",
        ));
    }
    if metadata.mode() & SHARED != 0 {
        return Err((
            format!(
                "the settings can be written by others than root (mode {:04o})",
                metadata.mode() & 0o7777
            ),
            "chmod go-w it",
        ));
    }
    Ok(())
}

fn whole(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // one byte more than allowed tells a full file from one that is too large
    file.take(BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Code, place, message and cure.
type Wrong = Box<(&'static str, Range<usize>, String, String)>;

fn parse(source: &Source) -> Result<Settings, Wrong> {
    let settings: Settings = toml::from_str(&source.text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        let message = error.message().to_owned();
        match unknown_key(&message) {
            Some((key, known)) => Box::new((
                "unknown-key",
                span,
                format!("`{key}` is no setting here"),
                policy::suggest(key, known),
            )),
            None => Box::new((
                "wrong-value",
                span,
                message,
                "docs/operations.md has all settings with their values".to_owned(),
            )),
        }
    })?;
    if settings.require_signatures > 0 && settings.allowed_signers.is_none() {
        let start = source.text.find("require_signatures").unwrap_or(0);
        return Err(Box::new((
            "missing-key",
            start..start + "require_signatures".len(),
            "signatures are required, and nobody may sign".to_owned(),
            "name a file of signers: allowed_signers = \"/etc/edgefilter/allowed_signers\""
                .to_owned(),
        )));
    }
    Ok(settings)
}

/// Serde's words for it: ``unknown field `a`, expected one of `b`, `c` ``.
fn unknown_key(message: &str) -> Option<(&str, Vec<&str>)> {
    let rest = message.strip_prefix("unknown field `")?;
    let (key, rest) = rest.split_once('`')?;
    Some((key, rest.split('`').skip(1).step_by(2).collect()))
}

fn one(diagnostic: Diagnostic) -> Diagnostics {
    let mut list = Diagnostics::default();
    list.push(diagnostic);
    list
}
