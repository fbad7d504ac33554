//! What is not a scan.

use super::*;

#[track_caller]
fn nothing(world: &mut World) {
    world.wait(Duration::from_mins(1));
    assert_eq!(world.scans(), []);
    assert_eq!(world.told(), [""; 0]);
}

#[test]
fn retransmissions_to_one_port() {
    let mut world = World::new(blocking());
    for _ in 0..2000 {
        world.now += Duration::from_millis(100);
        world.syn(SCANNER, 8443);
    }
    nothing(&mut world);
}

#[test]
fn five_hundred_peers_with_a_port_each() {
    let mut world = World::new(blocking());
    for round in 0..20 {
        for peer in 0..500_u16 {
            let source = ip(&format!("203.0.{}.{}", peer / 250, peer % 250));
            let pattern = if round % 2 == 0 {
                Pattern::Udp
            } else {
                Pattern::Connect
            };
            world.probe(source, ip(HOST), 6881 + peer % 2, pattern);
        }
        world.now += seconds(30);
    }
    nothing(&mut world);
}

#[test]
fn many_users_behind_one_address_who_all_try_the_same() {
    let mut world = World::new(blocking());
    for _user in 0..50 {
        for port in [22, 25, 110, 143, 993, 3389] {
            world.now += Duration::from_millis(50);
            world.probe(ip("192.0.2.1"), ip(HOST), port, Pattern::Connect);
        }
    }
    nothing(&mut world);
}

/// A program that is set up wrongly tries a few UDP services for hours.
#[test]
fn a_misdirected_program() {
    let mut world = World::new(blocking());
    for round in 0..600 {
        for port in 0..14 {
            world.probe(ip("192.0.2.1"), ip(HOST), 5000 + port, Pattern::Udp);
        }
        world.now += seconds(10);
        if round % 10 == 0 {
            world.tick();
        }
    }
    nothing(&mut world);
}

/// Somebody who tries another port now and then, over days.
#[test]
fn now_and_then() {
    let mut world = World::new(blocking());
    for port in 1..300 {
        world.now += Duration::from_mins(10);
        world.syn("192.0.2.1", port);
        world.tick();
    }
    nothing(&mut world);
    let memory = world.detector.memory();
    assert_eq!((memory.few, memory.many), (0, 1));
    world.wait(Duration::from_hours(4));
    let memory = world.detector.memory();
    assert_eq!((memory.few, memory.many), (0, 0));
}
