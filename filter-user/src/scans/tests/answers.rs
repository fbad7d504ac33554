//! What becomes of scans' sources: blocked for how long, spared why, and when that is thought over.

use super::*;
use crate::scans::detector::CAPACITY;

#[test]
fn blocks_double_up_to_the_limit() {
    let mut world = World::new(Scans {
        block_at_most: seconds(3000),
        ..blocking()
    });
    for (strikes, ttl) in [(1, 600), (2, 1200), (3, 2400), (4, 3000), (5, 3000)] {
        world.scan(SCANNER, 12);
        let record = world.scans().pop().unwrap();
        assert_eq!(
            (record.verdict, record.strikes),
            (Verdict::Blocked, strikes)
        );
        assert_eq!(world.ttl(SCANNER), seconds(ttl));
        assert_eq!(world.kernel[&net(SCANNER)].strikes, strikes);
        world.wait(seconds(ttl + 901));
        assert!(!world.blocked(SCANNER));
    }
    // forgotten when it has not scanned for as long as a block may last
    world.wait(seconds(3000));
    assert_eq!(world.detector.memory().strikes, 0);
    world.scan(SCANNER, 12);
    assert_eq!(world.ttl(SCANNER), seconds(600));
}

/// A block that runs out while its scan goes on is renewed, in the same record, by as many probes as the first one took.
#[test]
fn a_scan_that_outlasts_its_block_is_blocked_again() {
    let mut world = World::new(Scans {
        block_for: seconds(60),
        ..blocking()
    });
    world.scan(SCANNER, 12);
    world.wait(seconds(50));
    world.syn(SCANNER, 100);
    world.wait(seconds(15));
    assert!(!world.blocked(SCANNER), "nothing came since it ran out");
    assert_eq!(world.only().verdict, Verdict::Blocked);
    assert_eq!(world.only().blocked_until, None);
    for port in 101..110 {
        world.syn(SCANNER, port);
    }
    assert!(!world.blocked(SCANNER), "nine probes are not enough");
    world.syn(SCANNER, 110);
    assert_eq!(world.ttl(SCANNER), seconds(120));
    let record = world.only();
    assert_eq!((record.strikes, record.id.as_str()), (2, "test-1"));
    assert!(record.blocked_until.is_some());
    let told: Vec<_> = world.told();
    let blocks = |name: &str| told.iter().filter(|it| **it == name).count();
    assert_eq!((blocks("blocked"), blocks("unblocked")), (2, 1));
}

#[test]
fn everything_is_gone_after_the_time() {
    let mut world = World::new(Scans {
        block_for: seconds(8),
        ..blocking()
    });
    world.scan(SCANNER, 1000);
    let block = world.detector.blocks(world.moment()).remove(0);
    assert_eq!(block.source, net(SCANNER));
    assert_eq!(block.origin, Origin::Scan);
    assert_eq!(block.scan.as_deref(), Some("test-1"));
    assert!((1..=16).contains(&block.seconds_left), "{block:?}");
    world.wait(seconds(17));
    assert_eq!(world.detector.blocks(world.moment()), []);
    assert!(world.kernel.is_empty());
}

fn protecting() -> Arc<Settings> {
    let protected = Protected::of(
        &[("203.0.113.1", "gateway"), ("2001:db8:1:2::1", "gateway")],
        Some(set("never_block", &["203.0.113.64/26"])),
        &[set("@admins", &["192.0.2.0/24", "::/0"])],
    );
    let scans = blocking();
    Arc::new(Settings { scans, protected })
}

#[test]
fn protected_sources_are_recorded_and_never_blocked() {
    for (source, why) in [
        ("203.0.113.1", "gateway 203.0.113.1"),
        ("203.0.113.100", "never_block"),
        ("192.0.2.7", "@admins"),
    ] {
        let mut world = World::with(protecting());
        world.scan(source, 50);
        world.wait(seconds(60));
        let record = world.only();
        assert_eq!(record.verdict, Verdict::Spared);
        let because = format!("10 ports and 1 host within 10 s; never blocked: {why}");
        assert_eq!(record.because, because);
        assert!(world.kernel.is_empty());
    }
}

/// A neighbour of the gateway is blocked without it.
#[test]
fn version_6_neighbours_of_a_protected_address_are_blocked_by_address() {
    let mut world = World::with(protecting());
    for port in 1..=12 {
        for host in [1, 5, 6] {
            let source = ip(&format!("2001:db8:1:2::{host}"));
            world.probe(source, ip("2001:db8::1"), port + host * 100, Pattern::Syn);
        }
    }
    assert_eq!(world.scans().len(), 3);
    let blocked: Vec<_> = world.kernel.keys().copied().collect();
    assert_eq!(blocked, [net("2001:db8:1:2::5"), net("2001:db8:1:2::6")]);
}

