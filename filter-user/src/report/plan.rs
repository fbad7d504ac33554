//! What a policy would change, as text: a line for each thing, `+` for what is opened and `-` for what is closed.

use std::fmt::Write as _;

use filter_common::service::protocol;

use super::printable;
use super::table::{GREEN, RED, YELLOW, paint};
use crate::plan::cut::{CutFlow, CutFlows};
use crate::plan::{Difference, ListDifference, Opening, ProfileDifference, Quiet};

/// All that differs.
#[must_use]
pub fn difference(found: &Difference, colour: bool) -> String {
    if *found == Difference::default() {
        return "no traffic is judged otherwise than now\n".to_owned();
    }
    let mut text = String::new();
    for profile in &found.profiles {
        text += &self::profile(profile, colour);
    }
    for list in &found.lists {
        text += &self::list(list);
    }
    let rules = [
        ("new rules", &found.rules_added),
        ("rules taken out", &found.rules_removed),
        ("rules that say something else", &found.rules_changed),
    ];
    for (what, ids) in rules {
        if !ids.is_empty() {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "{what}: {}", printable(&ids.join(", ")));
        }
    }
    if found.scans_changed {
        text += "what is done about scans, or where it is reported to, is other than now\n";
    }
    text
}

/// Live flows that are dropped: `cut` says in which tense.
#[must_use]
pub fn cut_flows(found: &CutFlows, cut: &str, colour: bool) -> String {
    let mut text = String::new();
    if found.count > 0 {
        let plural = if found.count == 1 { "flow" } else { "flows" };
        let line = format!("{cut} {} live {plural}:", found.count);
        let _ = writeln!(text, "{}", paint(&line, YELLOW, colour));
        for flow in &found.first {
            let line = format!("- {}", cut_flow(flow));
            let _ = writeln!(text, "  {}", paint(&line, RED, colour));
        }
        let more = found.count - (found.first.len() as u64).min(found.count);
        if more > 0 {
            let _ = writeln!(text, "  and {more} more");
        }
    }
    if let Some(error) = &found.error {
        let _ = writeln!(
            text,
            "not all live flows could be looked at: {}",
            printable(error)
        );
    } else if found.incomplete {
        let _ = writeln!(text, "looked at {} live flows, not all", found.looked_at);
    }
    text
}

/// Rules that are taken out, and rules that nothing hits.
#[must_use]
pub fn quiet(found: &Quiet) -> String {
    let mut text = String::new();
    for rule in &found.first {
        let out = if rule.taken_out { " (taken out)" } else { "" };
        let hits = match &rule.last {
            Some(last) if rule.taken_out => format!("last hit {last}"),
            Some(last) => format!("no hits since {last}"),
            None => format!("no hits since {}", rule.since),
        };
        let line = format!("rule {}{out}: {hits}", rule.rule);
        let _ = writeln!(text, "{}", printable(&line));
    }
    let more = found.count - (found.first.len() as u64).min(found.count);
    if more > 0 {
        let _ = writeln!(text, "and {more} more rules like these");
    }
    text
}

/// `tcp 192.0.2.1:22 from 198.51.100.7:50000 by eth0 (drop_port)`
fn cut_flow(flow: &CutFlow) -> String {
    let way = if flow.incoming { "from" } else { "to" };
    let rule = flow.rule.as_ref().map(|rule| format!(", {rule}"));
    printable(&format!(
        "{} {} {way} {} by {} ({}{})",
        protocol(flow.protocol),
        flow.local,
        flow.remote,
        flow.interface,
        flow.reason,
        rule.unwrap_or_default()
    ))
}

/// A protocol by name, where it has ports.
pub(super) fn protocol(number: u8) -> String {
    match number {
        protocol::TCP => "tcp".to_owned(),
        protocol::UDP => "udp".to_owned(),
        other => format!("protocol {other}"),
    }
}

