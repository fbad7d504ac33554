//! The entries there are, and what may be made one.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use filter_common::layout::EntrySpans;
use filter_common::limits::ENTRY_KEYS;
use ipnet::IpNet;

use super::entry::{Entry, Kind};
use super::ports::{PORTS, Ports};
use super::schedule::schedule;
use crate::dataplane::entries::Named;
use crate::scans::Moment;

/// Entries that there may be.
pub const ENTRIES: usize = 1024;

/// Bytes of a comment.
const COMMENT: usize = 256;

/// How long an entry may last from now on.
const LASTING: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(30 * 24);

/// What somebody wants; see [`Entry`].
pub type Order = Entry;

/// Why something is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Too many.
    #[error("there are {ENTRIES} entries, and no more can be: remove some, or write rules")]
    Entries,
    /// Too many for the kernel's table.
    #[error(
        "the entries name {0} pairs of prefix and port, and there may be {ENTRY_KEYS}: name fewer ports, or remove entries"
    )]
    Keys(usize),
    /// Too many ports.
    #[error(
        "an entry names {PORTS} ports at most, not {0}: leave them out to name all, or write a rule"
    )]
    Ports(usize),
    /// It ends before it begins, or has ended.
    #[error(
        "the entry would be over before it begins: give it an end later than its begin and than now"
    )]
    Over,
    /// Too long.
    #[error("an entry ends within 30 days: for what should stay, write a rule into the policy")]
    TooLong,
    /// The comment is too long, or holds what a terminal might obey.
    #[error("a comment is one line of {COMMENT} bytes at most")]
    Comment,
    /// A prefix that cannot be a source's.
    #[error("{0} is no source's: {1}")]
    Source(IpNet, &'static str),
    /// Nothing to remove.
    #[error("there is no such entry: `edgefilter {kind} list` shows those there are")]
    Unknown {
        /// What was to be removed.
        kind: Kind,
    },
}

/// The entries there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    entries: Vec<Entry>,
}

impl Table {
    /// These entries, without those that are over and those that have no room.
    #[must_use]
    pub fn of(entries: Vec<Entry>, now: Moment) -> Self {
        let mut table = Self { entries };
        table.expire(now);
        let mut keys = 0;
        table.entries.truncate(ENTRIES);
        table.entries.retain(|entry| {
            keys += entry.keys();
            keys <= ENTRY_KEYS
        });
        table
    }

    /// Oldest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Makes an entry. One of the same kind about the same source and ports is replaced.
    pub fn add(&mut self, order: Order, now: Moment) -> Result<&Entry, TableError> {
        let order = checked(order, now)?;
        self.expire(now);
        let known = self
            .entries
            .iter()
            .position(|entry| entry.is_about(order.kind, order.source, &order.ports));
        if known.is_none() && self.entries.len() >= ENTRIES {
            return Err(TableError::Entries);
        }
        let keys: usize = self.entries.iter().map(Entry::keys).sum();
        if known.is_none() && keys + order.keys() > ENTRY_KEYS {
            return Err(TableError::Keys(keys + order.keys()));
        }
        if let Some(at) = known {
            self.entries.remove(at);
        }
        let at = self.entries.len();
        self.entries.push(order);
        Ok(&self.entries[at])
    }

    /// Takes away what there is of a kind about a source; with `ports`, only what names just these.
    pub fn remove(
        &mut self,
        kind: Kind,
        source: IpNet,
        ports: &[Ports],
    ) -> Result<Vec<Entry>, TableError> {
        let source = source.trunc();
        let ports = sorted(ports.to_vec());
        let (gone, kept) = std::mem::take(&mut self.entries)
            .into_iter()
            .partition(|entry| {
                entry.kind == kind
                    && entry.source == source
                    && (ports.is_empty() || entry.ports == ports)
            });
        self.entries = kept;
        if gone.is_empty() {
            return Err(TableError::Unknown { kind });
        }
        Ok(gone)
    }

    /// Takes away what is over, and says what that was.
    pub fn expire(&mut self, now: Moment) -> Vec<Entry> {
        let over = |entry: &Entry| entry.life.window(now).1 <= now.since_boot;
        let (gone, kept) = std::mem::take(&mut self.entries)
            .into_iter()
            .partition(over);
        self.entries = kept;
        gone
    }

    /// What the kernel has to hold.
    #[must_use]
    pub fn schedule(&self, now: Moment) -> BTreeMap<Named, EntrySpans> {
        schedule(&self.entries, now)
    }
}

/// The order as it can be kept.
fn checked(mut order: Order, now: Moment) -> Result<Order, TableError> {
    order.source = order.source.trunc();
    if let Some(why) = no_source(&order.source) {
        return Err(TableError::Source(order.source, why));
    }
    order.ports = sorted(order.ports);
    let ports: usize = order.ports.iter().map(Ports::count).sum();
    if ports > PORTS {
        return Err(TableError::Ports(ports));
    }
    comment(&order.comment)?;
    let (from, until) = order.life.window(now);
    if until <= from || until <= now.since_boot {
        return Err(TableError::Over);
    }
    if until.saturating_sub(now.since_boot) > *LASTING.end() {
        return Err(TableError::TooLong);
    }
    Ok(order)
}

