//! Whether the record is whole. Reads files only; works without a daemon and beside one.

use std::fs::File;
use std::io;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::files::{self, Line, Lines};
use super::head::{self, Head};
use super::record::{GENESIS, Linked};

/// Problems that are told in full.
const PROBLEMS: usize = 100;
/// Looks at a record that is written to meanwhile: a file may just have been renamed.
const LOOKS: usize = 5;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// What `audit verify` found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verified {
    /// Nothing is missing, added, changed or out of order, as far as this can be known without a head noted elsewhere.
    pub ok: bool,
    /// Files that were read.
    pub files: usize,
    /// Sound records.
    pub records: u64,
    /// Number of the first one that is kept.
    pub first: Option<u64>,
    /// `SEQ:HASH` of the last one. Whoever notes it on another host can compare later: nobody can then change what came
    /// before it unnoticed.
    pub head: Option<String>,
    /// What is wrong, in the order of the files; the first hundred.
    pub problems: Vec<Problem>,
    /// Further ones.
    pub omitted: u64,
}

/// Something that is wrong with the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// The file, by its name in the directory.
    pub file: String,
    /// The line, from 1; 0: it is about the whole.
    pub line: u64,
    /// What is wrong.
    pub what: String,
}

/// A head that somebody noted earlier: `SEQ:HASH`, or the hash alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    seq: Option<u64>,
    hash: String,
}

impl FromStr for Noted {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "not SEQ:HASH as `edgefilter audit verify` shows it, nor the hash alone (64 digits 0-9a-f)";
        let (seq, hash) = match text.split_once(':') {
            Some((seq, hash)) => (Some(seq.parse().map_err(|_| FORM)?), hash),
            None => (None, text),
        };
        let hash = hash.to_owned();
        head::is_hash(&hash)
            .then_some(Self { seq, hash })
            .ok_or(FORM)
    }
}

/// Reads the whole record.
///
/// # Errors
/// The directory or a file cannot be read.
pub fn verify(directory: &Path, noted: Option<&Noted>) -> io::Result<Verified> {
    let mut looks = 1;
    loop {
        let before = Head::read(directory)?;
        let outcome = look(directory, before.as_ref(), noted);
        let sound = outcome.as_ref().is_ok_and(|verified| verified.ok);
        if sound || looks == LOOKS || Head::read(directory)? == before {
            return outcome;
        }
        std::thread::sleep(PAUSE);
        looks += 1;
    }
}

fn look(directory: &Path, head: Option<&Head>, noted: Option<&Noted>) -> io::Result<Verified> {
    let mut walk = Walk {
        head,
        noted,
        found: false,
        last: None,
        verified: Verified::default(),
    };
    for path in files::list(directory)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let mut lines = Lines::new(File::open(&path)?);
        let mut number = 0;
        while let Some(line) = lines.next()? {
            number += 1;
            walk.line(&name, number, &line);
        }
        walk.verified.files += 1;
    }
    Ok(walk.end())
}

struct Walk<'a> {
    head: Option<&'a Head>,
    noted: Option<&'a Noted>,
    found: bool,
    /// The line before: its number, and its hash unless it was changed.
    last: Option<(u64, Option<String>)>,
    verified: Verified,
}

impl Walk<'_> {
    fn line(&mut self, file: &str, number: u64, line: &Line) {
        let linked = match line {
            Line::Whole(line) => Linked::read(line),
            Line::Torn => Err(
                "the file ends within a line: after a crash the daemon sets it aside when it starts",
            ),
            Line::TooLong => Err("this is no record: it is longer than any"),
        };
        let mut wrong = |what: String| self.verified.problem(file, number, what);
        match linked {
            Ok(linked) => {
                if let Some(what) = follows(&linked, self.last.as_ref(), self.head) {
                    wrong(what);
                }
                if let Some(noted) = self.noted {
                    self.found |= noted.hash == linked.hash;
                }
                self.verified.first.get_or_insert(linked.seq);
                self.verified.records += 1;
                self.last = Some((linked.seq, Some(linked.hash)));
            }
            Err(what) => {
                wrong(what.to_owned());
                if !matches!(line, Line::Torn) {
                    let former = self.last.as_ref().map_or(0, |(seq, _)| *seq);
                    self.last = Some((former + 1, None));
                }
            }
        }
    }

    fn end(mut self) -> Verified {
        let last = self.last.take();
        let seq = last.as_ref().map_or(0, |(seq, _)| *seq);
        let first = self.verified.first.unwrap_or(seq + 1);
        let mut whole = |what: String| self.verified.problem("head", 0, what);
        match self.head {
            Some(Head { last: noted, .. }) if noted.seq > seq => whole(format!(
                "the end was cut off: records {} to {} are missing",
                seq + 1,
                noted.seq
            )),
            Some(Head { last: noted, .. }) => {
                let other = |hash: &String| *hash != noted.hash;
                let hash = last.as_ref().and_then(|(_, hash)| hash.as_ref());
                if noted.seq == seq && hash.is_some_and(other) {
                    whole(format!("record {seq} is not the one that was written"));
                }
            }
            None if seq == 0 => whole("there is no record here".to_owned()),
            None => whole(
                "this file is missing or unreadable: it cannot be told whether the end was cut off"
                    .to_owned(),
            ),
        }
        if let Some(noted) = self.noted
            && !self.found
        {
            whole(match noted.seq {
                Some(noted) if noted < first => format!(
                    "record {noted}, whose hash you noted, is older than what is kept: nothing can be said about it"
                ),
                Some(noted) if noted > seq => {
                    format!("record {noted}, whose hash you noted, is missing: the end was cut off")
                }
                Some(noted) => format!("record {noted} is not the one whose hash you noted: the record was rewritten"),
                None => "no record has the hash you noted: the record was rewritten, or is that old that it is not kept any more".to_owned(),
            });
        }
        if let Some((seq, Some(hash))) = last {
            self.verified.head = Some(format!("{seq}:{hash}"));
        }
        self.verified.ok = self.verified.problems.is_empty();
        self.verified
    }
}

impl Verified {
    fn problem(&mut self, file: &str, line: u64, what: String) {
        if self.problems.len() == PROBLEMS {
            self.omitted += 1;
            return;
        }
        self.problems.push(Problem {
            file: file.to_owned(),
            line,
            what,
        });
    }
}

/// Why a record does not follow the line before.
fn follows(
    record: &Linked,
    last: Option<&(u64, Option<String>)>,
    head: Option<&Head>,
) -> Option<String> {
    let Linked { seq, previous, .. } = record;
    let Some((before, hash)) = last else {
        let kept = head.map_or(*seq, |head| head.first);
        return if *seq > kept {
            Some(missing(kept, *seq - 1))
        } else if *seq == 1 && previous != GENESIS {
            Some("record 1 claims that another came before it".to_owned())
        } else {
            None
        };
    };
    if *seq <= *before {
        return Some(format!(
            "record {seq} stands after record {before}: out of order, or twice"
        ));
    }
    if *seq > before + 1 {
        return Some(missing(before + 1, *seq - 1));
    }
    let other = hash.as_ref().is_some_and(|hash| hash != previous);
    other
        .then(|| format!("record {seq} does not follow record {before}: one of them was exchanged"))
}

fn missing(from: u64, to: u64) -> String {
    if from == to {
        format!("record {from} is missing before this one")
    } else {
        format!("records {from} to {to} are missing before this one")
    }
}
