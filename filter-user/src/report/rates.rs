//! Rates: what two readings of the counters differ by, per second.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use filter_common::reason::Reason;
use filter_common::scan::Pattern;
use serde::Serialize;

use super::printable;
use super::table::{indent, render as table};
use crate::dataplane::counters::{Count, Counters};

/// Per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rate {
    /// Packets a second.
    pub packets_per_second: f64,
    /// Bytes a second.
    pub bytes_per_second: f64,
}

/// One interface's rates, all reasons present.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InterfaceRates {
    /// Its name.
    pub name: String,
    /// Its index.
    pub ifindex: u32,
    /// Its profile.
    pub profile: String,
    /// By reason.
    pub reasons: BTreeMap<&'static str, Rate>,
    /// By reason, in monitor mode.
    pub would_drop: BTreeMap<&'static str, Rate>,
}

/// One rule's rate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RuleRates {
    /// Its id.
    pub id: String,
    /// Its profile.
    pub profile: String,
    /// Its rate.
    #[serde(flatten)]
    pub rate: Rate,
}

/// What went by between two readings.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rates {
    /// When the later reading was made, RFC 3339.
    pub time: String,
    /// Time between the readings.
    pub seconds: f64,
    /// By interface.
    pub interfaces: Vec<InterfaceRates>,
    /// By rule.
    pub rules: Vec<RuleRates>,
    /// Probes a second, by pattern.
    pub patterns: BTreeMap<&'static str, f64>,
    /// Probes a second that were not looked at.
    pub probes_shed: f64,
}

impl Rates {
    /// Of two readings `elapsed` apart. What is new in the later one counts from zero; what was started anew in
    /// between counts as nothing.
    #[must_use]
    pub fn between(before: &Counters, after: &Counters, elapsed: Duration, time: String) -> Self {
        let seconds = elapsed.as_secs_f64().max(1e-3);
        let rate = |old: Option<&Count>, new: &Count| {
            let old = old.copied().unwrap_or_default();
            Rate {
                packets_per_second: new.packets.saturating_sub(old.packets) as f64 / seconds,
                bytes_per_second: new.bytes.saturating_sub(old.bytes) as f64 / seconds,
            }
        };
        let interfaces = after.interfaces.iter().map(|new| {
            let old = before
                .interfaces
                .iter()
                .find(|old| old.ifindex == new.ifindex);
            InterfaceRates {
                name: new.name.clone(),
                ifindex: new.ifindex,
                profile: new.profile.clone(),
                reasons: new
                    .reasons
                    .iter()
                    .map(|(name, count)| {
                        (
                            *name,
                            rate(old.and_then(|old| old.reasons.get(name)), count),
                        )
                    })
                    .collect(),
                would_drop: new
                    .would_drop
                    .iter()
                    .map(|(name, count)| {
                        (
                            *name,
                            rate(old.and_then(|old| old.would_drop.get(name)), count),
                        )
                    })
                    .collect(),
            }
        });
        let earlier: BTreeMap<&str, Count> = before
            .rules
            .iter()
            .map(|rule| (rule.id.as_str(), count(rule.packets, rule.bytes)))
            .collect();
        let rules = after.rules.iter().map(|new| RuleRates {
            id: new.id.clone(),
            profile: new.profile.clone(),
            rate: rate(earlier.get(new.id.as_str()), &count(new.packets, new.bytes)),
        });
        let grown = |old: u64, new: u64| new.saturating_sub(old) as f64 / seconds;
        let patterns = after.patterns.iter().map(|(name, new)| {
            let old = before.patterns.get(name).copied().unwrap_or_default();
            (*name, grown(old, *new))
        });
        Self {
            time,
            seconds,
            interfaces: interfaces.collect(),
            rules: rules.collect(),
            patterns: patterns.collect(),
            probes_shed: grown(before.probes_shed, after.probes_shed),
        }
    }

    /// Tables for a terminal that is redrawn; what stands still is left out unless `all`.
    #[must_use]
    pub fn render(&self, all: bool) -> String {
        let mut text = format!("{}, rates over {:.1} s\n\n", self.time, self.seconds);
        for interface in &self.interfaces {
            // Writing into a String cannot fail.
            let _ = writeln!(
                text,
                "{}: profile {}",
                printable(&interface.name),
                interface.profile
            );
            let rows = lines(interface, all).map(|(name, rate)| row(vec![name], rate));
            text.push_str(&indent(&table(&["reason", "packets/s", "bits/s"], rows, 1)));
            text.push('\n');
        }
        let rules = self
            .rules
            .iter()
            .filter(|rule| all || rule.rate.packets_per_second > 0.0);
        let rows = rules.map(|rule| row(vec![rule.id.clone(), rule.profile.clone()], rule.rate));
        text.push_str(&table(&["rule", "profile", "packets/s", "bits/s"], rows, 2));
        let rows: Vec<_> = self
            .patterns(all)
            .map(|(name, rate)| vec![name.to_owned(), format!("{rate:.1}")])
            .collect();
        if !rows.is_empty() {
            text.push('\n');
            text.push_str(&table(&["probes, of those dropped", "packets/s"], rows, 1));
        }
        text
    }