/// A monitoring system is not blocked with its neighbours.
#[test]
fn version_6_neighbours_of_an_exempt_address_are_blocked_by_address() {
    let mut world = World::new(Scans {
        exempt: Some(set("@monitoring", &["2001:db8:1:2::1"])),
        ..blocking()
    });
    for port in 1..=12 {
        for host in [1, 5, 6] {
            let source = ip(&format!("2001:db8:1:2::{host}"));
            world.probe(source, ip("2001:db8::1"), port + host * 100, Pattern::Syn);
        }
    }
    let blocked: Vec<_> = world.kernel.keys().copied().collect();
    assert_eq!(blocked, [net("2001:db8:1:2::5"), net("2001:db8:1:2::6")]);
}

/// Who becomes protected splits its network's scan into those of its addresses.
#[test]
fn a_network_in_which_somebody_becomes_protected() {
    let mut world = World::new(blocking());
    let scan = |world: &mut World| {
        for port in 1..=12 {
            for host in [1, 5] {
                let source = ip(&format!("2001:db8:1:2::{host}"));
                world.probe(source, ip("2001:db8::1"), port + host * 100, Pattern::Syn);
            }
        }
    };
    scan(&mut world);
    assert!(world.blocked("2001:db8:1:2::/64"));
    world.replace(protecting());
    assert!(world.kernel.is_empty());
    assert_eq!(world.only().state, State::Closed);
    scan(&mut world);
    let blocked: Vec<_> = world.kernel.keys().copied().collect();
    assert_eq!(blocked, [net("2001:db8:1:2::5")]);
}

#[test]
fn a_working_connection_spares_until_it_is_forgotten() {
    let mut world = World::new(blocking());
    world.peers.0.insert(ip(SCANNER));
    world.scan(SCANNER, 50);
    let record = world.only();
    assert_eq!(record.verdict, Verdict::Spared);
    assert!(
        record
            .because
            .ends_with("it has a working connection with this host")
    );
    world.wait(seconds(10));
    world.peers.0.clear();
    world.wait(seconds(10));
    assert!(!world.blocked(SCANNER), "it has not gone on");
    world.syn(SCANNER, 1000);
    world.wait(seconds(1));
    assert!(world.blocked(SCANNER));
    assert_eq!(world.only().verdict, Verdict::Blocked);
}

#[test]
fn a_working_connection_does_not_spare_if_the_policy_says_so() {
    let mut world = World::new(Scans {
        verified: ScanAction::Block,
        ..blocking()
    });
    world.peers.0.insert(ip(SCANNER));
    world.scan(SCANNER, 10);
    assert!(world.blocked(SCANNER));
}

/// Forged sources, each with its own ports: no more blocks than the policy allows, and who goes on is blocked later.
#[test]
fn blocks_in_a_minute_are_limited() {
    let mut world = World::new(Scans {
        blocks_per_minute: 5,
        ..blocking()
    });
    for number in 0..20 {
        for port in 0..10 {
            world.syn(&format!("203.0.113.{number}"), number * 100 + port);
        }
    }
    assert_eq!(world.scans().len(), 20);
    assert_eq!(world.kernel.len(), 5);
    let last = world.scans().pop().unwrap();
    assert_eq!(last.verdict, Verdict::Spared);
    assert!(
        last.because
            .ends_with("too many sources at once: likely forged")
    );
    world.wait(seconds(61));
    assert_eq!(world.kernel.len(), 5, "those that were forged send no more");
    world.syn("203.0.113.19", 60_000);
    world.wait(seconds(1));
    assert!(world.blocked("203.0.113.19"));
    assert_eq!(world.kernel.len(), 6);
}

#[test]
fn new_settings_lift_what_they_forbid() {
    let mut world = World::new(blocking());
    for source in [SCANNER, "192.0.2.7", "192.0.2.200"] {
        world.scan(source, 20);
        world.wait(seconds(1));
    }
    assert_eq!(world.kernel.len(), 3);
    world.replace(protecting());
    assert_eq!(world.kernel.len(), 1);
    let verdicts: Vec<_> = world.scans().iter().map(|scan| scan.verdict).collect();
    assert_eq!(
        verdicts,
        [Verdict::Blocked, Verdict::Spared, Verdict::Spared]
    );

    let exempt = Some(set("@monitoring", &[SCANNER]));
    world.replace(settings(Scans {
        exempt,
        ..blocking()
    }));
    assert!(world.kernel.is_empty());
    let states: Vec<_> = world.scans().iter().map(|scan| scan.state).collect();
    assert_eq!(states, [State::Closed, State::Open, State::Open]);
}

