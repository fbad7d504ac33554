//! A sampled drop, from the bytes in the ring buffer to a line of text or of JSON.
//!
//! The bytes hold what a stranger sent: every length is checked, nothing is trusted, and no text reaches a terminal
//! unfiltered.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::mem::offset_of;

use filter_common::event::Event;
use filter_common::layout::EventHeader;
use filter_common::limits::EVENT_BYTES;
use filter_common::reason::Reason;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::headers::Headers;
use super::{printable, time};

/// Most bytes of a frame that are shown in hex.
const HEX_BYTES: usize = 64;

/// A sampled drop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventRecord {
    /// RFC 3339.
    pub time: String,
    /// Name of the interface, `ifN` if it has gone.
    pub interface: String,
    /// Its index.
    pub ifindex: u32,
    /// The reason it is counted under.
    pub reason: Cow<'static, str>,
    /// Monitor mode: the packet passed all the same.
    pub monitored: bool,
    /// Rule that decided, or row: `martian:192.0.2.0/24`, `binding:source`.
    pub rule: Option<String>,
    /// What the row stands for: which range and which RFC, what the container is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Bytes on the wire, from the Ethernet header on.
    pub frame_length: u32,
    /// What the sampled bytes say.
    pub headers: Headers,
    /// What could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The first bytes in hex, of malformed frames and of those that could not be read in full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<String>,
}

/// Why bytes are no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Less than the fixed part.
    #[error("{0} bytes are too few for an event, whose header has {HEADER}")]
    Short(usize),
    /// A reason of another version of the program.
    #[error("reason number {0} is unknown: daemon and filter program are of different versions")]
    Reason(u8),
}

const HEADER: usize = size_of::<EventHeader>();

impl EventRecord {
    /// Reads an [`Event`]. `interface` and `rule` name an interface index and a rule slot, `detail` says more of a row on
    /// an interface.
    pub fn decode(
        bytes: &[u8],
        interface: impl Fn(u32) -> Option<String>,
        rule: impl Fn(u16) -> Option<String>,
        detail: impl Fn(u16, u32) -> Option<String>,
    ) -> Result<Self, DecodeError> {
        let (header, frame) = bytes
            .split_at_checked(HEADER)
            .ok_or(DecodeError::Short(bytes.len()))?;
        const _: () = assert!(offset_of!(Event, frame) == HEADER);
        let number = field::<1>(header, offset_of!(EventHeader, reason))[0];
        let reason = Reason::from_index(number.into()).ok_or(DecodeError::Reason(number))?;
        let word = |at| u32::from_ne_bytes(field(header, at));
        let ifindex = word(offset_of!(EventHeader, ifindex));
        let frame_length = word(offset_of!(EventHeader, frame_length));
        let captured = word(offset_of!(EventHeader, captured)) as usize;
        let slot = u16::from_ne_bytes(field(header, offset_of!(EventHeader, rule)));
        let nanoseconds = u64::from_ne_bytes(field(header, offset_of!(EventHeader, time)));
        let frame = &frame[..captured.min(EVENT_BYTES).min(frame.len())];

        let (headers, mut problem) = Headers::decode(frame);
        if let Some(problem) = &mut problem
            && frame.len() < frame_length as usize
        {
            // Writing into a String cannot fail.
            let _ = write!(
                problem,
                " (only the first {} bytes were sampled)",
                frame.len()
            );
        }
        let shown = problem.is_some() || reason == Reason::DropMalformed;
        Ok(Self {
            time: time::rfc3339(time::from_monotonic(nanoseconds)),
            interface: interface(ifindex).unwrap_or_else(|| format!("if{ifindex}")),
            ifindex,
            reason: Cow::Borrowed(reason.name()),
            monitored: field::<1>(header, offset_of!(EventHeader, monitored))[0] != 0,
            rule: if slot == 0 { None } else { rule(slot) },
            detail: if slot == 0 {
                None
            } else {
                detail(slot, ifindex)
            },
            frame_length,
            headers,
            problem,
            bytes: shown.then(|| hex(&frame[..frame.len().min(HEX_BYTES)])),
        })
    }

    /// One line, without its end.
    #[must_use]
    pub fn render(&self) -> String {
        let mut line = format!(
            "{} {} {}",
            self.time,
            printable(&self.interface),
            printable(&self.reason)
        );
        // Writing into a String cannot fail, hence the ignored results.
        if self.monitored {
            line.push_str(" (monitored: passed)");
        }
        let _ = write!(
            line,
            " {}, {} bytes",
            printable(&self.headers.render()),
            self.frame_length
        );
        if let Some(rule) = &self.rule {
            let _ = write!(line, ", rule {}", printable(rule));
        }
        if let Some(detail) = &self.detail {
            let _ = write!(line, " ({})", printable(detail));
        }
        if let Some(problem) = &self.problem {
            let _ = write!(line, "; {}", printable(problem));
        }
        if let Some(bytes) = &self.bytes {
            let _ = write!(line, "; {}", printable(bytes));
        }
        line
    }
}

/// `N` bytes of the header; offsets come from its layout.
fn field<const N: usize>(header: &[u8], at: usize) -> [u8; N] {
    header
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .copied()
        .unwrap_or([0; N])
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
#[path = "event_tests.rs"]
pub(crate) mod tests;
