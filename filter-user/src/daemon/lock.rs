//! One daemon at a time for a run directory.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};

/// Takes the lock or says who holds it. It is released when the value is dropped, or the process ends.
pub(super) fn take(run_dir: &Path) -> Result<Flock<File>> {
    std::fs::create_dir_all(run_dir)
        .with_context(|| format!("cannot make the run directory {}", run_dir.display()))?;
    let path = run_dir.join("lock");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("cannot open the lock {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            // for the message of a second daemon only: a full disk must not keep the filter from starting
            let named = lock
                .set_len(0)
                .and_then(|()| write!(lock, "{}", std::process::id()));
            if let Err(error) = named {
                tracing::debug!(%error, "the lock does not name us");
            }
            Ok(lock)
        }
        Err((mut file, _)) => {
            let mut holder = String::new();
            // only for the message: an unreadable pid must not hide the refusal
            let _ = file.read_to_string(&mut holder);
            bail!(
                "another edgefilter daemon (pid {}) runs with {}",
                holder.trim(),
                run_dir.display()
            )
        }
    }
}
