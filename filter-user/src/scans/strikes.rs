//! How often a source has been blocked: what makes its next block longer. Bounded; whose last scan is longest ago is
//! forgotten first.

use std::collections::hash_map::RandomState;
use std::time::Duration;

use lru::LruCache;

use super::blocks::CAPACITY;
use super::source::Key;

/// Strikes by source, and when they are forgotten.
#[derive(Debug)]
pub(super) struct Strikes(LruCache<Key, (u32, Duration), RandomState>);

impl Strikes {
    pub(super) fn new() -> Self {
        Self(LruCache::unbounded_with_hasher(RandomState::new()))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn of(&self, key: &Key, now: Duration) -> u32 {
        let entry = self.0.peek(key).filter(|(_, until)| *until > now);
        entry.map_or(0, |(strikes, _)| *strikes)
    }

    pub(super) fn set(&mut self, key: Key, strikes: u32, until: Duration) {
        self.0.push(key, (strikes, until));
        if self.0.len() > CAPACITY {
            self.0.pop_lru();
        }
    }

    /// Remembers a source until then, if it has strikes.
    pub(super) fn keep(&mut self, key: &Key, until: Duration) {
        if let Some((_, known)) = self.0.get_mut(key) {
            *known = (*known).max(until);
        }
    }

    /// The blocks were a mistake.
    pub(super) fn forgive(&mut self, key: &Key) {
        self.0.pop(key);
    }

    /// Makes room of what is over.
    pub(super) fn forget(&mut self, now: Duration) {
        while self
            .0
            .peek_lru()
            .is_some_and(|(_, (_, until))| *until <= now)
        {
            self.0.pop_lru();
        }
    }
}
