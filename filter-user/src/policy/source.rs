//! Reading files from outside with a size limit, and finding line and column in their text.
//! Never reads anything but regular files: a pipe or device could block or never end.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::bundle::Bundle;
use super::diagnostic::{Diagnostic, Diagnostics, Severity};

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("there is no such file")]
    Missing,
    #[error("this is a directory, not a file")]
    Directory,
    #[error("this is not a regular file")]
    Special,
    #[error("no permission to read this file")]
    Denied,
    #[error("the file is larger than {} MiB", .limit >> 20)]
    TooLarge { limit: u64 },
    #[error("the file cannot be read: {0}")]
    Other(io::Error),
    #[error("the file was not sent with the policy")]
    NotInBundle,
}

impl ReadError {
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Missing | Self::NotInBundle => "file-missing",
            Self::Directory | Self::Special => "file-kind",
            Self::Denied | Self::Other(_) => "file-unreadable",
            Self::TooLarge { .. } => "file-too-large",
        }
    }

    pub(super) fn cure(&self) -> &'static str {
        match self {
            Self::Missing => "check the spelling and the directory, or create the file",
            Self::Directory => "name a file inside it",
            Self::Special => "name a regular file; pipes and devices are not read",
            Self::Denied => {
                "let the user that runs edgefilter read it (chmod, chown) and enter its directories"
            }
            Self::TooLarge { .. } => "split it into several files, or aggregate its prefixes",
            Self::Other(_) => "check the path and the file system",
            Self::NotInBundle => "push the policy again, with all files it names",
        }
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => Self::Missing,
            ErrorKind::PermissionDenied => Self::Denied,
            ErrorKind::IsADirectory => Self::Directory,
            _ => Self::Other(error),
        }
    }
}

/// Reads a regular file of at most `limit` bytes.
fn read(path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(ReadError::Directory);
    }
    if !metadata.is_file() {
        return Err(ReadError::Special);
    }
    let mut bytes = Vec::new();
    // One byte more than allowed tells a full file from one that is too large.
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(ReadError::TooLarge { limit });
    }
    Ok(bytes)
}

/// Where the files of a policy come from.
pub(super) enum Files<'a> {
    /// The file system.
    Disk,
    /// The file system; what is read is kept under its name as seen from this directory.
    Gather(&'a Path, &'a mut BTreeMap<String, String>),
    /// Files that were read before, perhaps on another host: nothing else is read.
    Bundle(&'a Bundle),
}

impl Files<'_> {
    /// A regular file of at most `limit` bytes.
    pub(super) fn read(&mut self, path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
        match self {
            Self::Disk => read(path, limit),
            Self::Gather(base, kept) => {
                let bytes = read(path, limit)?;
                let name = path.strip_prefix(base).unwrap_or(path);
                // what is not text is an error to come, and nothing is kept of a policy with errors
                if let (Some(name), Ok(text)) = (name.to_str(), str::from_utf8(&bytes)) {
                    kept.insert(name.to_owned(), text.to_owned());
                }
                Ok(bytes)
            }
            Self::Bundle(bundle) => {
                let text = path.to_str().and_then(|name| bundle.files.get(name));
                let text = text.ok_or(ReadError::NotInBundle)?;
                if text.len() as u64 > limit {
                    return Err(ReadError::TooLarge { limit });
                }
                Ok(text.as_bytes().to_vec())
            }
        }
    }
}

/// The text of the policy file.
pub(super) struct Source {
    pub(super) path: PathBuf,
    /// The same, to be shared.
    pub(super) name: Arc<Path>,
    pub(super) text: String,
    /// Byte offsets at which lines begin.
    lines: Vec<usize>,
}

impl Source {
    /// Fails with the diagnostic if the bytes are not UTF-8.
    pub(super) fn new(path: PathBuf, bytes: Vec<u8>) -> Result<Self, Box<Diagnostic>> {
        match String::from_utf8(bytes) {
            Ok(text) => {
                let breaks = text
                    .bytes()
                    .enumerate()
                    .filter(|(_, b)| *b == b'\n')
                    .map(|(at, _)| at + 1);
                let lines = std::iter::once(0).chain(breaks).collect();
                let name = Arc::from(path.as_path());
                Ok(Self {
                    path,
                    name,
                    text,
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
                Err(Box::new(bad_utf8(path, number, start, line)))
            }
        }
    }

    /// The number (from 1) of the line that holds byte `at`.
    pub(super) fn line_number(&self, at: usize) -> usize {
        self.lines.partition_point(|start| *start <= at)
    }

    fn diagnostic(
        &self,
        code: &'static str,
        span: Range<usize>,
        message: String,
        cure: String,
    ) -> Diagnostic {
        let number = self.line_number(span.start).max(1);
        let start = self.lines.get(number - 1).copied().unwrap_or(0);
        let rest = self.text.get(start..).unwrap_or_default();
        let line = rest.split('\n').next().unwrap_or_default();
        let line = line.strip_suffix('\r').unwrap_or(line);
        let mark = span.start.saturating_sub(start).min(line.len())
            ..span.end.saturating_sub(start).min(line.len());
        Diagnostic::in_line(
            code,
            self.path.clone(),
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

/// Collects diagnostics about the policy file.
pub(super) struct Report<'s> {
    pub(super) source: &'s Source,
    pub(super) list: Diagnostics,
}

impl Report<'_> {
    pub(super) fn error(
        &mut self,
        code: &'static str,
        span: Range<usize>,
        message: impl Into<String>,
        cure: impl Into<String>,
    ) {
        self.list.push_with(Severity::Error, || {
            self.source
                .diagnostic(code, span, message.into(), cure.into())
        });
    }

    pub(super) fn warning(
        &mut self,
        code: &'static str,
        span: Range<usize>,
        message: impl Into<String>,
        cure: impl Into<String>,
    ) {
        self.list.push_with(Severity::Warning, || {
            self.source
                .diagnostic(code, span, message.into(), cure.into())
                .into_warning()
        });
    }

    /// "line 7", for messages that point at a second place.
    pub(super) fn line(&self, span: &Range<usize>) -> String {
        format!("line {}", self.source.line_number(span.start))
    }
}