#[test]
fn who_observes_or_turns_off_lifts_automatic_blocks_only() {
    let off = Scans {
        enabled: false,
        ..blocking()
    };
    for (scans, verdict) in [
        (Scans::default(), Verdict::Observed),
        (off, Verdict::Blocked),
    ] {
        let mut world = World::new(blocking());
        world.scan(SCANNER, 20);
        let by_hand = world.detector.block(net("192.0.2.9"), None, world.moment());
        world.apply(by_hand.unwrap());
        let enabled = scans.enabled;
        world.replace(settings(scans));
        assert!(!world.blocked(SCANNER));
        assert!(world.blocked("192.0.2.9"));
        let record = world.only();
        assert_eq!(record.state == State::Open, enabled);
        assert_eq!(record.verdict, verdict);
        // and from then on it is as the new settings say
        world.scan(SCANNER, 40);
        world.wait(seconds(5));
        assert!(!world.blocked(SCANNER));
    }
}

#[test]
fn a_policy_that_begins_to_block_blocks_scans_that_go_on() {
    let mut world = World::new(Scans::default());
    world.scan(SCANNER, 20);
    world.wait(seconds(1));
    world.scan("203.0.113.10", 20);
    world.wait(seconds(10));
    world.replace(settings(blocking()));
    world.wait(seconds(10));
    assert!(world.kernel.is_empty());
    world.syn(SCANNER, 500);
    world.wait(seconds(1));
    assert!(world.blocked(SCANNER));
    assert_eq!(world.kernel.len(), 1);
}

/// A new start takes the kernel's blocks over: those that may be, with their strikes.
#[test]
fn a_restart_keeps_blocks() {
    let mut world = World::new(blocking());
    let block = |source: &str, origin, until| Block {
        source: net(source),
        since: seconds(900),
        until: seconds(until),
        strikes: 3,
        origin,
        scan: None,
    };
    let blocks = vec![
        block(SCANNER, Origin::Scan, 1200),
        block("203.0.113.1", Origin::Scan, 1200),
        block("203.0.113.2", Origin::Manual, 1300),
        block("192.0.2.7", Origin::Manual, 1300),
        block("203.0.113.3", Origin::Scan, 1000),
    ];
    for block in &blocks {
        world.kernel.insert(block.source, block.clone());
    }
    world.detector = Detector::new(protecting(), "second");
    let effects = world.detector.restore(blocks, world.moment());
    world.apply(effects);
    let kept: Vec<_> = world.kernel.keys().copied().collect();
    assert_eq!(kept, [net("203.0.113.2"), net(SCANNER)]);
    world.scan(SCANNER, 20);
    let record = world.only();
    assert_eq!((record.verdict, record.strikes), (Verdict::Blocked, 3));
    assert!(record.because.ends_with("blocked already"));
    world.wait(seconds(300));
    for port in 1000..1010 {
        world.syn(SCANNER, port);
    }
    assert_eq!(world.ttl(SCANNER), seconds(600 * 8));
}

/// With the table full, whoever would be blocked for longest stays.
#[test]
fn a_full_table() {
    let mut world = World::new(blocking());
    let block = |number: usize| Block {
        source: IpNet::from(IpAddr::from([
            10,
            (number >> 16) as u8,
            (number >> 8) as u8,
            number as u8,
        ])),
        since: seconds(900),
        // the first ends before a new one would, the others later
        until: seconds(if number == 0 { 1100 } else { 5000 }),
        strikes: 1,
        origin: Origin::Scan,
        scan: None,
    };
    let blocks: Vec<_> = (0..CAPACITY).map(block).collect();
    for block in &blocks {
        world.kernel.insert(block.source, block.clone());
    }
    let effects = world.detector.restore(blocks, world.moment());
    world.apply(effects);
    assert_eq!(world.kernel.len(), CAPACITY);
    world.scan(SCANNER, 12);
    assert!(world.blocked(SCANNER) && !world.blocked("10.0.0.0"));
    world.wait(seconds(1));
    world.scan("203.0.113.77", 12);
    assert!(world.blocked(SCANNER) || world.blocked("203.0.113.77"));
    world.wait(seconds(5));
    world.scan("198.18.0.1", 12);
    assert_eq!(world.kernel.len(), CAPACITY);
    assert!((1..CAPACITY).all(|number| world.kernel.contains_key(&block(number).source)));
    // a person's block takes the place of the one that ends soonest
    let by_hand = world
        .detector
        .block(net("192.0.2.9"), Some(seconds(1)), world.moment());
    world.apply(by_hand.unwrap());
    assert!(world.blocked("192.0.2.9"));
    assert_eq!(world.kernel.len(), CAPACITY);
}
