//! What is measured: every program, on every packet.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result};

use super::assembly::{self, Prologue};
use super::filter::{self, CLIENT_PORT, Filter, Sources};
use super::frames::{HOST4, PEER_PORT, PEER4, Version, set_source, tcp, udp};
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
/// Everything that is measured, loaded.
pub struct Programs {
    /// Drops everything.
    empty: Program,
    xdp_filter: Program,
    edge: Program,
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
            any_source: load("any-source", filter::edge(true, Sources::Any)?)?,
            strict: load("strict", filter::edge(true, Sources::Strict)?)?,
            sources: SourcePrograms::load()?,
            monitor: load("monitor", filter::edge(false, Sources::Checked)?)?,
            one_rule: load("one-rule", filter::with_rules(1))?,
            many_rules: load("many-rules", filter::with_rules(RULES))?,
            group: load("group", filter::with_group("many.txt"))?,
            trie: peer::Trie::new(&prefixes)?,
        };
        loading::check(&programs.group, &prefixes)?;
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

/// One packet, again and again.
pub fn fixed(programs: &Programs) -> Result<Vec<Subject<'_>>> {
    use Version::{V4, V6};
    let edge = &programs.edge;
    let mut subjects = Vec::new();
    let mut add = |id, what: &str, program, frame, action| {
        subjects.push(Subject {
            id,
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
        "edge: TCP ACK refused (flow looked up)",
        edge,
        tcp(V4, PEER_PORT, 81, false)?,
        DROP,
    );
    add(
        "edge_udp_refused",
        "edge: UDP refused (flow looked up)",
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

/// Two names for scripts and one for people, the port, the program, and whether the trie is asked on the way.
type Front<'a> = ([&'static str; 2], &'static str, u16, &'a Program, bool);

/// Programs behind prologues, each with one source and with random ones.
pub struct Fronts(Vec<(&'static str, String, u16, Prologue)>);

impl Fronts {
    /// Loads a pair of prologues for each program.
    pub fn new(programs: &Programs) -> Result<Self> {
        let Programs {
            empty,
            xdp_filter,
            edge,
            one_rule,
            many_rules,
            group,
            trie,
            ..
        } = programs;
        let pairs: [Front<'_>; 10] = [
            (
                ["empty_one", "empty_random"],
                "empty program",
                80,
                empty,
                false,
            ),
            (
                ["xdp_filter_one", "xdp_filter_random"],
                "xdp-filter: TCP allowed",
                80,
                xdp_filter,
                false,
            ),
            (
                ["edge_allowed_one", "edge_allowed_random"],
                "edge: SYN allowed",
                80,
                edge,
                false,
            ),
            (
                ["edge_refused_one", "edge_refused_random"],
                "edge: SYN refused",
                81,
                edge,
                false,
            ),
            (
                ["one_rule_one", "one_rule_random"],
                "1 rule, 1 prefix: SYN",
                443,
                one_rule,
                false,
            ),
            (
                ["many_rules_one", "many_rules_random"],
                "1,000 rules: SYN",
                443,
                many_rules,
                false,
            ),
            (
                ["group_one", "group_random"],
                "1 rule, 100,000 prefixes: SYN",
                443,
                group,
                false,
            ),
            (
                ["one_rule_trie_one", "one_rule_trie_random"],
                "LPM trie of 100,000, then 1 rule, 1 prefix",
                443,
                one_rule,
                true,
            ),
            (
                ["trie_one", "trie_random"],
                "LPM trie of 100,000 alone",
                443,
                &trie.with,
                false,
            ),
            (
                ["no_trie_one", "no_trie_random"],
                "the same without the look-up",
                443,
                &trie.without,
                false,
            ),
        ];
        let mut fronts = Vec::new();
        for (ids, what, port, program, trie_first) in pairs {
            let map = trie_first.then_some(&trie.map);
            let [one, random] = ids;
            let prologue = |sources| Prologue::before(program, sources, map);
            fronts.push((
                one,
                format!("{what}, one source"),
                port,
                prologue(assembly::Sources::One(PEER4.octets()))?,
            ));
            fronts.push((
                random,
                format!("{what}, random sources"),
                port,
                prologue(assembly::Sources::Random)?,
            ));
        }
        Ok(Self(fronts))
    }

    /// What is measured.
    pub fn subjects(&self) -> Result<Vec<Subject<'_>>> {
        self.0
            .iter()
            .enumerate()
            .map(|(at, (id, what, port, front))| {
                Ok(Subject {
                    id,
                    what: what.clone(),
                    program: &front.program,
                    frame: tcp(Version::V4, PEER_PORT, *port, true)?,
                    action: None,
                    floor: Some(at % 2),
                })
            })
            .collect()
    }
}
