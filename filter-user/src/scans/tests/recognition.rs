//! What is recognised as a scan, after how many probes, and what its record says.

use filter_common::layout::ScanCell;
use filter_common::limits::CELL_WORDS;
use filter_common::scan::{self, Vote};

use super::*;
use crate::policy::Threshold;
use crate::scans::detector::Memory;
use crate::scans::record::Kind;

/// Every pattern is recognised after as many probes as the documentation of `evidence` says.
#[test]
fn as_many_probes_as_documented() {
    let presets = [Scans::LOW, Scans::MEDIUM, Scans::HIGH];
    let table = include_str!("../evidence.rs").lines();
    let rows = table.filter_map(|line| line.strip_prefix("//! | `"));
    let mut patterns = 0;
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let figures: Vec<u64> = cells[1..4]
            .iter()
            .map(|cell| cell.parse().unwrap())
            .collect();
        for name in cells[0].split(' ').map(|name| name.trim_matches('`')) {
            patterns += 1;
            let mut all = Pattern::ALL.iter();
            let pattern = *all.find(|pattern| pattern.name() == name).unwrap();
            for (thresholds, figure) in presets.into_iter().zip(&figures) {
                assert_eq!(probes_until_open(thresholds, pattern), *figure, "{name}");
            }
        }
    }
    assert_eq!(patterns, Pattern::ALL.len(), "the table has them all");
}

/// Probes of many ports of one host, or where the pattern has none, of one thing of many hosts.
fn probes_until_open(thresholds: [Threshold; 3], pattern: Pattern) -> u64 {
    let mut world = World::new(Scans {
        thresholds,
        ..blocking()
    });
    let has_ports = !pattern.name().starts_with("icmp");
    for number in 1..=100 {
        let port = if has_ports { number } else { 0 };
        let host = if has_ports { 1 } else { number };
        world.now += Duration::from_millis(20);
        let destination = ip(&format!("198.51.100.{host}"));
        world.probe(ip(SCANNER), destination, port, pattern);
        if world.blocked(SCANNER) {
            let record = world.only();
            assert_eq!(record.targets_to_open, u64::from(number));
            assert_eq!(record.patterns[pattern.name()], u64::from(number));
            let kind = if has_ports {
                Kind::PortScan
            } else {
                Kind::Sweep
            };
            assert_eq!(record.kind, kind);
            return u64::from(number);
        }
    }
    panic!("never")
}

/// The paces of nmap (`-T0` to `-T5`) at `medium`: pause in milliseconds, probes until it is recognised.
#[test]
fn the_paces_of_nmap() {
    for (pause, probes) in [
        (300_000, 30),
        (15_000, 15),
        (400, 10),
        (10, 10),
        (1, 10),
        (0, 10),
    ] {
        let mut world = World::new(blocking());
        let mut blocked_at = None;
        for port in 1..=60 {
            world.wait(Duration::from_millis(pause));
            world.syn(SCANNER, port);
            if world.blocked(SCANNER) && blocked_at.is_none() {
                blocked_at = Some(port);
            }
        }
        assert_eq!(blocked_at, Some(probes), "a probe every {pause} ms");
        let record = world.only();
        assert_eq!(record.state, State::Open);
        assert_eq!((record.ports, record.hosts), (60, 1));
        assert_eq!(record.targets_to_open, u64::from(probes));
    }
}

#[test]
fn a_port_every_30_seconds_is_found_within_a_quarter_of_an_hour() {
    let mut world = World::new(blocking());
    let start = world.now;
    let mut port = 0;
    while !world.blocked(SCANNER) {
        port += 1;
        world.wait(seconds(30));
        world.syn(SCANNER, port);
        assert!(port < 100);
    }
    assert_eq!(port, 30);
    assert_eq!(world.now, start + Duration::from_mins(15));
}

/// One run of a scanner is one record, told of when it opens, at most every minute, and when it is over.
#[test]
fn one_run_is_one_record() {
    let mut world = World::new(Scans::default());
    for port in 1..=1000 {
        world.syn(SCANNER, port);
        world.wait(Duration::from_millis(200));
    }
    // 200 s, of which the first two until it was recognised
    assert_eq!(world.told(), ["opened", "updated", "updated", "updated"]);
    world.wait(Duration::from_mins(20));
    let told = [
        "opened", "updated", "updated", "updated", "updated", "closed",
    ];
    assert_eq!(world.told(), told);
    let record = world.only();
    assert_eq!(record.state, State::Closed);
    assert_eq!(record.id, "test-1");
    assert_eq!(record.packets, 1000);
    assert_eq!(record.patterns["syn"], 1000);
    assert!((record.rate - 5.0).abs() < 0.1, "{}", record.rate);
    assert_eq!(record.sample_ports[..2], ["tcp/1", "tcp/2"]);
    assert_eq!(record.sample_hosts, [ip(HOST)]);
    assert_eq!(record.interface, "eth0");
    assert_eq!(record.first_seen, "2027-01-15T08:16:40.000Z");
    assert_eq!(record.last_seen, "2027-01-15T08:19:59.800Z");
    assert_eq!(record.verdict, Verdict::Observed);
    assert_eq!(
        record.because,
        "10 ports and 1 host within 10 s; the policy's action is to observe"
    );
    assert!(world.kernel.is_empty());
    assert_eq!(world.detector.scan("test-1", world.moment()), Some(record));
    assert_eq!(world.detector.scan("test-2", world.moment()), None);
}

