//! What is remembered of one source's probes: which ports and hosts, how lately, and whether that is a scan. Pure and
//! bounded; knows nothing of blocks.
//!
//! A target counts once however often it is probed: 2,000 refused retransmissions to one port are one port. UDP and
//! ICMP count half, because they are the cheapest to forge and what misdirected programs send; so a scan is recognised
//! after this many probes within the first window (`ports` for one host, `hosts` for one port):
//!
//! | patterns | `low` | `medium` | `high` |
//! |---|---|---|---|
//! | `syn` `connect` `fin` `null` `xmas` `maimon` `ack` `illegal_flags` `sctp_init` `sctp_cookie` `protocol` | 25 | 10 | 5 |
//! | `udp` `icmp_echo` `icmp_timestamp` `icmp_mask` | 50 | 20 | 10 |

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use filter_common::scan::{CELL_BITS, Pattern};

use super::probe::Probe;
use super::record;
use super::tally::Tally;
use crate::policy::{LONGEST_WINDOW, MOST_TARGETS, Threshold};

/// What a target counts for in a threshold: these are halves.
const HALVES: usize = 2;
/// Ports, and likewise hosts, that are remembered of one source. Enough for the highest threshold in halves.
pub(super) const REMEMBERED: usize = MOST_TARGETS as usize * HALVES;

/// Fewer ports, or hosts, than this are counted as they were reported: next to none are missing.
const EXACT: u64 = 64;

/// A port as people see it: what it is a port of, and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Service {
    kind: Kind,
    number: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Tcp,
    Udp,
    Sctp,
    Protocol,
    Icmp,
    Icmp6,
}

impl Service {
    fn of(probe: &Probe) -> Self {
        let (kind, number) = match probe.pattern {
            Pattern::Udp => (Kind::Udp, probe.port),
            Pattern::SctpInit | Pattern::SctpCookie => (Kind::Sctp, probe.port),
            Pattern::Protocol => (Kind::Protocol, probe.port),
            Pattern::IcmpEcho if probe.source.is_ipv6() => (Kind::Icmp6, 128),
            Pattern::IcmpEcho => (Kind::Icmp, 8),
            Pattern::IcmpTimestamp => (Kind::Icmp, 13),
            Pattern::IcmpMask => (Kind::Icmp, 17),
            Pattern::Syn
            | Pattern::Connect
            | Pattern::Fin
            | Pattern::Null
            | Pattern::Xmas
            | Pattern::Maimon
            | Pattern::Ack
            | Pattern::IllegalFlags => (Kind::Tcp, probe.port),
        };
        Self { kind, number }
    }

    /// In halves.
    fn weight(self) -> usize {
        match self.kind {
            Kind::Udp | Kind::Icmp | Kind::Icmp6 => 1,
            Kind::Tcp | Kind::Sctp | Kind::Protocol => HALVES,
        }
    }
}

/// What a probe counts for, in halves of a target.
pub(super) fn weight(probe: &Probe) -> usize {
    Service::of(probe).weight()
}

/// How much it takes to cross a threshold, in halves of a target.
pub(super) fn enough(threshold: &Threshold) -> usize {
    halves(threshold.ports.min(threshold.hosts))
}

impl fmt::Display for Service {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Tcp => "tcp",
            Kind::Udp => "udp",
            Kind::Sctp => "sctp",
            Kind::Protocol => "protocol",
            Kind::Icmp => "icmp",
            Kind::Icmp6 => "icmpv6",
        };
        write!(out, "{kind}/{}", self.number)
    }
}

/// Tenths of a second since boot: 13 years of them, in four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Tenths(u32);

impl Tenths {
    fn of(time: Duration) -> Self {
        Self(u32::try_from(time.as_millis() / 100).unwrap_or(u32::MAX))
    }

    /// Whether it lies at most `window` before `now`.
    fn within(self, window: Duration, now: Self) -> bool {
        self.0.saturating_add(Self::of(window).0) >= now.0
    }
}

/// What a remembered port takes.
#[cfg(test)]
pub(super) const PORT_BYTES: usize = size_of::<Port>();
/// What a remembered host takes.
#[cfg(test)]
pub(super) const HOST_BYTES: usize = size_of::<Host>();

/// One bit for each pattern.
type Patterns = u32;

#[derive(Clone, Copy, Debug)]
struct Port {
    last: Tenths,
    patterns: Patterns,
    service: Service,
}

#[derive(Clone, Copy, Debug)]
struct Host {
    last: Tenths,
    /// The last probe that counts whole.
    last_whole: Option<Tenths>,
    patterns: Patterns,
    address: IpAddr,
}

impl Host {
    fn weight(&self, window: Duration, now: Tenths) -> usize {
        let whole = self.last_whole.is_some_and(|last| last.within(window, now));
        if whole {
            HALVES
        } else {
            usize::from(self.last.within(window, now))
        }
    }
}

/// Which threshold a source crossed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Crossing {
    ports: usize,
    hosts: usize,
    within: Duration,
}

