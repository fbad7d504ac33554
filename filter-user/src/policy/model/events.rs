//! The validated table `events`.

use super::ReportFile;

/// Which sampled drops are told, to those who follow and to a file. What is counted does not depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events {
    /// False: none.
    pub enabled: bool,
    /// Only those with one of these reasons; `None`: all.
    pub reasons: Option<Vec<&'static str>>,
    /// Only those on interfaces with one of these names or globs; `None`: all.
    pub interfaces: Option<Vec<String>>,
    /// A file, one JSON document a line.
    pub file: Option<ReportFile>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            enabled: true,
            reasons: None,
            interfaces: None,
            file: None,
        }
    }
}
