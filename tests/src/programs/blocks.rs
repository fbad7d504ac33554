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

/// The sets of our table, IPv4 and IPv6.
const SETS: [&str; 2] = ["blocked4", "blocked6"];

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
    for set in SETS {
        let words = ["nft", "-j", "list", "set", "inet", "edgefilter", set];
        let shown = host.try_run(&words, Duration::from_secs(10))?;
        if !shown.ok() {
            return Ok(None);
        }
        let value: Value = serde_json::from_str(&shown.stdout).context("nft gave no JSON")?;
        all.extend(elements(&value).with_context(|| format!("unexpected set: {}", shown.stdout))?);
    }
    Ok(Some(all))
}

/// The elements of the one set in a listing.
fn elements(listing: &Value) -> Result<BTreeMap<IpNet, Timed>> {
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
            let value = inner.get("val").unwrap_or(inner);
            let network = network(value).with_context(|| format!("no address: {element}"))?;
            Ok((network, timed))
        })
        .collect()
}

/// An address, or a prefix.
fn network(value: &Value) -> Option<IpNet> {
    if let Some(prefix) = value.get("prefix") {
        let address = prefix.get("addr")?.as_str()?.parse().ok()?;
        let length = u8::try_from(prefix.get("len")?.as_u64()?).ok()?;
        return IpNet::new(address, length).ok();
    }
    let text = value.as_str()?;
    text.parse()
        .ok()
        .or_else(|| Some(IpNet::from(text.parse::<std::net::IpAddr>().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::{Timed, elements};

    #[test]
    fn timed_elements_are_read() {
        let listing = serde_json::json!({"nftables": [
            {"metainfo": {"version": "1.0.6"}},
            {"set": {"family": "inet", "name": "blocked6", "table": "edgefilter", "elem": [
                {"elem": {"val": "10.77.65.2", "timeout": 8, "expires": 7}},
                {"elem": {"val": {"prefix": {"addr": "fd77:6401::", "len": 64}}, "timeout": 60, "expires": 59}},
                "10.77.66.2",
            ]}},
        ]});
        let found = elements(&listing).unwrap();
        let timed = |timeout, expires| Timed { timeout, expires };
        assert_eq!(found.len(), 3);
        assert_eq!(
            found[&"10.77.65.2/32".parse().unwrap()],
            timed(Some(8), Some(7))
        );
        assert_eq!(
            found[&"fd77:6401::/64".parse().unwrap()],
            timed(Some(60), Some(59))
        );
        assert_eq!(found[&"10.77.66.2/32".parse().unwrap()], timed(None, None));
        assert!(elements(&serde_json::json!({"nftables": []})).is_err());
    }
}
