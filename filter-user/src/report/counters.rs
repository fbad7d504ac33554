//! Counters as tables. The JSON form is that of [`Counters`] itself.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use filter_common::reason::Reason;
use filter_common::scan::Pattern;

use super::printable;
use super::status::mode_name;
use super::table::{indent, render as table};
use crate::dataplane::counters::{Count, Counters, InterfaceCounts};

type ByReason = BTreeMap<&'static str, Count>;

/// Tables by interface and reason, and by rule. What counts nothing is left out unless `all`.
#[must_use]
pub fn render(counters: &Counters, all: bool) -> String {
    let mut text = String::new();
    for interface in &counters.interfaces {
        interface_section(&mut text, interface, all);
    }
    if counters.interfaces.is_empty() {
        text.push_str("no interface is counted\n\n");
    }
    rules_section(&mut text, counters, all);
    totals(&mut text, counters, all);
    patterns_section(&mut text, counters, all);
    text
}

fn interface_section(text: &mut String, interface: &InterfaceCounts, all: bool) {
    let mode = interface.mode.map_or("mode unknown", mode_name);
    // Writing into a String cannot fail, hence the ignored results.
    let _ = writeln!(
        text,
        "{}: profile {}, {mode}, ifindex {}",
        printable(&interface.name),
        interface.profile,
        interface.ifindex
    );
    let mut rows = rows(&interface.reasons, |_| true, all);
    let sum = sum(interface.reasons.values());
    rows.push(row("all", sum));
    text.push_str(&indent(&table(&["reason", "packets", "bytes"], rows, 1)));
    let rows = self::rows(&interface.would_drop, |reason| !reason.passes(), all);
    if !rows.is_empty() {
        text.push_str("  passed in monitor mode, although the policy drops it:\n");
        text.push_str(&indent(&table(
            &["would_drop", "packets", "bytes"],
            rows,
            1,
        )));
    }
    text.push('\n');
}

fn rules_section(text: &mut String, counters: &Counters, all: bool) {
    let rows: Vec<_> = counters
        .rules
        .iter()
        .filter(|rule| all || rule.packets > 0)
        .map(|rule| {
            vec![
                rule.id.clone(),
                rule.profile.clone(),
                rule.packets.to_string(),
                rule.bytes.to_string(),
            ]
        })
        .collect();
    if rows.is_empty() {
        text.push_str("no rule has decided about a packet yet\n\n");
        return;
    }
    text.push_str(&table(&["rule", "profile", "packets", "bytes"], rows, 2));
    text.push('\n');
}

fn totals(text: &mut String, counters: &Counters, all: bool) {
    let of = |passes: bool| {
        let named = |name: &str| {
            Reason::ALL
                .iter()
                .any(|reason| reason.name() == name && reason.passes() == passes)
        };
        let counts = counters
            .interfaces
            .iter()
            .flat_map(|interface| &interface.reasons);
        sum(counts
            .filter(|(name, _)| named(name))
            .map(|(_, count)| count))
    };
    let monitored = sum(counters
        .interfaces
        .iter()
        .flat_map(|interface| interface.would_drop.values()));
    let mut rows = vec![row("passed", of(true)), row("dropped", of(false))];
    if all || monitored.packets > 0 {
        rows.push(row("would drop", monitored));
    }
    if all || counters.unmanaged.packets > 0 {
        rows.push(row("unmanaged", counters.unmanaged));
    }
    text.push_str(&table(&["all interfaces", "packets", "bytes"], rows, 1));
    if all || counters.events_suppressed > 0 {
        // Writing into a String cannot fail.
        let _ = writeln!(
            text,
            "sampled drops not reported, for want of budget: {}",
            counters.events_suppressed
        );
    }
}

fn patterns_section(text: &mut String, counters: &Counters, all: bool) {
    let rows: Vec<_> = Pattern::ALL
        .iter()
        .filter_map(|pattern| Some((pattern.name(), *counters.patterns.get(pattern.name())?)))
        .filter(|(_, packets)| all || *packets > 0)
        .map(|(name, packets)| vec![name.to_owned(), packets.to_string()])
        .collect();
    if !rows.is_empty() {
        text.push('\n');
        text.push_str(&table(&["probes, of those dropped", "packets"], rows, 1));
    }
    if all || counters.probes_shed > 0 {
        // Writing into a String cannot fail.
        let _ = writeln!(
            text,
            "probes not looked at, for want of budget: {}",
            counters.probes_shed
        );
    }
}

/// In the order of the reasons, not of their names.
fn rows(counts: &ByReason, wanted: impl Fn(&Reason) -> bool, all: bool) -> Vec<Vec<String>> {
    let count = |reason: &Reason| counts.get(reason.name()).copied().unwrap_or_default();
    let any = counts.values().any(|count| count.packets > 0);
    Reason::ALL
        .iter()
        .filter(|reason| {
            wanted(reason) && (count(reason).packets > 0 || (all && (any || !counts.is_empty())))
        })
        .map(|reason| row(reason.name(), count(reason)))
        .collect()
}

