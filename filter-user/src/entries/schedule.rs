//! What the kernel is told: for each prefix and service that an entry names, what is said when. The kernel finds only
//! the longest prefix, so shorter ones that hold it have their part in what stands there; so an entry that ends leaves
//! the one behind it in force, though nobody looks after the table any more.

use std::collections::BTreeMap;

use filter_common::entry::{self, answer};
use filter_common::layout::{EntrySpan, EntrySpans};
use filter_common::limits::ENTRY_SPANS;
use ipnet::IpNet;

use super::entry::{Entry, Kind};
use super::life::Life;
use super::ports::Ports;
use crate::access::Actor;
use crate::dataplane::entries::Named;
use crate::scans::Moment;

/// A time in which something is said.
#[derive(Clone, Copy)]
struct Said {
    from: u64,
    until: u64,
    answer: u64,
}

/// What is said of one prefix: by service (0: all), in no order.
type Prefix = BTreeMap<u32, Vec<Said>>;

/// What the kernel has to hold for these entries, as the clocks stand now.
pub fn schedule<'a>(
    entries: impl IntoIterator<Item = &'a Entry>,
    now: Moment,
) -> BTreeMap<Named, EntrySpans> {
    let mut prefixes: BTreeMap<IpNet, Prefix> = BTreeMap::new();
    for entry in entries {
        let (from, until) = entry.life.window(now);
        let said = Said {
            from: nanoseconds(from),
            until: nanoseconds(until),
            answer: answer(entry.source.prefix_len(), entry.kind.verdict()),
        };
        let prefix = prefixes.entry(entry.source).or_default();
        for asked in entry.asked() {
            prefix.entry(asked).or_default().push(said);
        }
    }
    let mut found = BTreeMap::new();
    // in this order a prefix comes behind all that hold it, and before what none of these holds
    let mut around: Vec<(IpNet, &Prefix)> = Vec::new();
    for (source, prefix) in &prefixes {
        while around
            .last()
            .is_some_and(|(outer, _)| !outer.contains(source))
        {
            around.pop();
        }
        around.push((*source, prefix));
        for asked in prefix.keys() {
            let spans = spans(&by_precedence(&around, *asked), nanoseconds(now.since_boot));
            let named = Named {
                source: *source,
                asked: *asked,
            };
            found.insert(named, spans);
        }
    }
    found
}

/// What is said of a service by the innermost prefix and those around it, the weightiest first: the longest prefix, the
/// service before all services, and what keeps out before what lets in.
fn by_precedence(around: &[(IpNet, &Prefix)], asked: u32) -> Vec<Said> {
    let mut found = Vec::new();
    for (_, prefix) in around.iter().rev() {
        let all = (asked != 0).then_some(0);
        for service in [Some(asked), all].into_iter().flatten() {
            let mut said = prefix.get(&service).cloned().unwrap_or_default();
            said.sort_by_key(|said| std::cmp::Reverse(entry::verdict(said.answer)));
            found.extend(said);
        }
    }
    found
}

/// The next times and what is said in each; what went before is left out, and what goes on has no begin, so that time
/// that passes changes nothing.
fn spans(said: &[Said], now: u64) -> EntrySpans {
    const NEVER: EntrySpan = EntrySpan {
        from: 0,
        until: 0,
        answer: entry::NONE,
    };
    let mut turns: Vec<u64> = said
        .iter()
        .flat_map(|said| [said.from, said.until])
        .filter(|turn| *turn > now)
        .chain([now])
        .collect();
    turns.sort_unstable();
    turns.dedup();
    let mut found: Vec<EntrySpan> = Vec::new();
    for turn in turns.windows(2) {
        let weightiest = said
            .iter()
            .find(|said| said.from <= turn[0] && turn[0] < said.until);
        let Some(Said { answer, .. }) = weightiest else {
            continue;
        };
        if let Some(last) = found.last_mut()
            && last.answer == *answer
            && last.until == turn[0]
        {
            last.until = turn[1];
            continue;
        }
        if found.len() == ENTRY_SPANS {
            break;
        }
        found.push(EntrySpan {
            from: if turn[0] == now { 0 } else { turn[0] },
            until: turn[1],
            answer: *answer,
        });
    }
    let mut spans = EntrySpans {
        spans: [NEVER; ENTRY_SPANS],
    };
    for (place, span) in spans.spans.iter_mut().zip(found) {
        *place = span;
    }
    spans
}

/// The entries behind what a kernel holds, as far as it tells: one for each prefix, port and time.
pub fn recovered(known: &BTreeMap<Named, EntrySpans>, now: Moment) -> Vec<Entry> {
    let mut found = Vec::new();
    for (named, spans) in known {
        let Some(ports) = ports(named.asked) else {
            continue;
        };
        for span in &spans.spans {
            let kind = match entry::verdict(span.answer) {
                entry::ALLOW => Kind::Allow,
                entry::DENY => Kind::Deny,
                _ => continue,
            };
            let ours = entry::prefix(span.answer) == Some(named.source.prefix_len());
            if !ours || span.until <= nanoseconds(now.since_boot) {
                continue;
            }
            let until = std::time::Duration::from_nanos(span.until);
            let left = until.saturating_sub(now.since_boot);
            let date = |nanoseconds| now.at(std::time::Duration::from_nanos(nanoseconds)).wall;
            found.push(Entry {
                kind,
                source: named.source,
                ports: ports.clone(),
                comment: "found in the kernel".to_owned(),
                actor: Actor::daemon("recovery"),
                made: now.wall,
                life: if span.from == 0 {
                    Life::For {
                        lasting: left,
                        until,
                    }
                } else {
                    Life::Between {
                        from: Some(date(span.from)),
                        until: date(span.until),
                    }
                },
            });
        }
    }
    found
}