fn profile(found: &ProfileDifference, colour: bool) -> String {
    let state = match (found.existed, found.exists) {
        (false, _) => " (new)",
        (true, false) => " (taken out: its interfaces are not filtered any more)",
        (true, true) => "",
    };
    let mut text = format!("profile {}{state}\n", printable(&found.profile));
    let groups = [
        ("+ ", GREEN, "", &found.opened),
        ("- ", RED, "", &found.closed),
        ("+ ", GREEN, "containers may send ", &found.send_opened),
        ("- ", RED, "containers may not send ", &found.send_closed),
    ];
    for (sign, shade, what, openings) in groups {
        for opening in openings {
            let line = format!("{sign}{what}{}", self::opening(opening, !what.is_empty()));
            let _ = writeln!(text, "  {}", paint(&line, shade, colour));
        }
    }
    for setting in &found.settings {
        let line = format!("~ {}", printable(setting));
        let _ = writeln!(text, "  {}", paint(&line, YELLOW, colour));
    }
    text
}

fn opening(opening: &Opening, to: bool) -> String {
    let way = if to { "to" } else { "from" };
    let mut text = opening.service.clone();
    if let Some(to) = &opening.to {
        let _ = write!(text, " at {}", printable(to));
    }
    if opening.anybody {
        let _ = write!(text, " {way} anybody");
    } else {
        let _ = write!(
            text,
            " {way} {}",
            prefixes(opening.prefixes, &opening.first)
        );
    }
    text
}

fn list(found: &ListDifference) -> String {
    let mut text = format!("list {}:", printable(&found.list));
    if found.added > 0 {
        let _ = write!(text, " +{}", prefixes(found.added, &found.first_added));
    }
    if found.removed > 0 {
        let _ = write!(text, " -{}", prefixes(found.removed, &found.first_removed));
    }
    text + "\n"
}

/// `2 prefixes (192.0.2.1/32, 2001:db8::/32)`
fn prefixes(count: usize, first: &[String]) -> String {
    let plural = if count == 1 { "prefix" } else { "prefixes" };
    let more = if count > first.len() { ", ..." } else { "" };
    format!("{count} {plural} ({}{more})", first.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::hits::RuleHits;

    #[test]
    fn rules_have_a_date() {
        let rule = |rule: &str, taken_out, last: Option<&str>| RuleHits {
            rule: rule.to_owned(),
            taken_out,
            since: "2026-01-02T00:00:00Z".to_owned(),
            last: last.map(str::to_owned),
        };
        let recent = Some("2026-03-04T05:06:07Z");
        let found = Quiet {
            count: 4,
            first: vec![
                rule("a", true, recent),
                rule("b", true, None),
                rule("c", false, None),
            ],
        };
        assert_eq!(
            quiet(&found),
            "rule a (taken out): last hit 2026-03-04T05:06:07Z\n\
             rule b (taken out): no hits since 2026-01-02T00:00:00Z\n\
             rule c: no hits since 2026-01-02T00:00:00Z\n\
             and 1 more rules like these\n"
        );
    }

    #[test]
    fn flows_that_are_cut_are_counted_and_named() {
        let flow = CutFlow {
            local: "192.0.2.1:8443".parse().unwrap(),
            remote: "198.51.100.7:50000".parse().unwrap(),
            protocol: protocol::TCP,
            incoming: true,
            interface: "eth0".to_owned(),
            reason: "drop_denied".to_owned(),
            rule: Some("abuse".to_owned()),
        };
        let mut found = CutFlows {
            looked_at: 5,
            count: 3,
            first: vec![flow],
            ..CutFlows::default()
        };
        let text = cut_flows(&found, "would cut", false);
        assert_eq!(
            text,
            "would cut 3 live flows:\n  - tcp 192.0.2.1:8443 from 198.51.100.7:50000 by eth0 (drop_denied, abuse)\n  \
             and 2 more\n"
        );
        found.incomplete = true;
        let text = cut_flows(&found, "would cut", false);
        assert!(text.ends_with("looked at 5 live flows, not all\n"));
        assert_eq!(cut_flows(&CutFlows::default(), "cuts", false), "");
    }
}
