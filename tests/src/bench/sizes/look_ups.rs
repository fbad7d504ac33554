//! The look-up of the source alone, each waiting for the one before: our table, the kernel's LPM trie, and neither. The
//! programs are in filter-ebpf/src/bin/lookup.rs.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, bail, ensure};
use aya::maps::{Array, Map as AyaMap};
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader};
use filter_common::prefix::{Cell4, Cell6};
use filter_user::compile::prefix::{Built4, Built6, Range};

use crate::frames::{PEER_PORT, Version, tcp};
use crate::kernel::{Map, Program};
use crate::measure::Effort;

use super::family::{Case, Family, Heading, Runs};
use super::sets::{self, Prefix, SIZES, Set};

/// Names the object with the look-ups.
const OBJECT_VARIABLE: &str = "EDGEFILTER_LOOKUP";
/// Addresses of each kind in the list, as in the program.
const QUERIES: usize = 1 << 20;
/// Look-ups that are compared with the trie's before anything is timed.
const CHECKED: u32 = 1 << 18;

/// Lines: random sources, sources in the set; and from a line of ours to the trie's.
pub const RANDOM: usize = 0;
/// See [`RANDOM`].
pub const HITS: usize = 1;
/// See [`RANDOM`].
pub const TRIE: usize = 2;
const LINES: [&str; 4] = [
    "edgefilter, random sources",
    "edgefilter, sources in the set",
    "kernel LPM trie, random sources",
    "kernel LPM trie, sources in the set",
];
/// The programs without a look-up, then in the order of the lines.
const PROGRAMS: [&str; 6] = [
    "none#_random",
    "none#_hits",
    "cells#_random",
    "cells#_hits",
    "trie#_random",
    "trie#_hits",
];

impl Set {
    fn heading(self) -> Heading {
        let (name, title) = match (self.version, self.clustered) {
            (Version::V4, false) => (
                "look-up-v4",
                "Look-up alone, chained: IPv4 prefixes of lengths as in routing tables",
            ),
            (Version::V4, true) => (
                "look-up-v4-clustered",
                "Look-up alone, chained: IPv4 hosts, 40 in a /24",
            ),
            (Version::V6, false) => (
                "look-up-v6",
                "Look-up alone, chained: IPv6 prefixes spread over 2000::/3",
            ),
            (Version::V6, true) => (
                "look-up-v6-clustered",
                "Look-up alone, chained: IPv6 customers, 100 in a /32",
            ),
        };
        Heading {
            name,
            title,
            size: "prefixes",
        }
    }

    /// Where programs and maps of this version of IP stand in the object.
    fn digit(self) -> &'static str {
        match self.version {
            Version::V4 => "4",
            Version::V6 => "6",
        }
    }
}

/// Measures one kind of set by decades; the second figure is what the largest table takes, in MiB.
pub fn measure(set: Set, effort: Effort) -> Result<(Family, f64)> {
    let path = std::env::var_os(OBJECT_VARIABLE).with_context(|| {
        format!(
            "{OBJECT_VARIABLE} names no object: run this as `cargo xtask bench`, which builds it"
        )
    })?;
    let object = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut family = Family::empty(set.heading(), &LINES, effort);
    let mut mib = 0.0;
    for size in SIZES {
        let prefixes = set.prefixes(size);
        let (mut loaded, bytes) = load(&object, set, &prefixes)?;
        mib = bytes as f64 / f64::from(1 << 20);
        compare(&mut loaded, set).with_context(|| format!("{size} prefixes, {set:?}"))?;
        let frame = tcp(Version::V4, PEER_PORT, 80, true)?;
        let mut cases = Vec::new();
        for (place, name) in PROGRAMS.iter().enumerate() {
            cases.push(Case {
                place: place.checked_sub(2).map(|line| (line, size)),
                runs: Runs::Plain(program(&mut loaded, set, name)?),
                frame: frame.clone(),
                action: Some(1),
                floor: place % 2,
            });
        }
        family.add(&cases, &mut [])?;
    }
    Ok((family, mib))
}

/// The object with the set in both tables, and the bytes of ours.
fn load(object: &[u8], set: Set, prefixes: &[Prefix]) -> Result<(Ebpf, usize)> {
    let ranges = sets::ranges(set, prefixes);
    let table = Table::build(set, &ranges)?;
    let digit = set.digit();
    let (cells, trie) = (format!("CELLS{digit}"), format!("TRIE{digit}"));
    let mut loader = EbpfLoader::new();
    loader
        .map_max_entries(&cells, table.cells.max(1) as u32)
        .map_max_entries(&trie, prefixes.len() as u32);
    let bpf = loader
        .load(object)
        .context("the object with the look-ups is refused")?;
    table.fill(&bpf)?;

    let map = Map::from_fd(descriptor(&bpf, &trie)?);
    let numbers: Vec<u32> = (0..prefixes.len())
        .map(|place| sets::answer(place).into())
        .collect();
    match set.version {
        Version::V4 => {
            let key = |prefix: &Prefix| [prefix.length.into(), (prefix.first as u32).to_be()];
            map.put_all(&prefixes.iter().map(key).collect::<Vec<_>>(), &numbers)?;
        }
        Version::V6 => {
            let key = |prefix: &Prefix| {
                let word = |place: u32| ((prefix.first >> (96 - 32 * place)) as u32).to_be();
                [prefix.length.into(), word(0), word(1), word(2), word(3)]
            };
            map.put_all(&prefixes.iter().map(key).collect::<Vec<_>>(), &numbers)?;
        }
    }

    let queries = set.queries(prefixes, QUERIES).into_iter();
    let queries: Vec<[u64; 2]> = queries
        .map(|query| match set.version {
            Version::V4 => [query as u64, 0],
            Version::V6 => [(query >> 64) as u64, query as u64],
        })
        .collect();
    fill(&bpf, "QUERIES", &queries)?;
    Ok((bpf, table.bytes()))
}

