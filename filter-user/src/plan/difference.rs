//! What differs between two policies, in terms of traffic: which services are opened and closed, to whom. What rules mean
//! together counts, not how they are written.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ranges::Addresses;
use crate::policy::{DefaultVerdict, Destination, Policy, PortProtocol, Profile, Rule, Service};

/// Prefixes that are shown of a set.
const SHOWN: usize = 5;

/// What differs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// By profile; those without a difference are left out.
    pub profiles: Vec<ProfileDifference>,
    /// Lists of addresses that rules name and that hold others now.
    pub lists: Vec<ListDifference>,
    /// Rules that are new.
    pub rules_added: Vec<String>,
    /// Rules that are gone.
    pub rules_removed: Vec<String>,
    /// Rules that say something else.
    pub rules_changed: Vec<String>,
    /// Whether what is done about scans, or where it is reported to, differs.
    pub scans_changed: bool,
}

/// What differs in a profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileDifference {
    /// Its name.
    pub profile: String,
    /// `false`: only the policy in force has it, so its interfaces are not filtered any more.
    pub exists: bool,
    /// `false`: only the new policy has it.
    pub existed: bool,
    /// What is let in that was not.
    pub opened: Vec<Opening>,
    /// What was let in and is not.
    pub closed: Vec<Opening>,
    /// What containers may send that they might not.
    pub send_opened: Vec<Opening>,
    /// What containers might send and may not.
    pub send_closed: Vec<Opening>,
    /// Settings that differ, as `name: before -> after`.
    pub settings: Vec<String>,
}

/// A service, and to whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Opening {
    /// `tcp/443`, `udp/7000-7010`, `protocol 47`, `anything else`.
    pub service: String,
    /// Destinations, where a rule names any.
    pub to: Option<String>,
    /// Every address.
    pub anybody: bool,
    /// How many prefixes.
    pub prefixes: usize,
    /// The first of them.
    pub first: Vec<String>,
}

/// A list of addresses that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListDifference {
    /// `@GROUP`, or the rule that has it.
    pub list: String,
    /// Prefixes that are in it now.
    pub added: usize,
    /// The first of them.
    pub first_added: Vec<String>,
    /// Prefixes that are not in it any more.
    pub removed: usize,
    /// The first of them.
    pub first_removed: Vec<String>,
}

/// What differs between the policy in force and the next.
pub fn difference(old: &Policy, new: &Policy) -> Difference {
    let mut names: Vec<&str> = new.profiles.iter().map(|one| one.name.as_str()).collect();
    let gone = old.profiles.iter().map(|one| one.name.as_str());
    names.extend(gone.filter(|name| !new.profiles.iter().any(|one| one.name == *name)));
    let profiles = names
        .into_iter()
        .filter_map(|name| profile(name, old, new))
        .collect();
    let (before, after) = (rules(old), rules(new));
    let ids = |one: &BTreeMap<&str, &Rule>, other: &BTreeMap<&str, &Rule>| -> Vec<String> {
        let missing = one.keys().filter(|id| !other.contains_key(*id));
        missing.map(|id| (*id).to_owned()).collect()
    };
    let changed = after
        .iter()
        .filter(|(id, rule)| before.get(*id).is_some_and(|old| !says_the_same(old, rule)));
    Difference {
        profiles,
        lists: lists(old, new),
        rules_added: ids(&after, &before),
        rules_removed: ids(&before, &after),
        rules_changed: changed.map(|(id, _)| (*id).to_owned()).collect(),
        scans_changed: old.scans != new.scans || old.report != new.report,
    }
}

fn rules(policy: &Policy) -> BTreeMap<&str, &Rule> {
    let rules = policy.rules();
    rules.map(|rule| (rule.id.as_str(), rule)).collect()
}

