//! A scan that goes on: one record from its first probe to its last. Decides nothing.

use std::time::Duration;

use filter_common::scan::{CELL_BITS, hint};
use ipnet::IpNet;

use super::Moment;
use super::evidence::{Crossing, Evidence};
use super::party::Party;
use super::probe::Probe;
use super::record::{ScanRecord, State};
use crate::policy::Threshold;
use crate::report::time::rfc3339;

/// Most decoys of one scan; further sources with the same probes are scans of their own.
pub(super) const DECOYS: usize = 64;
/// `filter_common::scan::filled` from which on there may be many more targets than anybody can tell.
const FULL: u32 = CELL_BITS - 3;
/// Ports, and hosts, that a record names.
pub(super) const SAMPLE: usize = 32;

/// Whether a source's blocks grow longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubling {
    /// Each is twice as long as the one before.
    Yes,
    /// It is one of several that sent the same, and which of them is real is not known.
    No,
}

/// A source above a threshold, and those that sent the same at the same time.
#[derive(Debug)]
pub(super) struct Scan {
    /// Counts up.
    pub(super) number: u64,
    pub(super) id: String,
    pub(super) source: Party,
    pub(super) decoys: Vec<Party>,
    pub(super) evidence: Evidence,
    pub(super) interface: String,
    /// When it was last reported, and whether there is something new since.
    pub(super) reported: Duration,
    pub(super) changed: bool,
    pub(super) shed: bool,
    /// Refused packets that were counted since its source's last probe was reported.
    pub(super) unreported: u64,
    crossing: Crossing,
    targets_to_open: u64,
}

impl Scan {
    /// Of a source that crossed a threshold at `opened`.
    pub(super) fn new(
        (number, id): (u64, String),
        source: Party,
        (evidence, crossing): (Evidence, Crossing),
        interface: &str,
        opened: Duration,
    ) -> Self {
        Self {
            number,
            id,
            source,
            decoys: Vec::new(),
            targets_to_open: evidence.targets,
            evidence,
            interface: interface.to_owned(),
            reported: opened,
            changed: false,
            shed: false,
            unreported: 0,
            crossing,
        }
    }

    /// Takes in a probe of its source or of a decoy.
    pub(super) fn note(&mut self, probe: &Probe, interface: &str, time: Duration) {
        self.evidence.note(probe, time);
        // the report holds them
        self.unreported = self.unreported.saturating_sub(probe.packets.into());
        if self.interface != interface {
            interface.clone_into(&mut self.interface);
        }
        self.shed |= probe.filled >= FULL;
        self.changed = true;
    }

    /// Refused packets so far.
    pub(super) fn packets(&self) -> u64 {
        self.evidence.packets.saturating_add(self.unreported)
    }

    /// How its source's blocks grow.
    pub(super) fn doubling(&self) -> Doubling {
        if self.decoys.is_empty() {
            Doubling::Yes
        } else {
            Doubling::No
        }
    }

    /// The source, then the decoys.
    pub(super) fn parties(&self) -> impl Iterator<Item = &Party> {
        std::iter::once(&self.source).chain(&self.decoys)
    }

    /// The source, then the decoys.
    pub(super) fn parties_mut(&mut self) -> impl Iterator<Item = &mut Party> {
        std::iter::once(&mut self.source).chain(&mut self.decoys)
    }

    /// As people and scripts see it. `blocked_until` is that of its source.
    pub(super) fn record(
        &self,
        state: State,
        blocked_until: Option<Duration>,
        thresholds: &[Threshold],
        now: Moment,
    ) -> ScanRecord {
        let evidence = &self.evidence;
        let at = |time: Duration| rfc3339(now.at(time).wall);
        let span = evidence.last.saturating_sub(evidence.first);
        let patterns = evidence.patterns();
        let hints = hint::NAMES
            .iter()
            .filter(|(bit, _)| evidence.hints & bit != 0);
        let sample = evidence.ports().take(SAMPLE);
        // an estimate may exceed what can be
        let (ports, hosts) = evidence.counts();
        let (ports, hosts) = (ports.min(self.packets()), hosts.min(self.packets()));
        ScanRecord {
            id: self.id.clone(),
            state,
            source: self.source.net,
            decoys: self.decoys.iter().map(|decoy| decoy.net).collect(),
            kind: evidence.kind(thresholds),
            patterns: patterns
                .map(|(pattern, count)| (pattern.name().to_owned(), count.into()))
                .collect(),
            hints: hints.map(|(_, name)| (*name).to_owned()).collect(),
            ports,
            hosts,
            sample_ports: sample.map(|port| port.to_string()).collect(),
            sample_hosts: evidence.hosts().take(SAMPLE).collect(),
            packets: self.packets(),
            rate: self.packets() as f64 / span.as_secs_f64().max(1.0),
            interface: self.interface.clone(),
            first_seen: at(evidence.first),
            last_seen: at(evidence.last),
            targets_to_open: self.targets_to_open,
            verdict: self.source.verdict,
            because: format!("{}; {}", self.crossing, self.source.because),
            blocked_until: blocked_until.map(at),
            strikes: self.source.strikes,
            shed: self.shed,
        }
    }

    /// Whether `net` takes part in it.
    pub(super) fn party_mut(&mut self, net: &IpNet) -> Option<&mut Party> {
        self.parties_mut().find(|party| party.net == *net)
    }
}
