//! Containers may change their addresses as fast as they like: what counts of that, and when. Pure: time is passed in.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::bindings::Binding;
use super::links::{Links, Peers};

/// After a change the next ones wait this long, for all containers together.
const SHORTEST: Duration = Duration::from_millis(200);
/// While it goes on, they wait twice as long each time, up to this.
const LONGEST: Duration = Duration::from_secs(1);

/// Lets changes through at a bearable pace. A link without a binding so far never waits.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// The other ends as they count.
    counted: Peers,
    /// Links that had a binding since they appeared, with their names.
    bound: BTreeMap<u32, String>,
    pause: Duration,
    /// Changes wait until then.
    rest: Option<Instant>,
    waiting: bool,
}

impl Pace {
    /// What counts of what was seen just now.
    pub(super) fn count(&mut self, now: Instant, links: &Links, mut seen: Peers) -> Peers {
        let waits = |ifindex: &u32| {
            let bound = self.bound.get(ifindex);
            bound.is_some() && bound == links.names.get(ifindex)
        };
        let changed: Vec<u32> = seen
            .iter()
            .filter(|(ifindex, peer)| {
                let counted = self.counted.get(ifindex);
                counted.is_some_and(|counted| counted != *peer) && waits(ifindex)
            })
            .map(|(ifindex, _)| *ifindex)
            .collect();
        self.waiting = !changed.is_empty() && self.rest.is_some_and(|rest| now < rest);
        if self.waiting {
            for ifindex in changed {
                if let Some(counted) = self.counted.get(&ifindex) {
                    seen.insert(ifindex, counted.clone());
                }
            }
        } else if !changed.is_empty() {
            let goes_on = self.rest.is_some_and(|rest| now < rest + self.pause);
            self.pause = if goes_on {
                (self.pause * 2).min(LONGEST)
            } else {
                SHORTEST
            };
            self.rest = Some(now + self.pause);
        }
        self.counted.clone_from(&seen);
        seen
    }

    /// Everything counts as it was seen: somebody asked for it.
    pub(super) fn count_all(&mut self, seen: &Peers) {
        self.counted.clone_from(seen);
        self.waiting = false;
    }

    /// Notes which links have a binding.
    pub(super) fn note(&mut self, links: &Links, bindings: &BTreeMap<u32, Binding>) {
        self.bound
            .retain(|ifindex, name| links.names.get(ifindex) == Some(name));
        for (ifindex, binding) in bindings {
            if binding.bound.is_some()
                && let Some(name) = links.names.get(ifindex)
            {
                self.bound.insert(*ifindex, name.clone());
            }
        }
    }

    /// When to look again, if anything waits.
    pub(super) fn due(&self) -> Option<Instant> {
        self.rest.filter(|_| self.waiting)
    }
}

#[cfg(test)]
mod tests;
