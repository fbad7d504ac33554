//! Run-time entries for the filter under test: those that a world names, and single ones.
//! Must never know what they are good for.

use std::time::{Duration, SystemTime};

use filter_user::access::Actor;
use filter_user::entries::{Entry, Kind, Life};
use ipnet::IpNet;

use crate::oracle::World;

/// Longer than any test.
const FOR_LONG: Duration = Duration::from_hours(24 * 365);

/// An entry without a comment.
#[must_use]
pub fn entry(kind: Kind, source: IpNet, ports: &[&str], life: Life) -> Entry {
    Entry {
        kind,
        source,
        ports: ports.iter().filter_map(|text| text.parse().ok()).collect(),
        comment: String::new(),
        actor: Actor::daemon("test"),
        made: SystemTime::UNIX_EPOCH,
        life,
    }
}

/// Those of a world, for long.
pub(super) fn of(world: &World) -> Vec<Entry> {
    let life = Life::Between {
        from: None,
        until: SystemTime::now() + FOR_LONG,
    };
    world
        .entries
        .iter()
        .map(|listed| {
            let kind = if listed.deny { Kind::Deny } else { Kind::Allow };
            let port = listed.port.map(|(protocol, port)| {
                let name = match protocol {
                    6 => "tcp",
                    17 => "udp",
                    _ => "sctp",
                };
                format!("{name}/{port}")
            });
            let ports: Vec<&str> = port.as_deref().into_iter().collect();
            entry(kind, listed.source.0, &ports, life)
        })
        .collect()
}
