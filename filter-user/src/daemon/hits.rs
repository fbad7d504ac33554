//! When each rule last counted a packet: looked at once a minute, and kept in the state directory, so that a plan can say
//! which rules nobody has needed for long.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::engine::Engine;
use crate::durable;
use crate::plan::hits::{Quiet, RuleHits};
use crate::policy::{MAX_RULES, Policy};
use crate::report::time::rfc3339;

/// Rules that are remembered: those in force, and as many that were.
const REMEMBERED: usize = 2 * MAX_RULES;

/// A file that is longer was not written here.
const LONGEST: u64 = 8 << 20;

/// A rule that is kept is quiet if nothing has hit it for so long, or ever.
const LONG: Duration = Duration::from_hours(30 * 24);

/// What is known of a rule; times in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    since: u64,
    last: Option<u64>,
    packets: u64,
}

/// What is known of all rules, by id.
#[derive(Debug, Default)]
pub(super) struct Hits {
    path: PathBuf,
    rules: BTreeMap<String, Known>,
    /// Whether the file could not be written the last time.
    failed: bool,
}

impl Hits {
    /// Those kept in a state directory. What cannot be read is begun anew.
    pub(super) fn open(state_dir: &Path) -> Self {
        let path = state_dir.join("hits.json");
        let rules = read(&path).unwrap_or_else(|error| {
            let path = path.display();
            tracing::warn!(%error, %path, "it is not known when rules were last hit");
            BTreeMap::new()
        });
        Self {
            path,
            rules,
            failed: false,
        }
    }

    /// Looks at the counters of the rules in force.
    pub(super) fn look(&mut self, engine: &Engine) {
        match engine.rule_packets() {
            Ok(counts) => {
                if self.count(&counts, SystemTime::now()) {
                    self.write();
                }
            }
            Err(error) => tracing::warn!(
                error = format!("{error:#}"),
                "the counters of rules cannot be read"
            ),
        }
    }

    /// Notes how many packets rules have counted; whether anything is news.
    fn count(&mut self, counts: &[(String, u64)], now: SystemTime) -> bool {
        let now = seconds(now);
        let mut news = false;
        for (id, packets) in counts {
            let known = match self.rules.get_mut(id) {
                Some(known) => known,
                None => {
                    news = true;
                    self.rules.entry(id.clone()).or_insert(Known {
                        since: now,
                        last: None,
                        packets: 0,
                    })
                }
            };
            // counters begin anew with a rule, or with the machine
            if *packets != known.packets {
                news = true;
                known.packets = *packets;
                if *packets > 0 {
                    known.last = Some(now);
                }
            }
        }
        self.forget(counts);
        news
    }

    /// Forgets rules that are not in force, those first that were hit the longest time ago, where there are too many.
    fn forget(&mut self, in_force: &[(String, u64)]) {
        let surplus = self.rules.len().saturating_sub(REMEMBERED);
        if surplus == 0 {
            return;
        }
        let in_force: HashSet<&String> = in_force.iter().map(|(id, _)| id).collect();
        let gone = self.rules.iter().filter(|(id, _)| !in_force.contains(id));
        let mut gone: Vec<(u64, String)> = gone
            .map(|(id, known)| (known.last.unwrap_or(known.since), id.clone()))
            .collect();
        gone.sort();
        for (_, id) in gone.into_iter().take(surplus) {
            self.rules.remove(&id);
        }
    }

    fn write(&mut self) {
        let written = durable::replace_json(&self.path, &self.rules);
        if let Err(error) = &written
            && !self.failed
        {
            let path = self.path.display();
            tracing::warn!(%error, %path, "when rules were hit cannot be kept");
        }
        self.failed = written.is_err();
    }

    /// Rules that are taken out, with their last hit, and those that are kept and that nothing hits.
    pub(super) fn quiet(&self, old: &Policy, new: &Policy, now: SystemTime) -> Quiet {
        let kept: HashSet<&str> = new.rules().map(|rule| rule.id.as_str()).collect();
        let now = seconds(now);
        let quiet =
            |last: Option<u64>| last.is_none_or(|last| now.saturating_sub(last) > LONG.as_secs());
        let mut rules: Vec<RuleHits> = old
            .rules()
            .filter_map(|rule| {
                let known = self.rules.get(rule.id.as_str())?;
                let taken_out = !kept.contains(rule.id.as_str());
                (taken_out || quiet(known.last)).then(|| RuleHits {
                    rule: rule.id.clone(),
                    taken_out,
                    since: time(known.since),
                    last: known.last.map(time),
                })
            })
            .collect();
        rules.sort_by_key(|rule| !rule.taken_out);
        Quiet::of(rules)
    }
}

