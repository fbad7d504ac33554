//! Entries as people and scripts see them. Field names are an interface to scripts: add, never rename.

use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::entry::{Entry, Kind};
use super::life::Life;
use super::ports::Ports;
use crate::access::Actor;
use crate::report::time::rfc3339;
use crate::scans::Moment;

/// How long an entry lasts if nobody says.
pub const TTL: Duration = Duration::from_hours(1);

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EntryOrder {
    /// Let in or keep out.
    pub kind: Kind,
    /// An address or a prefix.
    pub source: String,
    /// As `tcp/443`, `udp/5000-5003`; none: all.
    #[serde(default)]
    pub ports: Vec<Ports>,
    /// Why; one line.
    #[serde(default)]
    pub comment: String,
    /// For how long from now on; without it and without an end, an hour.
    #[serde(default)]
    pub ttl_seconds: Option<u64>,
    /// RFC 3339, UTC: its begin, if that is not now.
    #[serde(default)]
    pub from: Option<String>,
    /// RFC 3339, UTC: its end.
    #[serde(default)]
    pub until: Option<String>,
    /// Keep out what should not be: this host's gateways, resolvers, and who the policy names.
    #[serde(default)]
    pub force: bool,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EntryRecord {
    /// Let in or keep out.
    pub kind: Kind,
    /// Whom.
    #[schemars(with = "String")]
    pub source: IpNet,
    /// As `tcp/443`; none: all.
    pub ports: Vec<Ports>,
    /// Why.
    pub comment: String,
    /// Who asked.
    pub actor: Actor,
    /// RFC 3339.
    pub made: String,
    /// RFC 3339; `null`: since it was made.
    pub from: Option<String>,
    /// RFC 3339.
    pub until: String,
    /// Until its end, rounded up.
    pub seconds_left: u64,
    /// Whether it is in force, or its begin is still to come.
    pub active: bool,
    /// Whether its end follows the wall clock, however that is set.
    pub dated: bool,
}

/// The entries there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EntryList {
    /// Oldest first.
    pub entries: Vec<EntryRecord>,
}

impl EntryRecord {
    /// The entry as the clocks stand now.
    #[must_use]
    pub fn new(entry: &Entry, now: Moment) -> Self {
        let (from, until) = entry.life.window(now);
        let (from_date, until_date) = entry.life.dates(now);
        let left = until.saturating_sub(now.since_boot);
        Self {
            kind: entry.kind,
            source: entry.source,
            ports: entry.ports.clone(),
            comment: entry.comment.clone(),
            actor: entry.actor.clone(),
            made: rfc3339(entry.made),
            from: from_date.map(rfc3339),
            until: rfc3339(until_date),
            seconds_left: left.as_secs() + u64::from(left.subsec_nanos() > 0),
            active: from <= now.since_boot && now.since_boot < until,
            dated: matches!(entry.life, Life::Between { .. }),
        }
    }
}

impl EntryOrder {
    /// How long it is to last; otherwise what is wrong.
    pub fn life(&self, now: Moment) -> Result<Life, String> {
        let date = |name: &str, text: &Option<String>| -> Result<Option<SystemTime>, String> {
            text.as_deref()
                .map(|text| date(text).map_err(|why| format!("`{name}`: {why}")))
                .transpose()
        };
        let from = date("from", &self.from)?;
        match (self.ttl_seconds, date("until", &self.until)?) {
            (Some(_), Some(_)) => Err("say `ttl_seconds` or `until`, not both".to_owned()),
            (None, Some(until)) => Ok(Life::Between { from, until }),
            (ttl, None) => {
                let ttl = ttl.map_or(TTL, Duration::from_secs);
                match from {
                    None => Ok(Life::lasting(ttl, now)),
                    Some(from) => Ok(Life::Between {
                        from: Some(from),
                        until: from
                            .checked_add(ttl)
                            .ok_or_else(|| "`ttl_seconds` is too large".to_owned())?,
                    }),
                }
            }
        }
    }
}

/// A date and time as RFC 3339 has it, in UTC.
pub fn date(text: &str) -> Result<SystemTime, String> {
    humantime::parse_rfc3339(text)
        .map_err(|_| format!("`{text}` is no time: write it in UTC, as 2026-08-05T10:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Moment {
        Moment {
            since_boot: Duration::from_secs(100),
            wall: date("2026-08-05T10:00:00Z").unwrap(),
        }
    }

    fn life(ttl: Option<u64>, from: Option<&str>, until: Option<&str>) -> Result<Life, String> {
        EntryOrder {
            kind: Kind::Allow,
            source: "198.51.100.0/24".to_owned(),
            ports: Vec::new(),
            comment: String::new(),
            ttl_seconds: ttl,
            from: from.map(str::to_owned),
            until: until.map(str::to_owned),
            force: false,
        }
        .life(now())
    }

    #[test]
    fn an_order_says_how_long() {
        let at = |text| date(text).unwrap();
        assert_eq!(life(None, None, None), Ok(Life::lasting(TTL, now())));
        let minute = Life::lasting(Duration::from_mins(1), now());
        assert_eq!(life(Some(60), None, None), Ok(minute));
        let (noon, one) = ("2026-08-05T12:00:00Z", "2026-08-05T13:00:00Z");
        let between = |from, until| Ok(Life::Between { from, until });
        assert_eq!(life(None, None, Some(noon)), between(None, at(noon)));
        assert_eq!(
            life(None, Some(noon), Some(one)),
            between(Some(at(noon)), at(one))
        );
        assert_eq!(
            life(None, Some(noon), None),
            between(Some(at(noon)), at(one))
        );
        assert!(life(Some(1), None, Some(noon)).is_err());
        assert!(
            life(None, None, Some("noon"))
                .unwrap_err()
                .starts_with("`until`: `noon` is no time")
        );
        assert!(life(Some(u64::MAX), Some(noon), None).is_err());
    }
}
