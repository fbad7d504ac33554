//! What is measured: every program, on every packet.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result};
use filter_common::limits::BLOCKS;

use super::assembly::{self, Prologue};
use super::filter::{self, CLIENT_PORT, Filter, Sources};
use super::frames::{
    HOST4, PEER_PORT, PEER4, Version, make_later_fragment, set_source, tagged, tcp, udp,
};
use super::kernel::{Kind, Map, Program, map_type};
use super::measure::Subject;
use super::{loading, peer};

/// XDP actions.
const DROP: Option<u32> = Some(1);
/// See [`DROP`].
const PASS: Option<u32> = Some(2);

/// Prefixes in the group that is measured under random sources.
const PREFIXES: usize = 100_000;
/// Rules in the large policy.
const RULES: usize = 1000;
/// The first of the blocked sources.
const BLOCKED: Ipv4Addr = Ipv4Addr::new(9, 0, 0, 0);
/// Which of the filters has blocks: they are loaded in order.
const BLOCKS_AT: usize = 2;

/// Everything that is measured, loaded.
pub struct Programs {
    /// Drops everything.
    empty: Program,
    xdp_filter: Program,
    edge: Program,
    no_scans: Program,
    /// The edge policy, with as many blocks in force as there can be.
    blocks: Program,
    any_source: Program,
    strict: Program,
    sources: SourcePrograms,
    monitor: Program,
    one_rule: Program,
    many_rules: Program,
    group: Program,
    trie: peer::Trie,
}

impl Programs {
    /// The programs, and what our own run on.
    pub fn load(directory: &Path) -> Result<(Self, Vec<Filter>)> {
        let prefixes = peer::prefixes(PREFIXES);
        loading::write_list(&directory.join("many.txt"), &prefixes)?;
        let mut filters = Vec::new();
        let mut load = |name: &str, text: String| -> Result<Program> {
            let mut filter = Filter::load(directory, name, &text)?;
            let program = filter.program()?;
            filters.push(filter);
            Ok(program)
        };
        let programs = Self {
            empty: assembly::empty(Kind {
                frags: true,
                attach: true,
            })?,
            xdp_filter: peer::xdp_filter()?,
            edge: load("edge", filter::edge(true, Sources::Checked)?)?,
            no_scans: load("no-scans", filter::edge_without_scans()?)?,
            blocks: load("blocks", filter::edge(true, Sources::Checked)?)?,
            any_source: load("any-source", filter::edge(true, Sources::Any)?)?,
            strict: load("strict", filter::edge(true, Sources::Strict)?)?,
            sources: SourcePrograms::load()?,
            monitor: load("monitor", filter::edge(false, Sources::Checked)?)?,
            one_rule: load("one-rule", filter::with_rules(1, 1))?,
            many_rules: load("many-rules", filter::with_rules(RULES, RULES))?,
            group: load("group", filter::with_group("many.txt"))?,
            trie: peer::Trie::new(&prefixes)?,
        };
        loading::check(&programs.group, &prefixes)?;
        if let Some(filter) = filters.get_mut(BLOCKS_AT) {
            for number in 0..BLOCKS as u32 {
                filter.block(Ipv4Addr::from_bits(BLOCKED.to_bits() + number))?;
            }
        }
        Ok((programs, filters))
    }
}

/// The reverse path the other way: by the kernel's FIB, and by a cache of sources in front of it.
struct SourcePrograms {
    /// Reads the source, and nothing else.
    read: Program,
    fib: Program,
    cached: Program,
    _cache: Map,
}

impl SourcePrograms {
    fn load() -> Result<Self> {
        peer::command("ip", &["route", "add", "203.0.113.0/24", "dev", "lo"])?;
        let forwarding = "/proc/sys/net/ipv4/conf/lo/forwarding";
        fs::write(forwarding, "1").with_context(|| format!("cannot write {forwarding}"))?;
        let kind = Kind {
            frags: true,
            attach: true,
        };
        let cache = Map::new(map_type::LRU_HASH, 8, 8, 65_536, 0)?;
        Ok(Self {
            read: assembly::source_lookup(None, kind)?,
            fib: assembly::fib_lookup(kind)?,
            cached: assembly::source_lookup(Some(&cache), kind)?,
            _cache: cache,
        })
    }
}

/// One of the blocked sources.
fn blocked_source() -> Ipv4Addr {
    Ipv4Addr::from_bits(BLOCKED.to_bits() + 77)
}

