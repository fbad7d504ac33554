//! Scans: from refused packets that the program reports to records, blocks and reports.
//!
//! [`Detector`](detector::Detector) is pure logic with the clock given; everything that touches the kernel, nft, files
//! or the network is in the daemon and in [`outlets`].

mod blocks;
pub mod detector;
mod evidence;
pub mod insight;
mod judge;
pub mod outlets;
mod party;
pub mod probe;
mod protected;
pub mod record;
mod scan;
mod source;
mod strikes;
mod tally;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

/// A moment on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// `CLOCK_MONOTONIC`: what windows and times to live are measured by.
    pub since_boot: Duration,
    /// What people are shown.
    pub wall: SystemTime,
}

impl Moment {
    /// The same moment's neighbour at `since_boot`, as the wall clock is now.
    #[must_use]
    pub fn at(self, since_boot: Duration) -> Self {
        let apart = since_boot.abs_diff(self.since_boot);
        let wall = if since_boot >= self.since_boot {
            self.wall.checked_add(apart)
        } else {
            self.wall.checked_sub(apart)
        };
        Self {
            since_boot,
            wall: wall.unwrap_or(self.wall),
        }
    }
}
