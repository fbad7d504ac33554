//! The writer. A record is acknowledged only once it is on disk, and nothing that happens to the process, the disk or the
//! files may break the chain: what cannot be written is an error for the caller.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::broadcast;

use super::head::{Head, HeadFile};
use super::record::{Link, RECORD_BYTES, Record};
use super::reserve::Reserve;
use super::{Event, Outcome, files};
use crate::access::Actor;
use crate::durable;
use crate::settings::AuditSettings;

/// Records that may wait for one who follows.
const QUEUE: usize = 256;

/// The record of control actions. One daemon writes it; its lock sees to that.
#[derive(Debug)]
pub struct Log {
    directory: PathBuf,
    settings: AuditSettings,
    state: Mutex<State>,
    followers: broadcast::Sender<Arc<Record>>,
}

impl Log {
    /// Opens the record in a directory, which is made if it is missing. What a crash left behind is set aside, and what is
    /// missing since is said, each in a record.
    ///
    /// # Errors
    /// The directory or its files cannot be read or written.
    pub fn open(directory: &Path, settings: &AuditSettings) -> io::Result<Self> {
        let log = Self::at(directory, settings);
        log.with(|_, _| Ok(()))?;
        Ok(log)
    }

    /// The same, opened when it is used, and tried again as long as it cannot be.
    #[must_use]
    pub fn at(directory: &Path, settings: &AuditSettings) -> Self {
        Self {
            directory: directory.to_owned(),
            settings: settings.clone(),
            state: Mutex::default(),
            followers: broadcast::Sender::new(QUEUE),
        }
    }

    /// Writes a record. It is on disk when this returns.
    ///
    /// # Errors
    /// It cannot be written; the record is as it was before.
    pub fn append(&self, event: Event) -> io::Result<Record> {
        self.append_repeated(event, 0)
    }

    /// The same for what came `times` times more within a moment.
    ///
    /// # Errors
    /// See [`Self::append`].
    pub fn append_repeated(&self, event: Event, times: u64) -> io::Result<Record> {
        self.with(|open, settings| {
            let record = open.append(settings, event, times)?;
            // an error means that nobody follows
            let _ = self.followers.send(Arc::new(record.clone()));
            Ok(record)
        })
    }

    /// Whether what is done now can be recorded. To be asked before a policy is changed.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn check(&self) -> io::Result<()> {
        self.with(Open::check)
    }

    /// The number of the last record, and those that come after it.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn follow(&self) -> io::Result<(u64, broadcast::Receiver<Arc<Record>>)> {
        self.with(|open, _| Ok((open.last.seq, self.followers.subscribe())))
    }

    /// Where it is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn with<T>(
        &self,
        act: impl FnOnce(&mut Open, &AuditSettings) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.lock();
        let taken = match state.open.take() {
            Some(open) if open.is_current() => Ok(open),
            _ => Open::recover(&self.directory, &self.settings, state.known.clone()),
        };
        let done = taken.and_then(|mut open| {
            let done = act(&mut open, &self.settings);
            state.known = Some(open.head());
            let done = done?;
            state.open = Some(open);
            Ok(done)
        });
        done.map_err(|error| context(&self.directory, &error))
    }

    /// Nothing panics with the lock held, and after an error no file is open.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn context(directory: &Path, error: &io::Error) -> io::Error {
    let text = format!("the audit record in {}: {error}", directory.display());
    io::Error::new(error.kind(), text)
}

#[derive(Debug, Default)]
struct State {
    /// `None` at first and after an error: the files are looked at anew before the next record.
    open: Option<Open>,
    /// Where the record ended when it was last written to.
    known: Option<Head>,
}

#[derive(Debug)]
struct Open {
    directory: PathBuf,
    file: File,
    bytes: u64,
    /// Number of the first record in this file.
    first: u64,
    last: Link,
    /// Number of the first record that is kept.
    kept: u64,
    head_file: HeadFile,
    reserve: Reserve,
}

