//! What people and scripts are shown: status, counters, sampled drops. Text and JSON come from the same values.
//!
//! Nothing here reads the kernel or talks to the daemon, and nothing here decides where output goes.

pub mod audit;
pub mod counters;
pub mod entries;
pub mod event;
pub mod explain;
pub mod exposure;
mod headers;
pub mod metrics;
pub mod pinned;
pub mod plan;
pub mod policy;
pub mod rates;
pub mod replay;
pub mod sandbox;
pub mod scans;
pub mod status;
mod table;
pub mod time;

pub use headers::{Arp, Fragment, Headers};

/// Text from elsewhere (interface names may hold any byte but `/` and blanks) without what could steer a terminal.
#[must_use]
pub fn printable(text: &str) -> String {
    let clean = |c: char| {
        if c.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    text.chars().map(clean).collect()
}