fn read(path: &Path) -> anyhow::Result<BTreeMap<String, Known>> {
    match fs::metadata(path) {
        Ok(file) if file.len() > LONGEST => anyhow::bail!("the file is too long"),
        Ok(_) => Ok(serde_json::from_slice(&fs::read(path)?)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error.into()),
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn time(seconds: u64) -> String {
    // whatever the file says, a date of some calendar
    rfc3339(UNIX_EPOCH + Duration::from_secs(seconds.min(u64::from(u32::MAX))))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::policy;

    const DAY: Duration = Duration::from_hours(24);

    fn loaded(ids: &[&str]) -> Policy {
        let mut text = "version = 1\n[profiles.edge]\ninterfaces = [\"eth0\"]\n".to_owned();
        for (port, id) in (1000..).zip(ids) {
            let _ = write!(
                text,
                "[[profiles.edge.allow]]\nid = \"{id}\"\nprotocol = \"tcp\"\nports = [{port}]\n"
            );
        }
        let bundle = policy::Bundle {
            main: "edge.toml".to_owned(),
            files: [("edge.toml".to_owned(), text)].into(),
        };
        policy::load_bundle(&bundle).unwrap().policy
    }

    fn counts(of: &[(&str, u64)]) -> Vec<(String, u64)> {
        of.iter().map(|(id, n)| ((*id).to_owned(), *n)).collect()
    }

    #[test]
    fn rules_that_nothing_hits_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut hits = Hits::open(folder.path());
        let start = UNIX_EPOCH + 1000 * DAY;
        assert!(hits.count(&counts(&[("busy", 0), ("idle", 0), ("old", 3)]), start));
        assert!(hits.count(
            &counts(&[("busy", 1), ("idle", 0), ("old", 3)]),
            start + DAY
        ));
        hits.write();
        // kept across a start of the daemon
        let mut hits = Hits::open(folder.path());
        let same = counts(&[("busy", 1), ("idle", 0), ("old", 3)]);
        assert!(!hits.count(&same, start + 2 * DAY), "nothing new");
        let now = start + 31 * DAY;
        assert!(hits.count(&counts(&[("busy", 9), ("idle", 0), ("old", 3)]), now));
        let before = loaded(&["busy", "idle", "old"]);
        let found = hits.quiet(&before, &before, now);
        let named = |found: &Quiet| -> Vec<String> {
            found.first.iter().map(|rule| rule.rule.clone()).collect()
        };
        assert_eq!(named(&found), ["idle", "old"]);
        assert_eq!(found.first[0].since, "1972-09-27T00:00:00.000Z");
        assert_eq!(found.first[0].last, None);
        let last = found.first[1].last.as_deref();
        assert_eq!(last, Some("1972-09-27T00:00:00.000Z"));
        let found = hits.quiet(&before, &loaded(&["idle", "old"]), now);
        assert_eq!(named(&found), ["busy", "idle", "old"]);
        assert!(found.first[0].taken_out);
    }

    #[test]
    fn counters_that_begin_anew_are_no_hit() {
        let mut hits = Hits::default();
        let start = UNIX_EPOCH + DAY;
        hits.count(&counts(&[("a", 7)]), start);
        hits.count(&counts(&[("a", 0)]), start + DAY);
        assert_eq!(hits.rules["a"].last, Some(seconds(start)));
        hits.count(&counts(&[("a", 2)]), start + 2 * DAY);
        assert_eq!(hits.rules["a"].last, Some(seconds(start + 2 * DAY)));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut hits = Hits::default();
        for day in 0..4 {
            let rules: Vec<_> = (0..MAX_RULES)
                .map(|n| (format!("rule-{day}-{n}"), 1))
                .collect();
            hits.count(&rules, UNIX_EPOCH + day * DAY);
        }
        assert_eq!(hits.rules.len(), REMEMBERED);
        assert!(hits.rules.contains_key("rule-3-0"));
        assert!(!hits.rules.contains_key("rule-0-0"));
    }

    #[test]
    fn a_broken_file_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("hits.json"), "{").unwrap();
        let mut hits = Hits::open(folder.path());
        assert!(hits.count(&counts(&[("a", 1)]), UNIX_EPOCH + DAY));
        hits.write();
        assert!(Hits::open(folder.path()).rules.contains_key("a"));
    }
}
