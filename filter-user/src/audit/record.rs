//! One record and its place in the chain.
//!
//! A record is one line. Its last member is `hash`: SHA-256, in hex, over the line as it would be without that member.
//! `previous` is the hash of the record before, so nothing can be changed without changing all that follows:
//!
//! ```text
//! sed 's/,"hash":"[0-9a-f]*"}$/}/' | tr -d '\n' | sha256sum
//! ```

use std::io;
use std::time::SystemTime;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Event, ascii};
use crate::access::Via;
use crate::policy::hex;
use crate::report::time;

/// `previous` of the very first record.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// Most bytes of a record, with its newline.
pub const RECORD_BYTES: usize = 4096;

/// What is kept of each text, as written in JSON. Together with everything else this stays below [`RECORD_BYTES`].
const NAME: usize = 128;
const ACTION: usize = 64;
const SUBJECT: usize = 512;
const SENTENCE: usize = 640;
const DIGEST: usize = 80;
const APPROVAL: usize = 64;
const APPROVALS: usize = 12;

const HASH_MEMBER: &str = ",\"hash\":\"";

/// An event in the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Record {
    /// From 1, without gaps.
    pub seq: u64,
    /// When it was written: RFC 3339.
    pub time: String,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
    /// How many times more the same came within a moment; left out: it came once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeated: Option<u64>,
    /// Hash of the record before; zeros in the first.
    pub previous: String,
    /// SHA-256 over the line without this member, in hex.
    pub hash: String,
}

/// Where a chain ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub seq: u64,
    pub hash: String,
}

impl Link {
    /// Before the first record.
    pub fn genesis() -> Self {
        Self {
            seq: 0,
            hash: GENESIS.to_owned(),
        }
    }
}

/// What links a line to others; whatever else it says may be of another version.
#[derive(Debug, Deserialize)]
pub(super) struct Linked {
    pub seq: u64,
    pub previous: String,
    pub hash: String,
}

impl Linked {
    /// Why the line is no record, or not the one that was written.
    pub fn read(line: &[u8]) -> Result<Self, &'static str> {
        let text = str::from_utf8(line).map_err(|_| "this is no record: it is not text")?;
        let linked: Self = serde_json::from_str(text)
            .map_err(|_| "this is no record: it is not JSON with seq, previous and hash")?;
        match sealed(text) {
            Some((body, hash)) if hash == linked.hash && digest(body) == linked.hash => Ok(linked),
            _ => Err("this record was changed: its hash is not that of its text"),
        }
    }
}

impl Record {
    /// The record that follows `after`, and its line with a newline. Texts that are too long are cut.
    pub(super) fn seal(
        mut event: Event,
        repeated: u64,
        time: SystemTime,
        after: &Link,
    ) -> io::Result<(Self, String)> {
        bound(&mut event);
        let mut record = Self {
            seq: after.seq + 1,
            time: time::rfc3339(time),
            event,
            repeated: (repeated > 0).then_some(repeated),
            previous: after.hash.clone(),
            hash: String::new(),
        };
        let open = ascii::json(&record)?;
        let Some((body, _)) = sealed(&open) else {
            return Err(io::Error::other("a record does not end with its hash"));
        };
        record.hash = digest(body);
        let line = format!("{body}{HASH_MEMBER}{}\"}}\n", record.hash);
        Ok((record, line))
    }
}

/// A line without the hash member and its closing brace, and the hash.
fn sealed(line: &str) -> Option<(&str, &str)> {
    line.strip_suffix("\"}")?.rsplit_once(HASH_MEMBER)
}

fn digest(body: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(body);
    hash.update("}");
    hex(&hash.finalize())
}

fn bound(event: &mut Event) {
    ascii::cut(&mut event.actor.name, NAME);
    if let Via::Daemon { cause } = &mut event.actor.via {
        ascii::cut(cause, ACTION);
    }
    ascii::cut(&mut event.action, ACTION);
    ascii::cut(&mut event.subject, SUBJECT);
    for text in [&mut event.message, &mut event.why].into_iter().flatten() {
        ascii::cut(text, SENTENCE);
    }
    for text in [&mut event.before, &mut event.after].into_iter().flatten() {
        ascii::cut(text, DIGEST);
    }
    let more = event.approvals.len().saturating_sub(APPROVALS);
    if more > 0 {
        event.approvals.truncate(APPROVALS);
        event.approvals.push(format!("and {more} more"));
    }
    for approval in &mut event.approvals {
        ascii::cut(approval, APPROVAL);
    }
}
