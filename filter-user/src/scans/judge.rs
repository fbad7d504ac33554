//! What becomes of a scan's source, and the blocks that follow from it. Pure: every block and its end is an effect that
//! is handed back.
//!
//! A refused packet proves nothing about who sent it: ten forged SYNs look like a scan of their alleged source. So that
//! this is no cheap way to have a third party blocked,
//! - whom the policy or the host needs (`never_block`, lists of allow rules, gateways, resolvers) is never blocked;
//! - a source with a working connection is not blocked, unless the policy says so (`verified`): a forger cannot complete
//!   a handshake, and the program notes a peer only after one;
//! - UDP and ICMP count half;
//! - there are at most `blocks_per_minute` automatic blocks; a scan beyond is judged again only once more probes come;
//! - of sources that send the same at the same time (`nmap -D`), each is blocked for `block_for` only, without doubling;
//! - a block ends by itself, and never touches replies to this host's own connections.
//!
//! What remains: whoever can send with forged sources can have strangers without a connection refused for `block_for`,
//! `blocks_per_minute` of them, by as many packets each as the threshold asks for.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::Moment;
use super::blocks::{Block, Blocks, CAPACITY};
use super::detector::{Effect, Peers, Settings};
use super::party::Party;
use super::record::{Origin, Report, ScanRecord, State, Verdict};
use super::scan::{Doubling, Scan};
use super::source::{Key, key};
use super::strikes::Strikes;
use crate::policy::ScanAction;

const MINUTE: Duration = Duration::from_mins(1);

/// Settings, blocks, and what is known about former blocks.
#[derive(Debug)]
pub(super) struct Judge {
    pub(super) settings: Arc<Settings>,
    pub(super) blocks: Blocks,
    pub(super) strikes: Strikes,
    /// Automatic blocks of the last minute.
    recent: VecDeque<Duration>,
}

