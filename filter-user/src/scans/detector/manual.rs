//! Blocks that a person makes or takes off, and those that a former run left behind.

use std::time::Duration;

use ipnet::IpNet;

use super::Detector;
use crate::policy;
use crate::scans::Moment;
use crate::scans::blocks::{Block, CAPACITY};
use crate::scans::detector::Effect;
use crate::scans::judge::{began, ended};
use crate::scans::record::{Origin, Verdict};
use crate::scans::source::key;

/// Why a block was not made or taken off.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Not an address or an IPv6 /64, or the /64 of all links.
    #[error("{0} cannot be blocked: name an address, or an IPv6 /64 that is not link-local")]
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
    #[error("a block lasts from 1 second to 30 days")]
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
        if !policy::Scans::BLOCK.contains(&ttl) {
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
        let key = key(source.addr(), &self.judge.settings);
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
        (IpNet::V4(_), 32) | (IpNet::V6(_), 128) => Ok(source),
        (IpNet::V6(net), 64) if !net.addr().is_unicast_link_local() => Ok(source.trunc()),
        _ => Err(BlockError::Prefix(source)),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::policy::Scans;
    use crate::report::time::rfc3339;
    use crate::scans::detector::{Peers, Settings};
    use crate::scans::protected::Protected;
    use crate::scans::record::Report;

    struct Nobody;

    impl Peers for Nobody {
        fn verified(&self, _: IpAddr) -> bool {
            false
        }
    }

    #[test]
    fn a_block_that_is_over_says_when() {
        let begin = Moment {
            since_boot: Duration::from_secs(100),
            wall: SystemTime::UNIX_EPOCH + Duration::from_hours(1000),
        };
        let after = |seconds| begin.at(begin.since_boot + Duration::from_secs(seconds));
        let settings = Settings {
            scans: Scans::default(),
            protected: Protected::default(),
        };
        let mut detector = Detector::new(Arc::new(settings), "a");
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let minute = Some(Duration::from_mins(1));
        for source in ["192.0.2.7/32", "192.0.2.8/32"] {
            detector.block(net(source), minute, begin).unwrap();
        }
        let taken_off = detector.unblock(net("192.0.2.7/32"), after(10)).unwrap();
        let ran_out = detector.tick(after(65), &Nobody);
        let ends = |effects: &[Effect]| {
            effects
                .iter()
                .filter_map(|effect| match effect {
                    Effect::Report(report) => match &**report {
                        Report::Unblocked(block) => Some((block.until.clone(), block.seconds_left)),
                        _ => None,
                    },
                    _ => None,
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(ends(&taken_off), [(rfc3339(after(10).wall), 0)]);
        assert_eq!(ends(&ran_out), [(rfc3339(after(60).wall), 0)]);
    }

    #[test]
    fn a_block_has_its_bounds() {
        let mut detector = Detector::new(
            Arc::new(Settings {
                scans: Scans::default(),
                protected: Protected::default(),
            }),
            "a",
        );
        let now = Moment {
            since_boot: Duration::ZERO,
            wall: SystemTime::UNIX_EPOCH,
        };
        let source: IpNet = "192.0.2.7/32".parse().unwrap();
        let longest = *Scans::BLOCK.end();
        assert!(detector.block(source, Some(longest), now).is_ok());
        for wrong in [Duration::ZERO, longest + Duration::from_secs(1)] {
            assert_eq!(
                detector.block(source, Some(wrong), now),
                Err(BlockError::Time)
            );
        }
    }
}