/// Where a rule stands, and what is said beside it, does not count.
fn says_the_same(one: &Rule, other: &Rule) -> bool {
    one.services == other.services
        && Addresses::of(&one.from) == Addresses::of(&other.from)
        && destination(one) == destination(other)
        && one.rate == other.rate
        && one.rate_per_source == other.rate_per_source
        && one.schedule == other.schedule
}

fn lists(old: &Policy, new: &Policy) -> Vec<ListDifference> {
    let sets = |policy: &Policy| -> BTreeMap<String, Addresses> {
        let lists = policy.rules().filter_map(|rule| match &rule.from {
            crate::policy::AddressSet::Prefixes(set) => Some(set),
            crate::policy::AddressSet::Any => None,
        });
        lists
            .map(|set| (set.name.clone(), Addresses::of_prefixes(set)))
            .collect()
    };
    let (before, after) = (sets(old), sets(new));
    after
        .into_iter()
        .filter_map(|(list, now)| {
            let then = before.get(&list).filter(|then| **then != now)?;
            let (added, first_added) = counted(&now.minus(then));
            let (removed, first_removed) = counted(&then.minus(&now));
            Some(ListDifference {
                list,
                added,
                first_added,
                removed,
                first_removed,
            })
        })
        .collect()
}

fn counted(addresses: &Addresses) -> (usize, Vec<String>) {
    let first = addresses.prefixes().take(SHOWN);
    let first = first.map(|net| net.to_string()).collect();
    (addresses.prefixes().count(), first)
}

fn profile(name: &str, old: &Policy, new: &Policy) -> Option<ProfileDifference> {
    let of = |policy: &'_ Policy| policy.profiles.iter().position(|one| one.name == name);
    let before = of(old).and_then(|at| old.profiles.get(at));
    let after = of(new).and_then(|at| new.profiles.get(at));
    let cuts = Cuts::of([(old, before), (new, after)]);
    let (was, is) = (cuts.incoming(old, before), cuts.incoming(new, after));
    let (sent, sends) = (cuts.outgoing(before), cuts.outgoing(after));
    let difference = ProfileDifference {
        profile: name.to_owned(),
        exists: after.is_some(),
        existed: before.is_some(),
        opened: openings(&is, &was),
        closed: openings(&was, &is),
        send_opened: openings(&sends, &sent),
        send_closed: openings(&sent, &sends),
        settings: before
            .zip(after)
            .map(|(before, after)| settings(before, after))
            .unwrap_or_default(),
    };
    let differs = difference.exists != difference.existed
        || !difference.opened.is_empty()
        || !difference.closed.is_empty()
        || !difference.send_opened.is_empty()
        || !difference.send_closed.is_empty()
        || !difference.settings.is_empty();
    differs.then_some(difference)
}

fn settings(before: &Profile, after: &Profile) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |name: &str, before: String, after: String| {
        if before != after {
            found.push(format!("{name}: {before} -> {after}"));
        }
    };
    let text = |value: &dyn std::fmt::Debug| format!("{value:?}").to_lowercase();
    compare("enforce", text(&before.enforce), text(&after.enforce));
    compare(
        "default",
        text(&before.default_verdict),
        text(&after.default_verdict),
    );
    compare("fragments", text(&before.fragments), text(&after.fragments));
    compare(
        "interfaces",
        before.interfaces.join(", "),
        after.interfaces.join(", "),
    );
    compare(
        "bridges",
        before.bridges.join(", "),
        after.bridges.join(", "),
    );
    compare("vlans", text(&before.vlans), text(&after.vlans));
    compare("control", text(&before.control), text(&after.control));
    compare("icmp v4", text(&before.icmp_v4), text(&after.icmp_v4));
    compare("icmp v6", text(&before.icmp_v6), text(&after.icmp_v6));
    compare(
        "ethertypes",
        text(&before.ethertypes),
        text(&after.ethertypes),
    );
    let (one, other) = (&before.antispoof, &after.antispoof);
    compare(
        "antispoof martians",
        text(&one.martians),
        text(&other.martians),
    );
    compare(
        "antispoof internet",
        text(&one.internet),
        text(&other.internet),
    );
    compare(
        "antispoof own_addresses",
        text(&one.own_addresses),
        text(&other.own_addresses),
    );
    compare(
        "antispoof reverse_path",
        text(&one.reverse_path),
        text(&other.reverse_path),
    );
    compare("antispoof egress", text(&one.egress), text(&other.egress));
    if one.legitimate != other.legitimate {
        found.push("antispoof legitimate: other prefixes".to_owned());
    }
    if one.egress_sources != other.egress_sources {
        found.push("antispoof egress_sources: other prefixes".to_owned());
    }
    found
}

