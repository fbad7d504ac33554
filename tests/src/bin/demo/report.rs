//! The table of expected against seen, for people and as JSON.
//!
//! Owns the verdict: whether everything came as expected.

use std::fmt;

use edgefilter_tests::programs::{Check, Counters, Expected};
use serde_json::{Value, json};

/// One expectation that is not a probe.
#[derive(Clone, Debug)]
pub struct Fact {
    what: String,
    expected: String,
    seen: String,
    agrees: bool,
}

impl Fact {
    pub fn new(
        what: impl Into<String>,
        expected: &str,
        seen: impl Into<String>,
        agrees: bool,
    ) -> Self {
        Self {
            what: what.into(),
            expected: expected.to_owned(),
            seen: seen.into(),
            agrees,
        }
    }

    pub fn equal(what: &str, expected: &str, seen: &str) -> Self {
        Self::new(what, expected, seen, expected == seen)
    }
}

/// All that was seen.
#[derive(Clone, Debug)]
pub struct Report {
    filtered: bool,
    phases: Vec<(&'static str, Vec<Check>)>,
    facts: Vec<Fact>,
    pub counters: Counters,
    pub seconds: f64,
}

impl Report {
    pub fn new(filtered: bool) -> Self {
        Self {
            filtered,
            phases: Vec::new(),
            facts: Vec::new(),
            counters: Counters::default(),
            seconds: 0.0,
        }
    }

    pub fn phase(&mut self, name: &'static str, checks: Vec<Check>) {
        self.phases.push((name, checks));
    }

    pub fn fact(&mut self, fact: Fact) {
        self.facts.push(fact);
    }

    /// Whether there is something to judge and all of it came as expected.
    pub fn agrees(&self) -> bool {
        !self.phases.is_empty() && self.different().is_empty()
    }

    /// One line for each thing that came otherwise.
    fn different(&self) -> Vec<String> {
        let checks = self.phases.iter().flat_map(|(phase, checks)| {
            checks
                .iter()
                .filter(|check| !check.agrees(self.filtered))
                .map(move |check| format!("{phase}: {check}"))
        });
        let facts = self.facts.iter().filter(|fact| !fact.agrees);
        checks
            .chain(facts.map(|fact| {
                format!(
                    "{}: expected {}, seen {}",
                    fact.what, fact.expected, fact.seen
                )
            }))
            .collect()
    }

    /// Each check's name and expectation, with its outcome in every phase.
    fn rows(&self) -> impl Iterator<Item = (&Check, Vec<&Check>)> {
        let first = self
            .phases
            .first()
            .map(|(_, checks)| checks.as_slice())
            .unwrap_or_default();
        first.iter().enumerate().map(|(index, check)| {
            (
                check,
                self.phases
                    .iter()
                    .filter_map(|(_, checks)| checks.get(index))
                    .collect(),
            )
        })
    }

    pub fn to_json(&self) -> Value {
        let checks: Vec<Value> = self
            .rows()
            .map(|(check, seen)| {
                let seen: serde_json::Map<String, Value> = self
                    .phases
                    .iter()
                    .zip(&seen)
                    .map(|((phase, _), check)| {
                        (
                            (*phase).to_owned(),
                            json!({"seen": check.seen.to_string(), "detail": check.detail}),
                        )
                    })
                    .collect();
                json!({"check": check.name, "expected": check.expected.to_string(), "phases": seen})
            })
            .collect();
        let facts: Vec<Value> = self
            .facts
            .iter()
            .map(|fact| json!({"check": fact.what, "expected": fact.expected, "seen": fact.seen, "ok": fact.agrees}))
            .collect();
        let counters: serde_json::Map<String, Value> = self
            .counters
            .by_reason()
            .into_iter()
            .map(|(reason, count)| {
                (
                    reason,
                    json!({"packets": count.packets, "bytes": count.bytes}),
                )
            })
            .collect();
        json!({
            "ok": self.agrees(), "filter": self.filtered, "seconds": self.seconds, "checks": checks,
            "facts": facts, "counters": counters, "different": self.different(),
        })
    }
}

const NAME: usize = 50;
const CELL: usize = 14;

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "\n{:NAME$} {:CELL$}", "check", "expected")?;
        for (phase, _) in &self.phases {
            write!(out, "{phase:CELL$}")?;
        }
        writeln!(
            out,
            "\n{}",
            "-".repeat(NAME + 1 + CELL * (1 + self.phases.len()))
        )?;
        for (check, seen) in self.rows() {
            // Without a filter the probes that it would refuse have to get through.
            let expected = match check.expected {
                Expected::Refused if !self.filtered => "gets through".to_owned(),
                other => other.to_string(),
            };
            write!(out, "{:NAME$} {expected:CELL$}", check.name)?;
            for one in seen {
                let mark = if one.agrees(self.filtered) { "" } else { " !!" };
                write!(out, "{:CELL$}", format!("{}{mark}", one.seen))?;
            }
            writeln!(out)?;
        }
        for fact in &self.facts {
            let mark = if fact.agrees { "" } else { " !!" };
            writeln!(
                out,
                "{:NAME$} {:CELL$}{}{mark}",
                fact.what, fact.expected, fact.seen
            )?;
        }
        let reasons = self.counters.by_reason();
        if !reasons.is_empty() {
            writeln!(
                out,
                "\n{:NAME$} {:>14}{:>14}",
                "counted by reason", "packets", "bytes"
            )?;
            for (reason, count) in reasons {
                writeln!(
                    out,
                    "{reason:NAME$} {:>14}{:>14}",
                    count.packets, count.bytes
                )?;
            }
        }
        writeln!(out)?;
        for line in self.different() {
            writeln!(out, "different: {line}")?;
        }
        let verdict = if self.agrees() {
            "everything as expected"
        } else {
            "NOT as expected"
        };
        let filter = if self.filtered {
            ""
        } else {
            " (no filter: a run that tests the checks)"
        };
        writeln!(out, "{verdict}{filter}, {:.1} s", self.seconds)
    }
}
