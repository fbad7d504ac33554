//! The whole filter against what grows.

use std::net::Ipv4Addr;

use anyhow::Result;
use filter_user::policy::MAX_RULES;

use crate::assembly::{self, Prologue, Sources};
use crate::filter::{self, CLIENT_PORT, FLOWS, Filter};
use crate::frames::{HOST4, PEER_PORT, Version, tcp};
use crate::kernel::{Kind, Map, Program};
use crate::measure::Effort;
use crate::{loading, peer};

use super::family::{Case, Family, Heading, Runs};
use super::sets::SIZES;

/// XDP actions.
const DROP: Option<u32> = Some(1);
/// See [`DROP`].
const PASS: Option<u32> = Some(2);

/// The first of the sources that are counted: unicast, no martian, and enough of them behind it.
const FIRST: Ipv4Addr = Ipv4Addr::new(11, 0, 0, 1);
/// Sources that the rules of a large policy share: with one each, the verdict matrix would pass its bound at 10,000.
const SHARED: usize = 64;

fn empty() -> Result<Program> {
    assembly::empty(Kind {
        frags: true,
        attach: true,
    })
}

/// Its own floor, at position 0.
fn floor(runs: Runs) -> Result<Case> {
    Ok(Case {
        place: None,
        runs,
        frame: tcp(Version::V4, PEER_PORT, 80, true)?,
        action: None,
        floor: 0,
    })
}

/// Rules, up to as many as a policy may have.
pub fn rules(effort: Effort) -> Result<Family> {
    // one packet, everything in the caches: short rounds will do, and it takes many to tell programs apart by 5 %
    let effort = Effort {
        rounds: 8 * effort.rounds,
        repeat: effort.repeat / 8,
    };
    let directory = tempfile::tempdir()?;
    let mut cases = vec![floor(Runs::Plain(empty()?))?];
    let mut filters = Vec::new();
    for count in [1, 10, 100, 1000, MAX_RULES] {
        let policy = filter::with_rules(count, SHARED);
        let mut filter = Filter::load(directory.path(), &format!("rules-{count}"), &policy)?;
        for (line, (port, action)) in [(443, PASS), (81, DROP)].into_iter().enumerate() {
            cases.push(Case {
                place: Some((line, count as u64)),
                runs: Runs::Plain(filter.program()?),
                frame: tcp(Version::V4, PEER_PORT, port, true)?,
                action,
                floor: 0,
            });
        }
        filters.push(filter);
    }
    let heading = Heading {
        name: "rules",
        title: "One packet against the number of rules (10,000 is as many as a policy may have)",
        size: "rules",
    };
    let lines = ["SYN allowed", "SYN refused"];
    Family::measure(heading, &lines, &cases, effort, &mut filters)
}

/// Prefixes that one rule lets in, in the whole filter; a trie of the kernel's on the way into it.
pub fn prefixes(effort: Effort) -> Result<Family> {
    let directory = tempfile::tempdir()?;
    let mut cases = vec![floor(behind_random(&empty()?, None)?)?];
    let mut filters = Vec::new();
    let mut one_prefix = Filter::load(directory.path(), "one-prefix", &filter::with_rules(1, 1))?;
    let frame = tcp(Version::V4, PEER_PORT, 443, true)?;
    for count in SIZES {
        let set = peer::prefixes(count as usize);
        let list = format!("prefixes-{count}.txt");
        loading::write_list(&directory.path().join(&list), &set)?;
        let policy = filter::with_group(&list);
        let mut filter = Filter::load(directory.path(), &format!("prefixes-{count}"), &policy)?;
        loading::check(&filter.program()?, &set)?;
        let trie = peer::Trie::new(&set)?;
        for (line, runs) in [
            behind_random(&filter.program()?, None)?,
            behind_random(&one_prefix.program()?, Some(&trie.map))?,
        ]
        .into_iter()
        .enumerate()
        {
            cases.push(Case {
                place: Some((line, count)),
                runs,
                frame: frame.clone(),
                action: None,
                floor: 0,
            });
        }
        filters.push(filter);
    }
    filters.push(one_prefix);
    let heading = Heading {
        name: "prefixes",
        title: "SYN of random sources, let in from IPv4 prefixes",
        size: "prefixes",
    };
    let lines = [
        "edgefilter",
        "kernel LPM trie, then edgefilter with one prefix",
    ];
    Family::measure(heading, &lines, &cases, effort, &mut filters)
}

fn behind_random(program: &Program, trie: Option<&Map>) -> Result<Runs> {
    Prologue::before(program, Sources::Random, trie).map(Runs::Behind)
}

fn behind_so_many(program: &Program, count: u64) -> Result<Runs> {
    let sources = Sources::Among(FIRST.to_bits(), count as u32);
    Prologue::before(program, sources, None).map(Runs::Behind)
}

/// Flows that are known, each of which gets replies.
pub fn flows(effort: Effort) -> Result<Family> {
    let directory = tempfile::tempdir()?;
    let mut cases = vec![floor(behind_so_many(&empty()?, 1)?)?];
    let mut filters = Vec::new();
    let policy = filter::edge(true, filter::Sources::Checked)?;
    for count in SIZES {
        let peers = (0..count as u32).map(|number| Ipv4Addr::from_bits(FIRST.to_bits() + number));
        let known: Vec<_> = peers
            .map(|peer| filter::flow(HOST4.into(), peer.into()))
            .collect();
        // an LRU table pushes flows out before it is quite full
        let room = FLOWS.max(count as u32 / 4 * 5);
        let name = format!("flows-{count}");
        let mut filter = Filter::load_with_flows(directory.path(), &name, &policy, &known, room)?;
        cases.push(Case {
            place: Some((0, count)),
            runs: behind_so_many(&filter.program()?, count)?,
            frame: tcp(Version::V4, PEER_PORT, CLIENT_PORT, false)?,
            action: PASS,
            floor: 0,
        });
        filters.push(filter);
    }
    let heading = Heading {
        name: "flows",
        title: "Reply of a known TCP flow, one of so many in no order",
        size: "flows",
    };
    Family::measure(heading, &["edgefilter"], &cases, effort, &mut filters)
}

/// Sources of refused packets, all of which are counted as scanners may be.
pub fn attackers(effort: Effort) -> Result<Family> {
    let directory = tempfile::tempdir()?;
    let policy = filter::edge(true, filter::Sources::Checked)?;
    let mut filter = Filter::load(directory.path(), "attackers", &policy)?;
    let xdp_filter = peer::xdp_filter()?;
    let mut cases = vec![floor(behind_so_many(&empty()?, 1)?)?];
    for count in SIZES.into_iter().chain([10_000_000]) {
        for (line, program) in [&filter.program()?, &xdp_filter].into_iter().enumerate() {
            cases.push(Case {
                place: Some((line, count)),
                runs: behind_so_many(program, count)?,
                frame: tcp(Version::V4, PEER_PORT, 81, true)?,
                action: DROP,
                floor: 0,
            });
        }
    }
    let heading = Heading {
        name: "attackers",
        title: "SYN refused, scans counted, from so many sources in no order",
        size: "sources",
    };
    let lines = ["edgefilter", "xdp-filter (counts no scans)"];
    Family::measure(heading, &lines, &cases, effort, &mut [filter])
}
