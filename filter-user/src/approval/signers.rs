//! The list of people who may sign: a file as in ssh-keygen(1), ALLOWED SIGNERS.
//!
//! Stricter than `ssh-keygen -Y verify` where people are counted: a line must name people and not patterns, and lines that
//! share a name or a key are one person's. A line that cannot be read makes the whole file unreadable.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use glob::Pattern;
use jiff::civil;
use jiff::tz::TimeZone;
use ssh_key::public::KeyData;
use ssh_key::{HashAlg, PublicKey};

use super::signature::SignatureError;
use super::{NAMESPACE, files};
use crate::report::printable;
use crate::report::time::rfc3339;

/// Most bytes of the file.
const BYTES: u64 = 1 << 20;

/// People who may sign policies.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AllowedSigners {
    lines: Vec<Line>,
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum SignersError {
    /// The file cannot be read.
    #[error("the allowed signers: {0}")]
    Read(io::Error),
    /// Others than root could add themselves.
    #[error("the allowed signers {} {why}: whoever can write it can approve policies", .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and the command to mend it.
        why: &'static str,
    },
    /// A line is wrong.
    #[error("line {line} of the allowed signers: {what}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong, and what to do.
        what: String,
    },
}

#[derive(Clone, Debug, PartialEq)]
struct Line {
    /// Names on the line.
    principals: Vec<String>,
    /// What the person is called: the first name of the first of their lines.
    person: String,
    key: KeyData,
    namespaces: Option<Vec<(bool, Pattern)>>,
    after: Option<SystemTime>,
    before: Option<SystemTime>,
}

impl AllowedSigners {
    /// Reads the file. It must be root's, and nobody else may write to it.
    ///
    /// # Errors
    /// It cannot be read, is exposed, or a line is wrong.
    pub fn read(path: &Path) -> Result<Self, SignersError> {
        let cannot = |error: io::Error| {
            let text = format!("cannot read {}: {error}", path.display());
            SignersError::Read(io::Error::new(error.kind(), text))
        };
        let file = files::open(path).map_err(cannot)?;
        let metadata = file.metadata().map_err(cannot)?;
        let exposed = |why| SignersError::Exposed {
            path: path.to_owned(),
            why,
        };
        if metadata.uid() != 0 {
            return Err(exposed("is not owned by root (chown root)"));
        }
        if metadata.mode() & 0o022 != 0 {
            return Err(exposed("can be written by others than root (chmod go-w)"));
        }
        let text = files::text(path, file, BYTES).map_err(SignersError::Read)?;
        Self::parse(&text)
    }

    /// Reads the text of such a file.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn parse(text: &str) -> Result<Self, SignersError> {
        let mut lines = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let parsed = Line::parse(line).map_err(|what| SignersError::Line {
                line: index + 1,
                what,
            })?;
            lines.push(parsed);
        }
        unite(&mut lines);
        Ok(Self { lines })
    }

    /// How many different people there are.
    #[must_use]
    pub fn people(&self) -> usize {
        let mut people: Vec<&str> = self.lines.iter().map(|line| line.person.as_str()).collect();
        people.sort_unstable();
        people.dedup();
        people.len()
    }

    /// Whose key this is, if it may sign policies now.
    pub(super) fn signer(&self, key: &KeyData, now: SystemTime) -> Result<&str, SignatureError> {
        let fingerprint = key.fingerprint(HashAlg::Sha256);
        let mut outcome = Err(SignatureError::UnknownKey(fingerprint));
        for line in self.lines.iter().filter(|line| line.key == *key) {
            match line.refuses(now) {
                None => return Ok(&line.person),
                Some(why) => {
                    outcome = Err(SignatureError::NotAllowed {
                        fingerprint,
                        signer: line.person.clone(),
                        why,
                    });
                }
            }
        }
        outcome
    }
}

impl Line {
    fn parse(line: &str) -> Result<Self, String> {
        let (principals, rest) = word(line)?;
        let principals = principals.replace('"', "");
        let principals: Vec<String> = principals.split(',').map(str::to_owned).collect();
        if principals.iter().any(String::is_empty) {
            return Err("a name is missing: write NAME[,NAME..] KEYTYPE KEY".to_owned());
        }
        if let Some(pattern) = principals
            .iter()
            .find(|name| name.contains(['*', '?', '!']))
        {
            return Err(format!(
                "`{}` is a pattern: name people, each with lines of their own, so that they can be counted",
                printable(pattern)
            ));
        }
        let person = principals
            .first()
            .map(|name| printable(name))
            .unwrap_or_default();
        let parsed = |key: KeyData| Self {
            principals: principals.clone(),
            person: person.clone(),
            key,
            namespaces: None,
            after: None,
            before: None,
        };
        if let Ok(key) = key(rest) {
            return Ok(parsed(key));
        }
        let (options, rest) = word(rest)?;
        let mut line = parsed(key(rest)?);
        for option in split(options, ',') {
            line.option(option)?;
        }
        Ok(line)
    }

