//! A temporary directory with, on request, a private bpffs in it.
//!
//! Owns the directory and the mount. Must never be used for anything that should outlive a test.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};

use super::leftovers;

/// Name of the mount point inside the directory.
pub(super) const BPFFS: &str = "bpffs";

/// Removed, with everything pinned in its bpffs, when dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes `ef-<pid>-<n>-<label>` under the temporary directory.
    pub fn create(label: &str) -> Result<Self> {
        leftovers::sweep_once();
        let path = std::env::temp_dir().join(super::fresh_name(label));
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file and returns its path.
    pub fn file(&self, name: &str, contents: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.path.join(name);
        std::fs::write(&path, contents)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Makes a directory (or finds it made) and returns its path.
    pub fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// Mounts a bpffs of our own: pins of two tests never meet, and unmounting frees them all.
    pub fn mount_bpffs(&self) -> Result<PathBuf> {
        let path = self.directory(BPFFS)?;
        mount(
            Some("bpf"),
            &path,
            Some("bpf"),
            MsFlags::empty(),
            Some("mode=0700"),
        )
        .with_context(|| {
            format!(
                "cannot mount a bpffs at {}: needs root and a kernel with BPF",
                path.display()
            )
        })?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        leftovers::remove_directory(&self.path);
    }
}