/// A service that no rule of both policies tells apart: a protocol, some ports of one, or all protocols that no rule names.
type Piece = (Option<u8>, u16, u16);

/// Who is let in, by piece and destination.
type Table = BTreeMap<(Option<String>, Piece), Addresses>;

/// The pieces that two policies are compared by.
struct Cuts {
    pieces: BTreeSet<Piece>,
}

impl Cuts {
    fn of(policies: [(&Policy, Option<&Profile>); 2]) -> Self {
        let rules: Vec<&Rule> = policies
            .iter()
            .flat_map(|(policy, profile)| {
                let profile = profile.iter().flat_map(|profile| profile.rules());
                policy.failsafe.rules().iter().chain(profile)
            })
            .collect();
        let services = || rules.iter().flat_map(|rule| &rule.services);
        let mut pieces = BTreeSet::from([(None, 0, 0)]);
        let mut edges: BTreeMap<u8, BTreeSet<u32>> = BTreeMap::new();
        for protocol in [PortProtocol::Tcp, PortProtocol::Udp, PortProtocol::Sctp] {
            edges.insert(protocol.number(), BTreeSet::from([0, 1 << 16]));
        }
        for service in services() {
            match service {
                Service::Any => {}
                Service::Protocol(number) if edges.contains_key(number) => {}
                Service::Protocol(number) => {
                    pieces.insert((Some(*number), 0, 0));
                }
                Service::Ports {
                    protocol,
                    first,
                    last,
                } => {
                    let edges = edges.entry(protocol.number()).or_default();
                    edges.extend([u32::from(*first), u32::from(*last) + 1]);
                }
            }
        }
        for (number, edges) in edges {
            let ends = edges.iter().skip(1);
            for (first, end) in edges.iter().zip(ends) {
                pieces.insert((Some(number), *first as u16, (end - 1) as u16));
            }
        }
        Self { pieces }
    }

    /// Who is let in by a profile: what allow rules or the default let in and no deny rule refuses, and the failsafe list.
    fn incoming(&self, policy: &Policy, profile: Option<&Profile>) -> Table {
        let mut table = Table::new();
        let Some(profile) = profile else { return table };
        for piece in &self.pieces {
            let mut denied = Addresses::default();
            for rule in &profile.deny {
                if rule.to == Destination::Any && has(rule, *piece) {
                    denied = denied.union(&Addresses::of(&rule.from));
                }
            }
            let mut let_in: BTreeMap<Option<String>, Addresses> = BTreeMap::new();
            if profile.default_verdict == DefaultVerdict::Pass {
                let_in.insert(None, Addresses::everything());
            }
            for rule in profile.allow.iter().filter(|rule| has(rule, *piece)) {
                let known = let_in.remove(&destination(rule)).unwrap_or_default();
                let_in.insert(destination(rule), known.union(&Addresses::of(&rule.from)));
            }
            let mut let_in: BTreeMap<_, _> = let_in
                .into_iter()
                .map(|(to, sources)| (to, sources.minus(&denied)))
                .collect();
            if profile.containers.is_none() {
                for rule in policy
                    .failsafe
                    .rules()
                    .iter()
                    .filter(|rule| has(rule, *piece))
                {
                    let known = let_in.remove(&None).unwrap_or_default();
                    let_in.insert(None, known.union(&Addresses::of(&rule.from)));
                }
            }
            table.extend(
                let_in
                    .into_iter()
                    .map(|(to, sources)| ((to, *piece), sources)),
            );
        }
        table
    }

