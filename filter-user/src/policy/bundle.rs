//! The files that make a policy, as they were read: what is sent, signed, kept and loaded again.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A policy file and all files it names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// Name of the policy file among `files`; empty for a directory of policy files.
    pub main: String,
    /// Text of every file, by its name as seen from the policy file's directory.
    pub files: BTreeMap<String, String>,
}

impl Bundle {
    /// SHA-256 over names and texts, in hex: equal for equal bundles only.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let texts = self.files.iter().flat_map(|(name, text)| [name, text]);
        for text in std::iter::once(&self.main).chain(texts) {
            // the length keeps two texts apart from one longer text
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
        super::load::hex(&hash.finalize())
    }

    /// Bytes of all texts.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.files.values().map(String::len).sum()
    }
}
