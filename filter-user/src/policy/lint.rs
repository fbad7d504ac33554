//! Warnings about a valid policy: rules and profiles that never take effect, and openings that are
//! probably not meant. Never changes the policy, and stays silent where it is not sure.

use std::collections::HashMap;
use std::sync::Arc;

use super::model::{
    AddressSet, DefaultVerdict, Destination, Policy, PortProtocol, PrefixSet, Profile, Rule,
    Service,
};
use super::source::Report;
use super::validate::{Marks, ProfileMarks};
use super::{failsafe, interface};

mod links;
mod scans;

/// Ports for administration that hardly anybody means to open to the world.
const ADMIN_PORTS: &[(u16, &str)] = &[(22, "SSH"), (3389, "RDP")];

/// Reports everything worth a look.
pub(super) fn lint(policy: &Policy, marks: &Marks, report: &mut Report) {
    let mut covering = Covering::default();
    failsafe::lint(&policy.failsafe, &marks.failsafe, report);
    for (index, (profile, marks)) in policy.profiles.iter().zip(&marks.profiles).enumerate() {
        if profile.default_verdict == DefaultVerdict::Pass {
            report.warning(
                "default-pass",
                marks.default.clone(),
                format!(
                    "profile `{}` lets in everything that no deny rule names",
                    profile.name
                ),
                "write `default = \"drop\"` and allow rules, unless this is meant",
            );
        }
        shadowed_rules(profile, marks, &mut covering, report);
        for (rule, span) in profile.allow.iter().zip(&marks.allow) {
            if !is_everyone(&rule.from) {
                continue;
            }
            for (port, name) in ADMIN_PORTS {
                let service = Service::Ports {
                    protocol: PortProtocol::Tcp,
                    first: *port,
                    last: *port,
                };
                if service_covered(&rule.services, service) {
                    report.warning(
                        "open-admin-port",
                        span.clone(),
                        format!(
                            "rule `{}` opens tcp port {port} ({name}) to everyone",
                            rule.id
                        ),
                        "name the sources in `from`, such as a group of administrators",
                    );
                }
            }
        }
        shadowed_interfaces(policy, index, marks, report);
        links::antispoof(profile, &marks.antispoof, report);
        links::martians(profile, marks, report);
        links::containers(policy, index, marks, report);
    }
    scans::lint(policy, marks, report);
}

fn is_everyone(from: &AddressSet) -> bool {
    match from {
        AddressSet::Any => true,
        AddressSet::Prefixes(set) => set.is_everything(),
    }
}

fn shadowed_rules(
    profile: &Profile,
    marks: &ProfileMarks,
    covering: &mut Covering,
    report: &mut Report,
) {
    let send = profile.containers.as_ref().and_then(|c| c.send.as_deref());
    // Send rules are about the other direction: no deny rule covers them.
    let lists = [
        (profile.deny.as_slice(), &marks.deny, false),
        (profile.allow.as_slice(), &marks.allow, true),
        (send.unwrap_or_default(), &marks.send, false),
    ];
    for (rules, marks, is_allow) in lists {
        for (at, (rule, span)) in rules.iter().zip(marks).enumerate() {
            if never_matches(rule) {
                continue;
            }
            let denied = if is_allow {
                profile.deny.iter().find(|deny| covering.rule(deny, rule))
            } else {
                None
            };
            if let Some(deny) = denied {
                report.warning(
                    "shadowed-rule",
                    span.clone(),
                    format!(
                        "rule `{}` never matches: deny rule `{}` ({}) drops all of it",
                        rule.id,
                        deny.id,
                        place(deny, rule)
                    ),
                    "narrow the deny rule, or take this rule out",
                );
            } else if let Some(earlier) = rules
                .iter()
                .take(at)
                .find(|earlier| covering.rule(earlier, rule))
            {
                report.warning(
                    "shadowed-rule",
                    span.clone(),
                    format!(
                        "rule `{}` never matches: rule `{}` ({}) covers all of it",
                        rule.id,
                        earlier.id,
                        place(earlier, rule)
                    ),
                    "put this rule before the other, or take it out",
                );
            }
        }
    }
}