    /// What a container may send.
    fn outgoing(&self, profile: Option<&Profile>) -> Table {
        let mut table = Table::new();
        let Some(containers) = profile.and_then(|profile| profile.containers.as_ref()) else {
            return table;
        };
        for piece in &self.pieces {
            let to = match &containers.send {
                None => Addresses::everything(),
                Some(rules) => rules
                    .iter()
                    .filter(|rule| has(rule, *piece))
                    .fold(Addresses::default(), |known, rule| {
                        known.union(&Addresses::of(&rule.from))
                    }),
            };
            table.insert((None, *piece), to);
        }
        table
    }
}

fn has(rule: &Rule, (protocol, from, to): Piece) -> bool {
    rule.services.iter().any(|service| match service {
        Service::Any => true,
        Service::Protocol(number) => protocol == Some(*number),
        Service::Ports {
            protocol: of,
            first,
            last,
        } => protocol == Some(of.number()) && *first <= from && to <= *last,
    })
}

fn destination(rule: &Rule) -> Option<String> {
    match &rule.to {
        Destination::Any => None,
        Destination::SelfAddresses => Some("self".to_owned()),
        Destination::Forwarded => Some("forwarded".to_owned()),
        Destination::Prefixes(set) => Some(set.name.clone()),
    }
}

/// What `one` lets in and `other` does not; neighbouring ports with the same sources together.
fn openings(one: &Table, other: &Table) -> Vec<Opening> {
    let mut found: Vec<(Option<String>, Piece, Addresses)> = Vec::new();
    for ((to, piece), sources) in one {
        // whoever gets in to any destination gets in to this one
        let mut known = other
            .get(&(to.clone(), *piece))
            .cloned()
            .unwrap_or_default();
        if let Some(anywhere) = other.get(&(None, *piece)).filter(|_| to.is_some()) {
            known = known.union(anywhere);
        }
        let more = sources.minus(&known);
        if more.is_empty() {
            continue;
        }
        let (protocol, first, last) = *piece;
        match found.last_mut() {
            Some((before, (same, _, end), sources))
                if before == to
                    && *same == protocol
                    && end.checked_add(1) == Some(first)
                    && *sources == more =>
            {
                *end = last;
            }
            _ => found.push((to.clone(), *piece, more)),
        }
    }
    found
        .into_iter()
        .map(|(to, piece, sources)| {
            let anybody = sources.is_everything();
            let (prefixes, first) = counted(&sources);
            Opening {
                service: service(piece),
                to,
                anybody,
                prefixes,
                first,
            }
        })
        .collect()
}