impl fmt::Display for Crossing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count| if count == 1 { "" } else { "s" };
        write!(
            out,
            "{} port{} and {} host{} within {} s",
            self.ports,
            plural(self.ports),
            self.hosts,
            plural(self.hosts),
            self.within.as_secs()
        )
    }
}

/// All ports and hosts, counted and not remembered.
#[derive(Clone, Debug)]
struct Beyond {
    ports: Tally,
    hosts: Tally,
}

impl Beyond {
    fn new(ports: &[Port], hosts: &[Host]) -> Self {
        let mut beyond = Self {
            ports: Tally::new(),
            hosts: Tally::new(),
        };
        for port in ports {
            beyond.ports.add(port.service);
        }
        for host in hosts {
            beyond.hosts.add(host.address);
        }
        beyond
    }
}

/// The memory of one source's probes.
#[derive(Clone, Debug)]
pub(super) struct Evidence {
    ports: Vec<Port>,
    hosts: Vec<Host>,
    /// Once there were more than that.
    beyond: Option<Box<Beyond>>,
    by_pattern: [u32; Pattern::ALL.len()],
    /// Distinct targets as far as they are remembered; beyond, each one that was reported.
    pub(super) targets: u64,
    /// Targets that were most likely not reported, because the program took them for others.
    missed: f32,
    pub(super) packets: u64,
    pub(super) hints: u8,
    pub(super) first: Duration,
    pub(super) last: Duration,
}

impl Evidence {
    /// Nothing yet, of a source whose first probe came at `first`.
    pub(super) fn new(first: Duration) -> Self {
        Self {
            ports: Vec::new(),
            hosts: Vec::new(),
            beyond: None,
            by_pattern: [0; Pattern::ALL.len()],
            targets: 0,
            missed: 0.0,
            packets: 0,
            hints: 0,
            first,
            last: first,
        }
    }

    /// Remembers a probe that came at `time`.
    pub(super) fn note(&mut self, probe: &Probe, time: Duration) {
        self.first = self.first.min(time);
        self.last = self.last.max(time);
        self.packets = self.packets.saturating_add(u64::from(probe.packets));
        self.hints |= probe.hints;
        let service = Service::of(probe);
        let now = Tenths::of(time);
        let bit = 1 << probe.pattern as u8;
        let new_port = self.note_port(service, now, bit);
        let new_host = self.note_host(probe.destination, service, now, bit);
        if let Some(beyond) = &mut self.beyond {
            beyond.ports.add(service);
            beyond.hosts.add(probe.destination);
        }
        if new_port || new_host {
            self.targets = self.targets.saturating_add(1);
            self.missed += missed(probe.filled);
            if let Some(count) = self.by_pattern.get_mut(probe.pattern as usize) {
                *count = count.saturating_add(1);
            }
        }
    }

    /// Whether it is new in that pattern, or too much to be known.
    fn note_port(&mut self, service: Service, now: Tenths, bit: Patterns) -> bool {
        if let Some(port) = self.ports.iter_mut().find(|port| port.service == service) {
            let new = port.patterns & bit == 0;
            port.last = port.last.max(now);
            port.patterns |= bit;
            return new;
        }
        if self.ports.len() < REMEMBERED {
            self.ports.push(Port {
                last: now,
                patterns: bit,
                service,
            });
        } else {
            self.go_beyond();
        }
        true
    }

    fn note_host(&mut self, address: IpAddr, service: Service, now: Tenths, bit: u32) -> bool {
        let whole = (service.weight() == HALVES).then_some(now);
        if let Some(host) = self.hosts.iter_mut().find(|host| host.address == address) {
            let new = host.patterns & bit == 0;
            host.last = host.last.max(now);
            host.last_whole = host.last_whole.max(whole);
            host.patterns |= bit;
            return new;
        }
        if self.hosts.len() < REMEMBERED {
            self.hosts.push(Host {
                last: now,
                last_whole: whole,
                patterns: bit,
                address,
            });
        } else {
            self.go_beyond();
        }
        true
    }

    /// More is only counted.
    fn go_beyond(&mut self) {
        if self.beyond.is_none() {
            let beyond = Beyond::new(&self.ports, &self.hosts);
            self.beyond = Some(Box::new(beyond));
        }
    }

    /// Forgets the ports and hosts that no window reaches any more.
    pub(super) fn prune(&mut self) {
        let now = Tenths::of(self.last);
        self.ports
            .retain(|port| port.last.within(LONGEST_WINDOW, now));
        self.hosts
            .retain(|host| host.last.within(LONGEST_WINDOW, now));
    }

    /// The first threshold that is crossed at the last probe.
    pub(super) fn crossing(&self, thresholds: &[Threshold]) -> Option<Crossing> {
        thresholds.iter().find_map(|threshold| {
            let crosses = self.port_weight(threshold.within) >= halves(threshold.ports)
                || self.host_weight(threshold.within) >= halves(threshold.hosts);
            crosses.then(|| self.within(threshold.within))
        })
    }

    fn within(&self, within: Duration) -> Crossing {
        let now = Tenths::of(self.last);
        let ports = self.ports.iter().map(|port| port.last);
        let hosts = self.hosts.iter().map(|host| host.last);
        let count = |last: &Tenths| last.within(within, now);
        Crossing {
            ports: ports.filter(count).count(),
            hosts: hosts.filter(count).count(),
            within,
        }
    }