/// One packet, again and again.
pub fn fixed(programs: &Programs) -> Result<Vec<Subject<'_>>> {
    use Version::{V4, V6};
    let edge = &programs.edge;
    let mut subjects = Vec::new();
    let mut add = |id: &str, what: &str, program, frame, action| {
        subjects.push(Subject {
            id: id.to_owned(),
            what: what.to_owned(),
            program,
            frame,
            action,
            floor: Some(0),
        });
    };
    add(
        "empty",
        "empty program",
        &programs.empty,
        tcp(V4, PEER_PORT, 80, true)?,
        DROP,
    );
    add(
        "xdp_filter_tcp_allowed",
        "xdp-filter: TCP allowed",
        &programs.xdp_filter,
        tcp(V4, PEER_PORT, 80, true)?,
        PASS,
    );
    add(
        "xdp_filter_tcp_refused",
        "xdp-filter: TCP refused",
        &programs.xdp_filter,
        tcp(V4, PEER_PORT, 81, true)?,
        DROP,
    );
    add(
        "xdp_filter_udp_refused",
        "xdp-filter: UDP refused",
        &programs.xdp_filter,
        udp(V4, PEER_PORT, 53)?,
        DROP,
    );
    add(
        "xdp_filter_tcp6_allowed",
        "xdp-filter: TCP over IPv6 allowed",
        &programs.xdp_filter,
        tcp(V6, PEER_PORT, 80, true)?,
        PASS,
    );
    add(
        "xdp_filter_tcp6_refused",
        "xdp-filter: TCP over IPv6 refused",
        &programs.xdp_filter,
        tcp(V6, PEER_PORT, 81, true)?,
        DROP,
    );
    add(
        "edge_syn_allowed",
        "edge: TCP SYN allowed",
        edge,
        tcp(V4, PEER_PORT, 80, true)?,
        PASS,
    );
    add(
        "edge_ack_allowed",
        "edge: TCP ACK allowed",
        edge,
        tcp(V4, PEER_PORT, 80, false)?,
        PASS,
    );
    add(
        "edge_syn_refused",
        "edge: TCP SYN refused",
        edge,
        tcp(V4, PEER_PORT, 81, true)?,
        DROP,
    );
    add(
        "edge_ack_refused",
        "edge: TCP ACK refused",
        edge,
        tcp(V4, PEER_PORT, 81, false)?,
        DROP,
    );
    // to a port that a flow has, but of another one
    add(
        "edge_ack_looked_up",
        "edge: TCP ACK refused (flow looked up)",
        edge,
        tcp(V4, PEER_PORT + 1, CLIENT_PORT, false)?,
        DROP,
    );
    add(
        "edge_udp_refused",
        "edge: UDP refused",
        edge,
        udp(V4, PEER_PORT, 53)?,
        DROP,
    );
    add(
        "edge_reply",
        "edge: reply of a known TCP flow",
        edge,
        tcp(V4, PEER_PORT, CLIENT_PORT, false)?,
        PASS,
    );
    add(
        "edge_syn6_allowed",
        "edge: TCP SYN over IPv6 allowed",
        edge,
        tcp(V6, PEER_PORT, 80, true)?,
        PASS,
    );
    add(
        "edge_syn6_refused",
        "edge: TCP SYN over IPv6 refused",
        edge,
        tcp(V6, PEER_PORT, 81, true)?,
        DROP,
    );
    add(
        "edge_reply6",
        "edge: reply of a known TCP flow over IPv6",
        edge,
        tcp(V6, PEER_PORT, CLIENT_PORT, false)?,
        PASS,
    );
    for (ids, name, program) in [
        (
            [
                "any_syn_allowed",
                "any_syn_refused",
                "any_reply",
                "any_syn6_allowed",
            ],
            "edge, no source refused",
            &programs.any_source,
        ),
        (
            [
                "strict_syn_allowed",
                "strict_syn_refused",
                "strict_reply",
                "strict_syn6_allowed",
            ],
            "edge, strict reverse path",
            &programs.strict,
        ),
    ] {
        let [allowed, refused, reply, allowed6] = ids;
        let frame = |version, port, syn| tcp(version, PEER_PORT, port, syn);
        add(
            allowed,
            &format!("{name}: TCP SYN allowed"),
            program,
            frame(V4, 80, true)?,
            PASS,
        );
        add(
            refused,
            &format!("{name}: TCP SYN refused"),
            program,
            frame(V4, 81, true)?,
            DROP,
        );
        add(
            reply,
            &format!("{name}: reply of a known TCP flow"),
            program,
            frame(V4, CLIENT_PORT, false)?,
            PASS,
        );
        add(
            allowed6,
            &format!("{name}: TCP SYN over IPv6 allowed"),
            program,
            frame(V6, 80, true)?,
            PASS,
        );
    }
    for (id, name, source) in [
        (
            "edge_martian",
            "edge: SYN from a martian",
            Ipv4Addr::LOCALHOST,
        ),
        ("edge_own", "edge: SYN from an own address", HOST4),
    ] {
        let mut frame = tcp(V4, PEER_PORT, 80, true)?;
        set_source(&mut frame, source);
        // not a land packet
        if let Some(last) = frame.get_mut(33) {
            *last ^= 1;
        }
        add(id, name, edge, frame, DROP);
    }
    for (id, name, program) in [
        (
            "xdp_filter_vlan",
            "xdp-filter: TCP in a VLAN allowed",
            &programs.xdp_filter,
        ),
        ("edge_vlan", "edge: TCP SYN in a VLAN allowed", edge),
    ] {
        let frame = tagged(&tcp(V4, PEER_PORT, 80, true)?, 7);
        add(id, name, program, frame, PASS);
    }
    let mut fragment = udp(V4, PEER_PORT, 53)?;
    make_later_fragment(&mut fragment);
    add(
        "edge_fragment",
        "edge: later fragment of an unknown packet",
        edge,
        fragment,
        DROP,
    );
    let mut blocked = tcp(V4, PEER_PORT, 80, true)?;
    set_source(&mut blocked, blocked_source());
    add(
        "edge_blocked",
        "edge, 65,536 blocks: SYN of a blocked source",
        &programs.blocks,
        blocked,
        DROP,
    );
    add(
        "trie_fixed",
        "kernel LPM trie of 100,000 prefixes, nothing else",
        &programs.trie.with,
        tcp(V4, PEER_PORT, 80, true)?,
        DROP,
    );
    let sources = &programs.sources;
    for (id, name, program) in [
        (
            "source_read",
            "source read, and nothing else",
            &sources.read,
        ),
        ("source_fib", "the same, FIB look-up", &sources.fib),
        (
            "source_cached",
            "the same, LRU hash of sources looked up",
            &sources.cached,
        ),
    ] {
        add(id, name, program, tcp(V4, PEER_PORT, 80, true)?, DROP);
    }
    let monitor = &programs.monitor;
    add(
        "monitor_syn_refused",
        "edge in monitor mode: TCP SYN that would be refused",
        monitor,
        tcp(V4, PEER_PORT, 81, true)?,
        PASS,
    );
    add(
        "one_rule",
        "1 rule: TCP SYN allowed",
        &programs.one_rule,
        tcp(V4, PEER_PORT, 443, true)?,
        PASS,
    );
    add(
        "many_rules",
        "1,000 rules: TCP SYN allowed",
        &programs.many_rules,
        tcp(V4, PEER_PORT, 443, true)?,
        PASS,
    );
    add(
        "one_rule_refused",
        "1 rule: TCP SYN refused",
        &programs.one_rule,
        tcp(V4, PEER_PORT, 81, true)?,
        DROP,
    );
    add(
        "many_rules_refused",
        "1,000 rules: TCP SYN refused",
        &programs.many_rules,
        tcp(V4, PEER_PORT, 81, true)?,
        DROP,
    );
    Ok(subjects)
}

