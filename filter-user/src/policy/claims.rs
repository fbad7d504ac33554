//! Who claims what: interfaces, bridges and bindings, over all profiles. Reports what two claim;
//! decides nothing about which of two different patterns wins.

use std::collections::HashMap;
use std::ops::Range;

use super::diagnostic::clean;
use super::interface;
use super::model::{MAX_INTERFACES, Profile};
use super::source::Report;
use super::validate::ProfileMarks;

/// Reports everything that is claimed twice, and more interfaces than there is room for.
pub(super) fn check(profiles: &[Profile], marks: &[ProfileMarks], report: &mut Report) {
    interfaces(profiles, marks, report);
    bridges(profiles, marks, report);
    bindings(profiles, marks, report);
}

/// Two profiles may name the same interface or glob only if their VLAN ids tell them apart.
fn interfaces(profiles: &[Profile], marks: &[ProfileMarks], report: &mut Report) {
    let mut claims: HashMap<&str, Vec<(usize, Range<usize>)>> = HashMap::new();
    for (index, (profile, marks)) in profiles.iter().zip(marks).enumerate() {
        for (pattern, span) in profile.interfaces.iter().zip(&marks.interfaces) {
            let earlier = claims.entry(pattern).or_default();
            for (other_index, other_span) in earlier.iter() {
                let Some(other) = profiles.get(*other_index).filter(|_| *other_index != index)
                else {
                    continue;
                };
                let containers = profile.containers.is_some() || other.containers.is_some();
                let shared = profile.vlans.iter().find(|id| other.vlans.contains(id));
                let frames = match shared {
                    Some(id) => format!("VLAN {id} of `{}`", clean(pattern)),
                    None if containers || profile.vlans.is_empty() && other.vlans.is_empty() => {
                        format!("`{}`", clean(pattern))
                    }
                    None => continue,
                };
                let message = format!(
                    "{frames} is claimed twice, first by profile `{}` in {}",
                    clean(&other.name),
                    report.line(other_span, span)
                );
                let cure = if containers {
                    "take it out of one of the two: a container profile judges all frames of its links"
                } else {
                    "take it out of one of the two, or tell them apart by `vlans`"
                };
                report.error("interface-claimed", span.clone(), message, cure);
                break;
            }
            earlier.push((index, span.clone()));
        }
    }
    let exact = claims
        .iter()
        .filter(|(pattern, _)| !interface::is_glob(pattern));
    if exact.count() > MAX_INTERFACES {
        let message = format!(
            "more than {MAX_INTERFACES} interfaces are named; that many cannot be managed at once"
        );
        let place = marks
            .iter()
            .flat_map(|m| &m.interfaces)
            .nth(MAX_INTERFACES)
            .cloned()
            .unwrap_or(0..1);
        report.error(
            "too-many-interfaces",
            place,
            message,
            "leave some unmanaged, or run one filter in each network namespace",
        );
    }
}

fn bridges(profiles: &[Profile], marks: &[ProfileMarks], report: &mut Report) {
    let mut claims: HashMap<&str, (&Profile, &Range<usize>)> = HashMap::new();
    for (profile, marks) in profiles.iter().zip(marks) {
        for (pattern, span) in profile.bridges.iter().zip(&marks.bridges) {
            let (first, first_span) = *claims.entry(pattern).or_insert((profile, span));
            // What one profile repeats is a warning, with its list.
            if std::ptr::eq(first, profile) {
                continue;
            }
            let message = format!(
                "bridge `{}` is claimed twice, first by profile `{}` in {}",
                clean(pattern),
                clean(&first.name),
                report.line(first_span, span)
            );
            let cure = "take it out of one of the two";
            report.error("bridge-claimed", span.clone(), message, cure);
        }
    }
}

fn bindings(profiles: &[Profile], marks: &[ProfileMarks], report: &mut Report) {
    let mut claims: HashMap<&str, usize> = HashMap::new();
    let mut count = 0;
    for (profile, marks) in profiles.iter().zip(marks) {
        let bindings = profile.containers.iter().flat_map(|c| &c.bindings);
        for (binding, span) in bindings.zip(&marks.bound) {
            count += 1;
            // Only once: a generated policy may have thousands too many.
            if count == MAX_INTERFACES + 1 {
                report.error(
                    "too-many-bindings",
                    span.clone(),
                    format!("there are more than {MAX_INTERFACES} static bindings; that many interfaces cannot be managed at once"),
                    "leave `bindings` at \"auto\", which finds the addresses of containers itself",
                );
            }
            // A binding without an interface has its own error.
            if binding.interface.is_empty() {
                continue;
            }
            if let Some(line) = claims.get(binding.interface.as_str()) {
                let message = format!(
                    "interface `{}` is bound twice; the first binding is in line {line}",
                    clean(&binding.interface)
                );
                let cure = "put all addresses of the container into one binding";
                report.error("bound-twice", span.clone(), message, cure);
            } else {
                claims.insert(&binding.interface, binding.line);
            }
        }
    }
}
