//! How long it takes to put a large set of prefixes in force, ours beside nftables.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;
use serde::Serialize;

use super::filter::{Filter, with_group};
use super::frames::{PEER_PORT, Version, set_source, tcp};
use super::kernel::Program;
use super::peer;

/// One set's figures, in seconds.
#[derive(Clone, Debug, Serialize)]
pub struct Loading {
    /// Prefixes in the set.
    pub prefixes: usize,
    /// Ours, from the policy's text: read, checked, compiled.
    pub compile: f64,
    /// Ours: built, written, read back, in force.
    pub push: f64,
    /// `nft -f` of the same set.
    pub nft: f64,
}

/// Writes the prefixes one a line, for a group.
pub fn write_list(path: &Path, prefixes: &[Ipv4Net]) -> Result<()> {
    let text = prefixes.iter().fold(String::new(), |mut text, prefix| {
        let _ = writeln!(text, "{prefix}");
        text
    });
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Every which prefix is looked up by [`check`].
const SAMPLED: usize = 97;
/// `XDP_PASS`
const PASS: u32 = 2;

/// Sees that the filter, under [`with_group`], lets the prefixes in: a fast table with holes is no table.
pub fn check(filter: &Program, prefixes: &[Ipv4Net]) -> Result<()> {
    for prefix in prefixes.iter().step_by(SAMPLED) {
        for source in [prefix.network(), prefix.broadcast()] {
            let mut frame = tcp(Version::V4, PEER_PORT, 443, true)?;
            set_source(&mut frame, source);
            if filter.run(&frame, 1)?.action != PASS {
                bail!("{source} is refused although {prefix} is let in");
            }
        }
    }
    Ok(())
}

/// Measures one set once.
pub fn measure(directory: &Path, prefixes: &[Ipv4Net]) -> Result<Loading> {
    let list = format!("loading-{}.txt", prefixes.len());
    write_list(&directory.join(&list), prefixes)?;
    let mut filter = Filter::load(
        directory,
        &format!("loading-{}", prefixes.len()),
        &with_group(&list),
    )?;
    check(&filter.program()?, prefixes)?;
    let nft = nft(directory, prefixes)?;
    let loading = Loading {
        prefixes: prefixes.len(),
        compile: filter.compiled_in.as_secs_f64(),
        push: filter.pushed_in.as_secs_f64(),
        nft: nft.as_secs_f64(),
    };
    Ok(loading)
}

fn nft(directory: &Path, prefixes: &[Ipv4Net]) -> Result<Duration> {
    let path = directory.join("set.nft");
    let elements: Vec<String> = prefixes.iter().map(ToString::to_string).collect();
    let text = format!(
        "table netdev bench {{\n set many {{ type ipv4_addr; flags interval; auto-merge; elements = {{ {} }} }}\n}}\n",
        elements.join(", "),
    );
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    let started = Instant::now();
    peer::command("nft", &["-f", &path.to_string_lossy()])?;
    let took = started.elapsed();
    peer::command("nft", &["delete", "table", "netdev", "bench"])?;
    Ok(took)
}
