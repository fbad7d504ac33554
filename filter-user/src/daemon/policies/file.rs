//! The policy file that the daemon was started with, and the files it names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::approval::{self, Approval};
use crate::control::Refusal;
use crate::generations::Source;
use crate::policy::{self, Bundle, Loaded};

/// What tells that a file is another one: device and inode, size, and when its content changed.
type Stamp = (u64, u64, u64, i64, i64);

/// The file.
pub(super) struct PolicyFile {
    path: PathBuf,
    /// Everything the policy was made of when it was read last, and the directories that it lies in.
    seen: BTreeMap<PathBuf, Option<Stamp>>,
    /// It changed, and may not be written to its end.
    unsettled: bool,
    /// Digest of what was read last, if it was sound.
    digest: Option<String>,
}

/// What it held.
pub(super) struct Read {
    pub(super) loaded: Loaded,
    pub(super) bundle: Bundle,
    pub(super) approval: Option<Approval>,
}

impl PolicyFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            seen: BTreeMap::new(),
            unsettled: false,
            digest: None,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it, and all that it names.
    pub(super) fn read(&mut self) -> Result<Read, Refusal> {
        let base = if self.path.is_dir() {
            self.path.clone()
        } else {
            self.path.parent().unwrap_or(Path::new("")).to_owned()
        };
        // before they are read: what is written meanwhile is news
        for (path, seen) in &mut self.seen {
            *seen = stamp(path);
        }
        self.watch([self.path.clone(), base.clone()]);
        self.digest = None;
        let (loaded, bundle) = policy::gather(&self.path)
            .map_err(|diagnostics| Refusal::Unsound(diagnostics.to_string()))?;
        let approval = approval::read(&self.path).map_err(|error| {
            let path = self.path.display();
            Refusal::NotApproved(format!("the signatures of {path} cannot be read: {error}"))
        })?;
        let files = bundle.files.keys().map(|name| base.join(name));
        let directories = bundle
            .files
            .keys()
            .filter_map(|name| Some(base.join(Path::new(name).parent()?)));
        let parts: BTreeSet<PathBuf> = files
            .chain(directories)
            .chain([self.path.clone(), base.clone()])
            .collect();
        self.seen.retain(|path, _| parts.contains(path));
        self.watch(parts);
        self.digest = Some(bundle.digest());
        Ok(Read {
            loaded,
            bundle,
            approval,
        })
    }

    /// Begins to watch those that are not watched yet.
    fn watch(&mut self, paths: impl IntoIterator<Item = PathBuf>) {
        for path in paths {
            self.seen.entry(path).or_insert_with_key(|path| stamp(path));
        }
    }

    /// What was read last; `None` if it was not sound.
    pub(super) fn source(&self) -> Option<Source> {
        Some(Source {
            path: self.path.clone(),
            digest: self.digest.clone()?,
        })
    }

    /// Whether it is another one than was read last, and has been for one look: somebody may be writing it.
    pub(super) fn changed(&mut self) -> bool {
        let mut changed = false;
        for (path, seen) in &mut self.seen {
            let now = stamp(path);
            changed |= *seen != now;
            *seen = now;
        }
        let settled = self.unsettled && !changed;
        self.unsettled = changed;
        settled
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let found = fs::metadata(path).ok()?;
    Some((
        found.dev(),
        found.ino(),
        found.size(),
        found.ctime(),
        found.ctime_nsec(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "version = 1\n[groups.a]\nfiles = [\"a.cidr\"]\n[profiles.p]\ninterfaces = [\"eth0\"]\n\
                          [[profiles.p.allow]]\nid = \"r\"\nprotocol = \"tcp\"\nports = 22\nfrom = \"@a\"\n";

    #[test]
    fn a_directory_is_watched_with_all_its_files() {
        let scratch = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(scratch.path().join(name), text).unwrap();
        write("10-edge.toml", POLICY);
        write("a.cidr", "192.0.2.0/24\n");
        let mut file = PolicyFile::new(scratch.path().to_owned());
        file.read().unwrap();
        assert!(!file.changed());
        let mut changes = |what: &str| {
            assert!(!file.changed(), "{what}: it may go on");
            assert!(file.changed(), "{what}");
            file.read().map(|read| read.bundle.files.len())
        };
        write("10-edge.toml", &format!("{POLICY}comment = \"a rule\"\n"));
        assert_eq!(changes("a file is written").ok(), Some(2));
        write("a.cidr", "192.0.2.0/25\n");
        assert_eq!(changes("a list is written").ok(), Some(2));
        write("20-more.json", "{ \"version\": 2 }");
        assert!(changes("a file is added").is_err());
        fs::remove_file(scratch.path().join("20-more.json")).unwrap();
        assert_eq!(changes("a file is removed").ok(), Some(2));
    }

    #[test]
    fn a_change_is_told_once_it_is_over() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("edge.toml");
        fs::write(&path, POLICY).unwrap();
        fs::write(scratch.path().join("a.cidr"), "192.0.2.0/24\n").unwrap();
        let mut file = PolicyFile::new(path);
        file.read().unwrap();
        assert!(!file.changed());
        fs::write(scratch.path().join("a.cidr"), "192.0.2.0/25\n").unwrap();
        assert!(!file.changed(), "it may go on");
        assert!(file.changed());
        assert!(!file.changed());
        // replaced by another file, as editors do
        fs::write(scratch.path().join("new"), POLICY).unwrap();
        fs::rename(scratch.path().join("new"), scratch.path().join("edge.toml")).unwrap();
        assert!(!file.changed());
        assert!(file.changed());
    }
}
