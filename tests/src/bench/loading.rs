//! Sets of prefixes in the filter: written for it, timed on their way into force, and looked up there.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;

use super::filter::{Filter, with_group};
use super::frames::{PEER_PORT, Version, set_source, tcp};
use super::kernel::Program;

/// One set's figures, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Loading {
    /// Ours, from the policy's text: read, checked, compiled.
    pub compile: f64,
    /// Ours: built, written, read back, in force.
    pub push: f64,
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

/// Measures one set once, in a namespace of its own.
pub fn measure(prefixes: &[Ipv4Net]) -> Result<Loading> {
    let directory = tempfile::tempdir()?;
    write_list(&directory.path().join("loading.txt"), prefixes)?;
    let mut filter = Filter::load(directory.path(), "loading", &with_group("loading.txt"))?;
    check(&filter.program()?, prefixes)?;
    Ok(Loading {
        compile: filter.compiled_in.as_secs_f64(),
        push: filter.pushed_in.as_secs_f64(),
    })
}
