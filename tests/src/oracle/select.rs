//! Owns the choice of the profile that judges a frame: interface names, globs, bridges, VLAN ids.
//! Must never look at anything else of a profile.

use super::rules::Profile;

/// The profile that judges frames with this outer VLAN id on this interface, a port of that bridge.
/// Profiles that list the id come before those without `vlans`; then a name of the interface comes before one of its
/// bridge, an exact name before a glob, the glob with more literal characters before the other, the first in the file
/// before the rest. A profile for containers that judges frames without an id judges those with one as well: what a
/// container may send cannot depend on a tag it chooses.
#[must_use]
pub fn select<'a>(
    profiles: &'a [Profile],
    interface: &str,
    bridge: Option<&str>,
    vlan: Option<u16>,
) -> Option<&'a Profile> {
    let best = |wanted: &dyn Fn(&Profile) -> bool| {
        let mut found: Option<(&Profile, (bool, bool, usize))> = None;
        for profile in profiles.iter().filter(|profile| wanted(profile)) {
            let by_name = profile
                .interfaces
                .iter()
                .map(|pattern| (true, pattern, Some(interface)));
            let by_bridge = profile
                .bridges
                .iter()
                .map(|pattern| (false, pattern, bridge));
            for (direct, pattern, name) in by_name.chain(by_bridge) {
                let Some(name) = name.filter(|name| glob(pattern, name)) else {
                    continue;
                };
                let rank = (direct, pattern == name, literals(pattern));
                if found.is_none_or(|(_, best)| rank > best) {
                    found = Some((profile, rank));
                }
            }
        }
        found.map(|(profile, _)| profile)
    };
    let base = best(&|profile| profile.vlans.is_empty());
    if base.is_some_and(|profile| profile.containers.is_some()) {
        return base;
    }
    vlan.and_then(|id| best(&|profile| profile.vlans.contains(&id)))
        .or(base)
}

/// Characters of a glob that stand for themselves; a bracket set stands for none.
fn literals(pattern: &str) -> usize {
    let mut count = 0;
    let mut in_set = false;
    for c in pattern.chars() {
        match c {
            '[' => in_set = true,
            ']' => in_set = false,
            '*' | '?' => {}
            _ if in_set => {}
            _ => count += 1,
        }
    }
    count
}

/// Shell globs: `*`, `?`, `[abc]`, `[a-z]`, `[!abc]`.
#[must_use]
pub fn glob(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    glob_chars(&pattern, &name)
}

fn glob_chars(pattern: &[char], name: &[char]) -> bool {
    match (pattern.first(), name.first()) {
        (None, None) => true,
        (Some('*'), _) => (0..=name.len()).any(|skip| glob_chars(&pattern[1..], &name[skip..])),
        (Some('?'), Some(_)) => glob_chars(&pattern[1..], &name[1..]),
        (Some('['), Some(c)) => match pattern.iter().skip(2).position(|p| *p == ']') {
            Some(at) => {
                let (set, rest) = (&pattern[1..at + 2], &pattern[at + 3..]);
                in_set(set, *c) && glob_chars(rest, &name[1..])
            }
            None => false,
        },
        (Some(p), Some(c)) => p == c && glob_chars(&pattern[1..], &name[1..]),
        _ => false,
    }
}

fn in_set(set: &[char], c: char) -> bool {
    let (negated, set) = match set.split_first() {
        Some(('!' | '^', rest)) => (true, rest),
        _ => (false, set),
    };
    let mut found = false;
    let mut i = 0;
    while i < set.len() {
        if i + 2 < set.len() && set[i + 1] == '-' {
            found |= (set[i]..=set[i + 2]).contains(&c);
            i += 3;
        } else {
            found |= set[i] == c;
            i += 1;
        }
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::policy::RawPolicy;
    use crate::oracle::rules::resolve;

    #[test]
    fn globs() {
        let matching = [
            ("lo", "lo"),
            ("l*", "lo"),
            ("*", "lo"),
            ("l?", "lo"),
            ("[kl]o", "lo"),
            ("eth[0-9]", "eth7"),
            ("eth[!0-9]", "ethx"),
            ("e*0", "eth0.100"),
            ("[]]x", "]x"),
            ("*", ""),
        ];
        for (pattern, name) in matching {
            assert!(glob(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("lo", "lo0"),
            ("l?", "l"),
            ("[kl]o", "mo"),
            ("eth[0-9]", "eth"),
            ("eth[", "eth["),
            ("", "l"),
        ] {
            assert!(!glob(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn the_most_exact_name_chooses_the_profile() {
        let text = "version = 1
[profiles.star]
interfaces = [\"*\"]
[profiles.short]
interfaces = [\"e*\"]
[profiles.long]
interfaces = [\"et*\"]
[profiles.tie]
interfaces = [\"*th\", \"[e]*h[0]\"]
[profiles.exact]
interfaces = [\"eth1\"]
[profiles.storage]
interfaces = [\"e*\"]
vlans = [100]
";
        let profiles = resolve(&RawPolicy::parse(text).unwrap());
        let chosen =
            |name, vlan| select(&profiles, name, None, vlan).map(|profile| profile.name.as_str());
        assert_eq!(chosen("lo", None), Some("star"));
        assert_eq!(chosen("ens5", None), Some("short"));
        assert_eq!(chosen("eth0", None), Some("long"));
        assert_eq!(chosen("eth1", None), Some("exact"));
        assert_eq!(chosen("eth1", Some(100)), Some("storage"));
        assert_eq!(chosen("eth1", Some(101)), Some("exact"));
        assert_eq!(chosen("lo", Some(100)), Some("star"));
    }
    #[test]
    fn a_bridge_is_less_close_than_a_name() {
        let text = "version = 1
[profiles.any]
interfaces = [\"*\"]
[profiles.pods]
bridges = [\"cni0\"]
[profiles.pods.containers]
[profiles.more]
bridges = [\"cni*\"]
[profiles.more.containers]
";
        let chosen = |text: &str, name: &str, bridge| {
            let profiles = resolve(&RawPolicy::parse(text).unwrap());
            select(&profiles, name, bridge, None).map(|profile| profile.name.clone())
        };
        assert_eq!(chosen(text, "veth0", Some("cni0")).as_deref(), Some("any"));
        let text = text.replace("[\"*\"]", "[\"eth*\"]");
        assert_eq!(
            chosen(&text, "veth0", Some("cni0")).as_deref(),
            Some("pods")
        );
        assert_eq!(
            chosen(&text, "veth0", Some("cni1")).as_deref(),
            Some("more")
        );
        assert_eq!(chosen(&text, "veth0", Some("docker0")), None);
        assert_eq!(chosen(&text, "cni0", None), None);
    }
}