#[test]
fn silence_ends_a_scan_and_what_follows_is_another() {
    let mut world = World::new(Scans::default());
    world.scan(SCANNER, 12);
    world.wait(Duration::from_mins(14));
    world.syn(SCANNER, 13);
    world.wait(Duration::from_mins(14));
    assert_eq!(world.only().state, State::Open);
    world.wait(Duration::from_mins(2));
    assert_eq!(world.only().state, State::Closed);
    // what was seen in the first does not count for the second
    world.syn(SCANNER, 14);
    assert_eq!(world.only().state, State::Closed);
    world.scan(SCANNER, 10);
    let states: Vec<_> = world.scans().iter().map(|scan| scan.state).collect();
    assert_eq!(states, [State::Closed, State::Open]);
}

#[test]
fn many_hosts_are_a_sweep_and_many_of_both_are_both() {
    let mut world = World::new(Scans::default());
    for host in 1..=12 {
        for port in [22, 23] {
            world.probe(
                ip(SCANNER),
                ip(&format!("198.51.100.{host}")),
                port,
                Pattern::Syn,
            );
        }
    }
    let record = world.only();
    assert_eq!(record.kind, Kind::Sweep);
    assert_eq!((record.ports, record.hosts), (2, 12));
    for port in 100..120 {
        world.syn(SCANNER, port);
    }
    assert_eq!(world.only().kind, Kind::Both);
}

#[test]
fn patterns_and_hints_are_named() {
    let mut world = World::new(Scans::default());
    for port in 1..=20 {
        for (pattern, hints) in [(Pattern::Syn, 1), (Pattern::Connect, 0), (Pattern::Udp, 0)] {
            let probe = Probe {
                time: world.now,
                source: ip(SCANNER),
                destination: ip(HOST),
                port,
                source_port: 1,
                pattern,
                hints,
                hop_limit: 64,
                packets: 3,
                filled: 0,
            };
            world.send(&probe);
            // reported once more by another CPU
            world.send(&probe);
        }
    }
    let record = world.only();
    let patterns = [("connect", 20), ("syn", 20), ("udp", 20)];
    let patterns = patterns.map(|(name, count)| (name.to_owned(), count));
    assert_eq!(record.patterns, BTreeMap::from(patterns));
    assert_eq!(record.hints, ["zmap"]);
    assert_eq!(record.ports, 40, "tcp/1 is not udp/1");
    assert_eq!(record.packets, 2 * 3 * 60);
}

#[test]
fn version_6_is_one_source_by_64_bits() {
    let mut world = World::new(blocking());
    for port in 1..=10 {
        let source = ip("2001:db8:1:2::5");
        world.probe(source, ip("2001:db8:ffff::1"), port, Pattern::Syn);
    }
    assert_eq!(world.only().source, net("2001:db8:1:2::5"));
    assert!(world.blocked("2001:db8:1:2::5"));
    // a second address of the same network: the block moves to the network, with the same end
    let until = world.kernel[&net("2001:db8:1:2::5")].until;
    world.now += seconds(5);
    world.probe(
        ip("2001:db8:1:2::6"),
        ip("2001:db8:ffff::1"),
        99,
        Pattern::Syn,
    );
    assert_eq!(world.only().source, net("2001:db8:1:2::/64"));
    assert!(world.blocked("2001:db8:1:2::/64"));
    assert_eq!(world.kernel.len(), 1);
    assert_eq!(world.kernel[&net("2001:db8:1:2::/64")].until, until);
    assert!(world.only().blocked_until.is_some());
}

#[test]
fn addresses_of_one_64_count_together_from_the_start() {
    let mut world = World::new(blocking());
    for port in 1..=10 {
        let source = ip(&format!("2001:db8:1:2::{port:x}"));
        world.probe(source, ip("2001:db8:ffff::1"), port, Pattern::Syn);
    }
    assert!(world.blocked("2001:db8:1:2::/64"));
    for port in 1..=10 {
        // neighbours of a link are known by address
        let source = ip(&format!("fe80::{port:x}"));
        world.probe(source, ip("2001:db8:ffff::1"), port, Pattern::Syn);
    }
    assert_eq!(world.scans().len(), 1);
}

