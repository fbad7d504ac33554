//! From probes to scans, blocks and reports. Pure: the clock is given, and what is to be done comes back as [`Effect`]s;
//! nothing here touches the kernel, a file or the network.
//!
//! Everything is bounded, whatever comes: sources below the thresholds by [`Memory`]'s first two figures and a quarter
//! of a million ports and hosts, [`OPEN`] scans with 256 ports, 256 hosts and 64 decoys each (more is only counted),
//! [`CLOSED`] records of former scans, [`CAPACITY`] blocks and as many sources with strikes: some 100 MB together, and
//! some kilobytes as long as nobody scans.

mod manual;
mod view;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

pub use super::blocks::{Block, CAPACITY};
pub use super::protected::Protected;
pub use manual::BlockError;
pub use view::Memory;

use super::Moment;
use super::evidence::{self, Crossing};
use super::judge::Judge;
use super::party::Party;
use super::probe::Probe;
use super::protected::holds_any;
use super::record::{Origin, Report, ScanRecord, State, Verdict};
use super::scan::{DECOYS, Doubling, Scan};
use super::source::{Key, Source, Sources, key};
use crate::policy::{LONGEST_WINDOW, ScanAction, Scans};

/// A scan is over when nothing came for this long: three times the pause between two probes of `nmap -T0`.
pub const SILENCE: Duration = Duration::from_mins(15);
/// Most scans that are open at once. Beyond, the one with the fewest targets is closed.
pub const OPEN: usize = 1024;
/// Closed scans that are remembered.
pub const CLOSED: usize = 1000;
/// A scan that goes on is reported this often at most.
const UPDATE: Duration = Duration::from_mins(1);
/// Sources that cross a threshold within this time, with the same probes, are one scan.
const TOGETHER: Duration = Duration::from_secs(5);
/// How far apart the same probe of several sources may come: nmap sends those of its decoys back to back.
const BACK_TO_BACK: Duration = Duration::from_millis(300);
/// Latest scans that a new one is compared with.
const LATEST: usize = 64;
/// Sources below the thresholds that are remembered at most.
pub const SOURCES: usize = super::source::FEW + super::source::MANY;

/// Who has a working connection with this host.
pub trait Peers {
    /// Whether `address`, or for IPv6 anybody in its /64, lately took part in a connection that only its real owner can
    /// have had. Asked when a source is about to be blocked.
    fn verified(&self, address: std::net::IpAddr) -> bool;
}

/// All that the policy and the host say.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The policy's table.
    pub scans: Scans,
    /// Who is never blocked.
    pub protected: Protected,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Block a source; if it is blocked already, until this block's end instead.
    Block(Block),
    /// Take a block off.
    Unblock(IpNet),
    /// Tell people.
    Report(Arc<Report>),
}

/// The state of all scans and blocks.
#[derive(Debug)]
pub struct Detector {
    judge: Judge,
    sources: Sources,
    open: HashMap<Key, Scan>,
    /// Decoys, with the source of their scan.
    decoys: HashMap<Key, Key>,
    /// The scans that were opened last, with their sources.
    latest: VecDeque<(Duration, Key)>,
    closed: VecDeque<ScanRecord>,
    id_prefix: String,
    next_number: u64,
    shed: u64,
    shed_at: Option<Duration>,
}

impl Detector {
    /// Knows nothing yet. Scans are named `PREFIX-1`, `PREFIX-2` and so on: the prefix must be another after every
    /// start.
    #[must_use]
    pub fn new(settings: Arc<Settings>, id_prefix: impl Into<String>) -> Self {
        Self {
            judge: Judge::new(settings),
            sources: Sources::new(),
            open: HashMap::new(),
            decoys: HashMap::new(),
            latest: VecDeque::new(),
            closed: VecDeque::new(),
            id_prefix: id_prefix.into(),
            next_number: 1,
            shed: 0,
            shed_at: None,
        }
    }

