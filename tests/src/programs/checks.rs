//! What a check expects, what it saw, and whether the two agree.
//!
//! Owns the three outcomes. Must never be given "no answer" for a probe that was not sent.

use std::fmt;

/// What a check expects while the filter is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The service answers.
    Works,
    /// Nothing at all comes back, not even a refusal by the host.
    Refused,
}

/// What came of a probe, from least to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seen {
    /// Silence.
    Nothing,
    /// The host was reached, and refused by itself (TCP reset, ICMP unreachable).
    Reached,
    /// The service answered.
    Works,
}

/// One line of a table of checks.
#[derive(Clone, Debug)]
pub struct Check {
    /// What was tried.
    pub name: String,
    /// What should come of it while the filter is on.
    pub expected: Expected,
    /// What came of it.
    pub seen: Seen,
    /// The program's own words.
    pub detail: String,
}

impl Check {
    /// One check that was made.
    pub fn new(
        name: impl Into<String>,
        expected: Expected,
        seen: Seen,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            name: name.into(),
            expected,
            seen,
            detail: detail.into(),
        }
    }

    /// Whether it came as expected. Without a filter (`filtered` false) a probe that the filter
    /// would refuse has to reach the host: that proves that the probe can fail.
    pub fn agrees(&self, filtered: bool) -> bool {
        match (self.expected, filtered) {
            (Expected::Works, _) => self.seen == Seen::Works,
            (Expected::Refused, true) => self.seen == Seen::Nothing,
            (Expected::Refused, false) => self.seen > Seen::Nothing,
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}: expected {}, seen {} ({})",
            self.name, self.expected, self.seen, self.detail
        )
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Works => "works",
            Self::Refused => "silence",
        })
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Works => "works",
            Self::Reached => "reached",
            Self::Nothing => "silence",
        })
    }
}
