//! The sources below every threshold: a bounded memory that a flood of random sources cannot wash out. Knows nothing of
//! scans and blocks.

use std::collections::hash_map::RandomState;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::{IpNet, Ipv6Net};
use lru::LruCache;

use super::detector::Settings;
use super::evidence::Evidence;
use super::probe::Probe;
use super::protected::holds_any;

/// Targets up to which a source is one of many that happened to come by.
const FEW_TARGETS: u64 = 2;
/// Sources with few targets that are remembered.
pub(super) const FEW: usize = 32_768;
/// Sources with more targets that are remembered.
pub(super) const MANY: usize = 16_384;
/// Ports and hosts that are remembered of all sources with more targets together.
pub(super) const MANY_REMEMBERED: usize = 1 << 18;
/// Of so many sources that have been silent longest, the one with least evidence is forgotten first.
const CANDIDATES: usize = 8;

/// What counts as one source: an IPv4 address, an IPv6 /64, or an IPv6 address where a /64 would be too much.
pub(super) type Key = IpNet;

/// The source that `address` belongs to. An IPv6 address is one by itself where its /64 is a link's or holds addresses
/// that must not be blocked, or are exempt: a neighbour's scan must have a block of its own.
pub(super) fn key(address: IpAddr, settings: &Settings) -> Key {
    let alone = IpNet::from(address);
    let IpAddr::V6(v6) = address else {
        return alone;
    };
    match Ipv6Net::new(v6, 64) {
        Ok(net) if !v6.is_unicast_link_local() => {
            let net = IpNet::V6(net.trunc());
            let exempt = settings.scans.exempt.as_ref();
            if settings.protected.spares(&net).is_some()
                || exempt.is_some_and(|set| holds_any(set, &net))
            {
                alone
            } else {
                net
            }
        }
        _ => alone,
    }
}

/// A source and what it probed.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// The only address that took part, or all of the key.
    pub(super) net: IpNet,
    pub(super) evidence: Evidence,
}

impl Source {
    pub(super) fn new(address: IpAddr, time: Duration) -> Self {
        Self {
            net: address.into(),
            evidence: Evidence::new(time),
        }
    }

    /// Takes in a probe of it.
    pub(super) fn note(&mut self, key: Key, probe: &Probe, time: Duration) {
        if !self.net.contains(&probe.source) {
            self.net = key;
        }
        self.evidence.note(probe, time);
        self.evidence.prune();
    }

    fn has_few(&self) -> bool {
        self.evidence.targets <= FEW_TARGETS
    }
}

/// Sources by key, in two tiers: who has few targets, and who has more. A newcomer always begins in the first tier, so
/// random sources push out only each other.
#[derive(Debug)]
pub(super) struct Sources {
    few: LruCache<Key, Source, RandomState>,
    many: LruCache<Key, Source, RandomState>,
    /// Ports and hosts in `many`.
    remembered: usize,
    /// Forgotten for want of room.
    pub(super) forgotten: u64,
}

impl Sources {
    pub(super) fn new() -> Self {
        Self {
            few: LruCache::unbounded_with_hasher(RandomState::new()),
            many: LruCache::unbounded_with_hasher(RandomState::new()),
            remembered: 0,
            forgotten: 0,
        }
    }

    pub(super) fn few(&self) -> usize {
        self.few.len()
    }

    pub(super) fn many(&self) -> usize {
        self.many.len()
    }

    /// Takes the source out.
    pub(super) fn take(&mut self, key: &Key) -> Option<Source> {
        self.few.pop(key).or_else(|| self.take_many(key))
    }

    /// Puts it (back) in.
    pub(super) fn put(&mut self, key: Key, source: Source) {
        if source.has_few() {
            self.few.push(key, source);
            if self.few.len() > FEW && self.few.pop_lru().is_some() {
                self.forgotten += 1;
            }
            return;
        }
        let more = source.evidence.remembered();
        while !self.many.is_empty()
            && (self.many.len() >= MANY || self.remembered + more > MANY_REMEMBERED)
        {
            self.forget_one();
        }
        self.remembered += more;
        self.many.push(key, source);
    }

    /// Forgets the sources that have been silent since `time`.
    pub(super) fn forget_before(&mut self, time: Duration) {
        let old = |source: &Source| source.evidence.last < time;
        while self.few.peek_lru().is_some_and(|(_, few)| old(few)) {
            self.few.pop_lru();
        }
        while let Some((&key, _)) = self.many.peek_lru().filter(|(_, many)| old(many)) {
            self.take_many(&key);
        }
    }

    pub(super) fn clear(&mut self) {
        self.few.clear();
        self.many.clear();
        self.remembered = 0;
    }

    fn forget_one(&mut self) {
        let silent = self.many.iter().rev().take(CANDIDATES);
        let least = silent.min_by_key(|(_, source)| source.evidence.targets);
        if let Some(key) = least.map(|(key, _)| *key) {
            self.take_many(&key);
            self.forgotten += 1;
        }
    }

    fn take_many(&mut self, key: &Key) -> Option<Source> {
        let source = self.many.pop(key)?;
        self.remembered -= source.evidence.remembered();
        Some(source)
    }
}
