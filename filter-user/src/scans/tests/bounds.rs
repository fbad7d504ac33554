//! Nothing that comes makes the memory grow beyond what is promised, nor hides a scan.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::scans::detector::{CAPACITY, CLOSED, Memory, OPEN};
use crate::scans::source::{FEW, MANY};

fn bounded(memory: &Memory) -> bool {
    memory.few <= FEW
        && memory.many <= MANY
        && memory.open <= OPEN
        && memory.decoys <= OPEN * 64
        && memory.closed <= CLOSED
        && memory.blocks <= CAPACITY
        && memory.strikes <= CAPACITY
}

fn address(number: u32) -> IpAddr {
    Ipv4Addr::from(0x0b00_0000 + number).into()
}

/// A flood of sources with a probe each, and a scan of a port every 10 s beneath it.
#[test]
fn a_flood_of_random_sources_hides_no_scan() {
    let mut world = World::new(blocking());
    let mut next = 0;
    for port in 1..=15 {
        for _ in 0..10_000 {
            next += 1;
            world.now += Duration::from_millis(1);
            world.probe(address(next), ip(HOST), 80, Pattern::Syn);
        }
        world.syn(SCANNER, port);
    }
    assert!(world.blocked(SCANNER));
    assert_eq!(world.only().targets_to_open, 15);
    let memory = world.detector.memory();
    assert_eq!(memory.few, FEW);
    assert_eq!(memory.many, 0);
    assert_eq!(memory.forgotten, u64::from(next) - FEW as u64);
}

/// Forged sources with three targets each push out their like before one with more.
#[test]
fn a_flood_of_sources_with_some_targets() {
    let mut world = World::new(blocking());
    for port in 1..=9 {
        world.syn(SCANNER, port);
    }
    for number in 0..MANY as u32 + 1000 {
        for port in [1, 2, 3] {
            world.probe(address(number), ip(HOST), port, Pattern::Syn);
        }
    }
    let memory = world.detector.memory();
    assert_eq!(memory.many, MANY);
    assert!(bounded(&memory));
    world.syn(SCANNER, 10);
    assert!(world.blocked(SCANNER));
}

/// Forged sources with a scan each: a real scan stays, and so does the number of blocks and reports.
#[test]
fn a_flood_of_scans() {
    let mut world = World::new(blocking());
    world.scan(SCANNER, 100);
    let sources = OPEN as u32 + 500;
    for number in 0..sources {
        world.now += Duration::from_millis(1);
        for port in 0..10 {
            // so that they are not each other's decoys
            let port = 1000 + number as u16 * 16 + port;
            world.probe(address(number), ip(HOST), port, Pattern::Syn);
        }
    }
    let memory = world.detector.memory();
    assert_eq!(memory.open, OPEN);
    assert!(bounded(&memory));
    assert_eq!(memory.blocks, 60, "blocks_per_minute");
    let mut scans = world.scans();
    assert!(
        scans
            .iter()
            .any(|scan| scan.source == net(SCANNER) && scan.state == State::Open)
    );
    scans.retain(|scan| scan.state == State::Closed);
    assert_eq!(scans.len(), 501);
    assert!(world.blocked(SCANNER));
}

/// One that probes everything is remembered in a fixed space.
#[test]
fn a_scan_of_everything() {
    let mut world = World::new(blocking());
    for port in 0..=u16::MAX {
        let destination = Ipv4Addr::from(0xc633_6400 + u32::from(port)).into();
        world.probe(ip(SCANNER), destination, port, Pattern::Ack);
    }
    let record = world.only();
    for estimate in [record.ports, record.hosts] {
        assert!(estimate.abs_diff(65_536) < 65_536 / 12, "{estimate}");
    }
    assert_eq!(record.patterns["ack"], 65_536);
    assert_eq!(
        (record.sample_ports.len(), record.sample_hosts.len()),
        (32, 32)
    );
}

#[derive(Clone, Debug)]
enum Step {
    /// Sources, targets, pattern.
    Probes(u8, u8, usize, u8),
    Wait(u32),
    Block(u8, u16),
    Unblock(u8),
    Replace(u8),
    Verify(u8),
    Shed,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (any::<u8>(), any::<u8>(), 0..Pattern::ALL.len(), 1..20_u8)
            .prop_map(|(source, target, pattern, count)| Step::Probes(source, target, pattern, count)),
        4 => (0..2_000_000_u32).prop_map(Step::Wait),
        1 => (any::<u8>(), 0..2000_u16).prop_map(|(source, ttl)| Step::Block(source, ttl)),
        1 => any::<u8>().prop_map(Step::Unblock),
        1 => (0..4_u8).prop_map(Step::Replace),
        1 => any::<u8>().prop_map(Step::Verify),
        1 => Just(Step::Shed),
    ]
}

/// Few sources, so that they meet again: IPv4, two networks of IPv6, and neighbours of a link.
fn source(number: u8) -> IpAddr {
    let low = number % 8;
    match number / 8 % 4 {
        0 => ip(&format!("203.0.113.{low}")),
        1 => ip(&format!("2001:db8:1:2::{low}")),
        2 => ip(&format!("2001:db8:1:3::{low}")),
        _ => ip(&format!("fe80::{low}")),
    }
}

