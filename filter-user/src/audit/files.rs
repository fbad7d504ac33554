//! The files of the record: `audit.jsonl`, which is written to, and older ones, named `audit-FIRST.jsonl` by the number of
//! the first record in them, so that one rename begins a new file.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::record::{Linked, RECORD_BYTES};
use crate::durable;

/// The file that is written to.
pub(super) const CURRENT: &str = "audit.jsonl";
/// Of a file's end, what is looked at for its last record.
const TAIL: u64 = 64 << 10;
/// Torn lines that are kept, each in a file.
const TORN: usize = 8;

/// The older files in the order of their records, and the current one if it is there.
pub(super) fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = archives(directory)?
        .into_iter()
        .map(|(_, path)| path)
        .collect();
    let current = directory.join(CURRENT);
    if current.symlink_metadata().is_ok() {
        files.push(current);
    }
    Ok(files)
}

/// The older files with the number of their first record, ascending.
pub(super) fn archives(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let first = name
            .and_then(|name| name.strip_prefix("audit-")?.strip_suffix(".jsonl"))
            .and_then(|number| number.parse().ok());
        if let Some(first) = first {
            found.push((first, path));
        }
    }
    found.sort();
    Ok(found)
}

/// Where the current file goes when the next one begins.
pub(super) fn archive(directory: &Path, first: u64) -> PathBuf {
    directory.join(format!("audit-{first:020}.jsonl"))
}

/// The directory, for root only.
pub(super) fn create_directory(directory: &Path) -> io::Result<()> {
    durable::make_directory(directory)?;
    fs::set_permissions(directory, Permissions::from_mode(0o700))
}

/// A regular file to append to.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    Ok(file)
}

/// How a file ends.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// The last sound record.
    pub last: Option<Linked>,
    /// After it are lines that are none.
    pub damaged: bool,
    /// Bytes after the last newline: a line that was never finished.
    pub torn: Vec<u8>,
}

pub(super) fn tail(file: &mut File) -> io::Result<Tail> {
    let bytes = file.metadata()?.len();
    file.seek(SeekFrom::Start(bytes.saturating_sub(TAIL)))?;
    let mut text = Vec::new();
    file.take(TAIL).read_to_end(&mut text)?;
    let end = text
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    let torn = text.split_off(end);
    let mut tail = Tail {
        torn,
        ..Tail::default()
    };
    for line in text
        .split(|byte| *byte == b'\n')
        .rev()
        .filter(|line| !line.is_empty())
    {
        match Linked::read(line) {
            Ok(linked) => {
                tail.last = Some(linked);
                break;
            }
            Err(_) => tail.damaged = true,
        }
    }
    Ok(tail)
}

/// Number of the first record of a file, if its first line is one.
pub(super) fn first(file: &mut File) -> io::Result<Option<u64>> {
    file.seek(SeekFrom::Start(0))?;
    let mut lines = Lines::new(file);
    Ok(match lines.next()? {
        Some(Line::Whole(line)) => Linked::read(&line).ok().map(|linked| linked.seq),
        _ => None,
    })
}

/// Keeps a torn line for people to look at, and takes it off the file.
pub(super) fn set_aside(
    directory: &Path,
    mut file: &File,
    torn: &[u8],
    seq: u64,
) -> io::Result<()> {
    let mut kept: Vec<PathBuf> = fs::read_dir(directory)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "torn")
        })
        .collect();
    kept.sort();
    let excess = (kept.len() + 1).saturating_sub(TORN);
    for path in kept.iter().take(excess) {
        fs::remove_file(path)?;
    }
    let path = directory.join(format!("{seq:020}.torn"));
    durable::replace(&path, |writer| writer.write_all(torn))?;
    let bytes = file.metadata()?.len();
    file.set_len(bytes.saturating_sub(torn.len() as u64))?;
    if torn.len() as u64 == TAIL {
        // more of the same may stand before, and the next record needs a line of its own
        file.write_all(b"\n")?;
    }
    file.sync_all()
}

/// One line of a file.
pub(super) enum Line {
    /// Without its newline.
    Whole(Vec<u8>),
    /// The file ends without a newline.
    Torn,
    /// Longer than a record can be.
    TooLong,
}

/// The lines of a file; however long one is, no more than a record's bytes are kept of it.
pub(super) struct Lines<R>(BufReader<R>);

impl<R: io::Read> Lines<R> {
    pub fn new(file: R) -> Self {
        Self(BufReader::new(file))
    }

    pub fn next(&mut self) -> io::Result<Option<Line>> {
        let mut line = Vec::new();
        (&mut self.0)
            .take(RECORD_BYTES as u64)
            .read_until(b'\n', &mut line)?;
        match line.pop() {
            None => Ok(None),
            Some(b'\n') => Ok(Some(Line::Whole(line))),
            Some(_) if line.len() + 1 < RECORD_BYTES => Ok(Some(Line::Torn)),
            Some(_) => {
                self.skip_line()?;
                Ok(Some(Line::TooLong))
            }
        }
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let buffer = self.0.fill_buf()?;
            let (used, over) = match buffer.iter().position(|byte| *byte == b'\n') {
                Some(at) => (at + 1, true),
                None => (buffer.len(), buffer.is_empty()),
            };
            self.0.consume(used);
            if over {
                return Ok(());
            }
        }
    }
}