fn row(name: &str, count: Count) -> Vec<String> {
    vec![
        name.to_owned(),
        count.packets.to_string(),
        count.bytes.to_string(),
    ]
}

fn sum<'a>(counts: impl Iterator<Item = &'a Count>) -> Count {
    counts.fold(Count::default(), |sum, count| Count {
        packets: sum.packets.saturating_add(count.packets),
        bytes: sum.bytes.saturating_add(count.bytes),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::dataplane::Mode;
    use crate::dataplane::counters::RuleCounts;

    pub(crate) fn sample() -> Counters {
        let interface = |name: &str, ifindex, profile: &str, mode| InterfaceCounts {
            name: name.to_owned(),
            ifindex,
            profile: profile.to_owned(),
            mode: Some(mode),
            reasons: Reason::ALL
                .iter()
                .map(|reason| (reason.name(), Count::default()))
                .collect(),
            would_drop: Reason::ALL
                .iter()
                .filter(|reason| !reason.passes())
                .map(|reason| (reason.name(), Count::default()))
                .collect(),
        };
        let mut eth0 = interface("eth0", 3, "edge", Mode::Native);
        eth0.reasons.insert(
            "pass_rule",
            Count {
                packets: 10,
                bytes: 1000,
            },
        );
        eth0.reasons.insert(
            "drop_port",
            Count {
                packets: 2,
                bytes: 120,
            },
        );
        let mut eth1 = interface("eth1", 4, "lan", Mode::Generic);
        eth1.reasons.insert(
            "pass_reply",
            Count {
                packets: 5,
                bytes: 400,
            },
        );
        eth1.would_drop.insert(
            "drop_icmp",
            Count {
                packets: 1,
                bytes: 98,
            },
        );
        let rule = |id: &str, packets, bytes| RuleCounts {
            id: id.to_owned(),
            profile: "edge".to_owned(),
            packets,
            bytes,
        };
        Counters {
            interfaces: vec![eth0, eth1],
            rules: vec![rule("https", 10, 1000), rule("ssh", 0, 0)],
            unmanaged: Count::default(),
            events_suppressed: 0,
            patterns: Pattern::ALL
                .iter()
                .map(|pattern| (pattern.name(), 0))
                .collect(),
            probes_shed: 0,
        }
    }

    #[test]
    fn only_what_counts() {
        assert_eq!(
            render(&sample(), false),
            "\
eth0: profile edge, native, ifindex 3
  reason     packets  bytes
  pass_rule       10   1000
  drop_port        2    120
  all             12   1120

eth1: profile lan, generic, ifindex 4
  reason      packets  bytes
  pass_reply        5    400
  all               5    400
  passed in monitor mode, although the policy drops it:
  would_drop  packets  bytes
  drop_icmp         1     98

rule   profile  packets  bytes
https  edge          10   1000

all interfaces  packets  bytes
passed               15   1400
dropped               2    120
would drop            1     98
"
        );
    }

    #[test]
    fn patterns_of_probes() {
        let mut counters = sample();
        counters.patterns.extend([("udp", 7), ("connect", 12)]);
        counters.probes_shed = 3;
        let text = render(&counters, false);
        assert!(
            text.ends_with(
                "\
would drop            1     98

probes, of those dropped  packets
connect                        12
udp                             7
probes not looked at, for want of budget: 3
"
            ),
            "{text}"
        );
        let value = serde_json::to_value(counters).unwrap();
        assert_eq!(value["patterns"]["connect"], 12);
        assert_eq!(value["patterns"]["icmp_mask"], 0);
        assert_eq!(value["probes_shed"], 3);
    }

    #[test]
    fn everything_on_request() {
        let text = render(&sample(), true);
        for reason in Reason::ALL {
            assert!(text.contains(reason.name()), "{} is missing", reason.name());
        }
        for pattern in Pattern::ALL {
            let name = pattern.name();
            assert!(text.contains(&format!("\n{name} ")), "{name} is missing");
        }
        assert!(text.contains("ssh"));
        assert!(text.contains("unmanaged"));
        assert!(render(&Counters::default(), false).starts_with("no interface is counted\n"));
    }

    #[test]
    fn json_holds_every_reason() {
        let value = serde_json::to_value(sample()).unwrap();
        let first = &value["interfaces"][0];
        assert_eq!(
            first["reasons"].as_object().unwrap().len(),
            Reason::ALL.len()
        );
        assert_eq!(
            first["reasons"]["pass_rule"],
            serde_json::json!({"packets": 10, "bytes": 1000})
        );
        assert_eq!(first["would_drop"]["drop_port"]["packets"], 0);
        assert_eq!(
            value["rules"][0],
            serde_json::json!({"id": "https", "profile": "edge", "packets": 10, "bytes": 1000})
        );
    }
}
