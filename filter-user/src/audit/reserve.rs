//! Room on disk for the next records, taken beforehand: so it is known before an action whether it can be recorded, and
//! that it was refused for a full disk is recorded, too.

use std::fs::File;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::fstatvfs;

use super::record::RECORD_BYTES;

/// What is taken at a time.
const RESERVE: u64 = 16 * RECORD_BYTES as u64;
/// What must be left: the record of the action, and those of what it leads to (an apply that undoes itself, say).
const LEAST: u64 = 4 * RECORD_BYTES as u64;

/// Blocks beyond the end of the file. Its size stays as it is (`FALLOC_FL_KEEP_SIZE`, fallocate(2)).
#[derive(Debug, Default)]
pub(super) struct Reserve {
    /// Offset up to which blocks are ours.
    end: u64,
}

impl Reserve {
    /// Takes more when half of it is used. That there is no room is no error yet: what was taken before may do.
    pub fn refill(&mut self, file: &File, bytes: u64) {
        if self.end < bytes + RESERVE / 2 && allocate(file, bytes, RESERVE).is_ok() {
            self.end = bytes + RESERVE;
        }
    }

    /// Whether some records have room.
    pub fn check(&mut self, file: &File, bytes: u64, directory: &Path) -> io::Result<()> {
        if self.end >= bytes + LEAST {
            return Ok(());
        }
        match allocate(file, bytes, RESERVE).or_else(|_| allocate(file, bytes, LEAST)) {
            Ok(()) => {
                self.end = bytes + LEAST;
                Ok(())
            }
            // this file system cannot reserve; all there is to ask is how much is free
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => {
                let free = fstatvfs(file)?;
                if free.blocks_available() as u64 * free.fragment_size() as u64 >= LEAST {
                    return Ok(());
                }
                Err(no_room(directory, Errno::ENOSPC))
            }
            Err(error) => Err(no_room(directory, error)),
        }
    }
}

fn allocate(file: &File, from: u64, length: u64) -> Result<(), Errno> {
    let offset = |value: u64| libc::off_t::try_from(value).map_err(|_| Errno::EFBIG);
    fallocate(
        file,
        FallocateFlags::FALLOC_FL_KEEP_SIZE,
        offset(from)?,
        offset(length)?,
    )
}

fn no_room(directory: &Path, error: Errno) -> io::Error {
    let kind = io::Error::from(error).kind();
    let text = format!(
        "nothing can be recorded under {} ({}): make room on that disk, then try again",
        directory.display(),
        error.desc()
    );
    io::Error::new(kind, text)
}
