//! Reading the files of a policy, from disk or from a bundle, within limits. Never opens anything but regular files: a
//! pipe could block, and opening a device can have effects.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use glob::Pattern;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat};

use super::bundle::Bundle;
use super::model::{MAX_BUNDLE_BYTES, MAX_FILES};

/// Most names of a directory that are looked at for a pattern.
const MAX_NAMES: usize = 65_536;

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
    #[error("this leads out of the policy's directory, to {}", .0.display())]
    Outside(PathBuf),
    #[error("a policy has at most {MAX_FILES} files")]
    TooMany,
    #[error("the files of a policy have at most {} MiB together", MAX_BUNDLE_BYTES >> 20)]
    TogetherTooLarge,
}

impl ReadError {
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Missing | Self::NotInBundle => "file-missing",
            Self::Directory | Self::Special => "file-kind",
            Self::Denied | Self::Other(_) => "file-unreadable",
            Self::TooLarge { .. } | Self::TogetherTooLarge => "file-too-large",
            Self::Outside(_) => "file-outside",
            Self::TooMany => "too-many-files",
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
            Self::Outside(_) => {
                "write the absolute path if that file is meant, or put a copy into the policy's directory"
            }
            Self::TooMany => "join small files, or let a pattern match fewer",
            Self::TogetherTooLarge => "aggregate prefixes, or take files out",
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

/// Where the files of a policy come from, and how much of them was read.
pub(super) struct Files<'a> {
    origin: Origin<'a>,
    count: usize,
    bytes: u64,
}

