//! Owns the table of behaviour: policies, frames and the reason each frame must be counted under,
//! written by hand from the policy reference. Must never be computed: not from the oracle either.

mod antispoof;
mod bindings;
mod blocks;
mod egress;
mod entries;
mod failsafe;
mod fragments;
mod icmp;
mod link;
mod martians;
mod neighbours;
mod network;
mod reverse_path;
mod rules;
mod sends;
mod state;

use std::net::{Ipv4Addr, Ipv6Addr};

use super::World;
use super::case::{Case, Step};

/// The host of the table: two addresses of each family.
#[must_use]
pub fn world() -> World {
    World {
        own_v4: vec![Ipv4Addr::new(192, 0, 2, 10), Ipv4Addr::new(198, 51, 100, 7)],
        own_v6: vec![
            Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x10),
            Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x10),
        ],
        ..World::default()
    }
}

/// Every case of the table.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut cases = link::cases();
    cases.extend(network::cases());
    cases.extend(fragments::cases());
    cases.extend(rules::cases());
    cases.extend(icmp::cases());
    cases.extend(state::cases());
    cases.extend(martians::cases());
    cases.extend(antispoof::cases());
    cases.extend(reverse_path::cases());
    cases.extend(egress::cases());
    cases.extend(bindings::cases());
    cases.extend(neighbours::cases());
    cases.extend(sends::cases());
    cases.extend(blocks::cases());
    cases.extend(failsafe::cases());
    cases.extend(entries::cases());
    cases
}

const OWN: &str = "192.0.2.10";
const OWN6: &str = "2001:db8:1::10";
const REMOTE: &str = "203.0.113.9";
const REMOTE6: &str = "2001:db8:9::9";

/// tcp/443 open to everybody, everything else as by default.
const WEB: &str = r#"
version = 1
[profiles.edge]
interfaces = ["lo"]
[[profiles.edge.allow]]
id = "https"
protocol = "tcp"
ports = [443]
"#;

/// Nothing open.
const CLOSED: &str = r#"
version = 1
[profiles.edge]
interfaces = ["lo"]
"#;

/// `WEB` with lines added to its profile.
fn web_with(profile: &str) -> String {
    WEB.replace(
        "interfaces = [\"lo\"]\n",
        &format!("interfaces = [\"lo\"]\n{profile}\n"),
    )
}

/// A closed profile with lines added: keys first, then tables and rules.
fn closed_with(profile: &str) -> String {
    format!("{CLOSED}{profile}\n")
}

fn case(description: &str, policy: &str, steps: Vec<Step>) -> Case {
    case_in(description, policy, world(), steps)
}

/// A case about another host.
fn case_in(description: &str, policy: &str, world: World, steps: Vec<Step>) -> Case {
    Case {
        description: description.to_owned(),
        seed: String::new(),
        policy: policy.trim_start().to_owned(),
        world,
        steps,
    }
}

/// One received frame, one reason.
fn one(description: &str, policy: &str, frame: Vec<u8>, reason: &str) -> Case {
    case(
        description,
        policy,
        vec![Step::ingress(frame).expect(reason)],
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::oracle::REASONS;
    use crate::oracle::case::Direction;

    #[test]
    fn the_oracle_agrees_with_the_table() {
        let mut wrong = Vec::new();
        for case in cases() {
            for (i, (step, outcome)) in case.steps.iter().zip(case.outcomes().unwrap()).enumerate()
            {
                if !step.agrees(&outcome) {
                    let (want, what) = (&step.expected, &case.description);
                    wrong.push(format!(
                        "{what}, frame {i}: expected {want:?}, got {outcome:?}"
                    ));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn the_table_is_well_formed() {
        let cases = cases();
        assert!(cases.len() >= 80, "{} cases", cases.len());
        let mut descriptions = HashSet::new();
        for case in &cases {
            assert!(
                descriptions.insert(&case.description),
                "twice: {}",
                case.description
            );
            for step in &case.steps {
                let judged = step.direction == Direction::Ingress;
                let said = step.expected.is_some() || !judged;
                assert!(said, "{}", case.description);
                if let Some(reason) = &step.expected {
                    let (reason, _) = reason.split_once(' ').unwrap_or((reason, ""));
                    assert!(REASONS.contains(&reason), "{}: {reason}", case.description);
                }
            }
        }
    }

    #[test]
    fn monitor_mode_passes_and_counts() {
        let case = one(
            "",
            &web_with("enforce = false"),
            crate::packets::link().llc(),
            "drop_ethertype",
        );
        let outcome = case.outcomes().unwrap().remove(0);
        assert!(outcome.pass && outcome.would_drop);
        assert_eq!(outcome.profile.as_deref(), Some("edge"));
    }
}