/// Whether a text may stand in lists and records.
pub fn comment(text: &str) -> Result<(), TableError> {
    if text.len() > COMMENT || text.chars().any(char::is_control) {
        return Err(TableError::Comment);
    }
    Ok(())
}

fn sorted(mut ports: Vec<Ports>) -> Vec<Ports> {
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// Why nothing that comes in by an outer interface can have such a source. A prefix that only holds some of those may
/// stand.
fn no_source(source: &IpNet) -> Option<&'static str> {
    let whole = |text: &str| text.parse::<IpNet>().is_ok_and(|net| net.contains(source));
    if whole("224.0.0.0/4") || whole("ff00::/8") {
        Some("these are groups")
    } else if whole("127.0.0.0/8") || whole("::1/128") {
        Some("this is the host itself")
    } else if whole("::ffff:0:0/96") {
        Some("write the IPv4 prefix that it stands for")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::access::Actor;
    use crate::entries::life::Life;

    fn now() -> Moment {
        Moment {
            since_boot: Duration::from_secs(100),
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000),
        }
    }

    fn order(kind: Kind, source: &str, ports: &str, seconds: u64) -> Order {
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
            life: Life::lasting(Duration::from_secs(seconds), now()),
        }
    }

    #[test]
    fn the_same_again_renews() {
        let mut table = Table::default();
        table
            .add(
                order(Kind::Allow, "198.51.100.9/24", "tcp/443 tcp/22", 60),
                now(),
            )
            .unwrap();
        table
            .add(
                order(Kind::Allow, "198.51.100.0/24", "tcp/22 tcp/443 tcp/22", 90),
                now(),
            )
            .unwrap();
        assert_eq!(table.iter().len(), 1);
        table
            .add(
                order(Kind::Deny, "198.51.100.0/24", "tcp/22 tcp/443", 90),
                now(),
            )
            .unwrap();
        table
            .add(order(Kind::Allow, "198.51.100.0/24", "tcp/22", 90), now())
            .unwrap();
        assert_eq!(table.iter().len(), 3);
        let source = "198.51.100.0/24".parse().unwrap();
        let gone = table
            .remove(Kind::Allow, source, &["tcp/22".parse().unwrap()])
            .unwrap();
        assert_eq!((gone.len(), table.iter().len()), (1, 2));
        assert_eq!(table.remove(Kind::Allow, source, &[]).unwrap().len(), 1);
        assert_eq!(
            table.remove(Kind::Allow, source, &[]),
            Err(TableError::Unknown { kind: Kind::Allow })
        );
    }

    #[test]
    fn a_full_table_says_so_and_still_renews() {
        let mut table = Table::default();
        let host = |number: usize| format!("10.0.{}.{}/32", number / 256, number % 256);
        for number in 0..ENTRIES {
            table
                .add(order(Kind::Deny, &host(number), "", 60), now())
                .unwrap();
        }
        let more = table.add(order(Kind::Deny, &host(ENTRIES), "", 60), now());
        assert_eq!(more.unwrap_err(), TableError::Entries);
        table
            .add(order(Kind::Deny, &host(7), "", 90), now())
            .unwrap();
        let later = now().at(now().since_boot + Duration::from_mins(1));
        assert_eq!(table.expire(later).len(), ENTRIES - 1);

        let mut table = Table::default();
        for number in 0..ENTRY_KEYS / PORTS {
            table
                .add(order(Kind::Allow, &host(number), "tcp/1-16", 60), now())
                .unwrap();
        }
        let more = table.add(order(Kind::Allow, &host(ENTRIES), "", 60), now());
        assert_eq!(more.unwrap_err(), TableError::Keys(ENTRY_KEYS + 1));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let month = 30 * 24 * 3600;
        for (source, ports, seconds, error) in [
            (
                "198.51.100.0/24",
                "tcp/1-16 udp/1",
                60,
                TableError::Ports(17),
            ),
            ("198.51.100.0/24", "", 0, TableError::Over),
            ("198.51.100.0/24", "", month + 1, TableError::TooLong),
            (
                "224.0.0.1/32",
                "",
                60,
                TableError::Source("224.0.0.1/32".parse().unwrap(), "these are groups"),
            ),
            (
                "::1/128",
                "",
                60,
                TableError::Source("::1/128".parse().unwrap(), "this is the host itself"),
            ),
        ] {
            let order = order(Kind::Allow, source, ports, seconds);
            let refused = Table::default().add(order, now()).map(drop);
            assert_eq!(refused, Err(error), "{source} {ports} {seconds}");
        }
        for comment in ["a\nb", "\u{1b}[2J", &"x".repeat(257)] {
            let order = Entry {
                comment: comment.to_owned(),
                ..order(Kind::Allow, "198.51.100.0/24", "", month)
            };
            assert_eq!(
                Table::default().add(order, now()).map(drop),
                Err(TableError::Comment)
            );
        }
    }

    #[test]
    fn an_entry_is_over_to_the_second_and_not_before() {
        let mut table = Table::default();
        table
            .add(order(Kind::Allow, "198.51.100.0/24", "", 60), now())
            .unwrap();
        let after = |millis| now().at(now().since_boot + Duration::from_millis(millis));
        assert!(table.expire(after(59_999)).is_empty());
        assert_eq!(table.expire(after(60_000)).len(), 1);
    }
}