/// Some of those sources are protected, in several ways.
fn some_settings(number: u8) -> Arc<Settings> {
    let scans = Scans {
        enabled: number != 1,
        action: if number == 2 {
            ScanAction::Observe
        } else {
            ScanAction::Block
        },
        block_for: seconds(20),
        block_at_most: seconds(100),
        blocks_per_minute: 4,
        exempt: (number == 3).then(|| set("@monitoring", &["203.0.113.2"])),
        ..blocking()
    };
    let gateway = [("203.0.113.1", "gateway"), ("2001:db8:1:3::1", "gateway")];
    let own = set("@admins", &["203.0.113.4/30", "fe80::4/126"]);
    let protected = match number {
        0 => Protected::default(),
        _ => Protected::of(&gateway, None, &[own]),
    };
    Arc::new(Settings { scans, protected })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// Whatever comes: bounds hold, no protected source is blocked, and the kernel's table is the detector's.
    #[test]
    fn whatever_comes(steps in proptest::collection::vec(step(), 1..120)) {
        let mut current = some_settings(3);
        let mut world = World::with(Arc::clone(&current));
        for step in steps {
            match step {
                Step::Probes(from, target, pattern, count) => for number in 0..count {
                    world.now += Duration::from_millis(50);
                    let destination = ip(&format!("198.51.100.{}", target % 4));
                    let port = u16::from(target) + u16::from(number);
                    world.probe(source(from), destination, port, Pattern::ALL[pattern]);
                },
                // in one step, as after a suspended machine, or in several
                Step::Wait(time) if time % 2 == 0 => {
                    world.now += Duration::from_millis(u64::from(time));
                    world.tick();
                }
                Step::Wait(time) => world.wait(Duration::from_millis(u64::from(time / 20))),
                Step::Block(from, ttl) => {
                    let ttl = Some(seconds(u64::from(ttl)));
                    let net = IpNet::from(source(from));
                    let done = world.detector.block(net, ttl, world.moment());
                    prop_assert_eq!(done.is_err(), ttl == Some(seconds(0)) || current.protected.spares(&net).is_some());
                    world.apply(done.unwrap_or_default());
                }
                Step::Unblock(from) => {
                    let net = IpNet::from(source(from));
                    world.tick();
                    let was = world.kernel.contains_key(&net);
                    let done = world.detector.unblock(net, world.moment());
                    prop_assert_eq!(done.is_ok(), was);
                    world.apply(done.unwrap_or_default());
                }
                Step::Replace(number) => {
                    current = some_settings(number);
                    world.replace(Arc::clone(&current));
                }
                Step::Verify(from) => {
                    world.peers.0.insert(source(from));
                }
                Step::Shed => world.detector.shed(3, world.moment()),
            }
            prop_assert!(bounded(&world.detector.memory()));
            for block in world.kernel.values() {
                prop_assert_eq!(current.protected.spares(&block.source), None);
                prop_assert!(block.origin == Origin::Manual || current.scans.action == ScanAction::Block);
            }
            let open = world.scans().into_iter().filter(|scan| scan.state == State::Open);
            let open: Vec<_> = open.map(|scan| scan.source).collect();
            prop_assert_eq!(open.iter().collect::<BTreeSet<_>>().len(), open.len());
        }
        // and at last all of it is over
        world.wait(seconds(3000));
        prop_assert!(world.kernel.is_empty());
        prop_assert!(world.scans().iter().all(|scan| scan.state == State::Closed));
    }
}

/// The bound that the head of `detector` states: what is remembered at most, by the sizes of its parts and with 64
/// bytes for each entry of a map or list.
#[test]
fn the_memory_is_as_small_as_promised() {
    use crate::scans::evidence::{HOST_BYTES, PORT_BYTES, REMEMBERED};
    use crate::scans::party::Party;
    use crate::scans::scan::{DECOYS, SAMPLE, Scan};
    use crate::scans::source::{MANY_REMEMBERED, Source};
    use crate::scans::tally;

    const ENTRY: usize = 64;
    const TEXT: usize = 64;
    let few = FEW * (ENTRY + size_of::<Source>() + 2 * (PORT_BYTES + HOST_BYTES));
    // a list grows by doubling
    let many = MANY * (ENTRY + size_of::<Source>()) + 2 * MANY_REMEMBERED * HOST_BYTES;
    let targets = REMEMBERED * (PORT_BYTES + HOST_BYTES) + 2 * tally::BYTES;
    let open = OPEN * (ENTRY + size_of::<Scan>() + targets);
    let decoys = OPEN * DECOYS * (ENTRY + size_of::<Party>() + TEXT);
    let record = size_of::<ScanRecord>() + SAMPLE * (TEXT + 17) + DECOYS * size_of::<IpNet>();
    let closed = CLOSED * (record + Pattern::ALL.len() * TEXT + 8 * TEXT);
    let blocks = CAPACITY * (2 * ENTRY + size_of::<Block>() + TEXT);
    let strikes = CAPACITY * 2 * ENTRY;
    let parts = [few, many, open, decoys, closed, blocks, strikes];
    let megabytes = parts.map(|bytes| bytes / 1_000_000);
    println!("few, many, open, decoys, closed, blocks, strikes: {megabytes:?} MB");
    assert!(parts.iter().sum::<usize>() < 100_000_000, "{megabytes:?}");
}
