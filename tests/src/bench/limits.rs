//! Limits of the figures: read from one file, held against what was measured. Knows no formula; goals.rs does.

use std::fs;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::document::{Goal, Section};

/// The one file with limits.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bench-limits.toml");

/// All limits.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    goal: Vec<Limit>,
}

/// One limit.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    id: String,
    bench: String,
    what: String,
    at_most: Option<f64>,
    at_least: Option<f64>,
    promise: String,
}

impl Limits {
    /// Reads the file.
    pub fn read() -> Result<Self> {
        let text = fs::read_to_string(FILE).with_context(|| format!("cannot read {FILE}"))?;
        Self::parse(&text).with_context(|| format!("{FILE} is no list of limits"))
    }

    fn parse(text: &str) -> Result<Self> {
        let limits: Self = toml::from_str(text)?;
        for (place, limit) in limits.goal.iter().enumerate() {
            if limit.at_most.is_some() == limit.at_least.is_some() {
                bail!("{}: give one of at_most and at_least", limit.id);
            }
            if limits.goal[..place]
                .iter()
                .any(|other| other.id == limit.id)
            {
                bail!("{} is there twice", limit.id);
            }
        }
        Ok(limits)
    }

    /// The goals of what was measured, met or not.
    pub fn judge(&self, sections: &[Section]) -> Vec<Goal> {
        let measured = |limit: &Limit| {
            let section = sections
                .iter()
                .find(|section| section.bench == limit.bench)?;
            let value = section.measured.get(&limit.id).copied();
            Some(value.filter(|value| value.is_finite()))
        };
        let goals = self.goal.iter().filter_map(|limit| {
            let value = measured(limit)?;
            let at_least = limit.at_least.is_some();
            let bound = limit.at_least.or(limit.at_most)?;
            Some(Goal {
                id: limit.id.clone(),
                bench: limit.bench.clone(),
                what: limit.what.clone(),
                value,
                limit: bound,
                at_least,
                met: value.is_some_and(|value| {
                    if at_least {
                        value >= bound
                    } else {
                        value <= bound
                    }
                }),
                promise: limit.promise.clone(),
            })
        });
        goals.collect()
    }

    /// Figures that goals could be judged by, but no limit names: a limit was left out or misspelt.
    pub fn strangers(&self, sections: &[Section]) -> Vec<String> {
        let measured = sections.iter().flat_map(|section| section.measured.keys());
        measured
            .filter(|id| !self.goal.iter().any(|limit| limit.id == **id))
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn section(measured: &[(&str, f64)]) -> Section {
        let measured = measured
            .iter()
            .map(|(id, value)| ((*id).to_owned(), *value));
        Section {
            bench: "packets".to_owned(),
            tables: Vec::new(),
            charts: Vec::new(),
            text: String::new(),
            measured: measured.collect::<BTreeMap<_, _>>(),
            figures: serde_json::Value::Null,
        }
    }

    #[test]
    fn the_file_is_read() {
        let limits = Limits::read().unwrap();
        assert!(limits.goal.len() > 30);
        assert!(limits.goal.iter().all(|limit| !limit.promise.is_empty()));
    }

    #[test]
    fn a_goal_without_a_figure_is_missed() {
        let text = "[[goal]]\nid = \"a\"\nbench = \"packets\"\nwhat = \"a\"\nat_most = 1\npromise = \"here\"\n\
            [[goal]]\nid = \"b\"\nbench = \"packets\"\nwhat = \"b\"\nat_least = 2\npromise = \"here\"\n\
            [[goal]]\nid = \"c\"\nbench = \"sizes\"\nwhat = \"c\"\nat_least = 2\npromise = \"here\"\n";
        let limits = Limits::parse(text).unwrap();
        let met = |sections: &[Section]| {
            let goals = limits.judge(sections);
            goals.iter().map(|goal| goal.met).collect::<Vec<_>>()
        };
        // `c` belongs to a bench that did not run
        assert_eq!(met(&[section(&[("a", 1.0), ("b", 2.0)])]), [true, true]);
        assert_eq!(met(&[section(&[("a", 1.1), ("b", 1.9)])]), [false, false]);
        assert_eq!(met(&[section(&[("b", f64::NAN)])]), [false, false]);
        assert_eq!(limits.strangers(&[section(&[("d", 0.0)])]), ["d"]);
        assert!(Limits::parse(&text.replace("at_most", "at_least = 1\nat_most")).is_err());
        assert!(Limits::parse(&text.replace("\"b\"", "\"a\"")).is_err());
    }
}
