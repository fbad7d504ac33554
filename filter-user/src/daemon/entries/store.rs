//! Entries on disk, twice: as they are in this boot, which is written before an answer and never waits for the disk, and
//! as they are to be after a power failure, which is written right behind it and does.
//!
//! A file that cannot be read is set aside and never taken for an empty one.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::durable;
use crate::entries::{Document, Table};
use crate::scans::Moment;

/// As they are in this boot.
const CURRENT: &str = "entries.boot.json";
/// As they are after another.
const KEPT: &str = "entries.json";
/// What is longer was not written here.
const FILE_BYTES: u64 = 4 << 20;
/// Where the kernel says which boot this is.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// Both files.
pub(super) struct Store {
    current: PathBuf,
    boot: String,
    later: watch::Sender<Vec<u8>>,
    writer: JoinHandle<()>,
}

impl Store {
    /// Reads what there is; `None`: nothing that can be read. Needs a runtime.
    pub(super) fn open(state_dir: &Path, now: Moment) -> Result<(Self, Option<Table>)> {
        let boot = fs::read_to_string(BOOT).with_context(|| format!("cannot read {BOOT}"))?;
        let boot = boot.trim().to_owned();
        let (current, kept) = (state_dir.join(CURRENT), state_dir.join(KEPT));
        let found = read(&current)
            .filter(|document| document.is_of(&boot))
            .or_else(|| read(&kept));
        let table = found.map(|document| document.table(&boot, now));
        let (later, pending) = watch::channel(Vec::new());
        let writer = tokio::spawn(keep(kept, pending));
        let store = Self {
            current,
            boot,
            later,
            writer,
        };
        Ok((store, table))
    }

    /// Writes the table: a process that dies from now on leaves it behind; a machine that does, soon.
    pub(super) fn write(&self, table: &Table, now: Moment) -> Result<()> {
        let document = serde_json::to_vec(&Document::of(table, &self.boot, now))
            .context("the entries have no JSON form")?;
        durable::replace_until_boot(&self.current, |writer| writer.write_all(&document))
            .with_context(|| format!("cannot write {}", self.current.display()))?;
        self.later.send_replace(document);
        Ok(())
    }

    /// Ends once all is on disk.
    pub(super) async fn finish(self) {
        drop(self.later);
        if let Err(error) = self.writer.await {
            tracing::error!(%error, "the writer of entries ended with an error");
        }
    }
}

/// Writes the last of what comes, as fast as the disk takes it.
async fn keep(path: PathBuf, mut pending: watch::Receiver<Vec<u8>>) {
    while pending.changed().await.is_ok() {
        let document = pending.borrow_and_update().clone();
        let target = path.clone();
        let written =
            spawn_blocking(move || durable::replace(&target, |writer| writer.write_all(&document)));
        let error = match written.await {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::error!(file = %path.display(), error, "entries would not outlive a power failure");
    }
}

/// What a file holds; `None`: there is none, or it was set aside.
fn read(path: &Path) -> Option<Document> {
    let document = || -> Result<Option<Document>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut text = Vec::new();
        file.take(FILE_BYTES).read_to_end(&mut text)?;
        Ok(Some(Document::parse(&text)?))
    };
    match document() {
        Ok(document) => document,
        Err(error) => {
            let aside = path.with_extension("json.broken");
            tracing::warn!(
                file = %path.display(), kept = %aside.display(), error = format!("{error:#}"),
                "a file of entries cannot be read; it is set aside, and what the kernel holds stays in force"
            );
            if let Err(error) = fs::rename(path, &aside) {
                tracing::error!(%error, "the broken file of entries cannot be set aside");
            }
            None
        }
    }
}