    /// Takes in a refused packet that came in by `interface`.
    pub fn probe(
        &mut self,
        probe: &Probe,
        interface: &str,
        now: Moment,
        peers: &dyn Peers,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.judge.expire(now, &mut effects);
        let settings = Arc::clone(&self.judge.settings);
        if !settings.scans.enabled || exempt(&settings.scans, &probe.source.into()) {
            return effects;
        }
        // the coarse clock lags, and never leads
        let time = probe.time.min(now.since_boot);
        let key = key(probe.source, &settings);
        let main = self.decoys.get(&key).copied().unwrap_or(key);
        if let Some(scan) = self.open.get_mut(&main) {
            scan.note(probe, interface, time);
            let doubling = scan.doubling();
            let id = scan.id.clone();
            if let Some(party) = scan.parties_mut().find(|party| party.key == key) {
                party.last = party.last.max(time);
                if let Some(former) = party.widen(probe.source) {
                    self.judge.widen(party, &former, now, &mut effects);
                }
                self.judge.keep(&key, now);
                if party.verdict == Verdict::Blocked && self.judge.blocks.get(&party.net).is_none()
                {
                    // as much as for the first block: a packet now and then, forged perhaps, must not renew it for ever
                    party.again += evidence::weight(probe);
                    if party.again >= evidence::enough(&settings.scans.thresholds[0]) {
                        party.again = 0;
                        let clock = (now, peers);
                        self.judge
                            .judge(party, (&id, doubling), clock, &mut effects);
                    }
                }
            }
            return effects;
        }
        let mut source = match self.sources.take(&key) {
            Some(source) if time.saturating_sub(source.evidence.last) <= LONGEST_WINDOW => source,
            _ => Source::new(probe.source, time),
        };
        source.note(key, probe, time);
        match source.evidence.crossing(&settings.scans.thresholds) {
            None => self.sources.put(key, source),
            Some(crossing) => {
                let scan = Opening {
                    key,
                    source,
                    crossing,
                    interface,
                };
                self.open(scan, (now, peers), &mut effects);
            }
        }
        effects
    }