    fn option(&mut self, option: &str) -> Result<(), String> {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let value = value
            .strip_prefix('"')
            .and_then(|value| value.strip_suffix('"'));
        let value =
            value.ok_or_else(|| format!("option `{}` needs a value in quotes", printable(name)));
        match name.to_ascii_lowercase().as_str() {
            "namespaces" => {
                self.namespaces = Some(value?.split(',').map(namespace).collect::<Result<_, _>>()?);
            }
            "valid-after" => self.after = Some(moment(value?)?),
            "valid-before" => self.before = Some(moment(value?)?),
            "cert-authority" => {
                return Err(
                    "option `cert-authority`: certificates are not supported; list the keys of people instead".to_owned(),
                );
            }
            _ => {
                return Err(format!(
                    "option `{}` is unknown: there are namespaces=, valid-after= and valid-before=",
                    printable(name)
                ));
            }
        }
        Ok(())
    }

    /// Why the key may not sign a policy at this time.
    fn refuses(&self, now: SystemTime) -> Option<String> {
        let fits = |(_, pattern): &&(bool, Pattern)| pattern.matches(NAMESPACE);
        let allowed = |namespaces: &Vec<(bool, Pattern)>| {
            let mut fitting = namespaces.iter().filter(fits).peekable();
            fitting.peek().is_some() && fitting.all(|(allowed, _)| *allowed)
        };
        if !self.namespaces.as_ref().is_none_or(allowed) {
            return Some(format!("is not allowed for the namespace {NAMESPACE}"));
        }
        if let Some(after) = self.after.filter(|after| now < *after) {
            return Some(format!("is valid only from {} on", rfc3339(after)));
        }
        let before = self.before.filter(|before| now > *before)?;
        Some(format!("was valid only until {}", rfc3339(before)))
    }
}

/// Lines that share a name or a key are one person's.
fn unite(lines: &mut [Line]) {
    for index in 1..lines.len() {
        let (known, rest) = lines.split_at_mut(index);
        let Some((line, _)) = rest.split_first() else {
            return;
        };
        let same = |other: &&Line| {
            let shared = other
                .principals
                .iter()
                .any(|name| line.principals.contains(name));
            shared || other.key == line.key
        };
        let mut people: Vec<String> = known
            .iter()
            .filter(same)
            .map(|other| other.person.clone())
            .collect();
        people.push(line.person.clone());
        // this line may join several people that were apart until now
        if let Some((name, others)) = people.split_first() {
            for line in &mut lines[..=index] {
                if others.contains(&line.person) {
                    line.person.clone_from(name);
                }
            }
        }
    }
}

fn key(text: &str) -> Result<KeyData, String> {
    let key = PublicKey::from_openssh(text.trim());
    key.map(|key| key.key_data().clone()).map_err(|error| {
        format!("there is no public key where one should be ({error}): write NAME[,NAME..] [OPTIONS] KEYTYPE KEY")
    })
}

fn namespace(text: &str) -> Result<(bool, Pattern), String> {
    let (allowed, pattern) = match text.strip_prefix('!') {
        Some(pattern) => (false, pattern),
        None => (true, text),
    };
    match Pattern::new(&pattern.replace('[', "[[]")) {
        Ok(pattern) => Ok((allowed, pattern)),
        Err(error) => Err(format!("namespace `{}`: {error}", printable(text))),
    }
}

/// `YYYYMMDD[Z]` or `YYYYMMDDHHMM[SS][Z]`: with Z in UTC, otherwise by the host's time zone.
fn moment(text: &str) -> Result<SystemTime, String> {
    let (digits, zone) = match text.strip_suffix(['Z', 'z']) {
        Some(digits) => (digits, TimeZone::UTC),
        None => (text, TimeZone::system()),
    };
    let form = match digits.len() {
        8 => "%Y%m%d",
        12 => "%Y%m%d%H%M",
        14 => "%Y%m%d%H%M%S",
        _ => "",
    };
    let whole = digits.bytes().all(|byte| byte.is_ascii_digit());
    let time = match digits.len() {
        8 => civil::Date::strptime(form, digits).map(civil::DateTime::from),
        _ => civil::DateTime::strptime(form, digits),
    };
    let time = time.ok().filter(|_| whole);
    let zoned = time.and_then(|time| zone.to_zoned(time).ok());
    zoned.map(|zoned| zoned.timestamp().into()).ok_or_else(|| {
        format!(
            "`{}` is no time: write YYYYMMDD or YYYYMMDDHHMM[SS], with Z at the end for UTC",
            printable(text)
        )
    })
}

/// The first word and the rest. Blanks within quotes part nothing.
fn word(text: &str) -> Result<(&str, &str), String> {
    let mut quoted = false;
    let end = text.find(|c: char| {
        quoted ^= c == '"';
        !quoted && matches!(c, ' ' | '\t')
    });
    match end {
        Some(end) => {
            let (word, rest) = text.split_at(end);
            Ok((word, rest.trim_start()))
        }
        None if quoted => Err("a quote is not closed".to_owned()),
        None => Err("there is no key: write NAME[,NAME..] [OPTIONS] KEYTYPE KEY".to_owned()),
    }
}

/// Parts between separators that are not within quotes.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c: char| {
        quoted ^= c == '"';
        !quoted && c == separator
    })
}
