//! The table of blocked sources, its limit and its order of leaving. Pure: never asks the kernel or the clock.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use ipnet::IpNet;

use super::Moment;
use super::record::{BlockRecord, Origin};
use crate::report::time::rfc3339;

/// Most sources that are blocked at once.
pub const CAPACITY: usize = 65_536;

/// A blocked source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// An IPv4 /32, an IPv6 /128 or an IPv6 /64.
    pub source: IpNet,
    /// Since boot (`CLOCK_MONOTONIC`).
    pub since: Duration,
    /// Since boot (`CLOCK_MONOTONIC`); at this moment it is over.
    pub until: Duration,
    /// Blocks of this source so far, this one included.
    pub strikes: u32,
    /// Who asked for it.
    pub origin: Origin,
    /// The scan that led to it, as far as it is known.
    pub scan: Option<String>,
}

impl Block {
    /// As people and scripts see it.
    #[must_use]
    pub fn record(&self, now: Moment) -> BlockRecord {
        let left = self.until.saturating_sub(now.since_boot);
        BlockRecord {
            source: self.source,
            since: rfc3339(now.at(self.since).wall),
            until: rfc3339(now.at(self.until).wall),
            seconds_left: left.as_secs() + u64::from(left.subsec_nanos() > 0),
            origin: self.origin,
            strikes: self.strikes,
            scan: self.scan.clone(),
        }
    }
}

/// The table holds blocks that all last longer, or none that may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// Blocked sources, at most a fixed number. When it is full, the automatic block that ends soonest makes room, unless
/// the new one is automatic too and would end sooner still: that one is not taken. Manual blocks never make room. So
/// whoever has forged sources blocked can only shorten what was about to end.
#[derive(Debug)]
pub(super) struct Blocks {
    capacity: usize,
    by_source: HashMap<IpNet, Block>,
    automatic: BTreeSet<(Duration, IpNet)>,
    manual: BTreeSet<(Duration, IpNet)>,
}

impl Blocks {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            by_source: HashMap::new(),
            automatic: BTreeSet::new(),
            manual: BTreeSet::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_source.len()
    }

    pub(super) fn get(&self, source: &IpNet) -> Option<&Block> {
        self.by_source.get(source)
    }

    /// The one that ends soonest first.
    pub(super) fn in_order(&self) -> Vec<&Block> {
        let mut blocks: Vec<_> = self.by_source.values().collect();
        blocks.sort_unstable_by_key(|block| (block.until, block.source));
        blocks
    }

    /// Takes the block in, instead of the source's present one if there is one; returns the block that made room.
    pub(super) fn insert(&mut self, block: Block) -> Result<Option<Block>, Full> {
        let mut gone = None;
        if self.remove(&block.source).is_none() && self.len() >= self.capacity {
            let &(until, source) = self.automatic.first().ok_or(Full)?;
            if block.origin == Origin::Scan && block.until <= until {
                return Err(Full);
            }
            gone = self.remove(&source);
        }
        self.ends(block.origin).insert((block.until, block.source));
        self.by_source.insert(block.source, block);
        Ok(gone)
    }

    pub(super) fn remove(&mut self, source: &IpNet) -> Option<Block> {
        let block = self.by_source.remove(source)?;
        self.ends(block.origin).remove(&(block.until, block.source));
        Some(block)
    }

    /// Takes out one block that is over.
    pub(super) fn pop_ended(&mut self, now: Duration) -> Option<Block> {
        let first = [self.automatic.first(), self.manual.first()];
        let (until, source) = first.into_iter().flatten().min().copied()?;
        if until > now {
            return None;
        }
        self.remove(&source)
    }

    fn ends(&mut self, origin: Origin) -> &mut BTreeSet<(Duration, IpNet)> {
        match origin {
            Origin::Scan => &mut self.automatic,
            Origin::Manual => &mut self.manual,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(number: u8, until: u64, origin: Origin) -> Block {
        Block {
            source: IpNet::from(std::net::IpAddr::from([192, 0, 2, number])),
            since: Duration::ZERO,
            until: Duration::from_secs(until),
            strikes: 1,
            origin,
            scan: None,
        }
    }

    fn numbers(blocks: &Blocks) -> Vec<u64> {
        let in_order = blocks.in_order();
        in_order.iter().map(|block| block.until.as_secs()).collect()
    }

    #[test]
    fn the_one_that_ends_soonest_makes_room() {
        let mut blocks = Blocks::new(3);
        for (number, until) in [(1, 30), (2, 10), (3, 20)] {
            assert_eq!(blocks.insert(block(number, until, Origin::Scan)), Ok(None));
        }
        // would end as soon as the first to go
        assert_eq!(blocks.insert(block(4, 10, Origin::Scan)), Err(Full));
        assert_eq!(numbers(&blocks), [10, 20, 30]);
        let gone = blocks.insert(block(4, 11, Origin::Scan)).unwrap();
        assert_eq!(gone, Some(block(2, 10, Origin::Scan)));
        assert_eq!(numbers(&blocks), [11, 20, 30]);
        // a person is not asked how long
        let gone = blocks.insert(block(5, 1, Origin::Manual)).unwrap();
        assert_eq!(gone, Some(block(4, 11, Origin::Scan)));
        // another end for the same source takes no room
        assert_eq!(blocks.insert(block(5, 2, Origin::Manual)), Ok(None));
        assert_eq!(numbers(&blocks), [2, 20, 30]);
    }

    #[test]
    fn manual_blocks_never_make_room() {
        let mut blocks = Blocks::new(2);
        for number in [1, 2] {
            assert_eq!(blocks.insert(block(number, 10, Origin::Manual)), Ok(None));
        }
        assert_eq!(blocks.insert(block(3, 99, Origin::Scan)), Err(Full));
        assert_eq!(blocks.insert(block(3, 99, Origin::Manual)), Err(Full));
        assert_eq!(blocks.insert(block(2, 99, Origin::Manual)), Ok(None));
        assert_eq!(numbers(&blocks), [10, 99]);
    }

    #[test]
    fn ends_in_time_and_in_order() {
        let mut blocks = Blocks::new(9);
        for (number, until, origin) in [
            (1, 30, Origin::Scan),
            (2, 10, Origin::Manual),
            (3, 20, Origin::Scan),
        ] {
            assert_eq!(blocks.insert(block(number, until, origin)), Ok(None));
        }
        let mut pop = |now| blocks.pop_ended(Duration::from_secs(now));
        assert_eq!(pop(9), None);
        assert_eq!(pop(10), Some(block(2, 10, Origin::Manual)));
        assert_eq!(pop(10), None);
        assert_eq!(pop(99), Some(block(3, 20, Origin::Scan)));
        assert_eq!(pop(99), Some(block(1, 30, Origin::Scan)));
        assert_eq!(pop(99), None);
        assert_eq!(blocks.len(), 0);
    }
}