    /// One line for each interface and reason, for each rule and each pattern: for files and pipes.
    #[must_use]
    pub fn render_lines(&self, all: bool) -> String {
        let mut text = String::new();
        let mut line = |what: &str, name: &str, rate: Rate| {
            let bits = scaled(rate.bytes_per_second * 8.0);
            // Writing into a String cannot fail.
            let _ = writeln!(
                text,
                "{} {what} {name} {:.1} packets/s {bits}bit/s",
                self.time, rate.packets_per_second
            );
        };
        for interface in &self.interfaces {
            for (name, rate) in lines(interface, all) {
                line(&printable(&interface.name), &name, rate);
            }
        }
        for rule in self
            .rules
            .iter()
            .filter(|rule| all || rule.rate.packets_per_second > 0.0)
        {
            line("rule", &rule.id, rule.rate);
        }
        for (name, rate) in self.patterns(all) {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "{} probes {name} {rate:.1} packets/s", self.time);
        }
        text
    }

    /// In the order of the patterns; those that were shed at the end.
    fn patterns(&self, all: bool) -> impl Iterator<Item = (&'static str, f64)> {
        Pattern::ALL
            .iter()
            .filter_map(|pattern| Some((pattern.name(), *self.patterns.get(pattern.name())?)))
            .chain([("not looked at", self.probes_shed)])
            .filter(move |(_, rate)| all || *rate > 0.0)
    }
}

/// In the order of the reasons; what monitor mode passed is named `would_drop:REASON`.
fn lines(interface: &InterfaceRates, all: bool) -> impl Iterator<Item = (String, Rate)> {
    let enforced = Reason::ALL.iter().map(|reason| {
        (
            reason.name().to_owned(),
            interface.reasons.get(reason.name()),
        )
    });
    let monitored = Reason::ALL.iter().map(|reason| {
        (
            format!("would_drop:{}", reason.name()),
            interface.would_drop.get(reason.name()),
        )
    });
    enforced
        .chain(monitored)
        .filter_map(|(name, rate)| Some((name, *rate?)))
        .filter(move |(_, rate)| all || rate.packets_per_second > 0.0)
}

fn count(packets: u64, bytes: u64) -> Count {
    Count { packets, bytes }
}

fn row(mut names: Vec<String>, rate: Rate) -> Vec<String> {
    names.extend([
        format!("{:.1}", rate.packets_per_second),
        scaled(rate.bytes_per_second * 8.0),
    ]);
    names
}

/// `12.3 M`, decimal steps.
fn scaled(value: f64) -> String {
    let (mut value, mut unit) = (value, "");
    for next in ["k", "M", "G", "T"] {
        if value < 1000.0 {
            break;
        }
        (value, unit) = (value / 1000.0, next);
    }
    format!("{value:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::counters::tests::sample;

    fn later() -> Counters {
        let mut later = sample();
        later.interfaces[0].reasons.insert(
            "pass_rule",
            Count {
                packets: 30,
                bytes: 251_000,
            },
        );
        later.interfaces[1].would_drop.insert(
            "drop_icmp",
            Count {
                packets: 5,
                bytes: 498,
            },
        );
        later.patterns.insert("syn", 5);
        later.probes_shed = 1;
        later.rules[0].packets = 30;
        later.rules[0].bytes = 251_000;
        later
    }

    #[test]
    fn differences_by_second() {
        let rates = Rates::between(&sample(), &later(), Duration::from_secs(2), "T".to_owned());
        let wanted = Rate {
            packets_per_second: 10.0,
            bytes_per_second: 125_000.0,
        };
        assert_eq!(rates.interfaces[0].reasons["pass_rule"], wanted);
        assert_eq!(rates.rules[0].rate, wanted);
        assert_eq!(
            rates.render_lines(false),
            "T eth0 pass_rule 10.0 packets/s 1.0 Mbit/s\n\
             T eth1 would_drop:drop_icmp 2.0 packets/s 1.6 kbit/s\n\
             T rule https 10.0 packets/s 1.0 Mbit/s\n\
             T probes syn 2.5 packets/s\n\
             T probes not looked at 0.5 packets/s\n"
        );
        assert!(rates.render(true).contains("drop_martian"));
        let text = rates.render(false);
        assert!(!text.contains("drop_port"), "stands still");
        assert!(
            text.ends_with(
                "\nprobes, of those dropped  packets/s\n\
                 syn                             2.5\n\
                 not looked at                   0.5\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn counters_that_start_anew_are_no_rate() {
        let back = Rates::between(&later(), &sample(), Duration::ZERO, String::new());
        assert_eq!(back.interfaces[0].reasons["pass_rule"], Rate::default());
        let fresh = Rates::between(
            &Counters::default(),
            &sample(),
            Duration::from_secs(1),
            String::new(),
        );
        assert!((fresh.interfaces[0].reasons["pass_rule"].packets_per_second - 10.0).abs() < 1e-9);
    }
}
