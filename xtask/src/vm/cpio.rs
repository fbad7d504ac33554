//! Writes a cpio archive in the "newc" format, the one the kernel unpacks as its initramfs
//! (Documentation/driver-api/early-userspace/buffer-format.rst). It owns that format and must
//! never decide what goes into an archive.

use std::fmt::Write as _;
use std::io::{self, Read, Write};

/// `S_IFMT` values of stat(2).
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

/// An archive being written. Paths are relative ("usr/bin/ip"), parents come before children.
pub struct Archive<W: Write> {
    out: W,
    entries: u32,
}

impl<W: Write> Archive<W> {
    pub fn new(out: W) -> Self {
        Self { out, entries: 0 }
    }

    pub fn directory(&mut self, path: &str, mode: u32) -> io::Result<()> {
        self.header(path, DIRECTORY | mode, 0, (0, 0))
    }

    /// `size` bytes are taken from `data`; fewer are an error, since the header is written first.
    pub fn file(&mut self, path: &str, mode: u32, size: u64, data: impl Read) -> io::Result<()> {
        let length = u32::try_from(size)
            .map_err(|_| io::Error::other(format!("{path} is too large: 4 GiB is the limit")))?;
        self.header(path, REGULAR | mode, length, (0, 0))?;
        let copied = io::copy(&mut data.take(size), &mut self.out)?;
        if copied != size {
            return Err(io::Error::other(format!("{path} shrank while it was read")));
        }
        self.pad(size)
    }

    pub fn symlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        let length = u32::try_from(target.len()).map_err(io::Error::other)?;
        self.header(path, SYMLINK | 0o777, length, (0, 0))?;
        self.out.write_all(target.as_bytes())?;
        self.pad(u64::from(length))
    }

    pub fn character_device(
        &mut self,
        path: &str,
        mode: u32,
        number: (u32, u32),
    ) -> io::Result<()> {
        self.header(path, CHARACTER | mode, 0, number)
    }

    /// Writes the end mark; an archive without it is refused by the kernel.
    pub fn finish(mut self) -> io::Result<()> {
        self.header("TRAILER!!!", 0, 0, (0, 0))?;
        self.out.flush()
    }

    fn header(&mut self, path: &str, mode: u32, size: u32, device: (u32, u32)) -> io::Result<()> {
        self.entries += 1;
        let name_size = u32::try_from(path.len() + 1).map_err(io::Error::other)?;
        let fields = [
            self.entries, // inode number
            mode,
            0, // user
            0, // group
            1, // links
            0, // modification time: none, so that equal input gives an equal archive
            size,
            0, // the device the file was on
            0,
            device.0,
            device.1,
            name_size,
            0, // checksum, unused in this format
        ];
        let mut header = String::from("070701");
        for field in fields {
            // Writing to a String cannot fail.
            let _ = write!(header, "{field:08x}");
        }
        self.out.write_all(header.as_bytes())?;
        self.out.write_all(path.as_bytes())?;
        self.out.write_all(&[0])?;
        self.pad(header.len() as u64 + u64::from(name_size))
    }

    /// Headers and data each fill a multiple of four bytes.
    fn pad(&mut self, written: u64) -> io::Result<()> {
        let missing = written.next_multiple_of(4) - written;
        io::copy(&mut io::repeat(0).take(missing), &mut self.out).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::Archive;

    #[test]
    fn entries_and_data_are_padded_to_four_bytes() -> std::io::Result<()> {
        let mut bytes = Vec::new();
        let mut archive = Archive::new(&mut bytes);
        archive.directory("a", 0o755)?;
        archive.file("a/file", 0o644, 5, &b"12345"[..])?;
        archive.symlink("link", "a/file")?;
        archive.finish()?;
        assert_eq!(bytes.len() % 4, 0);
        let starts: Vec<usize> = bytes
            .windows(6)
            .enumerate()
            .filter_map(|(at, six)| (six == b"070701").then_some(at))
            .collect();
        assert_eq!(starts.len(), 4);
        assert!(starts.iter().all(|at| at % 4 == 0), "{starts:?}");
        Ok(())
    }

    #[test]
    fn a_short_file_is_an_error() {
        let mut archive = Archive::new(Vec::new());
        assert!(archive.file("f", 0o644, 9, &b"1234"[..]).is_err());
    }
}