/// Where a rule stands, seen from another one.
fn place(rule: &Rule, seen_from: &Rule) -> String {
    if rule.file == seen_from.file {
        format!("line {}", rule.line)
    } else {
        format!("line {} of {}", rule.line, rule.file.display())
    }
}

fn shadowed_interfaces(policy: &Policy, index: usize, marks: &ProfileMarks, report: &mut Report) {
    let Some(profile) = policy.profiles.get(index) else {
        return;
    };
    for (pattern, span) in profile.interfaces.iter().zip(&marks.interfaces) {
        let winner = policy.profiles.iter().enumerate().find(|(at, other)| {
            let same_frames = if profile.vlans.is_empty() {
                other.vlans.is_empty()
            } else {
                profile.vlans.iter().all(|id| other.vlans.contains(id))
            };
            *at != index
                && same_frames
                && other
                    .interfaces
                    .iter()
                    .any(|w| interface::shadows(w, *at, pattern, index))
        });
        if let Some((_, winner)) = winner {
            report.warning(
                "shadowed-interface",
                span.clone(),
                format!(
                    "`{pattern}` never takes effect: profile `{}` wins on all of it",
                    winner.name
                ),
                "put this profile first, write a closer name, or take it out",
            );
        }
    }
}

/// Whether sorted, disjoint services hold all of another.
pub(crate) fn service_covered(services: &[Service], wanted: Service) -> bool {
    let has = |service| services.binary_search(&service).is_ok();
    if has(Service::Any) || has(wanted) {
        return true;
    }
    let Service::Ports {
        protocol,
        first,
        last,
    } = wanted
    else {
        return false;
    };
    if has(Service::Protocol(protocol.number())) {
        return true;
    }
    let after = services.partition_point(|s| {
        *s <= Service::Ports {
            protocol,
            first,
            last: u16::MAX,
        }
    });
    matches!(
        after.checked_sub(1).and_then(|at| services.get(at)),
        Some(Service::Ports { protocol: p, first: f, last: l }) if *p == protocol && *f <= first && *l >= last
    )
}

/// Which set holds which: lists may be long and are shared by many rules, so answers are kept.
#[derive(Default)]
struct Covering {
    answers: HashMap<(*const PrefixSet, *const PrefixSet), bool>,
}

impl Covering {
    /// Whether `wide` matches everything that `narrow` matches. One rule at a time: two rules that
    /// cover a third only together are not found.
    fn rule(&mut self, wide: &Rule, narrow: &Rule) -> bool {
        (wide.schedule.is_none() || wide.schedule == narrow.schedule)
            && narrow
                .services
                .iter()
                .all(|service| service_covered(&wide.services, *service))
            && match (&wide.to, &narrow.to) {
                (Destination::Any, _) => true,
                (Destination::Prefixes(wide), Destination::Prefixes(narrow)) => {
                    self.set(wide, narrow)
                }
                (Destination::Prefixes(wide), _) => wide.is_everything(),
                (wide, narrow) => wide == narrow,
            }
            && match (&wide.from, &narrow.from) {
                (AddressSet::Any, _) => true,
                (AddressSet::Prefixes(wide), AddressSet::Prefixes(narrow)) => {
                    self.set(wide, narrow)
                }
                (AddressSet::Prefixes(wide), AddressSet::Any) => wide.is_everything(),
            }
    }

    fn set(&mut self, wide: &Arc<PrefixSet>, narrow: &Arc<PrefixSet>) -> bool {
        Arc::ptr_eq(wide, narrow)
            || *self
                .answers
                .entry((Arc::as_ptr(wide), Arc::as_ptr(narrow)))
                .or_insert_with(|| wide.covers(narrow))
    }
}

/// A rule with an empty list has its own warning.
fn never_matches(rule: &Rule) -> bool {
    matches!(&rule.from, AddressSet::Prefixes(set) if set.is_empty())
        || matches!(&rule.to, Destination::Prefixes(set) if set.is_empty())
}
