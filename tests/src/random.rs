//! Owns the generator of random cases: a policy and frames that hit its edges, from one seed.
//! Must never depend on anything but the seed: no clock, no environment, no hash order.

pub mod dice;
pub mod facts;
pub mod frames;
pub mod guards;
pub mod mutate;
pub mod policy;
pub mod pools;
pub mod prefixes;
pub mod scenario;
pub mod senders;
pub mod shrink;

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::oracle::World;
use crate::oracle::case::Case;
use dice::Dice;
use pools::Pools;

/// The shortest frame generated: `BPF_PROG_TEST_RUN` refuses less than an Ethernet header.
pub const SHORTEST: usize = 14;

/// The longest frame generated: it fits one page with the headroom an XDP program gets.
pub const LONGEST: usize = 1514;

/// The host that random cases are about, before anything more is known of it.
#[must_use]
pub fn world() -> World {
    World {
        own_v4: vec![
            Ipv4Addr::new(192, 0, 2, 10),
            Ipv4Addr::new(198, 51, 100, 7),
            Ipv4Addr::LOCALHOST,
        ],
        own_v6: vec![
            Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x10),
            Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x10),
            Ipv6Addr::LOCALHOST,
        ],
        ..World::default()
    }
}

/// A random host, a random policy and at least `frames` frames under it. The same seed gives the same case.
#[must_use]
pub fn case(seed: u64, frames: usize) -> Case {
    let mut dice = Dice::new(seed);
    let world = facts::world(&mut dice);
    let policy = policy::policy(&mut dice, &world);
    let pools = Pools::new(&policy, &world);
    let mut steps = Vec::new();
    while steps.len() < frames {
        steps.extend(scenario::scenario(&mut dice, &pools));
    }
    Case {
        description: "random".into(),
        seed: format!("{seed:#x}"),
        // A policy made of strings and numbers is always writable.
        policy: policy.to_text().unwrap_or_default(),
        world,
        steps,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::oracle::RawPolicy;
    use crate::oracle::case::Direction;
    use crate::oracle::policy::RawProfile;

    #[test]
    fn a_seed_gives_the_same_case_again() {
        assert_eq!(case(7, 200), case(7, 200));
        assert_ne!(case(7, 200), case(8, 200));
    }

    #[test]
    fn policies_read_as_they_were_written() {
        for seed in 0..200 {
            let mut dice = Dice::new(seed);
            let world = facts::world(&mut dice);
            let policy = policy::policy(&mut dice, &world);
            let text = policy.to_text().unwrap();
            assert_eq!(RawPolicy::parse(&text).unwrap(), policy, "{text}");
        }
    }

    #[test]
    fn frames_have_sizes_that_can_be_injected() {
        for step in case(3, 5000).steps {
            assert!(
                (SHORTEST..=LONGEST).contains(&step.frame.len()),
                "{}",
                step.frame.len()
            );
        }
    }

    #[test]
    fn every_reason_the_datapath_has_is_met_often() {
        let mut seen: BTreeMap<(bool, bool), BTreeMap<&str, usize>> = BTreeMap::new();
        for seed in 0..80 {
            let case = case(seed, 500);
            for (step, outcome) in case.steps.iter().zip(case.outcomes().unwrap()) {
                let profile = outcome.profile.as_deref();
                let policy = RawPolicy::parse(&case.policy).unwrap();
                let of = profile.and_then(|name| policy.profiles.get(name));
                let container = of.is_some_and(RawProfile::for_containers);
                let key = (container, step.direction == Direction::Ingress);
                let seen = seen.entry(key).or_default();
                *seen.entry(outcome.reason).or_insert(0) += 1;
            }
        }
        let everywhere = [
            "pass_rule",
            "pass_reply",
            "pass_related",
            "pass_control",
            "pass_fragment",
            "drop_malformed",
            "drop_ethertype",
            "drop_fragment",
            "drop_binding",
        ];
        let refused = [
            "drop_protocol",
            "drop_icmp",
            "drop_denied",
            "drop_source",
            "drop_port",
        ];
        let forged = [
            "drop_martian",
            "drop_own_address",
            "drop_reverse_path",
            "drop_blocked",
        ];
        let mut wanted: Vec<((bool, bool), &str)> = Vec::new();
        for container in [false, true] {
            wanted.extend(refused.map(|reason| ((container, true), reason)));
            wanted.extend(everywhere.map(|reason| ((true, container), reason)));
        }
        wanted.extend(
            everywhere[..8]
                .iter()
                .map(|reason| ((false, true), *reason)),
        );
        wanted.extend(forged.map(|reason| ((false, true), reason)));
        wanted.extend(
            ["pass_egress", "drop_binding", "pass_unmanaged"]
                .map(|reason| ((false, false), reason)),
        );
        wanted.extend([
            ((true, false), "drop_send"),
            ((false, true), "pass_unmanaged"),
        ]);
        for (who, reason) in wanted {
            let count = seen.get(&who).and_then(|seen| seen.get(reason));
            assert!(
                count.is_some_and(|count| *count >= 20),
                "(container, arriving) {who:?}, {reason}: {seen:?}"
            );
        }
    }
}
