//! Files that are whole after a crash at any moment: the old text or the new one, never a part of either.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use serde::Serialize;
use tempfile::NamedTempFile;

/// Replaces the file by what `write` writes, or leaves it as it is. Only its owner may read it.
pub fn replace(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> io::Result<()> {
    let fresh = fresh(path, write)?;
    fresh.as_file().sync_all()?;
    fresh.persist(path).map_err(|error| error.error)?;
    sync_directory(parent(path))
}

/// The same without waiting for the disk: the file is whole whenever this process dies, and may be anything once the
/// machine has lost its power.
pub fn replace_until_boot(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> io::Result<()> {
    fresh(path, write)?
        .persist(path)
        .map_err(|error| error.error)?;
    Ok(())
}

/// A file beside the one it is to replace.
fn fresh(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> io::Result<NamedTempFile> {
    let fresh = tempfile::Builder::new()
        .prefix(".new-")
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(parent(path))?;
    let mut writer = BufWriter::new(fresh.as_file());
    write(&mut writer)?;
    writer.flush()?;
    drop(writer);
    Ok(fresh)
}

/// Replaces the file by a JSON document.
pub fn replace_json(path: &Path, document: &impl Serialize) -> io::Result<()> {
    replace(path, |writer| Ok(serde_json::to_writer(writer, document)?))
}

/// Makes a directory, and those above it, that only its owner may look into. One that is there keeps its mode.
pub fn make_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// Makes names in the directory last: those of files that were made, renamed or removed.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_leaves_the_file() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("file");
        replace_json(&path, &1).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "1");
        let failed = replace(&path, |writer| {
            writer.write_all(b"half")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read_to_string(&path).unwrap(), "1");
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
