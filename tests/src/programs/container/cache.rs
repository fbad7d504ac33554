//! The cache of results as libcni keeps it: one file for each network of each container.
//!
//! Owns its format (libcni/api.go: `cachedInfo`). Writes it the way libcni does, in place and not by renaming, so a reader
//! may meet half a file.

use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// What libcni knows of one addition to a network.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) container: &'a str,
    pub(super) network: &'a str,
    pub(super) interface: &'a str,
    pub(super) netns: &'a str,
    /// The network's configuration, which is kept as it was read.
    pub(super) configuration: &'a [u8],
    pub(super) capabilities: Value,
    pub(super) result: &'a Value,
}

impl Entry<'_> {
    /// Writes it below `cache`; returns the file.
    pub(super) fn write(&self, cache: &Path) -> Result<PathBuf> {
        let directory = cache.join("results");
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let file = directory.join(format!(
            "{}-{}-{}",
            self.network, self.container, self.interface
        ));
        let document = json!({
            "kind": "cniCacheV1",
            "containerId": self.container,
            "config": base64(self.configuration),
            "ifName": self.interface,
            "networkName": self.network,
            "netns": self.netns,
            "cniArgs": [["IgnoreUnknown", "1"]],
            "capabilityArgs": self.capabilities,
            "result": self.result,
        });
        let mut writer = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&file)
            .with_context(|| format!("cannot make {}", file.display()))?;
        serde_json::to_writer(&mut writer, &document)?;
        Ok(file)
    }
}

/// RFC 4648, section 4: Go writes bytes that way in JSON.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let mut word = [0; 3];
        word[..group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes([0, word[0], word[1], word[2]]);
        for place in 0..4 {
            let letter = ALPHABET[(bits >> (18 - 6 * place)) as usize & 63];
            text.push(if place > group.len() {
                '='
            } else {
                letter.into()
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_as_in_the_rfc() {
        let vectors = [
            "", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy",
        ];
        for (length, expected) in vectors.into_iter().enumerate() {
            assert_eq!(base64(&b"foobar"[..length]), expected);
        }
    }
}
