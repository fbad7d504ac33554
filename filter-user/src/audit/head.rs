//! The file `head`: where the chain ends and where what is kept of it begins, so that a tail or a beginning that was cut
//! off is noticed. It is written over in place, a few bytes of one sector, after every record.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::record::Link;

const NAME: &str = "head";

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The last record.
    pub last: Link,
    /// Number of the first record that is kept.
    pub first: u64,
}

impl Head {
    /// `None`: there is none that can be read.
    pub fn read(directory: &Path) -> io::Result<Option<Self>> {
        match fs::read(directory.join(NAME)) {
            Ok(bytes) => Ok(str::from_utf8(&bytes).ok().and_then(Self::parse)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let seq = words.next()?.parse().ok()?;
        let hash = words.next()?;
        let first = words.next()?.parse().ok()?;
        let whole = is_hash(hash) && words.next().is_none();
        whole.then(|| Self {
            last: Link {
                seq,
                hash: hash.to_owned(),
            },
            first,
        })
    }

    /// Always of one length.
    fn text(&self) -> String {
        format!(
            "{:020} {} {:020}\n",
            self.last.seq, self.last.hash, self.first
        )
    }
}

/// SHA-256 in hex, as records have it.
pub(super) fn is_hash(text: &str) -> bool {
    let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.len() == 64 && text.bytes().all(digit)
}

/// The open file.
#[derive(Debug)]
pub(super) struct HeadFile(File);

impl HeadFile {
    pub fn open(directory: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(directory.join(NAME))?;
        Ok(Self(file))
    }

    /// Not synced: after a power cut an older head is behind the record, which is no harm.
    pub fn write(&self, head: &Head) -> io::Result<()> {
        self.0.write_all_at(head.text().as_bytes(), 0)
    }
}