/// Windows go by the time since boot: a clock that is set makes and unmakes no scan.
#[test]
fn steps_of_the_wall_clock_change_nothing() {
    let mut world = World::new(blocking());
    for port in 1..=9 {
        world.boot = UNIX_EPOCH + seconds(u64::from(port % 3) * 1_000_000);
        world.now += seconds(1);
        world.syn(SCANNER, port);
    }
    assert!(!world.blocked(SCANNER));
    world.boot = UNIX_EPOCH;
    world.now += Duration::from_millis(500);
    world.syn(SCANNER, 10);
    assert!(world.blocked(SCANNER));
    world.boot = UNIX_EPOCH + seconds(4_000_000_000);
    world.wait(seconds(599));
    assert!(world.blocked(SCANNER));
    world.wait(seconds(2));
    assert!(!world.blocked(SCANNER));
}

/// A cell takes many of them for ones it has reported: the record says about how many there were all the same, and of
/// more than can be told, that there were more.
#[test]
fn a_thousand_ports_are_about_a_thousand() {
    let mut world = World::new(blocking());
    let mut cell = ScanCell {
        key: 0,
        since: 0,
        packets: 0,
        seen: [0; CELL_WORDS],
        zero: [0; 2],
    };
    let mut reported = 0;
    for port in 1..=6000_u16 {
        if port == 1001 {
            let record = world.only();
            assert!((800..1250).contains(&record.ports), "{}", record.ports);
            assert_eq!((record.hosts, record.targets_to_open), (1, 10));
            assert!(reported < 256 && !record.shed, "{reported}");
        }
        let target = scan::hash(port.into(), 7);
        if scan::visit(&mut cell, 9, target, 100, Vote::Own) {
            reported += 1;
            let filled = scan::filled(&cell);
            let probe = Probe {
                time: world.now,
                source: ip(SCANNER),
                destination: ip(HOST),
                port,
                source_port: 1,
                pattern: Pattern::Syn,
                hints: 0,
                hop_limit: 64,
                packets: scan::mark(&mut cell, target),
                filled,
            };
            world.send(&probe);
        }
    }
    let record = world.only();
    assert!(record.ports > 1250 && record.shed, "{record:?}");
}

#[test]
fn the_coarse_clock_may_lag_and_probes_may_come_out_of_order() {
    let mut world = World::new(blocking());
    let start = world.now;
    world.now += seconds(1);
    for port in 1..=10_u16 {
        let mut probe = Probe {
            time: start + Duration::from_millis(u64::from(10 - port) * 100),
            source: ip(SCANNER),
            destination: ip(HOST),
            port,
            source_port: 1,
            pattern: Pattern::Fin,
            hints: 0,
            hop_limit: 64,
            packets: 1,
            filled: 0,
        };
        if port == 5 {
            // nothing is later than now
            probe.time = world.now + seconds(1_000_000);
        }
        world.send(&probe);
    }
    assert!(world.blocked(SCANNER));
    assert_eq!(world.only().first_seen, "2027-01-15T08:16:40.000Z");
}

#[test]
fn packets_and_shed_probes_are_added() {
    let mut world = World::new(Scans::default());
    world.scan(SCANNER, 10);
    assert!(!world.only().shed);
    world.detector.unreported(net(SCANNER), 500);
    world.detector.unreported(net("192.0.2.200"), 500);
    assert_eq!(world.only().packets, 510);
    world.detector.unreported(net(SCANNER), 7);
    assert_eq!(world.only().packets, 17);
    world.detector.shed(0, world.moment());
    assert!(!world.only().shed);
    world.detector.shed(7, world.moment());
    assert!(world.only().shed);
    assert_eq!(world.detector.memory().shed, 7);
    // one that began before probes were shed is marked too, one that began later is not
    world.wait(seconds(1));
    world.scan("203.0.113.10", 5);
    world.detector.shed(1, world.moment());
    world.scan("203.0.113.10", 12);
    world.wait(seconds(1));
    world.scan("203.0.113.11", 12);
    let shed: Vec<_> = world.scans().iter().map(|scan| scan.shed).collect();
    assert_eq!(shed, [true, true, false]);
}

#[test]
fn off_and_exempt_see_nothing() {
    let off = Scans {
        enabled: false,
        ..blocking()
    };
    let exempt = Scans {
        exempt: Some(set("@monitoring", &["203.0.113.0/24", "2001:db8:1::/48"])),
        ..blocking()
    };
    for scans in [off, exempt] {
        let mut world = World::new(scans);
        world.scan(SCANNER, 200);
        for port in 1..100 {
            world.probe(ip("2001:db8:1:2::5"), ip("2001:db8::1"), port, Pattern::Syn);
        }
        assert_eq!(world.scans(), []);
        assert_eq!(world.detector.memory(), Memory::default());
    }
}

/// As many as are remembered are counted one by one; of more there is an estimate, and what is few stays exact.
#[test]
fn counts_of_large_scans() {
    let mut world = World::new(Scans::default());
    for port in 1..=256 {
        world.syn(SCANNER, port);
    }
    assert_eq!((world.only().ports, world.only().hosts), (256, 1));
    for _ in 0..2 {
        for port in 1..=1000 {
            world.syn(SCANNER, port);
        }
    }
    let record = world.only();
    assert!((950..=1050).contains(&record.ports), "{}", record.ports);
    assert_eq!(record.hosts, 1);
}