fn service((protocol, first, last): Piece) -> String {
    let Some(number) = protocol else {
        return "anything else".to_owned();
    };
    let name = match PortProtocol::from_number(number) {
        Some(PortProtocol::Tcp) => "tcp",
        Some(PortProtocol::Udp) => "udp",
        Some(PortProtocol::Sctp) => "sctp",
        None => return format!("protocol {number}"),
    };
    match (first, last) {
        (0, u16::MAX) => name.to_owned(),
        (first, last) if first == last => format!("{name}/{first}"),
        (first, last) => format!("{name}/{first}-{last}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::behind_version as policy;

    const EDGE: &str = "[profiles.edge]\ninterfaces = [\"eth0\"]\n";

    fn allow(id: &str, ports: &str, from: &str) -> String {
        format!(
            "[[profiles.edge.allow]]\nid = \"{id}\"\nprotocol = \"tcp\"\nports = {ports}\nfrom = {from}\n"
        )
    }

    fn compare(old: &str, new: &str) -> Difference {
        difference(
            &policy(&format!("{EDGE}{old}")),
            &policy(&format!("{EDGE}{new}")),
        )
    }

    fn shown(openings: &[Opening]) -> Vec<String> {
        let one =
            |one: &Opening| format!("{} {} {}", one.service, one.prefixes, one.first.join(","));
        openings.iter().map(one).collect()
    }

    #[test]
    fn the_same_in_other_words_is_no_difference() {
        let one = allow("web", "[\"80-90\"]", "[\"192.0.2.0/24\"]");
        let other = allow(
            "low",
            "[\"80-84\"]",
            "[\"192.0.2.0/25\", \"192.0.2.128/25\"]",
        ) + &allow("high", "[\"85-90\"]", "[\"192.0.2.0/24\"]");
        let found = compare(&one, &other);
        assert_eq!(found.profiles, [], "{found:?}");
        assert_eq!(found.rules_added, ["high", "low"]);
        assert_eq!(found.rules_removed, ["web"]);
    }

    #[test]
    fn ports_are_opened_and_closed_to_somebody() {
        let found = compare(
            &allow("web", "[443]", "\"any\""),
            &allow("web", "[443, 8443]", "[\"192.0.2.0/24\"]"),
        );
        let edge = &found.profiles[0];
        assert_eq!(shown(&edge.opened), ["tcp/8443 1 192.0.2.0/24"]);
        let closed = &edge.closed[0];
        assert_eq!(
            (closed.service.as_str(), closed.anybody),
            ("tcp/443", false)
        );
        assert_eq!(
            closed.prefixes,
            24 + 1,
            "all of IPv4 without a /24, and all of IPv6"
        );
        assert_eq!(found.rules_changed, ["web"]);
    }

    #[test]
    fn deny_rules_and_the_failsafe_list_count() {
        let web = allow("web", "[443]", "\"any\"");
        let deny = "[[profiles.edge.deny]]\nid = \"bad\"\nfrom = [\"198.51.100.0/24\"]\n";
        let denied = format!("{web}{deny}");
        let found = compare(&web, &denied);
        assert_eq!(
            shown(&found.profiles[0].closed),
            ["tcp/443 1 198.51.100.0/24"]
        );
        let failsafe = format!(
            "{denied}[[failsafe]]\nid = \"me\"\nprotocol = \"tcp\"\nports = [443]\nfrom = [\"198.51.100.7\"]\n"
        );
        let found = compare(&denied, &failsafe);
        assert_eq!(
            shown(&found.profiles[0].opened),
            ["tcp/443 1 198.51.100.7/32"]
        );
    }

    #[test]
    fn lists_settings_and_profiles_are_named() {
        let group = |cidrs: &str| {
            format!(
                "{}[groups.a]\ncidrs = [{cidrs}]\n",
                allow("ssh", "[22]", "[\"@a\"]")
            )
        };
        let found = compare(
            &group("\"192.0.2.1\", \"192.0.2.9\""),
            &group("\"192.0.2.9\", \"2001:db8::/32\""),
        );
        assert_eq!(found.lists[0].list, "@a");
        assert_eq!(found.lists[0].first_added, ["2001:db8::/32"]);
        assert_eq!(found.lists[0].first_removed, ["192.0.2.1/32"]);
        let found = compare("enforce = false\n", "default = \"pass\"\n");
        let edge = &found.profiles[0];
        assert_eq!(
            edge.settings,
            ["enforce: false -> true", "default: drop -> pass"]
        );
        let opened: Vec<_> = edge
            .opened
            .iter()
            .map(|one| (one.service.as_str(), one.anybody))
            .collect();
        assert_eq!(
            opened,
            [
                ("anything else", true),
                ("tcp", true),
                ("udp", true),
                ("sctp", true)
            ]
        );
        let other = policy("[profiles.other]\ninterfaces = [\"eth1\"]\n");
        let found = difference(&policy(EDGE), &other);
        let names: Vec<_> = found
            .profiles
            .iter()
            .map(|one| (one.profile.as_str(), one.existed, one.exists))
            .collect();
        assert_eq!(names, [("other", false, true), ("edge", true, false)]);
    }
}
