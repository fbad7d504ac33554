//! What stands beside a policy file: `POLICY.manifest`, and signatures as `POLICY.manifest.sig` or
//! `POLICY.manifest.NAME.sig`.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::{Approval, SIGNATURES};

/// Most bytes of a manifest.
const MANIFEST_BYTES: u64 = 1 << 20;
/// Most bytes of a signature: one of RSA with 16,384 bits has 6 KiB.
const SIGNATURE_BYTES: u64 = 16 << 10;

/// The manifest and the signatures beside a policy file; `None`: there is no manifest.
///
/// # Errors
/// Something is there that cannot be read.
pub fn read(policy: &Path) -> io::Result<Option<Approval>> {
    // a directory may have been named with a slash at its end
    let policy: PathBuf = policy.components().collect();
    let mut path = policy.into_os_string();
    path.push(".manifest");
    let path = PathBuf::from(path);
    let manifest = match open(&path) {
        Ok(file) => text(&path, file, MANIFEST_BYTES)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(context(&path, &error)),
    };
    let mut signatures = Vec::new();
    for path in beside(&path).map_err(|error| context(&path, &error))? {
        if signatures.len() == SIGNATURES {
            let error = io::Error::other(format!(
                "there are more than {SIGNATURES} signatures beside it"
            ));
            return Err(context(&path, &error));
        }
        let file = open(&path).map_err(|error| context(&path, &error))?;
        signatures.push(text(&path, file, SIGNATURE_BYTES)?);
    }
    Ok(Some(Approval {
        manifest,
        signatures,
    }))
}

fn beside(manifest: &Path) -> io::Result<Vec<PathBuf>> {
    let directory = match manifest.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let begin = manifest.file_name().unwrap_or_default().as_encoded_bytes();
    let is_signature = |name: &OsString| {
        let name = name.as_encoded_bytes();
        name.strip_prefix(begin)
            .is_some_and(|rest| rest.starts_with(b".") && rest.ends_with(b".sig"))
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        if is_signature(&name) {
            found.push(directory.join(name));
        }
    }
    found.sort();
    Ok(found)
}

/// A pipe must not hold us up.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    Ok(file)
}

pub(super) fn text(path: &Path, file: File, limit: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    let read = file.take(limit + 1).read_to_end(&mut bytes);
    read.map_err(|error| context(path, &error))?;
    if bytes.len() as u64 > limit {
        let error = io::Error::other(format!("it is larger than {} KiB", limit >> 10));
        return Err(context(path, &error));
    }
    String::from_utf8(bytes).map_err(|_| context(path, &io::Error::other("it is not UTF-8 text")))
}

fn context(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("cannot read {}: {error}", path.display()),
    )
}
