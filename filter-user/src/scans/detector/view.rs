//! What is known, as people and scripts see it. Changes nothing.

use ipnet::IpNet;

use super::Detector;
use crate::scans::Moment;
use crate::scans::blocks::Block;
use crate::scans::record::{BlockRecord, ScanRecord, State};

/// How much is remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Sources with at most two targets, at most 32,768.
    pub few: usize,
    /// Other sources below the thresholds, at most 16,384.
    pub many: usize,
    /// Open scans, at most [`super::OPEN`].
    pub open: usize,
    /// Their decoys.
    pub decoys: usize,
    /// Closed scans, at most [`super::CLOSED`].
    pub closed: usize,
    /// Blocks, at most [`super::CAPACITY`].
    pub blocks: usize,
    /// Sources with strikes, at most [`super::CAPACITY`].
    pub strikes: usize,
    /// Sources forgotten for want of room since the start.
    pub forgotten: u64,
    /// Probes that were not reported for want of room since the start.
    pub shed: u64,
}

impl Detector {
    /// Sources of open scans.
    pub fn open_sources(&self) -> impl Iterator<Item = IpNet> {
        self.open.values().map(|scan| scan.source.net)
    }

    /// Sources of open scans, and their refused packets so far.
    pub fn open_packets(&self) -> impl Iterator<Item = (IpNet, u64)> {
        let open = self.open.values();
        open.map(|scan| (scan.source.net, scan.packets()))
    }

    /// The blocks there are.
    pub fn in_force(&self) -> impl Iterator<Item = &Block> {
        self.judge.blocks.in_order().into_iter()
    }

    /// The scans that are remembered: closed ones, then open ones, the newest last.
    #[must_use]
    pub fn scans(&self, now: Moment) -> Vec<ScanRecord> {
        let open = self.by_number();
        let open = open.iter().filter_map(|key| self.open.get(key));
        let open = open.map(|scan| self.judge.record(scan, State::Open, now));
        self.closed.iter().cloned().chain(open).collect()
    }

    /// One of them.
    #[must_use]
    pub fn scan(&self, id: &str, now: Moment) -> Option<ScanRecord> {
        let mut open = self.open.values();
        match open.find(|scan| scan.id == id) {
            Some(scan) => Some(self.judge.record(scan, State::Open, now)),
            None => self.closed.iter().find(|scan| scan.id == id).cloned(),
        }
    }

    /// What is blocked, the one that ends soonest first.
    #[must_use]
    pub fn blocks(&self, now: Moment) -> Vec<BlockRecord> {
        let lasting = |block: &&Block| block.until > now.since_boot;
        let blocks = self.judge.blocks.in_order().into_iter();
        blocks
            .filter(lasting)
            .map(|block| block.record(now))
            .collect()
    }

    /// How much is remembered.
    #[must_use]
    pub fn memory(&self) -> Memory {
        Memory {
            few: self.sources.few(),
            many: self.sources.many(),
            open: self.open.len(),
            decoys: self.decoys.len(),
            closed: self.closed.len(),
            blocks: self.judge.blocks.len(),
            strikes: self.judge.strikes.len(),
            forgotten: self.sources.forgotten,
            shed: self.shed,
        }
    }
}