/// A program behind a prologue.
struct Front {
    id: &'static str,
    what: String,
    frame: Vec<u8>,
    prologue: Prologue,
    /// Position of the prologue of the same kind before the empty program.
    floor: usize,
}

/// Programs behind prologues, with one source and with random ones.
pub struct Fronts(Vec<Front>);

impl Fronts {
    /// Loads a prologue for each program and kind of sources; one source and random ones before the empty program are
    /// the first two.
    pub fn new(programs: &Programs) -> Result<Self> {
        let Programs {
            empty,
            xdp_filter,
            edge,
            no_scans,
            blocks,
            one_rule,
            many_rules,
            group,
            trie,
            ..
        } = programs;
        let syn = |port| tcp(Version::V4, PEER_PORT, port, true);
        let datagram = udp(Version::V4, PEER_PORT, 53)?;
        let mut fronts = Self(Vec::new());
        fronts.pair(
            ["empty_one", "empty_random"],
            "empty program",
            &syn(80)?,
            empty,
            None,
        )?;
        fronts.pair(
            ["xdp_filter_one", "xdp_filter_random"],
            "xdp-filter: TCP allowed",
            &syn(80)?,
            xdp_filter,
            None,
        )?;
        fronts.pair(
            ["edge_allowed_one", "edge_allowed_random"],
            "edge: SYN allowed",
            &syn(80)?,
            edge,
            None,
        )?;
        fronts.pair(
            ["blocks_allowed_one", "blocks_allowed_random"],
            "edge, 65,536 blocks: SYN allowed",
            &syn(80)?,
            blocks,
            None,
        )?;
        let blocked = assembly::Sources::One(blocked_source().octets());
        fronts.add(
            "blocks_blocked",
            "edge, 65,536 blocks: SYN of a blocked source".to_owned(),
            &syn(80)?,
            Prologue::before(blocks, blocked, None)?,
        );
        for (ids, ports, what, program, frame) in [
            (
                ["edge_refused_one", "edge_refused_random"],
                "edge_refused_ports",
                "edge: SYN refused",
                edge,
                syn(81)?,
            ),
            (
                ["edge_udp_refused_one", "edge_udp_refused_random"],
                "edge_udp_refused_ports",
                "edge: UDP refused",
                edge,
                datagram.clone(),
            ),
            (
                ["no_scans_refused_one", "no_scans_refused_random"],
                "no_scans_refused_ports",
                "edge, scans not counted: SYN refused",
                no_scans,
                syn(81)?,
            ),
            (
                ["no_scans_udp_refused_one", "no_scans_udp_refused_random"],
                "no_scans_udp_refused_ports",
                "edge, scans not counted: UDP refused",
                no_scans,
                datagram,
            ),
        ] {
            fronts.pair(ids, what, &frame, program, None)?;
            fronts.add(
                ports,
                format!("{what}, random sources and ports"),
                &frame,
                Prologue::before(program, assembly::Sources::RandomPorts, None)?,
            );
        }
        for (ids, what, program, trie) in [
            (
                ["one_rule_one", "one_rule_random"],
                "1 rule, 1 prefix: SYN",
                one_rule,
                None,
            ),
            (
                ["many_rules_one", "many_rules_random"],
                "1,000 rules: SYN",
                many_rules,
                None,
            ),
            (
                ["group_one", "group_random"],
                "1 rule, 100,000 prefixes: SYN",
                group,
                None,
            ),
            (
                ["one_rule_trie_one", "one_rule_trie_random"],
                "LPM trie of 100,000, then 1 rule, 1 prefix",
                one_rule,
                Some(&trie.map),
            ),
            (
                ["trie_one", "trie_random"],
                "LPM trie of 100,000 alone",
                &trie.with,
                None,
            ),
            (
                ["no_trie_one", "no_trie_random"],
                "the same without the look-up",
                &trie.without,
                None,
            ),
        ] {
            fronts.pair(ids, what, &syn(443)?, program, trie)?;
        }
        Ok(fronts)
    }

    fn add(&mut self, id: &'static str, what: String, frame: &[u8], prologue: Prologue) {
        let floor = usize::from(!id.ends_with("_one") && !id.ends_with("_blocked"));
        self.0.push(Front {
            id,
            what,
            frame: frame.to_vec(),
            prologue,
            floor,
        });
    }

    fn pair(
        &mut self,
        [one, random]: [&'static str; 2],
        what: &str,
        frame: &[u8],
        program: &Program,
        trie: Option<&Map>,
    ) -> Result<()> {
        let peer = assembly::Sources::One(PEER4.octets());
        let prologue = Prologue::before(program, peer, trie)?;
        self.add(one, format!("{what}, one source"), frame, prologue);
        let prologue = Prologue::before(program, assembly::Sources::Random, trie)?;
        self.add(random, format!("{what}, random sources"), frame, prologue);
        Ok(())
    }

    /// What is measured.
    pub fn subjects(&self) -> Vec<Subject<'_>> {
        let fronts = self.0.iter();
        fronts
            .map(|front| Subject {
                id: front.id.to_owned(),
                what: front.what.clone(),
                program: &front.prologue.program,
                frame: front.frame.clone(),
                action: None,
                floor: Some(front.floor),
            })
            .collect()
    }
}