impl Open {
    /// Finds the end of the chain and goes on from there.
    fn recover(
        directory: &Path,
        settings: &AuditSettings,
        known: Option<Head>,
    ) -> io::Result<Self> {
        files::create_directory(directory)?;
        let archives = files::archives(directory)?;
        let mut file = files::open(&directory.join(files::CURRENT))?;
        durable::sync_directory(directory)?;
        // the file may be gone, or be an older one that somebody put there
        let head = [Head::read(directory)?, known]
            .into_iter()
            .flatten()
            .max_by_key(|head| head.last.seq);
        let mut tail = files::tail(&mut file)?;
        let mut notes = Vec::new();
        if tail.last.is_none()
            && let Some((_, archive)) = archives.last()
        {
            tail.last = files::tail(&mut File::open(archive)?)?.last;
        }
        let mut last = tail.last.map_or_else(Link::genesis, |linked| Link {
            seq: linked.seq,
            hash: linked.hash,
        });
        if !tail.torn.is_empty() {
            files::set_aside(directory, &file, &tail.torn, last.seq + 1)?;
            let bytes = tail.torn.len();
            notes.push(format!(
                "a line that was never finished, of {bytes} bytes, was set aside"
            ));
        }
        if tail.damaged {
            notes.push(format!(
                "after record {} are lines that are no records",
                last.seq
            ));
        }
        match &head {
            Some(head) if head.last.seq > last.seq => {
                let (from, to) = (last.seq + 1, head.last.seq);
                notes.push(format!("records {from} to {to} are missing"));
                last = head.last.clone();
            }
            Some(head) if head.last.seq == last.seq && head.last.hash != last.hash => {
                notes.push(format!(
                    "record {} is not the one that was written",
                    last.seq
                ));
            }
            // a crash comes between a record and its head at most once
            Some(head) if head.last.seq + 1 < last.seq => {
                let (from, to) = (head.last.seq + 1, last.seq);
                notes.push(format!(
                    "records {from} to {to} were written behind the daemon's back"
                ));
            }
            None if last.seq > 0 => notes.push("the file head was missing".to_owned()),
            _ => {}
        }
        let oldest = match archives.first() {
            Some((first, _)) => Some(*first),
            None => files::first(&mut file)?,
        };
        let kept = head.map_or(oldest.unwrap_or(last.seq + 1), |head| head.first);
        let mut open = Self {
            directory: directory.to_owned(),
            bytes: file.metadata()?.len(),
            first: files::first(&mut file)?.unwrap_or(last.seq + 1),
            file,
            last,
            kept,
            head_file: HeadFile::open(directory)?,
            reserve: Reserve::default(),
        };
        for note in notes {
            open.append(settings, recovered(note), 0)?;
        }
        open.write_head()?;
        open.prune(settings)?;
        open.reserve.refill(&open.file, open.bytes);
        Ok(open)
    }

    /// Whether the file is still the one we know, and as we left it.
    fn is_current(&self) -> bool {
        let path = self.directory.join(files::CURRENT);
        let (Ok(there), Ok(here)) = (fs::symlink_metadata(path), self.file.metadata()) else {
            return false;
        };
        (there.dev(), there.ino(), there.len()) == (here.dev(), here.ino(), self.bytes)
    }

    fn append(&mut self, settings: &AuditSettings, event: Event, times: u64) -> io::Result<Record> {
        let (record, line) = Record::seal(event, times, SystemTime::now(), &self.last)?;
        if self.bytes > 0 && self.bytes + line.len() as u64 > settings.file_bytes {
            self.rotate(settings)?;
        }
        let written = self
            .file
            .write_all(line.as_bytes())
            .and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // what is left of it would be set aside as torn; if this fails, too, it will be
            let _ = self.file.set_len(self.bytes);
            return Err(error);
        }
        self.bytes += line.len() as u64;
        self.last = Link {
            seq: record.seq,
            hash: record.hash.clone(),
        };
        self.write_head()?;
        self.reserve.refill(&self.file, self.bytes);
        Ok(record)
    }

    fn check(&mut self, settings: &AuditSettings) -> io::Result<()> {
        // a file that is about to end would be followed by one without a reserve
        if self.bytes > 0 && self.bytes + RECORD_BYTES as u64 > settings.file_bytes {
            self.rotate(settings)?;
        }
        self.reserve.check(&self.file, self.bytes, &self.directory)
    }

    /// Begins the next file. A crash at any point leaves a chain that goes on.
    fn rotate(&mut self, settings: &AuditSettings) -> io::Result<()> {
        let current = self.directory.join(files::CURRENT);
        // gives back what was reserved beyond its end
        self.file.set_len(self.bytes)?;
        fs::rename(&current, files::archive(&self.directory, self.first))?;
        self.file = files::open(&current)?;
        durable::sync_directory(&self.directory)?;
        self.bytes = 0;
        self.first = self.last.seq + 1;
        self.reserve = Reserve::default();
        self.prune(settings)?;
        self.reserve.refill(&self.file, self.bytes);
        Ok(())
    }

    /// Removes the oldest files. The head says first where what is kept begins, so that this is no loss.
    fn prune(&mut self, settings: &AuditSettings) -> io::Result<()> {
        let archives = files::archives(&self.directory)?;
        let keep = settings.files.saturating_sub(1) as usize;
        let excess = archives.len().saturating_sub(keep);
        if excess == 0 {
            return Ok(());
        }
        self.kept = archives.get(excess).map_or(self.first, |(first, _)| *first);
        self.write_head()?;
        for (_, path) in archives.iter().take(excess) {
            fs::remove_file(path)?;
        }
        Ok(())
    }

    fn write_head(&self) -> io::Result<()> {
        self.head_file.write(&self.head())
    }

    fn head(&self) -> Head {
        Head {
            last: self.last.clone(),
            first: self.kept,
        }
    }
}

fn recovered(what: String) -> Event {
    Event {
        actor: Actor::daemon("audit"),
        action: "audit.recover".to_owned(),
        subject: what,
        message: None,
        before: None,
        after: None,
        generation: None,
        approvals: Vec::new(),
        outcome: Outcome::Done,
        why: None,
    }
}
