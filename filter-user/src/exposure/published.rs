//! Published container ports, from what libcni keeps of the plugin `portmap`: the kernel rewrites their destination, so no
//! socket on this host shows them.

use std::fs::{self, File};
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use serde::Deserialize;

use super::Listener;

/// Most files, and the largest.
const MAX_FILES: usize = 4096;
const MAX_BYTES: u64 = 1 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cached {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    container_id: String,
    #[serde(default)]
    capability_args: CapabilityArgs,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CapabilityArgs {
    #[serde(default)]
    port_mappings: Vec<Mapping>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mapping {
    host_port: u16,
    container_port: u16,
    #[serde(default)]
    protocol: String,
    #[serde(default, rename = "hostIP")]
    host_ip: String,
}

/// The published ports that the cache of libcni knows; none if there is no cache. What cannot be read is left out.
pub(crate) fn published(cache: &Path) -> Vec<Listener> {
    let Ok(entries) = fs::read_dir(cache.join("results")) else {
        return Vec::new();
    };
    let mut found: Vec<Listener> = entries
        .flatten()
        .take(MAX_FILES)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .filter_map(|entry| {
            let mut text = Vec::new();
            File::open(entry.path())
                .ok()?
                .take(MAX_BYTES)
                .read_to_end(&mut text)
                .ok()?;
            Some(parse(&text))
        })
        .flatten()
        .collect();
    found.sort();
    found.dedup();
    found
}

pub(super) fn parse(text: &[u8]) -> Vec<Listener> {
    let Ok(cached) = serde_json::from_slice::<Cached>(text) else {
        return Vec::new();
    };
    if cached.kind != "cniCacheV1" {
        return Vec::new();
    }
    let mappings = cached.capability_args.port_mappings.into_iter();
    let listener = |mapping: Mapping| Listener {
        protocol: if mapping.protocol.is_empty() {
            "tcp".to_owned()
        } else {
            mapping.protocol.to_lowercase()
        },
        port: mapping.host_port,
        address: mapping
            .host_ip
            .parse()
            .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        inode: 0,
        uid: 0,
        pid: None,
        process: None,
        container: Some(format!(
            "{} port {}",
            cached.container_id, mapping.container_port
        )),
    };
    mappings.map(listener).collect()
}
