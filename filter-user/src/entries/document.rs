//! What outlives a restart, and another boot: the entries as a JSON document. Dates are milliseconds since 1970.

use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::entry::{Entry, Kind};
use super::life::Life;
use super::ports::Ports;
use super::table::{ENTRIES, Table};
use crate::access::Actor;
use crate::scans::Moment;

/// What this program writes.
const VERSION: u32 = 1;

/// All entries, and which boot they were written in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    version: u32,
    /// `/proc/sys/kernel/random/boot_id`: whose clock times without a date are of.
    boot: String,
    entries: Vec<Written>,
}

/// Why a document is of no use.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Not JSON, or not ours.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// Of another program.
    #[error("it has version {0}, and this program writes version {VERSION}")]
    Version(u32),
    /// More than there may be.
    #[error("it holds {0} entries, and there may be {ENTRIES}")]
    TooMany(usize),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    kind: Kind,
    source: IpNet,
    ports: Vec<Ports>,
    comment: String,
    actor: Actor,
    made_ms: u64,
    life: WrittenLife,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum WrittenLife {
    For {
        lasting_ms: u64,
        /// `CLOCK_MONOTONIC`.
        until_boot_ms: u64,
        /// The same end by the wall clock, as the clocks stood.
        until_ms: u64,
    },
    Between {
        from_ms: Option<u64>,
        until_ms: u64,
    },
}

impl Document {
    /// The table as it is now.
    #[must_use]
    pub fn of(table: &Table, boot: &str, now: Moment) -> Self {
        Self {
            version: VERSION,
            boot: boot.to_owned(),
            entries: table.iter().map(|entry| written(entry, now)).collect(),
        }
    }

    /// Reads a document.
    pub fn parse(text: &[u8]) -> Result<Self, DocumentError> {
        let document: Self = serde_json::from_slice(text)?;
        if document.version != VERSION {
            return Err(DocumentError::Version(document.version));
        }
        if document.entries.len() > ENTRIES {
            return Err(DocumentError::TooMany(document.entries.len()));
        }
        Ok(document)
    }

    /// Whether it was written in this boot.
    #[must_use]
    pub fn is_of(&self, boot: &str) -> bool {
        self.boot == boot
    }

    /// The entries that are not over.
    #[must_use]
    pub fn table(self, boot: &str, now: Moment) -> Table {
        let same_boot = self.is_of(boot);
        let entries = self.entries.into_iter().map(|entry| {
            let life = match entry.life {
                WrittenLife::For {
                    lasting_ms,
                    until_boot_ms,
                    until_ms,
                } => {
                    let life = Life::For {
                        lasting: Duration::from_millis(lasting_ms),
                        until: Duration::from_millis(until_boot_ms),
                    };
                    if same_boot {
                        life
                    } else {
                        life.after_boot(date(until_ms), now)
                    }
                }
                WrittenLife::Between { from_ms, until_ms } => Life::Between {
                    from: from_ms.map(date),
                    until: date(until_ms),
                },
            };
            Entry {
                kind: entry.kind,
                source: entry.source.trunc(),
                ports: entry.ports,
                comment: entry.comment,
                actor: entry.actor,
                made: date(entry.made_ms),
                life,
            }
        });
        Table::of(entries.collect(), now)
    }
}

fn written(entry: &Entry, now: Moment) -> Written {
    let life = match entry.life {
        Life::For { lasting, until } => WrittenLife::For {
            lasting_ms: milliseconds(lasting),
            until_boot_ms: milliseconds(until),
            until_ms: since_1970(now.at(until).wall),
        },
        Life::Between { from, until } => WrittenLife::Between {
            from_ms: from.map(since_1970),
            until_ms: since_1970(until),
        },
    };
    Written {
        kind: entry.kind,
        source: entry.source,
        ports: entry.ports.clone(),
        comment: entry.comment.clone(),
        actor: entry.actor.clone(),
        made_ms: since_1970(entry.made),
        life,
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn since_1970(date: SystemTime) -> u64 {
    milliseconds(
        date.duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default(),
    )
}

/// A date that no clock can show is taken for 1970.
fn date(milliseconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_millis(milliseconds))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Moment {
        Moment {
            since_boot: Duration::from_secs(100),
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000),
        }
    }

    fn later(seconds: u64) -> Moment {
        now().at(now().since_boot + Duration::from_secs(seconds))
    }

    fn table() -> Table {
        let entry = |source: &str, life| Entry {
            kind: Kind::Allow,
            source: source.parse().unwrap(),
            ports: vec!["tcp/443".parse().unwrap()],
            comment: "incident 7".to_owned(),
            actor: Actor::daemon("test"),
            made: now().wall,
            life,
        };
        let dates = Life::Between {
            from: Some(later(10).wall),
            until: later(60).wall,
        };
        let entries = vec![
            entry(
                "198.51.100.0/24",
                Life::lasting(Duration::from_secs(30), now()),
            ),
            entry("2001:db8::/32", dates),
        ];
        Table::of(entries, now())
    }

    fn again(document: &Document) -> Document {
        Document::parse(&serde_json::to_vec(document).unwrap()).unwrap()
    }

    #[test]
    fn a_restart_changes_nothing() {
        let document = again(&Document::of(&table(), "boot", now()));
        assert_eq!(document.clone().table("boot", later(20)), table());
        // the wall clock was set meanwhile
        let set = Moment {
            wall: later(86_400).wall,
            ..later(20)
        };
        let left = document.clone().table("boot", set);
        assert_eq!(left.iter().len(), 1, "only the date is over");
        assert_eq!(document.table("boot", later(30)).iter().len(), 1);
    }

    #[test]
    fn another_boot_goes_by_the_wall_clock() {
        let document = Document::of(&table(), "boot", now());
        let boot = Moment {
            since_boot: Duration::from_secs(5),
            wall: later(20).wall,
        };
        let table = document.clone().table("other", boot);
        let ends: Vec<u64> = table
            .iter()
            .map(|entry| entry.life.window(boot).1.as_secs())
            .collect();
        assert_eq!(ends, [15, 45]);
        let boot = Moment {
            wall: later(61).wall,
            ..boot
        };
        assert_eq!(document.table("other", boot).iter().len(), 0);
    }

    #[test]
    fn what_is_no_document_is_refused() {
        let text = serde_json::to_string(&Document::of(&table(), "boot", now())).unwrap();
        for wrong in [
            "",
            "{}",
            &text[..text.len() / 2],
            &text.replace("\"version\":1", "\"version\":2"),
            &text.replace("198.51.100.0/24", "198.51.100.0/33"),
            &text.replace("tcp/443", "tcp/0"),
            &text.replace("30000", "-1"),
        ] {
            assert!(Document::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
        // dates that no clock can show do no harm
        let far = text.replace("1000060000", "18446744073709551615");
        assert_ne!(far, text);
        let _ = Document::parse(far.as_bytes())
            .unwrap()
            .table("boot", now());
    }
}