enum Origin<'a> {
    /// The file system. What is read is kept, if somebody wants it.
    Disk(Option<&'a mut BTreeMap<String, String>>),
    /// Files that were read before, perhaps on another host: nothing else is read.
    Bundle(&'a Bundle),
}

impl<'a> Files<'a> {
    /// Files from disk.
    pub(super) fn on_disk(keep: Option<&'a mut BTreeMap<String, String>>) -> Self {
        Self::from(Origin::Disk(keep))
    }

    /// Files of a bundle.
    pub(super) fn of(bundle: &'a Bundle) -> Self {
        Self::from(Origin::Bundle(bundle))
    }

    fn from(origin: Origin<'a>) -> Self {
        Self {
            origin,
            count: 0,
            bytes: 0,
        }
    }

    /// Directories in which the relative names of a file stay: its own, and that of the file it is a link to.
    pub(super) fn roots(&self, path: &Path) -> Arc<[PathBuf]> {
        if let Origin::Bundle(_) = self.origin {
            return Arc::default();
        }
        let real = fs::canonicalize(path).unwrap_or_default();
        let beside = real.parent().unwrap_or(Path::new("")).to_owned();
        let parent = path.parent().unwrap_or(Path::new(""));
        let parent = if parent.as_os_str().is_empty() {
            Path::new(".")
        } else {
            parent
        };
        let own = fs::canonicalize(parent).unwrap_or_default();
        Arc::from([own, beside])
    }

    /// Whether the path is a directory of policy files.
    pub(super) fn is_directory(&self, path: &Path) -> bool {
        match &self.origin {
            Origin::Disk(_) => path.is_dir(),
            Origin::Bundle(bundle) => path
                .to_str()
                .is_some_and(|name| !bundle.files.contains_key(name)),
        }
    }

    /// Names in a directory that `pattern` matches, in alphabetical order. Hidden files are not matched by wildcards.
    pub(super) fn matching(
        &self,
        directory: &Path,
        pattern: &Pattern,
    ) -> Result<Vec<PathBuf>, ReadError> {
        let wanted = |name: &str| {
            pattern.matches(name) && (!name.starts_with('.') || pattern.as_str().starts_with('.'))
        };
        let mut paths = Vec::new();
        match &self.origin {
            Origin::Disk(_) => {
                let place = if directory.as_os_str().is_empty() {
                    Path::new(".")
                } else {
                    directory
                };
                for (seen, entry) in fs::read_dir(place)?.enumerate() {
                    if seen >= MAX_NAMES {
                        return Err(ReadError::TooMany);
                    }
                    let name = entry?.file_name();
                    if name.to_str().is_some_and(wanted) {
                        paths.push(directory.join(name));
                    }
                }
            }
            Origin::Bundle(bundle) => {
                let files = bundle.files.keys().map(Path::new);
                let directory = plain(directory);
                let here = files.filter(|path| path.parent() == Some(&*directory));
                paths.extend(
                    here.filter(|path| {
                        let name = path.file_name().and_then(|name| name.to_str());
                        name.is_some_and(wanted)
                    })
                    .map(Path::to_owned),
                );
            }
        }
        if paths.len() > MAX_FILES {
            return Err(ReadError::TooMany);
        }
        paths.sort_unstable();
        Ok(paths)
    }

    /// A regular file of at most `limit` bytes. With `roots`, its name is a relative one: where links lead must be in
    /// one of these directories.
    pub(super) fn read(
        &mut self,
        path: &Path,
        roots: Option<&[PathBuf]>,
        limit: u64,
    ) -> Result<Cow<'a, [u8]>, ReadError> {
        if self.count == MAX_FILES {
            return Err(ReadError::TooMany);
        }
        let left = MAX_BUNDLE_BYTES - self.bytes;
        let read = match &self.origin {
            Origin::Disk(_) => read(path, roots, limit.min(left)).map(Cow::Owned),
            Origin::Bundle(bundle) => {
                let name = plain(path);
                let text = name.to_str().and_then(|name| bundle.files.get(name));
                let bytes = text.ok_or(ReadError::NotInBundle)?.as_bytes();
                if bytes.len() as u64 > limit.min(left) {
                    Err(ReadError::TooLarge { limit })
                } else {
                    Ok(Cow::Borrowed(bytes))
                }
            }
        };
        let bytes = read.map_err(|error| match error {
            ReadError::TooLarge { .. } if left < limit => ReadError::TogetherTooLarge,
            ReadError::TooLarge { .. } => ReadError::TooLarge { limit },
            other => other,
        })?;
        self.count += 1;
        self.bytes += bytes.len() as u64;
        Ok(bytes)
    }

    /// Gives back what was read, for whoever wants the files; `name`: in a bundle.
    pub(super) fn keep(&mut self, name: &Path, bytes: Cow<'_, [u8]>) {
        if let Origin::Disk(Some(kept)) = &mut self.origin
            // what is no text is an error that was reported, and nothing is kept of a policy with errors
            && let (Some(name), Ok(text)) = (name.to_str(), String::from_utf8(bytes.into_owned()))
        {
            kept.insert(name.to_owned(), text);
        }
    }
}

/// The path without `.`, as it is written in a bundle.
pub(super) fn plain(path: &Path) -> PathBuf {
    path.components()
        .filter(|part| *part != Component::CurDir)
        .collect()
}

/// Reads a regular file of at most `limit` bytes.
fn read(path: &Path, roots: Option<&[PathBuf]>, limit: u64) -> Result<Vec<u8>, ReadError> {
    // Found first and looked at, then opened: the file that is read is the one that was looked at.
    let found = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|error| ReadError::from(io::Error::from(error)))?;
    let kind = fstat(&found).map_err(|error| ReadError::from(io::Error::from(error)))?;
    let kind = SFlag::from_bits_truncate(kind.st_mode) & SFlag::S_IFMT;
    if kind == SFlag::S_IFDIR {
        return Err(ReadError::Directory);
    }
    if kind != SFlag::S_IFREG {
        return Err(ReadError::Special);
    }
    let link = PathBuf::from(format!("/proc/self/fd/{}", found.as_raw_fd()));
    if let Some(roots) = roots {
        let real = fs::read_link(&link)?;
        if !roots.iter().any(|root| real.starts_with(root)) {
            return Err(ReadError::Outside(real));
        }
    }
    let mut bytes = Vec::new();
    // One byte more than allowed tells a full file from one that is too large.
    File::open(&link)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(ReadError::TooLarge { limit });
    }
    Ok(bytes)
}
