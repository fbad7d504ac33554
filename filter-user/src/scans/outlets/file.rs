//! Reports to a file, one JSON document a line, rotated by size.
//!
//! Owns the file and those it was rotated to: `scans.jsonl`, `scans.jsonl.1`, `.2` and so on, the last one the oldest.
//! Must never leave half a line behind. What was taken away by others (logrotate, `rm`) is made anew.
//!
//! No crate does this here: file-rotate 0.8 panics when a directory is missing, and loses without a word what it cannot
//! write, while a full disk must be shown and what waits be written later.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::queue::{Queue, Turn};
use crate::policy::ReportFile;

/// Reports between two looks at the file's path.
const BATCH: usize = 64;
/// Before another try.
const PAUSE: Duration = Duration::from_secs(1);

/// A thread, since a disk may take its time and there is no other way to wait for it.
pub(super) fn start<T>(settings: ReportFile, queue: Arc<Queue<T>>, turn: Turn)
where
    T: Serialize + Send + Sync + 'static,
{
    let worker = {
        let queue = Arc::clone(&queue);
        move || run(&settings, &queue, turn)
    };
    let started = std::thread::Builder::new().name("reports-file".to_owned());
    if let Err(error) = started.spawn(worker) {
        queue.failed(turn, 0, format!("cannot start a thread: {error}"));
    }
}

fn run<T: Serialize>(settings: &ReportFile, queue: &Queue<T>, turn: Turn) {
    let mut log = Log::new(settings);
    while let Some(reports) = queue.take(turn, BATCH) {
        let mut written = 0;
        let outcome = reports.iter().try_for_each(|report| {
            log.append(&**report)?;
            written += 1;
            Ok(())
        });
        match outcome {
            Ok(()) => queue.done(turn),
            Err(error) => {
                log.file = None;
                queue.failed(turn, written, describe(&settings.path, &error));
                if !queue.pause(turn, PAUSE) {
                    return;
                }
            }
        }
    }
}

fn describe(path: &Path, error: &io::Error) -> String {
    format!("cannot write {}: {error}", path.display())
}

struct Log<'a> {
    settings: &'a ReportFile,
    file: Option<Open>,
}

struct Open {
    file: File,
    bytes: u64,
}

impl<'a> Log<'a> {
    fn new(settings: &'a ReportFile) -> Self {
        Self {
            settings,
            file: None,
        }
    }

    fn append(&mut self, report: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(report)?;
        line.push(b'\n');
        let length = line.len() as u64;
        let full = |open: &Open| open.bytes > 0 && open.bytes + length > self.settings.max_bytes;
        let mut open = match self.file.take() {
            Some(open) if open.is_at(&self.settings.path) => open,
            _ => Open::new(&self.settings.path)?,
        };
        if full(&open) {
            rotate(&self.settings.path, self.settings.keep)?;
            open = Open::new(&self.settings.path)?;
        }
        open.write(&line)?;
        self.file = Some(open);
        Ok(())
    }
}

impl Open {
    fn new(path: &Path) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o750).create(directory)?;
        }
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        Ok(Self {
            file,
            bytes: metadata.len(),
        })
    }

    /// Whether the path still leads here.
    fn is_at(&self, path: &Path) -> bool {
        let (Ok(there), Ok(here)) = (std::fs::symlink_metadata(path), self.file.metadata()) else {
            return false;
        };
        (there.dev(), there.ino()) == (here.dev(), here.ino())
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        // `copytruncate` of logrotate makes it shorter than we know
        let before = self.file.metadata()?.len();
        if let Err(error) = self.file.write_all(line) {
            self.file.set_len(before)?;
            return Err(error);
        }
        self.bytes = before + line.len() as u64;
        Ok(())
    }
}

/// Moves each to the next number; what exceeds `keep` goes.
fn rotate(path: &Path, keep: u32) -> io::Result<()> {
    let mut last = keep;
    // those of a policy that kept more
    while std::fs::symlink_metadata(numbered(path, last + 1)).is_ok() {
        last += 1;
    }
    for number in (keep..=last).rev().filter(|number| *number > 0) {
        unless_missing(std::fs::remove_file(numbered(path, number)))?;
    }
    for number in (1..keep).rev() {
        let (from, to) = (numbered(path, number), numbered(path, number + 1));
        unless_missing(std::fs::rename(from, to))?;
    }
    unless_missing(if keep == 0 {
        std::fs::remove_file(path)
    } else {
        std::fs::rename(path, numbered(path, 1))
    })
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

fn unless_missing(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
#[path = "file/tests.rs"]
mod tests;
