//! Several sources that send the same at the same time (nmap -D) are one record.

use super::*;

/// Every source sends every probe, one source after the other.
fn with_decoys(world: &mut World, sources: &[String], ports: u16) {
    for port in 1..=ports {
        for source in sources {
            world.now += Duration::from_millis(1);
            world.syn(source, port);
        }
    }
}

fn sources(count: usize) -> Vec<String> {
    (1..=count)
        .map(|number| format!("203.0.113.{number}"))
        .collect()
}

#[test]
fn decoys_are_one_record() {
    let mut world = World::new(blocking());
    let sources = sources(8);
    with_decoys(&mut world, &sources, 100);
    let record = world.only();
    assert_eq!(record.source, net(&sources[0]));
    let decoys: Vec<_> = sources[1..].iter().map(|source| net(source)).collect();
    assert_eq!(record.decoys, decoys);
    assert_eq!(record.packets, 800);
    assert_eq!(record.patterns["syn"], 100, "the same targets");
    assert_eq!(world.kernel.len(), 8, "whichever it is");
    let opened = world
        .told()
        .iter()
        .filter(|name| **name == "opened")
        .count();
    assert_eq!(opened, 1);
    // none of their probes opens another
    world.wait(Duration::from_mins(14));
    with_decoys(&mut world, &sources, 100);
    assert_eq!(world.only().packets, 1600);
    assert_eq!(world.detector.memory().decoys, 7);
    world.wait(Duration::from_mins(16));
    assert_eq!(world.only().state, State::Closed);
    assert_eq!(world.detector.memory().decoys, 0);
}

/// Which is real is not known: nobody's block grows.
#[test]
fn blocks_of_decoys_do_not_double() {
    let mut world = World::new(blocking());
    let sources = sources(4);
    with_decoys(&mut world, &sources, 20);
    for round in 0..3 {
        world.wait(seconds(601));
        assert_eq!(world.kernel.len(), 0, "{round}");
        with_decoys(&mut world, &sources, 20);
        for source in &sources {
            assert_eq!(world.ttl(source), seconds(600), "{round} {source}");
        }
    }
    assert_eq!(world.scans().len(), 1);
}

#[test]
fn a_decoy_with_a_working_connection_is_spared() {
    let mut world = World::new(blocking());
    let sources = sources(4);
    world.peers.0.insert(ip(&sources[2]));
    with_decoys(&mut world, &sources, 20);
    assert_eq!(world.kernel.len(), 3);
    assert!(!world.blocked(&sources[2]));
}

#[test]
fn more_decoys_than_one_record_holds() {
    let mut world = World::new(Scans {
        blocks_per_minute: 1000,
        ..blocking()
    });
    let sources = sources(100);
    with_decoys(&mut world, &sources, 12);
    let counts: Vec<_> = world.scans().iter().map(|scan| scan.decoys.len()).collect();
    assert_eq!(counts, [64, 34]);
    assert_eq!(world.kernel.len(), 100);
}

#[test]
fn slow_decoys() {
    let mut world = World::new(blocking());
    let sources = sources(3);
    for port in 1..=20 {
        for source in &sources {
            world.syn(source, port);
            world.now += Duration::from_millis(100);
        }
        world.wait(seconds(15));
    }
    assert_eq!(world.only().decoys.len(), 2);
}

/// Two scanners at the same time that look for different things, and two that look for the same a while apart.
#[test]
fn others_are_scans_of_their_own() {
    let mut world = World::new(blocking());
    for port in 1..=20 {
        world.syn("203.0.113.1", port);
        world.syn("203.0.113.2", 1000 + port);
        world.probe(ip("203.0.113.3"), ip("198.51.100.7"), port, Pattern::Syn);
    }
    assert_eq!(world.scans().len(), 3);
    // the same as the first, but later
    world.wait(seconds(1));
    world.scan("203.0.113.4", 20);
    assert_eq!(world.scans().len(), 4);
    assert!(world.scans().iter().all(|scan| scan.decoys.is_empty()));
}

/// Twenty sources send ten probes each at once, more than the program reports, and again what was not answered: as much
/// is reported as its budgets let through, the rest of it when it is sent again.
#[test]
fn decoys_of_which_not_every_probe_is_seen_at_first() {
    let mut world = World::new(Scans {
        blocks_per_minute: 100,
        ..blocking()
    });
    let sources = sources(20);
    let mut seen = BTreeSet::new();
    for round in 0..5 {
        let (mut anybody, mut earned) = (16, 64);
        for port in 1..=12_u16 {
            for source in &sources {
                if seen.contains(&(source, port)) {
                    continue;
                }
                if anybody > 0 {
                    anybody -= 1;
                } else if (round > 0 || port >= 4) && earned > 0 {
                    earned -= 1;
                } else {
                    continue;
                }
                seen.insert((source, port));
                world.syn(source, port);
            }
        }
        world.now += Duration::from_millis(500);
    }
    assert_eq!(seen.len(), 240);
    assert_eq!(world.only().decoys.len(), 19);
    assert_eq!(world.kernel.len(), 20);
}
