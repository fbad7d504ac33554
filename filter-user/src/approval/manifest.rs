//! The text that people sign: every file of a policy by hash, length and name.
//!
//! ```text
//! edgefilter-manifest 1
//! serial 7
//! main policy.toml
//! 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae 812 lists/admins.txt
//! fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9 1403 policy.toml
//! ```
//!
//! Names are those of the [`Bundle`], as seen from the policy file's directory, so that the same files elsewhere match. There
//! is one text for a policy and a serial number: two manifests that differ in a byte are for different policies.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::policy::{Bundle, hex};
use crate::report::printable;

const FORMAT: &str = "edgefilter-manifest 1";

/// What a manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Rises with every policy that is signed.
    pub serial: u64,
    main: String,
    files: BTreeMap<String, File>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct File {
    digest: String,
    bytes: u64,
}

/// Why a manifest does not stand for a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It cannot be read.
    #[error("line {line} of the manifest: {what}; make it anew with `edgefilter manifest`")]
    Malformed {
        /// From 1.
        line: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// A file's name cannot be written down.
    #[error("`{0}` cannot stand in a manifest: rename the file, without control characters")]
    Name(String),
    /// The policy file has another name.
    #[error("the manifest is for the policy file {signed}, and this is {found}")]
    Main {
        /// In the manifest.
        signed: String,
        /// In the policy.
        found: String,
    },
    /// It was edited.
    #[error("{0} is not as it was signed: sign the policy again, or restore the file")]
    Changed(String),
    /// It was added.
    #[error("{0} is part of the policy and not of the manifest: sign the policy again")]
    Added(String),
    /// It was left out.
    #[error("{0} is part of the manifest and not of the policy: sign the policy again")]
    Missing(String),
}

impl Manifest {
    /// The manifest of a policy.
    ///
    /// # Errors
    /// A file's name cannot stand in it.
    pub fn new(bundle: &Bundle, serial: u64) -> Result<Self, ManifestError> {
        let mut files = BTreeMap::new();
        for (name, text) in &bundle.files {
            let file = File {
                digest: hex(&Sha256::digest(text)),
                bytes: text.len() as u64,
            };
            files.insert(writable(name)?, file);
        }
        Ok(Self {
            serial,
            // a directory is a policy, too: all files in it
            main: match bundle.main.as_str() {
                "" => ".".to_owned(),
                main => writable(main)?,
            },
            files,
        })
    }

    /// Reads a manifest as [`Manifest::text`] writes it, and nothing else.
    ///
    /// # Errors
    /// Where it is something else.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let mut lines = text.split_inclusive('\n').enumerate().map(|(index, line)| {
            let line = line
                .strip_suffix('\n')
                .ok_or((index, "it does not end with a newline"));
            line.map(|line| (index, line))
        });
        let wrong = |(index, what): (usize, &'static str)| ManifestError::Malformed {
            line: index + 1,
            what,
        };
        let mut head = |index: usize, word: &str, what: &'static str| {
            let line = lines.next().unwrap_or(Err((index, what)));
            let (index, line) = line.map_err(wrong)?;
            let rest = line
                .strip_prefix(word)
                .ok_or((index, what))
                .map_err(wrong)?;
            Ok(rest.to_owned())
        };
        let format = head(0, FORMAT, "not `edgefilter-manifest 1`")?;
        if !format.is_empty() {
            return Err(wrong((0, "not `edgefilter-manifest 1`")));
        }
        let serial = head(1, "serial ", "not `serial NUMBER`")?;
        let main = head(2, "main ", "not `main NAME`")?;
        let mut files = BTreeMap::new();
        for line in lines {
            let (index, line) = line.map_err(wrong)?;
            let (name, file) = file(line)
                .ok_or((index, "not `SHA256 BYTES NAME`"))
                .map_err(wrong)?;
            files.insert(name, file);
        }
        let manifest = Self {
            serial: serial
                .parse()
                .map_err(|_| wrong((1, "not `serial NUMBER`")))?,
            main,
            files,
        };
        // numbers written otherwise, lines in another order or twice
        let expected = manifest.text();
        let other = expected.lines().zip(text.lines()).position(|(a, b)| a != b);
        match other {
            Some(index) => Err(wrong((
                index,
                "not in its place, or not in the form that is expected",
            ))),
            None if expected == text => Ok(manifest),
            None => Err(wrong((
                expected.lines().count(),
                "there is more than one line for a file",
            ))),
        }
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{FORMAT}\nserial {}\nmain {}\n", self.serial, self.main);
        for (name, File { digest, bytes }) in &self.files {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "{digest} {bytes} {name}");
        }
        text
    }

    /// Whether these are the files of the policy.
    ///
    /// # Errors
    /// The first file that differs.
    pub fn check(&self, bundle: &Bundle) -> Result<(), ManifestError> {
        let found = Self::new(bundle, self.serial)?;
        if found.main != self.main {
            return Err(ManifestError::Main {
                signed: printable(&self.main),
                found: printable(&found.main),
            });
        }
        for (name, file) in &found.files {
            match self.files.get(name) {
                Some(signed) if signed == file => {}
                Some(_) => return Err(ManifestError::Changed(printable(name))),
                None => return Err(ManifestError::Added(printable(name))),
            }
        }
        match self
            .files
            .keys()
            .find(|name| !found.files.contains_key(*name))
        {
            Some(name) => Err(ManifestError::Missing(printable(name))),
            None => Ok(()),
        }
    }
}

/// A name that stays within its line.
fn writable(name: &str) -> Result<String, ManifestError> {
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(ManifestError::Name(printable(name)));
    }
    Ok(name.to_owned())
}

fn file(line: &str) -> Option<(String, File)> {
    let (digest, rest) = line.split_once(' ')?;
    let (bytes, name) = rest.split_once(' ')?;
    let file = File {
        digest: digest.to_owned(),
        bytes: bytes.parse().ok()?,
    };
    (!name.is_empty()).then(|| (name.to_owned(), file))
}
