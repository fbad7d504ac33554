//! How often changes count.

use super::super::bindings::{Bound, Origin};
use super::super::links::Peer;
use super::*;

struct World {
    links: Links,
    pace: Pace,
    start: Instant,
}

impl World {
    fn new() -> Self {
        let mut links = Links::default();
        links.names.insert(1, "veth1".to_owned());
        links.names.insert(2, "veth2".to_owned());
        Self {
            links,
            pace: Pace::default(),
            start: Instant::now(),
        }
    }

    /// Looks at a time in milliseconds; the last parts of the addresses of both containers that count, 0 for none.
    fn look(&mut self, at: u64, last: [u8; 2]) -> [u8; 2] {
        let peers = (1..).zip(last).map(|(ifindex, last)| {
            let peer = Peer {
                addresses: vec![[10, 22, 0, last].into(); usize::from(last > 0)],
                ..Peer::default()
            };
            (ifindex, Ok(peer))
        });
        let now = self.start + Duration::from_millis(at);
        let counted = self.pace.count(now, &self.links, peers.collect());
        let of = |ifindex| match counted.get(&ifindex) {
            Some(Ok(peer)) => peer.addresses.first().map_or(0, |ip| match ip {
                std::net::IpAddr::V4(ip) => ip.octets()[3],
                std::net::IpAddr::V6(_) => 0,
            }),
            _ => 0,
        };
        let counted = [of(1), of(2)];
        let bindings = (1..).zip(counted).map(|(ifindex, last)| {
            let bound = Bound {
                origin: Origin::Peer,
                macs: Vec::new(),
                v4: Vec::new(),
                v6: Vec::new(),
            };
            let binding = Binding {
                bound: (last > 0).then_some(bound),
                remarks: Vec::new(),
            };
            (ifindex, binding)
        });
        self.pace.note(&self.links, &bindings.collect());
        counted
    }

    fn due(&self) -> Option<u128> {
        let due = self.pace.due()?;
        Some((due - self.start).as_millis())
    }
}

#[test]
fn one_change_counts_at_once_and_the_next_ones_wait() {
    let mut world = World::new();
    assert_eq!(world.look(0, [5, 0]), [5, 0]);
    assert_eq!(world.look(50, [6, 0]), [6, 0], "the first change");
    assert_eq!(world.due(), None);
    assert_eq!(world.look(100, [7, 0]), [6, 0]);
    assert_eq!(world.due(), Some(250));
    assert_eq!(world.look(250, [8, 0]), [8, 0]);
    assert_eq!(world.due(), None, "nothing waits");
    assert_eq!(world.look(5000, [9, 0]), [9, 0]);
    assert_eq!(world.look(5199, [5, 0]), [9, 0]);
    assert_eq!(world.look(5200, [5, 0]), [5, 0], "the pause is short again");
}

#[test]
fn a_first_binding_never_waits() {
    let mut world = World::new();
    world.look(0, [5, 0]);
    world.look(10, [6, 0]);
    assert_eq!(world.look(20, [7, 9]), [6, 9]);
    assert_eq!(world.look(30, [7, 8]), [6, 9], "not the first any more");
    assert_eq!(world.look(210, [7, 0]), [7, 0]);
    assert_eq!(world.look(220, [7, 8]), [7, 0], "nor after a while without");
    // another link by the same index
    world.links.names.insert(2, "veth3".to_owned());
    assert_eq!(world.look(230, [7, 4]), [7, 4]);
}

#[test]
fn who_changes_ten_times_a_second_counts_once_a_second() {
    let mut world = World::new();
    world.look(0, [5, 0]);
    let (mut before, mut changes) = ([5, 0], Vec::new());
    for at in 1..=1000_u64 {
        let now = world.look(at * 10, [5 + (at % 7) as u8, 0]);
        if now != before {
            changes.push(at * 10);
        }
        before = now;
    }
    assert!(changes.len() <= 14, "{changes:?}");
    assert_eq!(changes[..4], [10, 210, 610, 1410]);
    assert!(
        changes
            .windows(2)
            .skip(3)
            .all(|two| two[1] - two[0] >= 1000)
    );
}