fn ports(asked: u32) -> Option<Vec<Ports>> {
    if asked == 0 {
        return Some(Vec::new());
    }
    Some(vec![Ports::one(asked)?])
}

fn nanoseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn now() -> Moment {
        Moment {
            since_boot: Duration::from_secs(100),
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000),
        }
    }

    /// From and until are seconds from now on.
    fn entry(kind: Kind, source: &str, ports: &str, from: u64, until: u64) -> Entry {
        let date = |seconds| now().wall + Duration::from_secs(seconds);
        Entry {
            kind,
            source: source.parse().unwrap(),
            ports: ports
                .split_whitespace()
                .map(|one| one.parse().unwrap())
                .collect(),
            comment: String::new(),
            actor: Actor::daemon("test"),
            made: now().wall,
            life: Life::Between {
                from: (from > 0).then(|| date(from)),
                until: date(until),
            },
        }
    }

    /// What is said of a key: from, until (seconds from now), prefix length, allow or deny.
    fn said(
        found: &BTreeMap<Named, EntrySpans>,
        source: &str,
        asked: u32,
    ) -> Vec<(u64, u64, u8, u64)> {
        let named = Named {
            source: source.parse().unwrap(),
            asked,
        };
        let seconds = |nanoseconds: u64| (nanoseconds / SECOND).saturating_sub(100);
        found[&named]
            .spans
            .iter()
            .filter(|span| span.until != 0)
            .map(|span| {
                (
                    seconds(span.from),
                    seconds(span.until),
                    entry::prefix(span.answer).unwrap(),
                    entry::verdict(span.answer),
                )
            })
            .collect()
    }

    const WEB: u32 = entry::asked(6, 443);

    #[test]
    fn a_shorter_prefix_counts_before_and_after_a_longer_one() {
        let entries = [
            entry(Kind::Allow, "198.51.0.0/16", "", 0, 100),
            entry(Kind::Deny, "198.51.100.0/24", "", 20, 40),
            entry(Kind::Allow, "198.51.101.0/24", "", 0, 10),
            entry(Kind::Allow, "10.0.0.0/8", "", 0, 10),
        ];
        let found = schedule(&entries, now());
        assert_eq!(found.len(), 4);
        let (allow, deny) = (entry::ALLOW, entry::DENY);
        assert_eq!(
            said(&found, "198.51.100.0/24", 0),
            [(0, 20, 16, allow), (20, 40, 24, deny), (40, 100, 16, allow)]
        );
        assert_eq!(
            said(&found, "198.51.101.0/24", 0),
            [(0, 10, 24, allow), (10, 100, 16, allow)]
        );
        assert_eq!(said(&found, "10.0.0.0/8", 0), [(0, 10, 8, allow)]);
    }

    #[test]
    fn the_service_counts_before_all_services_of_the_same_prefix_only() {
        let entries = [
            entry(Kind::Allow, "198.51.0.0/16", "tcp/443", 0, 30),
            entry(Kind::Deny, "198.51.0.0/16", "", 0, 60),
            entry(Kind::Deny, "198.51.100.7/32", "", 0, 10),
            entry(Kind::Allow, "198.51.100.0/24", "tcp/443", 0, 20),
        ];
        let found = schedule(&entries, now());
        let (allow, deny) = (entry::ALLOW, entry::DENY);
        assert_eq!(
            said(&found, "198.51.0.0/16", WEB),
            [(0, 30, 16, allow), (30, 60, 16, deny)]
        );
        assert_eq!(
            said(&found, "198.51.100.0/24", WEB),
            [(0, 20, 24, allow), (20, 30, 16, allow), (30, 60, 16, deny)]
        );
        assert_eq!(
            said(&found, "198.51.100.7/32", 0),
            [(0, 10, 32, deny), (10, 60, 16, deny)]
        );
    }

    #[test]
    fn what_keeps_out_counts_before_what_lets_in() {
        let entries = [
            entry(Kind::Allow, "198.51.100.7/32", "", 0, 30),
            entry(Kind::Deny, "198.51.100.7/32", "", 10, 20),
        ];
        let found = schedule(&entries, now());
        assert_eq!(
            said(&found, "198.51.100.7/32", 0),
            [
                (0, 10, 32, entry::ALLOW),
                (10, 20, 32, entry::DENY),
                (20, 30, 32, entry::ALLOW)
            ]
        );
    }

    #[test]
    fn time_that_passes_changes_nothing_until_something_ends() {
        let entries = [
            entry(Kind::Allow, "198.51.100.0/24", "", 0, 30),
            entry(Kind::Deny, "2001:db8::/32", "", 10, 30),
        ];
        let later = |seconds| now().at(now().since_boot + Duration::from_secs(seconds));
        let first = schedule(&entries, now());
        assert_eq!(schedule(&entries, later(9)), first);
        assert_ne!(schedule(&entries, later(11)), first);
        assert_eq!(schedule(&entries, later(29)), schedule(&entries, later(11)));
    }

    #[test]
    fn what_a_kernel_holds_tells_the_entries() {
        let entries = [
            entry(Kind::Allow, "198.51.0.0/16", "tcp/443", 0, 100),
            entry(Kind::Deny, "198.51.100.0/24", "", 20, 40),
        ];
        let found = schedule(&entries, now());
        let again = recovered(&found, now());
        assert_eq!(again.len(), 2);
        assert_eq!(schedule(&again, now()), found);
    }
}
