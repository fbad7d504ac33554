//! What became of scans, as scripts see it: the daemon's records and blocks, and the sets in nftables.
//!
//! Owns how these are read. Without a filter there are none of them.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use filter_user::scans::record::{BlockRecord, ScanRecord};
use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;

use super::Edgefilter;
use crate::netns::Namespace;

/// The sets of our table, and the length of the prefixes whose first addresses they hold.
const SETS: [(&str, u8); 3] = [("blocked4", 32), ("blocked6", 128), ("blocked6_64", 64)];

/// All scan records, open and closed ones.
pub fn scans(daemon: &Edgefilter) -> Result<Vec<ScanRecord>> {
    list(daemon, &["scans", "--all", "--json"], "scans")
}

/// All blocks in force.
pub fn blocks(daemon: &Edgefilter) -> Result<Vec<BlockRecord>> {
    list(daemon, &["block", "list", "--json"], "blocks")
}

fn list<T: DeserializeOwned>(daemon: &Edgefilter, words: &[&str], key: &str) -> Result<Vec<T>> {
    if !daemon.filtering() {
        return Ok(Vec::new());
    }
    let shown = daemon.cli(words)?.require()?;
    let mut value: Value = serde_json::from_str(&shown.stdout)
        .with_context(|| format!("`edgefilter {}` gave no JSON", words.join(" ")))?;
    let list = value
        .get_mut(key)
        .map(Value::take)
        .with_context(|| format!("no {key:?} in {}", shown.stdout))?;
    serde_json::from_value(list).with_context(|| format!("unexpected {key}: {}", shown.stdout))
}

/// An element of a timed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timed {
    /// Seconds it was put in for; `None`: for ever.
    pub timeout: Option<u64>,
    /// Seconds that are left of them.
    pub expires: Option<u64>,
}

/// What the sets of `inet edgefilter` hold; `None` when there is no such table.
pub fn nft_sets(host: &Namespace) -> Result<Option<BTreeMap<IpNet, Timed>>> {
    let mut all = BTreeMap::new();
    for (set, length) in SETS {
        let words = ["nft", "-j", "list", "set", "inet", "edgefilter", set];
        let shown = host.try_run(&words, Duration::from_secs(10))?;
        if !shown.ok() {
            return Ok(None);
        }
        let value: Value = serde_json::from_str(&shown.stdout).context("nft gave no JSON")?;
        let elements = elements(&value, length);
        all.extend(elements.with_context(|| format!("unexpected set: {}", shown.stdout))?);
    }
    Ok(Some(all))
}

/// The elements of the one set in a listing.
fn elements(listing: &Value, length: u8) -> Result<BTreeMap<IpNet, Timed>> {
    let objects = listing.get("nftables").and_then(Value::as_array);
    let set = objects
        .into_iter()
        .flatten()
        .find_map(|object| object.get("set"))
        .context("no set")?;
    let elements = set.get("elem").and_then(Value::as_array);
    elements
        .into_iter()
        .flatten()
        .map(|element| {
            let inner = element.get("elem").unwrap_or(element);
            let seconds = |key: &str| inner.get(key).and_then(Value::as_u64);
            let timed = Timed {
                timeout: seconds("timeout"),
                expires: seconds("expires"),
            };
            let address = inner.get("val").unwrap_or(inner).as_str();
            let address = address.and_then(|text| text.parse().ok());
            let address = address.with_context(|| format!("no address: {element}"))?;
            let network = IpNet::new(address, length)?;
            Ok((network, timed))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Timed, elements};

    #[test]
    fn timed_elements_are_read() {
        let listing = serde_json::json!({"nftables": [
            {"metainfo": {"version": "1.0.6"}},
            {"set": {"family": "inet", "name": "blocked6_64", "table": "edgefilter", "elem": [
                {"elem": {"val": "fd77:6401::", "timeout": 8, "expires": 7}},
                "fd77:6402::",
            ]}},
        ]});
        let found = elements(&listing, 64).unwrap();
        let timed = |timeout, expires| Timed { timeout, expires };
        assert_eq!(found.len(), 2);
        let first = found[&"fd77:6401::/64".parse().unwrap()];
        assert_eq!(first, timed(Some(8), Some(7)));
        let second = found[&"fd77:6402::/64".parse().unwrap()];
        assert_eq!(second, timed(None, None));
        assert!(elements(&serde_json::json!({"nftables": []}), 64).is_err());
    }
}
