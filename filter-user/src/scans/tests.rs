//! The detector's behaviour, with the clock given. Every effect is checked against a model of the kernel's table.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use filter_common::scan::Pattern;
use ipnet::IpNet;

use super::Moment;
use super::detector::{Block, Detector, Effect, Peers, Protected, Settings};
use super::probe::Probe;
use super::record::{Origin, Report, ScanRecord, State, Verdict};
use crate::policy::{PrefixSet, ScanAction, Scans};

mod answers;
mod benign;
mod bounds;
mod by_hand;
mod decoys;
mod recognition;

const HOST: &str = "198.51.100.1";
const SCANNER: &str = "203.0.113.9";

/// Peers with a working connection.
#[derive(Default)]
struct Verified(BTreeSet<IpAddr>);

impl Peers for Verified {
    fn verified(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }
}

/// A detector, its clock, and what came of it.
struct World {
    detector: Detector,
    now: Duration,
    /// The wall clock at boot.
    boot: SystemTime,
    peers: Verified,
    kernel: BTreeMap<IpNet, Block>,
    reports: Vec<Arc<Report>>,
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn net(text: &str) -> IpNet {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address.unwrap_or_else(|_| text.parse().unwrap())
}

/// An exact list of prefixes, as the policy hands them over.
fn set(name: &str, prefixes: &[&str]) -> Arc<PrefixSet> {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for prefix in prefixes {
        match net(prefix) {
            IpNet::V4(prefix) => v4.push(prefix),
            IpNet::V6(prefix) => v6.push(prefix),
        }
    }
    v4.sort();
    v6.sort();
    let name = name.to_owned();
    Arc::new(PrefixSet { name, v4, v6 })
}

fn blocking() -> Scans {
    Scans {
        action: ScanAction::Block,
        ..Scans::default()
    }
}

fn settings(scans: Scans) -> Arc<Settings> {
    let protected = Protected::default();
    Arc::new(Settings { scans, protected })
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl World {
    fn new(scans: Scans) -> Self {
        Self::with(settings(scans))
    }

    fn with(settings: Arc<Settings>) -> Self {
        Self {
            detector: Detector::new(settings, "test"),
            now: seconds(1000),
            boot: UNIX_EPOCH + seconds(1_800_000_000),
            peers: Verified::default(),
            kernel: BTreeMap::new(),
            reports: Vec::new(),
        }
    }

    fn moment(&self) -> Moment {
        Moment {
            since_boot: self.now,
            wall: self.boot + self.now,
        }
    }

    /// Carries out what the detector wants. A block follows on no block, unless a person asks for another end; an end
    /// follows on a block.
    fn apply(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Block(block) => {
                    assert!(block.until > self.now, "{block:?}");
                    let former = self.kernel.insert(block.source, block.clone());
                    assert!(
                        former.is_none() || block.origin == Origin::Manual,
                        "{block:?} on {former:?}"
                    );
                }
                Effect::Unblock(source) => {
                    assert!(self.kernel.remove(&source).is_some(), "{source}");
                }
                Effect::Report(report) => self.reports.push(report),
            }
        }
    }

    /// One second after the other.
    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = end.min(self.now + seconds(1));
            self.tick();
        }
    }

    fn tick(&mut self) {
        let effects = self.detector.tick(self.moment(), &self.peers);
        self.apply(effects);
    }

    fn probe(&mut self, source: IpAddr, destination: IpAddr, port: u16, pattern: Pattern) {
        let probe = Probe {
            time: self.now,
            source,
            destination,
            port,
            source_port: 40_000,
            pattern,
            hints: 0,
            hop_limit: 50,
            packets: 1,
            filled: 0,
        };
        self.send(&probe);
    }

    fn send(&mut self, probe: &Probe) {
        let effects = self
            .detector
            .probe(probe, "eth0", self.moment(), &self.peers);
        self.apply(effects);
    }

    fn syn(&mut self, source: &str, port: u16) {
        self.probe(ip(source), ip(HOST), port, Pattern::Syn);
    }

    /// A scan of so many TCP ports, 10 ms apart.
    fn scan(&mut self, source: &str, ports: u16) {
        for port in 1..=ports {
            self.now += Duration::from_millis(10);
            self.syn(source, port);
        }
    }

    fn replace(&mut self, settings: Arc<Settings>) {
        let effects = self.detector.replace(settings, self.moment());
        self.apply(effects);
    }

    fn scans(&self) -> Vec<ScanRecord> {
        self.detector.scans(self.moment())
    }

    /// The only scan there is.
    #[track_caller]
    fn only(&self) -> ScanRecord {
        let mut scans = self.scans();
        assert_eq!(scans.len(), 1, "{scans:#?}");
        scans.remove(0)
    }

    fn blocked(&self, source: &str) -> bool {
        self.kernel.contains_key(&net(source))
    }

    /// How long a source's block lasts in all.
    #[track_caller]
    fn ttl(&self, source: &str) -> Duration {
        let block = &self.kernel[&net(source)];
        block.until.abs_diff(block.since)
    }

    /// The names of all reports so far.
    fn told(&self) -> Vec<&'static str> {
        let names = self.reports.iter().map(|report| match **report {
            Report::ScanOpened(_) => "opened",
            Report::ScanUpdated(_) => "updated",
            Report::ScanClosed(_) => "closed",
            Report::Blocked(_) => "blocked",
            Report::Unblocked(_) => "unblocked",
            Report::Alert(_) => "alert",
        });
        names.collect()
    }
}

impl Drop for World {
    /// The detector's table is the kernel's.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.tick();
        let known = self.detector.blocks(self.moment());
        let known: BTreeSet<_> = known.iter().map(|block| block.source).collect();
        assert_eq!(known, self.kernel.keys().copied().collect());
    }
}