/// Our table for a set.
struct Table {
    root: Vec<u32>,
    cells: usize,
    content: Cells,
}

enum Cells {
    V4(Vec<Cell4>),
    V6(Vec<Cell6>),
}

impl Table {
    fn build(set: Set, ranges: &[(u128, u16)]) -> Result<Self> {
        let ranges = ranges.iter();
        Ok(match set.version {
            Version::V4 => {
                let ranges: Vec<_> = ranges
                    .map(|&(start, answer)| Range {
                        start: start as u32,
                        answer,
                    })
                    .collect();
                let built = Built4::build(&ranges, 0)?;
                Self {
                    root: built.root,
                    cells: built.cells.len(),
                    content: Cells::V4(built.cells),
                }
            }
            Version::V6 => {
                let ranges: Vec<_> = ranges
                    .map(|&(start, answer)| Range { start, answer })
                    .collect();
                let built = Built6::build(&ranges, 0)?;
                Self {
                    root: built.root,
                    cells: built.cells.len(),
                    content: Cells::V6(built.cells),
                }
            }
        })
    }

    fn bytes(&self) -> usize {
        self.root.len() * size_of::<u32>() + self.cells * size_of::<Cell4>()
    }

    fn fill(&self, bpf: &Ebpf) -> Result<()> {
        let (root, cells) = match &self.content {
            Cells::V4(cells) => {
                fill(bpf, "CELLS4", cells)?;
                ("ROOT4", cells.len())
            }
            Cells::V6(cells) => {
                fill(bpf, "CELLS6", cells)?;
                ("ROOT6", cells.len())
            }
        };
        ensure!(cells == self.cells, "the table lost cells");
        // the whole root is one value
        Map::from_fd(descriptor(bpf, root)?).put_value(&self.root)
    }
}

/// Writes an array map from its first entry on.
fn fill<T>(bpf: &Ebpf, name: &str, values: &[T]) -> Result<()> {
    if values.is_empty() {
        return Ok(());
    }
    let keys: Vec<u32> = (0..values.len() as u32).collect();
    Map::from_fd(descriptor(bpf, name)?)
        .put_all(&keys, values)
        .with_context(|| format!("map {name}"))
}

fn descriptor(bpf: &Ebpf, name: &str) -> Result<OwnedFd> {
    let (AyaMap::Array(data) | AyaMap::LpmTrie(data)) =
        bpf.map(name).with_context(|| format!("no map {name}"))?
    else {
        bail!("{name} is another kind of map");
    };
    Ok(data.fd().as_fd().try_clone_to_owned()?)
}

fn program(bpf: &mut Ebpf, set: Set, name: &str) -> Result<Program> {
    let name = name.replace('#', set.digit());
    let program: &mut Xdp = bpf
        .program_mut(&name)
        .with_context(|| format!("no program {name}"))?
        .try_into()?;
    if program.fd().is_err() {
        program
            .load()
            .with_context(|| format!("{name} is refused"))?;
    }
    Ok(Program::from_fd(
        program.fd()?.as_fd().try_clone_to_owned()?,
    ))
}

/// Sees that both tables give the same answers: a fast table with holes is no table.
fn compare(bpf: &mut Ebpf, set: Set) -> Result<()> {
    let frame = tcp(Version::V4, PEER_PORT, 80, true)?;
    let first = match set.version {
        Version::V4 => 0,
        Version::V6 => PROGRAMS.len() as u32,
    };
    let mut sums = Vec::new();
    for (number, name) in (first..).zip(PROGRAMS) {
        program(bpf, set, name)?.run(&frame, CHECKED)?;
        let states: Array<_, [u64; 4]> =
            Array::try_from(bpf.map("STATES").context("no map STATES")?)?;
        let [.., sum] = states.get(&number, 0)?;
        sums.push(sum);
    }
    let [_, _, cells, cells_hits, trie, trie_hits] = sums[..] else {
        bail!("not all programs ran");
    };
    ensure!(
        cells == trie && cells_hits == trie_hits,
        "our table answers otherwise than the trie: {sums:?}"
    );
    ensure!(
        cells_hits >= CHECKED.into(),
        "sources of the set are not found in it"
    );
    Ok(())
}
