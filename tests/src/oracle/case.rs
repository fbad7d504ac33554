//! Owns the case: a policy and frames in order, replayed through the oracle, kept as fixture files.
//! Must never generate or judge anything itself.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Oracle, Outcome, RawPolicy, World};

/// The interface frames are injected on when nothing else is said.
pub const INTERFACE: &str = "lo";

/// A policy and what happens under it, from an empty flow table on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What the case shows, or where it comes from.
    pub description: String,
    /// Seed it was generated from, `0x` and hex digits; empty when written by hand.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub seed: String,
    /// The policy file's text.
    pub policy: String,
    /// The host around the filter.
    pub world: World,
    /// The frames in order.
    #[serde(rename = "step")]
    pub steps: Vec<Step>,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Which way it goes.
    pub direction: Direction,
    /// The interface.
    #[serde(default = "interface", skip_serializing_if = "is_interface")]
    pub interface: String,
    /// Milliseconds after the first frame.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub at_ms: u64,
    /// The reason expected, perhaps with a blank and the rule or row; absent where the oracle is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// The frame from its Ethernet header on.
    #[serde(with = "hex")]
    pub frame: Vec<u8>,
}

/// Which way a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// It arrives: at the host by an outer interface, at a container by its link.
    Ingress,
    /// It leaves, likewise.
    Egress,
}

impl Step {
    /// A frame that arrives by [`INTERFACE`].
    #[must_use]
    pub fn ingress(frame: Vec<u8>) -> Self {
        Self {
            direction: Direction::Ingress,
            interface: interface(),
            at_ms: 0,
            expected: None,
            frame,
        }
    }

    /// A frame that leaves by [`INTERFACE`].
    #[must_use]
    pub fn egress(frame: Vec<u8>) -> Self {
        Self {
            direction: Direction::Egress,
            ..Self::ingress(frame)
        }
    }

    /// Sets the reason expected, or the reason, a blank and the rule or row.
    #[must_use]
    pub fn expect(self, reason: &str) -> Self {
        Self {
            expected: Some(reason.to_owned()),
            ..self
        }
    }

    /// Whether the outcome is the one expected, if one is.
    #[must_use]
    pub fn agrees(&self, outcome: &Outcome) -> bool {
        let expected = self.expected.as_deref().unwrap_or(outcome.reason);
        match expected.split_once(' ') {
            Some((reason, rule)) => {
                (reason, Some(rule)) == (outcome.reason, outcome.rule.as_deref())
            }
            None => expected == outcome.reason,
        }
    }

    /// Sets the time in seconds after the first frame.
    #[must_use]
    pub fn at(self, seconds: u64) -> Self {
        Self {
            at_ms: seconds * 1000,
            ..self
        }
    }
}

impl Case {
    /// Whether time passes between the frames: such a case cannot be replayed at once in a kernel.
    #[must_use]
    pub fn needs_clock(&self) -> bool {
        self.steps.iter().any(|step| step.at_ms > 0)
    }

    /// What the oracle says to each step.
    ///
    /// # Errors
    /// When the policy cannot be read.
    pub fn outcomes(&self) -> Result<Vec<Outcome>, String> {
        let policy = RawPolicy::parse(&self.policy).map_err(|error| error.to_string())?;
        let mut oracle = Oracle::new(&policy, self.world.clone());
        let judged = self.steps.iter().map(|step| {
            // Time 0 is avoided: a clock that has just started is a case of its own.
            let now = (1_000_000 + step.at_ms) * 1_000_000;
            match step.direction {
                Direction::Ingress => oracle.ingress(&step.interface, &step.frame, now),
                Direction::Egress => oracle.egress(&step.interface, &step.frame, now),
            }
        });
        Ok(judged.collect())
    }

    /// The case as the text of a fixture file.
    ///
    /// # Errors
    /// What the TOML writer says.
    pub fn to_fixture(&self) -> Result<String, toml::ser::Error> {
        toml::to_string_pretty(self)
    }

    /// Reads the text of a fixture file.
    ///
    /// # Errors
    /// What the TOML reader says.
    pub fn from_fixture(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// Writes the case to `DIRECTORY/NAME.toml` and returns the path.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, directory: &Path, name: &str) -> io::Result<PathBuf> {
        let text = self.to_fixture().map_err(io::Error::other)?;
        fs::create_dir_all(directory)?;
        let path = directory.join(format!("{name}.toml"));
        fs::write(&path, text)?;
        Ok(path)
    }

    /// Reads every `*.toml` of a directory, sorted by name; a missing directory has none.
    ///
    /// # Errors
    /// When a file cannot be read; the message names it.
    pub fn load_all(directory: &Path) -> io::Result<Vec<(PathBuf, Self)>> {
        if !directory.exists() {
            return Ok(Vec::new());
        }
        let mut paths: Vec<PathBuf> = fs::read_dir(directory)?
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<_>>()?;
        paths.retain(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        });
        paths.sort();
        paths
            .into_iter()
            .map(|path| {
                let text = fs::read_to_string(&path)?;
                let case = Self::from_fixture(&text)
                    .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
                Ok((path, case))
            })
            .collect()
    }
}

fn interface() -> String {
    INTERFACE.to_owned()
}

fn is_interface(name: &str) -> bool {
    name == INTERFACE
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape serde asks for"
)]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// Frames as hex digits.
mod hex {
    use std::fmt::Write as _;

    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(bytes.len() * 2);
        for byte in bytes {
            // Writing to a String does not fail.
            let _ = write!(text, "{byte:02x}");
        }
        serializer.serialize_str(&text)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits: Vec<u32> = text
            .chars()
            .filter(|c| !c.is_whitespace())
            .map(|c| {
                c.to_digit(16)
                    .ok_or_else(|| D::Error::custom(format!("{c:?} is no hex digit")))
            })
            .collect::<Result<_, _>>()?;
        if !digits.len().is_multiple_of(2) {
            return Err(D::Error::custom("an odd number of hex digits"));
        }
        Ok(digits
            .chunks(2)
            .map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap_or(0))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixture_reads_as_it_was_written() {
        let case = Case {
            description: "round trip".into(),
            seed: format!("{:#x}", u64::MAX),
            policy: "version = 1\n# a comment with \"quotes\" and '''more'''\n".into(),
            world: World {
                broadcast: vec![[192, 0, 2, 255].into()],
                ..crate::random::facts::world(&mut crate::random::dice::Dice::new(1))
            },
            steps: vec![
                Step::egress(vec![0, 1, 254, 255]).at(3),
                Step::ingress(Vec::new()).expect("drop_malformed"),
            ],
        };
        let text = case.to_fixture().unwrap();
        assert_eq!(Case::from_fixture(&text).unwrap(), case, "{text}");
    }
}