    /// What the time brings: ends of blocks, closings and updates of scans, second thoughts. Wants to be called every
    /// second or so.
    pub fn tick(&mut self, now: Moment, peers: &dyn Peers) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.judge.expire(now, &mut effects);
        self.sources
            .forget_before(now.since_boot.saturating_sub(LONGEST_WINDOW));
        for main in self.by_number() {
            let Some(scan) = self.open.get_mut(&main) else {
                continue;
            };
            if now.since_boot.saturating_sub(scan.evidence.last) >= SILENCE {
                self.close(&main, now, &mut effects);
                continue;
            }
            scan.changed |= self.judge.again(scan, (now, peers), &mut effects);
            if scan.changed && now.since_boot.saturating_sub(scan.reported) >= UPDATE {
                scan.changed = false;
                scan.reported = now.since_boot;
                let record = self.judge.record(scan, State::Open, now);
                effects.push(Effect::Report(Arc::new(Report::ScanUpdated(record))));
            }
        }
        effects
    }

    /// Goes on by new settings. Scans of sources that are exempt now are closed; blocks of sources that are protected or exempt now are lifted, and all automatic ones
    /// if the policy does not block any more.
    pub fn replace(&mut self, settings: Arc<Settings>, now: Moment) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.judge.expire(now, &mut effects);
        self.judge.settings = Arc::clone(&settings);
        let scans = &settings.scans;
        if !scans.enabled {
            self.sources.clear();
        }
        for main in self.by_number() {
            let Some(scan) = self.open.get(&main) else {
                continue;
            };
            // what is protected decides what counts as one source
            let key_now = |party: &Party| key(party.net.addr(), &settings);
            let other = scan.parties().any(|party| key_now(party) != party.key);
            if other || !scans.enabled || exempt(scans, &main) {
                self.close(&main, now, &mut effects);
            }
        }
        let blocks: Vec<Block> = self.judge.blocks.in_order().into_iter().cloned().collect();
        for block in blocks {
            let automatic = block.origin == Origin::Scan;
            let off = !scans.enabled || scans.action == ScanAction::Observe;
            let gone = automatic && (off || exempt(scans, &block.source));
            if gone || settings.protected.spares(&block.source).is_some() {
                self.judge.lift(&block.source, now, &mut effects);
            }
        }
        for scan in self.open.values_mut() {
            scan.changed |= self.judge.refrain(scan);
        }
        effects
    }

    /// So many refused packets of an open scan's source were counted since its last probe was reported.
    pub fn unreported(&mut self, source: IpNet, packets: u64) {
        let key = key(source.addr(), &self.judge.settings);
        if let Some(scan) = self.open.get_mut(&key) {
            scan.changed |= scan.unreported != packets;
            scan.unreported = packets;
        }
    }

    /// So many probes could not be reported: scans that go on may be larger than they look.
    pub fn shed(&mut self, probes: u64, now: Moment) {
        if probes == 0 {
            return;
        }
        self.shed = self.shed.saturating_add(probes);
        self.shed_at = Some(now.since_boot);
        for scan in self.open.values_mut() {
            scan.changed |= !scan.shed;
            scan.shed = true;
        }
    }

    /// A source crossed a threshold: it opens a scan or joins one.
    fn open(
        &mut self,
        opening: Opening<'_>,
        (now, peers): (Moment, &dyn Peers),
        effects: &mut Vec<Effect>,
    ) {
        let Opening {
            key,
            source,
            crossing,
            interface,
        } = opening;
        self.judge.keep(&key, now);
        let mut party = Party::new(key, source.net, source.evidence.last);
        let main = self.leader(&source, now);
        if let Some(scan) = main.and_then(|main| self.open.get_mut(&main)) {
            self.decoys.insert(key, scan.source.key);
            let about = (scan.id.as_str(), Doubling::No);
            self.judge.judge(&mut party, about, (now, peers), effects);
            scan.evidence.packets = (scan.evidence.packets).saturating_add(source.evidence.packets);
            scan.evidence.last = scan.evidence.last.max(source.evidence.last);
            scan.decoys.push(party);
            scan.changed = true;
            return;
        }
        if self.open.len() >= OPEN {
            self.close_smallest(now, effects);
        }
        let number = self.next_number;
        self.next_number += 1;
        let id = format!("{}-{number}", self.id_prefix);
        let about = (id.as_str(), Doubling::Yes);
        self.judge.judge(&mut party, about, (now, peers), effects);
        let first = source.evidence.first;
        let evidence = (source.evidence, crossing);
        let mut scan = Scan::new((number, id), party, evidence, interface, now.since_boot);
        scan.shed = self.shed_at.is_some_and(|shed| shed >= first);
        let record = self.judge.record(&scan, State::Open, now);
        effects.push(Effect::Report(Arc::new(Report::ScanOpened(record))));
        self.open.insert(key, scan);
        self.latest.push_back((now.since_boot, key));
        if self.latest.len() > LATEST {
            self.latest.pop_front();
        }
    }

    /// The scan that was opened just now by the same probes.
    fn leader(&self, source: &Source, now: Moment) -> Option<Key> {
        let lately = self.latest.iter().rev();
        let mut lately =
            lately.take_while(|(opened, _)| now.since_boot.saturating_sub(*opened) <= TOGETHER);
        let main = lately.find(|(_, main)| {
            self.open.get(main).is_some_and(|scan| {
                scan.decoys.len() < DECOYS && source.evidence.is_like(&scan.evidence, BACK_TO_BACK)
            })
        });
        main.map(|(_, main)| *main)
    }

    /// Makes room: the scan with the fewest targets goes, of several the one that is silent longest.
    fn close_smallest(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let smallest = self
            .open
            .iter()
            .min_by_key(|(_, scan)| (scan.evidence.targets, scan.evidence.last, scan.number));
        if let Some(key) = smallest.map(|(key, _)| *key) {
            self.close(&key, now, effects);
        }
    }

    fn close(&mut self, key: &Key, now: Moment, effects: &mut Vec<Effect>) {
        let Some(scan) = self.open.remove(key) else {
            return;
        };
        for decoy in &scan.decoys {
            self.decoys.remove(&decoy.key);
        }
        self.latest.retain(|(_, main)| main != key);
        let record = self.judge.record(&scan, State::Closed, now);
        if self.closed.len() >= CLOSED {
            self.closed.pop_front();
        }
        self.closed.push_back(record.clone());
        effects.push(Effect::Report(Arc::new(Report::ScanClosed(record))));
    }

    /// The open scans in the order in which they were opened.
    fn by_number(&self) -> Vec<Key> {
        let by_number: BTreeMap<u64, Key> = self
            .open
            .iter()
            .map(|(key, scan)| (scan.number, *key))
            .collect();
        by_number.into_values().collect()
    }
}

/// A source that crossed a threshold.
struct Opening<'a> {
    key: Key,
    source: Source,
    crossing: Crossing,
    interface: &'a str,
}

fn exempt(scans: &Scans, source: &IpNet) -> bool {
    let exempt = scans.exempt.as_ref();
    exempt.is_some_and(|set| holds_any(set, source))
}
