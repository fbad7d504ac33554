//! The neighbours the filter is measured beside: xdp-filter (xdp-tools) and the kernel's LPM trie.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;

use super::assembly;
use super::kernel::{Kind, Map, NO_PREALLOC, Program, map_type};

/// The interface pair that xdp-filter wants to be loaded on; nothing is ever sent over it.
const LINKS: [&str; 2] = ["bench0", "bench1"];
/// `XDP_DROP`
const DROP: u32 = 1;

/// Runs a command that has to succeed, and returns what it printed.
pub fn command(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("cannot run {program}: is it installed?"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!(
            "`{program} {}` failed: {text}{}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(text)
}

/// What xdp-filter calls itself.
pub fn xdp_filter_version() -> Result<String> {
    // it prints its version and calls that a failure
    let output = Command::new("xdp-filter")
        .args(["load", "--version"])
        .output()
        .context("cannot run xdp-filter; `cargo xtask setup` installs it (package xdp-tools)")?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .split_whitespace()
        .find(|word| word.starts_with(|first: char| first.is_ascii_digit()))
        .unwrap_or("?")
        .to_owned())
}

/// xdp-filter with all its features, refusing what is not listed, and TCP port 80 listed. It stays on its interface
/// until the namespace is gone.
pub fn xdp_filter() -> Result<Program> {
    command(
        "ip",
        &[
            "link", "add", LINKS[0], "type", "veth", "peer", "name", LINKS[1],
        ],
    )?;
    for link in LINKS {
        command("ip", &["link", "set", link, "up"])?;
    }
    command(
        "xdp-filter",
        &[
            "load",
            "--mode",
            "native",
            "--policy",
            "deny",
            "--features",
            "all",
            LINKS[0],
        ],
    )?;
    command(
        "xdp-filter",
        &["port", "--mode", "dst", "--proto", "tcp", "80"],
    )?;
    let links: serde_json::Value =
        serde_json::from_str(&command("ip", &["-json", "link", "show", "dev", LINKS[0]])?)?;
    let id = links
        .pointer("/0/xdp/prog/id")
        .and_then(serde_json::Value::as_u64)
        .context("`ip link` shows no XDP program where xdp-filter was loaded")?;
    Program::by_id(id as u32)
}

/// How long xdp-filter takes to be given these addresses: one call for each, as it wants them.
pub fn xdp_filter_takes(addresses: &[Ipv4Addr]) -> Result<Duration> {
    let _loaded = xdp_filter()?;
    let begin = Instant::now();
    for address in addresses {
        command("xdp-filter", &["ip", "--mode", "src", &address.to_string()])?;
    }
    Ok(begin.elapsed())
}

/// A program that looks every source up in an LPM trie, and the same program without the look-up.
#[derive(Debug)]
pub struct Trie {
    /// With the look-up.
    pub with: Program,
    /// Without it.
    pub without: Program,
    /// Itself.
    pub map: Map,
}

impl Trie {
    /// Fills a trie with `prefixes`.
    pub fn new(prefixes: &[Ipv4Net]) -> Result<Self> {
        #[repr(C)]
        struct Key {
            length: u32,
            address: [u8; 4],
        }
        let map = Map::new(
            map_type::LPM_TRIE,
            size_of::<Key>() as u32,
            4,
            prefixes.len() as u32,
            NO_PREALLOC,
        )?;
        let keys: Vec<Key> = prefixes
            .iter()
            .map(|prefix| Key {
                length: prefix.prefix_len() as u32,
                address: prefix.network().octets(),
            })
            .collect();
        map.put_all(&keys, &vec![DROP; keys.len()])?;
        let kind = Kind {
            frags: true,
            attach: true,
        };
        Ok(Self {
            with: assembly::source_lookup(Some(&map), kind)?,
            without: assembly::source_lookup(None, kind)?,
            map,
        })
    }
}

/// Distinct prefixes of the lengths that routing tables have (most are /24), spread over all of IPv4 at random and in no
/// order; the same ones every time.
pub fn prefixes(count: usize) -> Vec<Ipv4Net> {
    const LENGTHS: [(u8, u64); 9] = [
        (16, 2),
        (18, 2),
        (19, 4),
        (20, 6),
        (21, 6),
        (22, 14),
        (23, 10),
        (24, 50),
        (32, 6),
    ];
    let total: u64 = LENGTHS.iter().map(|(_, weight)| weight).sum();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    };
    let (mut found, mut known) = (Vec::with_capacity(count), HashSet::new());
    while found.len() < count {
        let mut pick = next() % total;
        let length = LENGTHS
            .iter()
            .find(|(_, weight)| {
                let here = pick < *weight;
                pick = pick.wrapping_sub(*weight);
                here
            })
            .map_or(24, |(length, _)| *length);
        if let Ok(prefix) = Ipv4Net::new(Ipv4Addr::from_bits(next() as u32), length) {
            let prefix = prefix.trunc();
            if known.insert(prefix) {
                found.push(prefix);
            }
        }
    }
    found
}
