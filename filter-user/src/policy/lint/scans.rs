//! Warnings about scans and where they are reported to: settings that take no effect, blocks that
//! could lock somebody out, and reports that anybody on the way can read.

use std::ops::Range;

use super::super::model::{AddressSet, Policy, PrefixSet, Profile, ScanAction};
use super::super::reporting;
use super::super::scans;
use super::super::source::Report;
use super::super::validate::Marks;

/// Everything about `scans` and `report`.
pub(super) fn lint(policy: &Policy, marks: &Marks, report: &mut Report) {
    let scans = &policy.scans;
    for (key, set, span, effect) in [
        ("exempt", &scans.exempt, &marks.scans.exempt, "recorded"),
        (
            "never_block",
            &scans.never_block,
            &marks.scans.never_block,
            "blocked",
        ),
    ] {
        if let (Some(set), Some(span)) = (set, span)
            && let Some(version) = whole_version(set)
        {
            report.warning(
                "spares-everyone",
                span.clone(),
                format!("`{key}` holds every {version} address: no scan from there is {effect}"),
                format!("name the hosts that are meant in `{key}`"),
            );
        }
    }
    redundant(policy, &marks.scans, report);
    if let Some(span) = &marks.scans.action
        && scans.action == ScanAction::Block
    {
        blocking(policy, span, report);
    }
    if let Some(span) = &marks.scans.verified
        && scans.verified == ScanAction::Block
        && scans.action == ScanAction::Observe
    {
        idle(
            "verified",
            "action = \"observe\"",
            "action = \"block\"",
            span,
            report,
        );
    }
    let monitored = policy.profiles.iter().find(|profile| !profile.enforce);
    // where all are, the daemon drops nothing there either
    let enforced = policy.profiles.iter().any(|profile| profile.enforce);
    if let (Some(span), Some(profile)) = (&marks.report.drop, monitored)
        && enforced
        && policy.report.nftables.is_some_and(|nftables| nftables.drop)
    {
        report.warning(
            "drop-in-monitor",
            span.clone(),
            format!(
                "nftables drops what blocked sources send on every interface, also where profile `{}` is in monitor mode",
                profile.name
            ),
            "write `drop = false` until every profile is enforced",
        );
    }
    if let (Some(webhook), Some(span)) = (&policy.report.webhook, &marks.report.url)
        && reporting::is_exposed(&webhook.url)
    {
        report.warning(
            "plain-http",
            span.clone(),
            "reports go over the network as plain text: who listens learns what was noticed, and who answers can drop it",
            "write an `https://` URL",
        );
    }
}

fn idle(key: &str, because: &str, cure: &str, span: &Range<usize>, report: &mut Report) {
    report.warning(
        "no-effect",
        span.clone(),
        format!("`{key}` has no effect under `{because}`"),
        format!("write `{cure}`, or take `{key}` out"),
    );
}

/// The IP version of which a set holds every address.
fn whole_version(set: &PrefixSet) -> Option<&'static str> {
    let whole = |length: Option<u8>| length == Some(0);
    if set.is_everything() {
        Some("IPv4 and IPv6")
    } else if whole(set.v4.first().map(ipnet::Ipv4Net::prefix_len)) {
        Some("IPv4")
    } else if whole(set.v6.first().map(ipnet::Ipv6Net::prefix_len)) {
        Some("IPv6")
    } else {
        None
    }
}

/// Thresholds of one's own that another one makes needless, and such of a detection that is off.
fn redundant(policy: &Policy, marks: &scans::Marks, report: &mut Report) {
    let scans = &policy.scans;
    let written = marks.thresholds.iter().flatten();
    if !scans.enabled {
        if let Some(span) = written.min_by_key(|span| span.start) {
            idle(
                "thresholds",
                "sensitivity = \"off\"",
                "sensitivity = \"medium\"",
                span,
                report,
            );
        }
        return;
    }
    for (at, pair) in scans.thresholds.windows(2).enumerate() {
        let [shorter, longer] = pair else { continue };
        let spans = marks.thresholds.get(at..at + 2).unwrap_or_default();
        let span = spans.iter().rev().flatten().next();
        if let Some(span) = span
            && longer.ports <= shorter.ports
            && longer.hosts <= shorter.hosts
        {
            let names = scans::WINDOWS;
            report.warning(
                "no-effect",
                span.clone(),
                format!("the threshold `{}` has no effect: `{}` asks for no more targets in a longer time", names[at], names[at + 1]),
                format!("give `{}` more ports and hosts than `{}`", names[at + 1], names[at]),
            );
        }
    }
}

/// What `action = "block"` may do to people, and what it will not do.
fn blocking(policy: &Policy, span: &Range<usize>, report: &mut Report) {
    let scans = &policy.scans;
    if !scans.enabled {
        idle(
            "action",
            "sensitivity = \"off\"",
            "sensitivity = \"medium\"",
            span,
            report,
        );
        return;
    }
    let monitored = |profile: &Profile| !profile.enforce;
    if !policy.profiles.is_empty() && policy.profiles.iter().all(monitored) {
        report.warning(
            "no-effect",
            span.clone(),
            "every profile is in monitor mode (`enforce = false`): sources are listed as blocked, and all they send is let in",
            "write `enforce = true` in a profile, or `action = \"observe\"` until then",
        );
    }
    // Who is spared because a rule names them must be named: a prefix of length 0 names nobody.
    let names = |set: &PrefixSet| {
        set.v4.iter().any(|net| net.prefix_len() > 0)
            || set.v6.iter().any(|net| net.prefix_len() > 0)
    };
    let mut rules = policy.profiles.iter().flat_map(|profile| &profile.allow);
    let protected = scans.never_block.is_some()
        || rules.any(|rule| matches!(&rule.from, AddressSet::Prefixes(from) if names(from)));
    if !protected {
        report.warning(
            "nobody-spared",
            span.clone(),
            "scans are blocked, and no list says who must never be: whoever looks after this host could be locked out by a scan of their own",
            "name administrators and monitoring in `never_block`, or in `from` of an allow rule",
        );
    }
}
