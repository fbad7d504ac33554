//! Policy files as they are best read: keys in the order of the reference, one way of spacing and indenting. Never
//! changes what a file means, and never loses a comment: where that cannot be kept, it refuses.

mod json;
mod lines;
mod toml;

use super::keys::{Key, Kind, POLICY_KEYS};

/// Most characters of a line, where lines can be broken.
const WIDTH: usize = 100;

/// The language of a policy file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// TOML.
    Toml,
    /// JSON.
    Json,
}

impl Language {
    /// The language that a file of this name is read as.
    #[must_use]
    pub fn of(path: &std::path::Path) -> Self {
        if super::include::is_json(path) {
            Self::Json
        } else {
            Self::Toml
        }
    }
}

/// Why a text cannot be formatted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FormatError {
    /// It is neither TOML nor JSON, whichever it should be.
    #[error("line {line}: {message}")]
    Syntax {
        /// From 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// A comment would be lost.
    #[error("the comment `{0}` stands where it cannot be kept; move it to a line of its own")]
    Comment(String),
    /// The result would not say the same.
    #[error("the file cannot be formatted without changing what it says; please report this")]
    Meaning,
}

/// The text as it is best read. What is formatted already stays as it is, byte for byte.
///
/// # Errors
/// When the text is broken, or holds something that would be lost.
pub fn format(text: &str, language: Language) -> Result<String, FormatError> {
    match language {
        Language::Toml => toml::format(text),
        Language::Json => json::format(text),
    }
}

/// What is known of a table's keys.
#[derive(Clone, Copy)]
enum Order {
    Keys(&'static [Key]),
    /// Names of the writer's choice: they stay in the order of the file.
    Names(&'static [Key]),
    Unknown,
}

impl Order {
    const POLICY: Self = Self::Keys(POLICY_KEYS);

    /// The place of a key among the others. Keys that nobody knows come last.
    fn place(self, key: &str) -> usize {
        let Self::Keys(keys) = self else { return 0 };
        let mut keys = keys.iter();
        keys.position(|known| known.name == key)
            .unwrap_or(usize::MAX)
    }

    /// What is known of the table under a key.
    fn under(self, key: &str) -> Self {
        match self {
            Self::Names(keys) => Self::Keys(keys),
            Self::Keys(keys) => {
                let known = keys.iter().find(|known| known.name == key);
                match known.map(|known| &known.kind) {
                    Some(Kind::Table(keys) | Kind::Tables(keys)) => Self::Keys(keys),
                    Some(Kind::Named(keys)) => Self::Names(keys),
                    _ => Self::Unknown,
                }
            }
            Self::Unknown => Self::Unknown,
        }
    }
}

/// The line of a byte, from 1.
fn line_of(text: &str, at: usize) -> usize {
    let before = text.get(..at).unwrap_or(text);
    before.matches('\n').count() + 1
}
