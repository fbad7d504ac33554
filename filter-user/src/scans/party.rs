//! One source that takes part in a scan, and what became of it.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::record::Verdict;
use super::source::Key;

/// A scan's source, or one of its decoys.
#[derive(Clone, Debug)]
pub(super) struct Party {
    pub(super) key: Key,
    /// What is shown and blocked: the only address that took part, or all of the key.
    pub(super) net: IpNet,
    pub(super) verdict: Verdict,
    pub(super) because: String,
    /// When the verdict was last thought over.
    pub(super) judged: Duration,
    pub(super) last: Duration,
    /// Blocks of this source so far.
    pub(super) strikes: u32,
    /// What it sent since its block ran out, in halves of a target.
    pub(super) again: usize,
    /// A person took its block off: it is left alone until the scan is over.
    pub(super) released: bool,
}

impl Party {
    /// Not judged yet.
    pub(super) fn new(key: Key, net: IpNet, time: Duration) -> Self {
        Self {
            key,
            net,
            verdict: Verdict::Observed,
            because: String::new(),
            judged: time,
            last: time,
            strikes: 0,
            again: 0,
            released: false,
        }
    }

    /// Notes that `address` took part; if it is a second one of the key, returns what was shown before.
    pub(super) fn widen(&mut self, address: IpAddr) -> Option<IpNet> {
        if self.net.contains(&address) {
            return None;
        }
        Some(std::mem::replace(&mut self.net, self.key))
    }
}
