//! Ways in: what a policy leaves of them, by what it says. Pure.

use std::fmt::Write as _;

use crate::policy::{
    AddressSet, DefaultVerdict, Failsafe, Policy, PrefixSet, Profile, Rule, Service,
    service_covered,
};

/// An interface of this host that a policy may name: its name, and its bridge's.
pub type Interface<'a> = (&'a str, Option<&'a str>);

/// How many sources of a rule are named.
const NAMED: usize = 3;

/// All of TCP (IANA protocol number 6).
const TCP: Service = Service::Protocol(6);

/// Whether the policy opens no TCP service to anybody, although the one in force does, and does not say that nobody shall
/// get in. `interfaces`: the outer ones that there are.
pub fn closes_every_way(in_force: &Policy, next: &Policy, interfaces: &[Interface<'_>]) -> bool {
    next.failsafe == Failsafe::Absent
        && (!in_force.failsafe.rules().is_empty() || is_open(in_force, interfaces))
        && !is_open(next, interfaces)
}

fn is_open(policy: &Policy, interfaces: &[Interface<'_>]) -> bool {
    interfaces.iter().any(|(name, bridge)| {
        let mut profiles = policy.profile_for(name, *bridge).into_iter().peekable();
        // an interface that no profile names is not filtered
        profiles.peek().is_none() || profiles.any(|(_, profile)| lets_somebody_in(profile))
    })
}

fn lets_somebody_in(profile: &Profile) -> bool {
    if !profile.enforce {
        return true;
    }
    let is_denied = |service: Service| {
        let mut rules = profile.deny.iter();
        rules.any(|rule| is_anybody(&rule.from) && service_covered(&rule.services, service))
    };
    let allowed = profile
        .allow
        .iter()
        .filter(|rule| !matches!(&rule.from, AddressSet::Prefixes(set) if set.is_empty()))
        .flat_map(|rule| &rule.services)
        .filter(|service| service_covered(&[TCP], **service));
    (profile.default_verdict == DefaultVerdict::Pass && !is_denied(TCP))
        || allowed.copied().any(|service| !is_denied(service))
}

fn is_anybody(from: &AddressSet) -> bool {
    match from {
        AddressSet::Any => true,
        AddressSet::Prefixes(set) => set.is_everything(),
    }
}

/// What the failsafe list in force lets in and that of the next policy does not, for people; `None`: nothing.
pub fn takes_from_failsafe(in_force: &Policy, next: &Policy) -> Option<String> {
    let kept = next.failsafe.rules();
    let mut lost = in_force
        .failsafe
        .rules()
        .iter()
        .filter_map(|rule| Some((rule, lost(rule, kept)?)));
    let (rule, mut text) = lost.next()?;
    let _ = write!(text, " (rule {})", rule.id);
    let more = lost.count();
    if more > 0 {
        let _ = write!(text, ", and what {more} more rules let in,");
    }
    Some(text)
}

/// Sources of a failsafe rule that no rule of `kept` lets in as it did.
fn lost(rule: &Rule, kept: &[Rule]) -> Option<String> {
    let keeping: Vec<&Rule> = kept
        .iter()
        .filter(|kept| {
            let mut services = rule.services.iter();
            services.all(|service| service_covered(&kept.services, *service))
        })
        .collect();
    if keeping.iter().any(|kept| is_anybody(&kept.from)) {
        return None;
    }
    let set = match &rule.from {
        AddressSet::Any => return Some("any source".to_owned()),
        AddressSet::Prefixes(set) => set,
    };
    let one = |v4: &[ipnet::Ipv4Net], v6: &[ipnet::Ipv6Net]| PrefixSet {
        name: String::new(),
        v4: v4.to_vec(),
        v6: v6.to_vec(),
    };
    let is_lost = |prefix: &PrefixSet| {
        !keeping
            .iter()
            .any(|kept| matches!(&kept.from, AddressSet::Prefixes(kept) if kept.covers(prefix)))
    };
    let v4 = set.v4.iter().filter(|net| is_lost(&one(&[**net], &[])));
    let v6 = set.v6.iter().filter(|net| is_lost(&one(&[], &[**net])));
    let lost: Vec<String> = v4
        .map(ToString::to_string)
        .chain(v6.map(ToString::to_string))
        .collect();
    let named = lost.iter().take(NAMED).cloned().collect::<Vec<_>>();
    match lost.len() {
        0 => None,
        count if count <= NAMED => Some(named.join(", ")),
        count => Some(format!("{} and {} more", named.join(", "), count - NAMED)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::behind_version as policy;

    const EDGE: &str = "[profiles.edge]\ninterfaces = [\"eth0\"]\n";
    const SSH: &str = "[[profiles.edge.allow]]\nid = \"ssh\"\nprotocol = \"tcp\"\nports = [22]\n";

    #[test]
    fn the_last_way_in_is_told_from_others() {
        let open = policy(&format!("{EDGE}{SSH}"));
        let cases = [
            (EDGE.to_owned(), true),
            (format!("{EDGE}{SSH}from = [\"192.0.2.7\"]\n"), false),
            (
                format!(
                    "{EDGE}[[profiles.edge.allow]]\nid = \"dns\"\nprotocol = \"udp\"\nports = [53]\n"
                ),
                true,
            ),
            (
                format!("{EDGE}{SSH}[[profiles.edge.deny]]\nid = \"no\"\nfrom = \"any\"\n"),
                true,
            ),
            (
                format!(
                    "{EDGE}{SSH}[[profiles.edge.deny]]\nid = \"no\"\nfrom = [\"192.0.2.0/24\"]\n"
                ),
                false,
            ),
            (format!("{EDGE}enforce = false\n"), false),
            (format!("{EDGE}default = \"pass\"\n"), false),
            (
                "[profiles.edge]\ninterfaces = [\"eth1\"]\n".to_owned(),
                false,
            ),
            (format!("failsafe = []\n{EDGE}"), false),
            (
                format!("{EDGE}[[failsafe]]\nid = \"a\"\nfrom = [\"192.0.2.7\"]\n"),
                false,
            ),
        ];
        let eth0 = [("eth0", None)];
        for (text, expected) in cases {
            let next = policy(&text);
            assert_eq!(closes_every_way(&open, &next, &eth0), expected, "{text}");
        }
        let closed = policy(EDGE);
        assert!(!closes_every_way(&closed, &closed, &eth0), "it was closed");
    }

    #[test]
    fn what_always_got_in_is_missed() {
        let list = |text: &str| policy(&format!("{EDGE}{text}"));
        let in_force = list(
            "[[failsafe]]\nid = \"a\"\nprotocol = \"tcp\"\nports = [22]\nfrom = [\"192.0.2.7\", \"2001:db8::/32\"]\n",
        );
        let takes = |text: &str| takes_from_failsafe(&in_force, &list(text));
        assert_eq!(
            takes("").as_deref(),
            Some("192.0.2.7/32, 2001:db8::/32 (rule a)")
        );
        assert_eq!(
            takes("[[failsafe]]\nid = \"b\"\nfrom = [\"192.0.2.0/24\"]\n").as_deref(),
            Some("2001:db8::/32 (rule a)")
        );
        assert_eq!(
            takes(
                "[[failsafe]]\nid = \"b\"\nfrom = [\"192.0.2.0/24\"]\n\
                 [[failsafe]]\nid = \"c\"\nprotocol = \"tcp\"\nfrom = [\"2001::/16\"]\n"
            ),
            None,
            "two rules together"
        );
        assert!(
            takes("[[failsafe]]\nid = \"b\"\nprotocol = \"tcp\"\nports = [443]\nfrom = [\"192.0.2.7\", \"2001:db8::/32\"]\n")
                .is_some(),
            "another service"
        );
        assert_eq!(takes_from_failsafe(&list(""), &in_force), None);
    }
}