impl Judge {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        Self {
            settings,
            blocks: Blocks::new(CAPACITY),
            strikes: Strikes::new(),
            recent: VecDeque::new(),
        }
    }

    /// Decides about a source that scans, and blocks it if need be.
    pub(super) fn judge(
        &mut self,
        party: &mut Party,
        (scan, doubling): (&str, Doubling),
        (now, peers): (Moment, &dyn Peers),
        effects: &mut Vec<Effect>,
    ) {
        party.judged = party.last;
        if party.released {
            return;
        }
        if let Some(block) = self.blocks.get(&party.net) {
            party.strikes = block.strikes;
            (party.verdict, party.because) = (Verdict::Blocked, "blocked already".to_owned());
            return;
        }
        if let Some((verdict, because)) = self.forbids(&party.net) {
            (party.verdict, party.because) = (verdict, because);
            return;
        }
        let spared = self.spares(party.net.addr(), now, peers);
        (party.verdict, party.because) = match spared {
            Some(because) => (Verdict::Spared, because.to_owned()),
            None => self.block(party, (scan, doubling), now, effects),
        };
    }

    /// What the policy says against a block of `net`, whoever asks.
    pub(super) fn forbids(&self, net: &IpNet) -> Option<(Verdict, String)> {
        if self.settings.scans.action == ScanAction::Observe {
            let because = "the policy's action is to observe".to_owned();
            return Some((Verdict::Observed, because));
        }
        let why = self.settings.protected.spares(net)?;
        Some((Verdict::Spared, format!("never blocked: {why}")))
    }

    /// What speaks against a block for the time being.
    fn spares(&mut self, address: IpAddr, now: Moment, peers: &dyn Peers) -> Option<&'static str> {
        let scans = &self.settings.scans;
        let over = |time: &Duration| time.saturating_add(MINUTE) <= now.since_boot;
        while self.recent.front().is_some_and(over) {
            self.recent.pop_front();
        }
        if self.recent.len() >= scans.blocks_per_minute as usize {
            Some("too many sources at once: likely forged")
        } else if scans.verified == ScanAction::Observe && peers.verified(address) {
            Some("it has a working connection with this host")
        } else {
            None
        }
    }

    fn block(
        &mut self,
        party: &mut Party,
        (scan, doubling): (&str, Doubling),
        now: Moment,
        effects: &mut Vec<Effect>,
    ) -> (Verdict, String) {
        let scans = &self.settings.scans;
        let so_far = self.strikes.of(&party.key, now.since_boot);
        let strikes = match doubling {
            Doubling::Yes => so_far.saturating_add(1),
            Doubling::No => so_far.max(1),
        };
        let ttl = match doubling {
            Doubling::Yes => ttl(scans.block_for, scans.block_at_most, strikes),
            Doubling::No => scans.block_for,
        };
        let block = Block {
            source: party.net,
            since: now.since_boot,
            until: now.since_boot.saturating_add(ttl),
            strikes,
            origin: Origin::Scan,
            scan: Some(scan.to_owned()),
        };
        let Ok(pushed_out) = self.blocks.insert(block.clone()) else {
            let because = "the table of blocks is full of blocks that last longer";
            return (Verdict::Spared, because.to_owned());
        };
        self.recent.push_back(now.since_boot);
        let forgotten = block.until.saturating_add(scans.block_at_most);
        self.strikes.set(party.key, strikes, forgotten);
        party.strikes = strikes;
        if let Some(gone) = pushed_out {
            ended(&gone, now, effects);
        }
        began(block, now, effects);
        (Verdict::Blocked, format!("blocked for {} s", ttl.as_secs()))
    }

    /// Moves an automatic block of `former` to all of the party's sources, with the same end.
    pub(super) fn widen(
        &mut self,
        party: &Party,
        former: &IpNet,
        now: Moment,
        effects: &mut Vec<Effect>,
    ) {
        let automatic = |block: &&Block| block.origin == Origin::Scan;
        let Some(block) = self.blocks.get(former).filter(automatic).cloned() else {
            return;
        };
        if self.forbids(&party.net).is_some() {
            return;
        }
        self.lift(former, now, effects);
        if self.blocks.get(&party.net).is_some() {
            return;
        }
        let wide = Block {
            source: party.net,
            ..block
        };
        // the narrow one made room
        if self.blocks.insert(wide.clone()).is_ok() {
            began(wide, now, effects);
        }
    }

    /// Thinks again about a scan's sources that are not blocked and that went on since; whether a verdict changed.
    pub(super) fn again(
        &mut self,
        scan: &mut Scan,
        (now, peers): (Moment, &dyn Peers),
        effects: &mut Vec<Effect>,
    ) -> bool {
        let id = scan.id.clone();
        let doubling = scan.doubling();
        let mut changed = false;
        for party in scan.parties_mut() {
            // a block that ran out is renewed by the next probe only
            if party.verdict == Verdict::Blocked || party.last <= party.judged {
                continue;
            }
            let former = party.verdict;
            self.judge(party, (&id, doubling), (now, peers), effects);
            changed |= party.verdict != former;
        }
        changed
    }

    /// Goes back on verdicts that new settings forbid; whether there were any.
    pub(super) fn refrain(&self, scan: &mut Scan) -> bool {
        let mut changed = false;
        for party in scan.parties_mut().filter(|party| !party.released) {
            if let Some((verdict, because)) = self.forbids(&party.net) {
                changed |= party.verdict != verdict;
                (party.verdict, party.because) = (verdict, because);
            }
        }
        changed
    }

    /// The scan as people and scripts see it.
    pub(super) fn record(&self, scan: &Scan, state: State, now: Moment) -> ScanRecord {
        let block = self.blocks.get(&scan.source.net);
        let lasting = block.filter(|block| block.until > now.since_boot);
        let until = lasting.map(|block| block.until);
        scan.record(state, until, &self.settings.scans.thresholds, now)
    }

    /// A source scans: its strikes are remembered.
    pub(super) fn keep(&mut self, key: &Key, now: Moment) {
        let memory = self.settings.scans.block_at_most;
        self.strikes
            .keep(key, now.since_boot.saturating_add(memory));
    }

    /// Takes over the strikes of a former run's block.
    pub(super) fn remember(&mut self, block: &Block) {
        let key = key(block.source.addr(), &self.settings);
        let memory = self.settings.scans.block_at_most;
        self.strikes
            .set(key, block.strikes, block.until.saturating_add(memory));
    }

    /// Takes a block off, if there is one.
    pub(super) fn lift(
        &mut self,
        source: &IpNet,
        now: Moment,
        effects: &mut Vec<Effect>,
    ) -> Option<Block> {
        let block = self.blocks.remove(source)?;
        ended(&block, now, effects);
        Some(block)
    }

    /// Ends the blocks whose time is over.
    pub(super) fn expire(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        while let Some(block) = self.blocks.pop_ended(now.since_boot) {
            ended(&block, now, effects);
        }
        self.strikes.forget(now.since_boot);
    }
}

/// Twice as long with every strike after the first, up to the limit.
fn ttl(first: Duration, at_most: Duration, strikes: u32) -> Duration {
    let factor = 1_u32
        .checked_shl(strikes.saturating_sub(1))
        .unwrap_or(u32::MAX);
    first.saturating_mul(factor).min(at_most)
}

/// A block begins.
pub(super) fn began(block: Block, now: Moment, effects: &mut Vec<Effect>) {
    let record = block.record(now);
    effects.push(Effect::Block(block));
    effects.push(Effect::Report(Arc::new(Report::Blocked(record))));
}

/// A block is over, in its time or before.
pub(super) fn ended(block: &Block, now: Moment, effects: &mut Vec<Effect>) {
    effects.push(Effect::Unblock(block.source));
    let ended = Block {
        until: block.until.min(now.since_boot),
        ..block.clone()
    };
    let report = Report::Unblocked(ended.record(now));
    effects.push(Effect::Report(Arc::new(report)));
}
