//! What a packet costs against what grows: rules, prefixes, flows, attackers. One table and one chart each, by decades, so
//! that flat or not is seen at a glance.

#[path = "sizes/family.rs"]
mod family;
#[path = "sizes/growth.rs"]
mod growth;
#[path = "sizes/look_ups.rs"]
mod look_ups;
#[path = "sizes/sets.rs"]
mod sets;

use anyhow::Result;
use serde::Serialize;

use super::goals::Measured;
use super::isolation::isolated;
use super::measure::Effort;
use super::report::Shown;

use family::Family;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Sizes {
    families: Vec<Family>,
    /// MiB of the tables for the most IPv4 prefixes: routed ones, then clustered ones.
    table_mib: [f64; 2],
}

/// Measures everything.
pub fn measure(quick: bool) -> Result<Sizes> {
    let effort = if quick {
        Effort {
            rounds: 3,
            repeat: 100_000,
        }
    } else {
        Effort {
            rounds: 9,
            repeat: 400_000,
        }
    };
    let mut families = Vec::new();
    let growing: [fn(Effort) -> Result<Family>; 4] = [
        growth::rules,
        growth::prefixes,
        growth::flows,
        growth::attackers,
    ];
    for family in growing {
        families.push(isolated(|| family(effort))?);
    }
    let mut table_mib = [0.0; 2];
    for (place, set) in sets::ALL.into_iter().enumerate() {
        let (family, most) = isolated(|| look_ups::measure(set, effort))?;
        families.push(family);
        if let Some(mib) = table_mib.get_mut(place) {
            *mib = most;
        }
    }
    Ok(Sizes {
        families,
        table_mib,
    })
}

impl Sizes {
    /// As tables and charts, and what goals are judged by.
    pub fn shown(&self) -> Shown {
        Shown {
            tables: self.families.iter().map(Family::table).collect(),
            charts: self.families.iter().map(Family::chart).collect(),
            measured: self.measured(),
            ..Shown::default()
        }
    }

    fn measured(&self) -> Vec<Measured> {
        let family = |name: &str| self.families.iter().find(|family| family.name == name);
        let net = |name: &str, line: usize, size: u64| {
            let point = family(name).and_then(|family| family.point(line, size));
            point.map_or(f64::NAN, |point| point.net)
        };
        let last_of_first = |name: &str, line: usize| {
            let ends = family(name).and_then(|family| family.ends(line));
            ends.map_or(f64::NAN, |(first, last)| last.median / first.median)
        };
        let of_trie = |name: &str, line: usize, size: u64| {
            net(name, line, size) / net(name, line + look_ups::TRIE, size)
        };
        let [routed, clustered] = self.table_mib;
        vec![
            ("rules_most_allowed_of_one", last_of_first("rules", 0)),
            ("rules_most_refused_of_one", last_of_first("rules", 1)),
            (
                "attackers_10m_of_one",
                net("attackers", 0, 10_000_000) / net("attackers", 0, 1),
            ),
            (
                "look_up4_1m_misses_of_trie",
                of_trie("look-up-v4", look_ups::RANDOM, 1_000_000),
            ),
            (
                "look_up4_1m_hits_of_trie",
                of_trie("look-up-v4", look_ups::HITS, 1_000_000),
            ),
            ("look_up4_1m_table_mib", routed.max(clustered)),
            (
                "look_up6_100k_misses_of_trie",
                of_trie("look-up-v6", look_ups::RANDOM, 100_000),
            ),
            (
                "look_up6_100k_hits_of_trie",
                of_trie("look-up-v6", look_ups::HITS, 100_000),
            ),
        ]
    }
}
