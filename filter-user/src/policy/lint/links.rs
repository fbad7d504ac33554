//! Warnings about source checks and container links: settings that take no effect, and bindings no
//! link will have. Stays silent where it depends on the interfaces there are.

use std::ops::Range;

use ipnet::IpNet;

use super::super::antispoof::{LOOPBACK, Marks};
use super::super::interface;
use super::super::model::{AddressSet, Policy, Profile, ReversePath};
use super::super::source::Report;
use super::super::validate::ProfileMarks;
use crate::compile::registry::{self, Row, Scope};

/// Keys of `antispoof` that change nothing.
pub(super) fn antispoof(profile: &Profile, marks: &Marks, report: &mut Report) {
    let antispoof = &profile.antispoof;
    let mut idle = |key: &str, span: &Option<Range<usize>>, needs: &str| {
        if let Some(span) = span {
            report.warning(
                "no-effect",
                span.clone(),
                format!(
                    "`{key}` has no effect: `{needs}` is false in profile `{}`",
                    profile.name
                ),
                format!("write `{needs} = true`, or take `{key}` out"),
            );
        }
    };
    if !antispoof.martians {
        if antispoof.internet {
            idle("internet", &marks.internet, "martians");
        }
        if antispoof.legitimate.is_some() {
            idle("legitimate", &marks.legitimate, "martians");
        }
    }
    if !antispoof.egress && antispoof.egress_sources.is_some() {
        idle("egress_sources", &marks.egress_sources, "egress");
    }
    let loopback = profile.interfaces.iter().any(|name| name == LOOPBACK);
    if let Some(span) = &marks.reverse_path
        && antispoof.reverse_path != ReversePath::Off
        && loopback
    {
        report.warning(
            "reverse-path-loopback",
            span.clone(),
            format!("profile `{}` names `{LOOPBACK}`, where everything comes from this host and routes say nothing about it", profile.name),
            format!("give `{LOOPBACK}` a profile of its own without `reverse_path`"),
        );
    }
}

/// Rules for sources that `internet = true` refuses before any rule is asked: who writes one would be locked out.
pub(super) fn martians(profile: &Profile, marks: &ProfileMarks, report: &mut Report) {
    let antispoof = &profile.antispoof;
    if !(antispoof.martians && antispoof.internet) {
        return;
    }
    for (rule, span) in profile.allow.iter().zip(&marks.allow) {
        let AddressSet::Prefixes(from) = &rule.from else {
            continue;
        };
        let prefixes = from.v4.iter().copied().map(IpNet::V4);
        let mut prefixes = prefixes.chain(from.v6.iter().copied().map(IpNet::V6));
        let refused = prefixes.find_map(|prefix| {
            let row = private(prefix)?;
            (!is_legitimate(profile, prefix)).then_some((prefix, row))
        });
        let Some((prefix, row)) = refused else {
            continue;
        };
        report.warning(
            "martian-source",
            span.clone(),
            format!(
                "rule `{}` never lets {prefix} in: under `internet = true` it is a martian ({}, {})",
                rule.id, row.name, row.rfc
            ),
            format!("write `legitimate = [\"{prefix}\"]`, or set `internet = false`"),
        );
    }
}

/// The row of the registry that all of the prefix is private by.
fn private(prefix: IpNet) -> Option<&'static Row> {
    let table = match prefix {
        IpNet::V4(_) => registry::V4,
        IpNet::V6(_) => registry::V6,
    };
    let covers = |row: &&Row| {
        let net: Result<IpNet, _> = row.prefix.parse();
        net.is_ok_and(|net| net.contains(&prefix))
    };
    // sorted: the last row that covers it is the longest
    table
        .iter()
        .rfind(covers)
        .filter(|row| row.scope == Scope::Private)
}

fn is_legitimate(profile: &Profile, prefix: IpNet) -> bool {
    profile
        .antispoof
        .legitimate
        .as_ref()
        .is_some_and(|set| match prefix {
            IpNet::V4(prefix) => set.v4.iter().any(|net| net.contains(&prefix)),
            IpNet::V6(prefix) => set.v6.iter().any(|net| net.contains(&prefix)),
        })
}

/// Bridges and bindings that take no effect.
pub(super) fn containers(policy: &Policy, index: usize, marks: &ProfileMarks, report: &mut Report) {
    let Some(profile) = policy.profiles.get(index) else {
        return;
    };
    let Some(containers) = &profile.containers else {
        return;
    };
    bridges(policy, index, marks, report);
    if !containers.auto && containers.bindings.is_empty() {
        let effect = if containers.unbound_open {
            "no source is checked"
        } else {
            "they send and receive nothing"
        };
        report.warning(
            "no-bindings",
            marks.bindings.clone(),
            format!(
                "profile `{}` has no binding, so every link of it is unbound: {effect}",
                profile.name
            ),
            format!(
                "add `[[profiles.{}.containers.binding]]`, or write `bindings = \"auto\"`",
                profile.name
            ),
        );
    }
    let bridged = policy.profiles.iter().any(|p| !p.bridges.is_empty());
    for (binding, span) in containers.bindings.iter().zip(&marks.bound) {
        let name = &binding.interface;
        let (why, cure) = match policy.profile_for(name, None).first() {
            Some((_, winner)) if winner.containers.is_some() => continue,
            Some((_, winner)) => (
                format!(
                    "profile `{}`, which is not for containers, judges it",
                    winner.name
                ),
                format!(
                    "write closer `interfaces` in profile `{}`, or take the binding out",
                    profile.name
                ),
            ),
            // Whether it is the port of a bridge is not known here.
            None if bridged => continue,
            None => (
                "no profile judges it".to_owned(),
                format!(
                    "add `{name}` to the `interfaces` of profile `{}`, or take the binding out",
                    profile.name
                ),
            ),
        };
        let message = format!("the binding of `{name}` takes no effect: {why}");
        report.warning("unused-binding", span.clone(), message, cure);
    }
}

fn bridges(policy: &Policy, index: usize, marks: &ProfileMarks, report: &mut Report) {
    let profiles = policy.profiles.iter().enumerate();
    let others: Vec<_> = profiles.filter(|(at, _)| *at != index).collect();
    let Some(profile) = policy.profiles.get(index) else {
        return;
    };
    // By name beats by bridge, so a profile that names every interface leaves no port to bridges.
    let all = others.iter().find(|(_, other)| {
        let names = &mut other.interfaces.iter();
        other.vlans.is_empty() && names.any(|pattern| interface::is_everything(pattern))
    });
    for (pattern, span) in profile.bridges.iter().zip(&marks.bridges) {
        let closer = || {
            others.iter().find(|(at, other)| {
                let bridges = &mut other.bridges.iter();
                bridges.any(|winner| interface::shadows(winner, *at, pattern, index))
            })
        };
        if let Some((_, winner)) = all.or_else(closer) {
            report.warning(
                "shadowed-interface",
                span.clone(),
                format!(
                    "bridge `{pattern}` never takes effect: profile `{}` wins on all of its ports",
                    winner.name
                ),
                "write closer patterns in the other profile, put this one first, or take it out",
            );
        }
    }
}
