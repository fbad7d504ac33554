//! The task that brings the kernel's table to what is wanted.
//!
//! Owns what is known of the table. Must never hold the lock while `nft` runs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use nix::time::{ClockId, clock_gettime};
use serde_json::Value;

use super::program::{Depth, NftError, Program};
use super::table::{self, Look};
use super::{LOOK, Options, REST, Shared};

/// An element's time may be off by this much, and shortly before its end it is not compared at all.
const TOLERANCE: Duration = Duration::from_secs(5);
/// Elements from which on a look every two seconds would cost a percent of a core and more: then only close looks see the
/// rules.
const MANY: usize = 4096;

pub(super) struct Keeper {
    shared: Arc<Shared>,
    program: Program,
    look_closely: Duration,
    /// How the table looked right after it was made; `None`: it has to be made.
    made: Option<Look>,
    /// Sources that it holds, and until when.
    held: HashMap<IpNet, Duration>,
}

impl Keeper {
    pub fn new(shared: Arc<Shared>, options: Options) -> Self {
        Self {
            shared,
            program: Program::new(options.program),
            look_closely: options.look_closely,
            made: None,
            held: HashMap::new(),
        }
    }

    pub async fn run(mut self) {
        let mut close_look = Instant::now() + self.look_closely;
        loop {
            let closely = Instant::now() >= close_look;
            if closely {
                close_look = Instant::now() + self.look_closely;
            }
            let mut works = self.turn(Some(closely)).await;
            let look = Instant::now() + LOOK;
            tokio::time::sleep(REST).await;
            // with an `nft` that fails, the next look is soon enough
            while works && self.woken_before(look).await {
                works = self.turn(None).await;
                tokio::time::sleep(REST).await;
            }
            tokio::time::sleep_until(look.into()).await;
        }
    }

    async fn woken_before(&self, end: Instant) -> bool {
        let woken = self.shared.wake.notified();
        tokio::time::timeout_at(end.into(), woken).await.is_ok()
    }

    /// Writes what changed, and looks whether the table is as it should be, closely or not at all. Whether that worked.
    async fn turn(&mut self, look: Option<bool>) -> bool {
        let begun = Instant::now();
        let outcome = match look {
            Some(closely) => self.look(closely).await,
            None => Ok(()),
        };
        let outcome = match outcome {
            Ok(()) => self.write().await,
            Err(error) => Err(error),
        };
        let mut wanted = self.shared.lock();
        let state = &mut wanted.state;
        state.elements = self.held.len() as u64;
        match outcome {
            Ok(wrote) => {
                if state.error.take().is_some() {
                    tracing::info!("the nftables table is kept again");
                }
                if wrote {
                    state.last_write_ms = begun.elapsed().as_millis() as u64;
                }
                state.ok = true;
                true
            }
            Err(error) => {
                let text = error.to_string();
                if state.error.as_ref() != Some(&text) {
                    tracing::warn!(error = text, "the nftables table is not kept");
                }
                state.error = Some(text);
                state.ok = false;
                // whatever is there now, the next one replaces it
                wanted.all = true;
                false
            }
        }
    }

    /// Asks for a new table where the present one is not as it was made.
    async fn look(&mut self, closely: bool) -> Result<(), NftError> {
        let now = now();
        {
            let mut wanted = self.shared.lock();
            wanted.blocks.retain(|_, until| *until > now);
            // the kernel may hold them a moment longer
            self.held.retain(|_, until| *until + TOLERANCE > now);
        }
        let Some(made) = &self.made else {
            return Ok(());
        };
        let depth = if closely {
            Depth::Elements
        } else if self.held.len() > MANY {
            Depth::Sets
        } else {
            Depth::Rules
        };
        let found = self.program.read(depth).await?;
        let is_made = |found: &Value| match depth {
            Depth::Sets => Look::of(found).sets() == made.sets(),
            _ => Look::of(found) == *made,
        };
        let trouble = match &found {
            None => Some("somebody removed it"),
            Some(found) if !is_made(found) => Some("somebody changed it"),
            Some(found) if closely && !self.holds(&table::elements(found)) => {
                Some("somebody changed its elements")
            }
            Some(_) => None,
        };
        if let Some(trouble) = trouble {
            tracing::warn!("the nftables table is made again: {trouble}");
            self.made = None;
        }
        Ok(())
    }

    /// Whether the elements are those that were written.
    fn holds(&self, found: &HashMap<IpNet, Duration>) -> bool {
        let now = now();
        let wanted = self.shared.lock();
        let settled = |source: &IpNet| !wanted.changed.contains(source);
        let left = |source: &IpNet| {
            wanted
                .blocks
                .get(source)
                .map(|until| until.saturating_sub(now))
        };
        let agree = |source: &IpNet, there: Duration| match left(source) {
            Some(left) => left.abs_diff(there) <= TOLERANCE,
            None => there <= TOLERANCE,
        };
        let all_there = self
            .held
            .keys()
            .filter(|source| settled(source))
            .filter(|source| left(source).is_some_and(|left| left > TOLERANCE))
            .all(|source| found.contains_key(source));
        let none_else = found
            .iter()
            .filter(|(source, _)| settled(source))
            .all(|(source, there)| agree(source, *there));
        all_there && none_else
    }

    /// Whether anything was written.
    async fn write(&mut self) -> Result<bool, NftError> {
        if self.made.is_some() && !self.shared.lock().all {
            match self.write_changes().await {
                Err(NftError::Refused(why)) => {
                    // most likely somebody removed the table just now
                    tracing::debug!(why, "the nftables table is made again");
                }
                other => return other,
            }
        }
        self.make().await.map(|()| true)
    }

    async fn make(&mut self) -> Result<(), NftError> {
        self.made = None;
        let now = now();
        let (document, held, drop) = {
            let mut wanted = self.shared.lock();
            wanted.all = false;
            wanted.changed.clear();
            wanted.blocks.retain(|_, until| *until > now);
            let blocks = wanted.blocks.iter();
            let blocks = blocks.map(|(source, until)| (*source, until.saturating_sub(now)));
            let document = table::made(wanted.settings, blocks);
            let held = wanted.blocks.clone();
            (document, held, wanted.settings.drop)
        };
        self.program.write(&document).await?;
        self.held = held;
        {
            let state = &mut self.shared.lock().state;
            state.made += 1;
            state.drop = drop;
        }
        // gone or changed already: seen at the next look, since nothing looks like nothing
        let found = self.program.read(Depth::Rules).await?;
        self.made = Some(found.as_ref().map(Look::of).unwrap_or_default());
        Ok(())
    }

    async fn write_changes(&mut self) -> Result<bool, NftError> {
        let now = now();
        let (document, changes) = {
            let mut wanted = self.shared.lock();
            let changed = std::mem::take(&mut wanted.changed);
            let changes: Vec<table::Change> = changed
                .into_iter()
                .map(|source| table::Change {
                    source,
                    held: self.held.contains_key(&source),
                    left: wanted
                        .blocks
                        .get(&source)
                        .and_then(|until| until.checked_sub(now))
                        .filter(|left| !left.is_zero()),
                })
                .filter(|change| change.held || change.left.is_some())
                .collect();
            (table::changed(&changes), changes)
        };
        if changes.is_empty() {
            return Ok(false);
        }
        self.program.write(&document).await?;
        for change in changes {
            match change.left {
                Some(left) => self.held.insert(change.source, now + left),
                None => self.held.remove(&change.source),
            };
        }
        Ok(true)
    }
}

/// `CLOCK_MONOTONIC`. Zero cannot be: then blocks last longer, which the next write mends.
fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}