    fn port_weight(&self, window: Duration) -> usize {
        let now = Tenths::of(self.last);
        let seen = self.ports.iter();
        seen.filter(|port| port.last.within(window, now))
            .map(|port| port.service.weight())
            .sum()
    }

    fn host_weight(&self, window: Duration) -> usize {
        let now = Tenths::of(self.last);
        self.hosts.iter().map(|host| host.weight(window, now)).sum()
    }

    /// What is scanned: of what there are many, by the lowest of the thresholds.
    pub(super) fn kind(&self, thresholds: &[Threshold]) -> record::Kind {
        let ever = Duration::MAX;
        let ports = thresholds.iter().map(|threshold| threshold.ports).min();
        let ports = ports.is_some_and(|least| self.port_weight(ever) >= halves(least));
        let hosts = thresholds.iter().map(|threshold| threshold.hosts).min();
        let hosts = hosts.is_some_and(|least| self.host_weight(ever) >= halves(least));
        if ports && hosts {
            record::Kind::Both
        } else if hosts || (!ports && self.hosts.len() > self.ports.len()) {
            record::Kind::Sweep
        } else {
            record::Kind::PortScan
        }
    }

    /// Whether `other` sent the same: at least four fifths of these ports, and of these hosts, and of both at least half
    /// as good as at the same time, each at most `apart` earlier or later. The others may have been shed at first and
    /// seen when they were sent again.
    pub(super) fn is_like(&self, other: &Self, apart: Duration) -> bool {
        let ports = self.ports.iter().map(|mine| {
            let theirs = other.ports.iter().find(|it| it.service == mine.service);
            (mine.last, theirs.map(|theirs| theirs.last))
        });
        let hosts = self.hosts.iter().map(|mine| {
            let theirs = other.hosts.iter().find(|it| it.address == mine.address);
            (mine.last, theirs.map(|theirs| theirs.last))
        });
        are_alike(ports, apart) && are_alike(hosts, apart)
    }

    /// Distinct targets, by pattern.
    pub(super) fn patterns(&self) -> impl Iterator<Item = (Pattern, u32)> {
        let counts = Pattern::ALL.iter().copied().zip(self.by_pattern);
        counts.filter(|(_, count)| *count > 0)
    }

    /// Those that are remembered, in the order in which they came.
    pub(super) fn ports(&self) -> impl Iterator<Item = Service> {
        self.ports.iter().map(|port| port.service)
    }

    /// Those that are remembered, in the order in which they came.
    pub(super) fn hosts(&self) -> impl Iterator<Item = IpAddr> {
        self.hosts.iter().map(|host| host.address)
    }

    /// Distinct ports and hosts; many of them are an estimate.
    pub(super) fn counts(&self) -> (u64, u64) {
        let (ports, hosts) = self.reported();
        let part = 1.0 / (1.0 + f64::from(self.missed) / self.targets.max(1) as f64);
        (whole(ports, part, hosts), whole(hosts, part, ports))
    }

    /// The same of those that were reported.
    fn reported(&self) -> (u64, u64) {
        let known = (self.ports.len() as u64, self.hosts.len() as u64);
        self.beyond.as_ref().map_or(known, |beyond| {
            // what all fits into the memory is exact
            let count = |known: u64, tally: &Tally| match known {
                known if known < REMEMBERED as u64 => known,
                known => known.max(tally.count()),
            };
            (count(known.0, &beyond.ports), count(known.1, &beyond.hosts))
        })
    }

    /// Ports and hosts that are remembered.
    pub(super) fn remembered(&self) -> usize {
        self.ports.len() + self.hosts.len()
    }
}

/// Of when each thing was seen last, here and there.
fn are_alike(seen: impl Iterator<Item = (Tenths, Option<Tenths>)>, apart: Duration) -> bool {
    let apart = Tenths::of(apart).0;
    let (mut all, mut shared, mut together) = (0, 0, 0);
    for (mine, theirs) in seen {
        all += 1;
        shared += usize::from(theirs.is_some());
        together += usize::from(theirs.is_some_and(|theirs| mine.0.abs_diff(theirs.0) <= apart));
    }
    shared * 5 >= all * 4 && together * 2 >= all
}

/// Targets that are not reported for each one that is, while so many bits of the cell are set (as in linear counting).
fn missed(filled: u32) -> f32 {
    let filled = filled.min(CELL_BITS - 1);
    filled as f32 / (CELL_BITS - filled) as f32
}

/// How many ports there are likely to be if so many were found in a `part` of what was sent to each of `hosts`; or the
/// other way round. Few are as they were found.
fn whole(found: u64, part: f64, hosts: u64) -> u64 {
    if found < EXACT {
        return found;
    }
    let hosts = i32::try_from(hosts).unwrap_or(i32::MAX);
    (found as f64 / (1.0 - (1.0 - part).powi(hosts))).round() as u64
}

fn halves(count: u32) -> usize {
    (count as usize).saturating_mul(HALVES)
}
