//! Blocks that a person makes or takes off, and those that a former run left behind.

use std::time::Duration;

use ipnet::IpNet;

use super::Detector;
use crate::scans::Moment;
use crate::scans::blocks::{Block, CAPACITY};
use crate::scans::detector::Effect;
use crate::scans::judge::{began, ended};
use crate::scans::record::{Origin, Verdict};
use crate::scans::source::key;

/// Longest manual block.
pub const LONGEST_BLOCK: Duration = Duration::from_hours(24 * 365);

/// Why a block was not made or taken off.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Not an address or an IPv6 /64.
    #[error("{0} cannot be blocked: name an address, or an IPv6 /64")]
    Prefix(IpNet),
    /// Never blocked.
    #[error("{net} is never blocked: {why}")]
    Protected {
        /// What should have been blocked.
        net: IpNet,
        /// As `gateway 192.0.2.1` or `@admins`.
        why: String,
    },
    /// No time, or too long.
    #[error("a block lasts from 1 second to 365 days")]
    Time,
    /// There are as many manual blocks as there may be.
    #[error("there are {CAPACITY} manual blocks already: take some off first")]
    Full,
    /// Nothing to take off.
    #[error("{0} is not blocked")]
    NotBlocked(IpNet),
}

impl Detector {
    /// Blocks a source by hand, for `ttl` or for as long as the policy's first blocks last. A source that is blocked
    /// already is blocked until the new end.
    pub fn block(
        &mut self,
        source: IpNet,
        ttl: Option<Duration>,
        now: Moment,
    ) -> Result<Vec<Effect>, BlockError> {
        let source = blockable(source)?;
        let settings = &self.judge.settings;
        let ttl = ttl.unwrap_or(settings.scans.block_for);
        if !(Duration::from_secs(1)..=LONGEST_BLOCK).contains(&ttl) {
            return Err(BlockError::Time);
        }
        if let Some(why) = settings.protected.spares(&source) {
            return Err(BlockError::Protected { net: source, why });
        }
        let mut effects = Vec::new();
        self.judge.expire(now, &mut effects);
        let block = Block {
            source,
            since: now.since_boot,
            until: now.since_boot.saturating_add(ttl),
            strikes: 1,
            origin: Origin::Manual,
            scan: None,
        };
        let pushed_out = self.judge.blocks.insert(block.clone());
        if let Some(gone) = pushed_out.map_err(|_| BlockError::Full)? {
            ended(&gone, now, &mut effects);
        }
        began(block, now, &mut effects);
        Ok(effects)
    }

    /// Takes a block off by hand. If it came of a scan that goes on, the scan has no further consequences, and the
    /// source's strikes are forgiven.
    pub fn unblock(&mut self, source: IpNet, now: Moment) -> Result<Vec<Effect>, BlockError> {
        let mut effects = Vec::new();
        self.judge.expire(now, &mut effects);
        let source = source.trunc();
        let block = self.judge.lift(&source, now, &mut effects);
        block.ok_or(BlockError::NotBlocked(source))?;
        let key = key(source.addr(), &self.judge.settings.protected);
        self.judge.strikes.forgive(&key);
        let main = self.decoys.get(&key).copied().unwrap_or(key);
        let scan = self.open.get_mut(&main);
        if let Some(scan) = scan
            && let Some(party) = scan.party_mut(&source)
        {
            party.released = true;
            party.verdict = Verdict::Spared;
            "unblocked by hand".clone_into(&mut party.because);
            scan.changed = true;
        }
        Ok(effects)
    }

    /// Takes over the blocks that a former run left in the kernel. Those that must not be any more are lifted.
    pub fn restore(&mut self, blocks: Vec<Block>, now: Moment) -> Vec<Effect> {
        let mut effects = Vec::new();
        for block in blocks {
            let automatic = block.origin == Origin::Scan;
            let forbidden = if automatic {
                let scans = &self.judge.settings.scans;
                !scans.enabled || self.judge.forbids(&block.source).is_some()
            } else {
                self.judge
                    .settings
                    .protected
                    .spares(&block.source)
                    .is_some()
            };
            if forbidden || block.until <= now.since_boot {
                ended(&block, now, &mut effects);
                continue;
            }
            if automatic {
                self.judge.remember(&block);
            }
            match self.judge.blocks.insert(block.clone()) {
                Ok(None) => {}
                Ok(Some(gone)) => ended(&gone, now, &mut effects),
                Err(_) => ended(&block, now, &mut effects),
            }
        }
        effects
    }
}

/// The source as the table of blocks knows it.
fn blockable(source: IpNet) -> Result<IpNet, BlockError> {
    match (source, source.prefix_len()) {
        (IpNet::V4(_), 32) | (IpNet::V6(_), 128 | 64) => Ok(source.trunc()),
        _ => Err(BlockError::Prefix(source)),
    }
}
