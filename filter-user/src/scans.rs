//! Scans: from refused packets that the program reports to records, blocks and reports.
//!
//! [`Detector`](detector::Detector) is pure logic with the clock given; everything that touches the kernel, nft, files
//! or the network is in the daemon and in [`outlets`].

pub mod probe;
pub mod record;

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
        let wall = if since_boot >= self.since_boot {
            self.wall.checked_add(since_boot - self.since_boot)
        } else {
            self.wall.checked_sub(self.since_boot - since_boot)
        };
        Self {
            since_boot,
            wall: wall.unwrap_or(self.wall),
        }
    }
}
