//! How long it takes to put prefixes in force, what memory that takes, and how long packets wait meanwhile; beside
//! `nft -f` with the same set and xdp-filter, one call an address.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use edgefilter_tests::netns::topology::HOST_V4;
use edgefilter_tests::netns::{Edge, Running, Scratch};
use edgefilter_tests::programs::{Edgefilter, Memory, memory};
use ipnet::Ipv4Net;
use serde::Serialize;

use super::document::{Chart, Line, Table};
use super::goals::Measured;
use super::isolation::isolated;
use super::loading::{self, Loading};
use super::report::{Shown, grouped};
use super::spread::quantile;
use super::stream::{self, Delays, Stream};
use super::{peer, progress};

/// Prefixes in the sets.
const SIZES: [usize; 5] = [1, 1000, 10_000, 100_000, 1_000_000];
/// Addresses that xdp-filter is given at most: it takes a millisecond for each.
const XDP_FILTER_MOST: usize = 10_000;
/// The same with `--quick`.
const XDP_FILTER_QUICK: usize = 1000;
/// Where the stream goes that the policies let in.
const PORT: u16 = 7000;
/// The stream is watched for so long before anything is pushed.
const QUIET: Duration = Duration::from_secs(1);
/// Bound on one `nft -f`.
const NFT_LIMIT: Duration = Duration::from_mins(5);

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Push {
    rounds: usize,
    sets: Vec<Set>,
}

/// One set.
#[derive(Debug, Default, Serialize)]
struct Set {
    prefixes: usize,
    /// Seconds: the policy read, checked, compiled.
    compile: Vec<f64>,
    /// Seconds: tables built, written, read back, in force.
    upload: Vec<f64>,
    /// Seconds: `edgefilter apply`, from its start to its end.
    apply: Vec<f64>,
    /// Seconds: `nft -f`.
    nft: Vec<f64>,
    /// Seconds: `xdp-filter ip`, once for each address; empty where that takes too long.
    xdp_filter: Vec<f64>,
    /// Bytes: the daemon's peak without its tables, and the tables.
    daemon: Vec<(u64, u64)>,
    /// Bytes: nft's peak.
    nft_peak: Vec<u64>,
    /// The stream's delays before a push, while ours went on, while nft's did.
    quiet: Vec<Delays>,
    while_apply: Vec<Delays>,
    while_nft: Vec<Delays>,
}

/// Measures everything.
pub fn measure(quick: bool) -> Result<Push> {
    let rounds = if quick { 1 } else { 7 };
    let mut sets: Vec<_> = SIZES
        .iter()
        .map(|prefixes| Set {
            prefixes: *prefixes,
            ..Set::default()
        })
        .collect();
    let most = if quick {
        XDP_FILTER_QUICK
    } else {
        XDP_FILTER_MOST
    };
    let world = World::build()?;
    let bar = progress::bar("push", rounds * SIZES.len());
    for _ in 0..rounds {
        for set in &mut sets {
            let prefixes = peer::prefixes(set.prefixes);
            world.round(set, &prefixes)?;
            let Loading { compile, push } = isolated(|| loading::measure(&prefixes))?;
            set.compile.push(compile);
            set.upload.push(push);
            if set.prefixes <= most {
                let addresses: Vec<_> = prefixes.iter().map(Ipv4Net::network).collect();
                let took = isolated(|| peer::xdp_filter_takes(&addresses))?;
                set.xdp_filter.push(took.as_secs_f64());
            }
            bar.inc(1);
        }
    }
    Ok(Push { rounds, sets })
}

/// Two namespaces; each push gets a daemon that has just started.
struct World(Edge);

impl World {
    fn build() -> Result<Self> {
        Ok(Self(Edge::standard()?))
    }

    /// The policy that lets the stream in, and the group if there is one.
    fn policy(list: Option<&str>) -> String {
        let stream = format!(
            "version = 1\n[profiles.edge]\ninterfaces = [\"eth0\"]\n\
             [[profiles.edge.allow]]\nid = \"stream\"\nprotocol = \"udp\"\nports = [{PORT}]\n"
        );
        list.map_or_else(
            || stream.clone(),
            |list| {
                format!(
                    "{stream}[[profiles.edge.allow]]\nid = \"web\"\nprotocol = \"tcp\"\nports = [443]\nfrom = [\"@many\"]\n\
                     [groups.many]\nfiles = [\"{list}\"]\n"
                )
            },
        )
    }

    fn round(&self, set: &mut Set, prefixes: &[Ipv4Net]) -> Result<()> {
        let Self(edge) = self;
        // of its own: what one daemon was given, the next must not find
        let scratch = Scratch::create("push")?;
        loading::write_list(&scratch.path().join("many.txt"), prefixes)?;
        let policy = scratch.file("many.toml", Self::policy(Some("many.txt")))?;
        let rules = scratch.file("many.nft", nft_set(prefixes))?;

        let mut daemon = Edgefilter::enable(&edge.host, &scratch, &Self::policy(None))?;
        let to = SocketAddr::new(HOST_V4.parse()?, PORT);
        let stream = Stream::start(&edge.client, &edge.host, to)?;
        let quiet = spent(|| {
            std::thread::sleep(QUIET);
            Ok(())
        })?;
        let apply = spent(|| {
            daemon
                .cli(&["apply", &policy.to_string_lossy()])?
                .require()
                .map(drop)
        })?;
        let memory = Memory::of(daemon.pid().context("no daemon is running")?)?;
        daemon.terminate()?;
        daemon.detach()?;
        let mut peak = 0;
        let nft = spent(|| {
            peak = run_nft(edge, &rules)?;
            Ok(())
        })?;
        edge.host
            .run(&["nft", "delete", "table", "netdev", "many"])?;
        let arrivals = stream.finish()?;

        set.apply.push(apply.seconds());
        set.nft.push(nft.seconds());
        set.nft_peak.push(peak);
        set.daemon.push((memory.peak, memory.maps));
        for (delays, span) in [
            (&mut set.quiet, quiet),
            (&mut set.while_apply, apply),
            (&mut set.while_nft, nft),
        ] {
            // nothing may have been sent while something very short went on
            delays.extend(arrivals.between(span.from, span.to));
        }
        Ok(())
    }
}

/// auto-merge: lists that people keep overlap, and ours are aggregated as well.
fn nft_set(prefixes: &[Ipv4Net]) -> String {
    let mut text = String::from(
        "table netdev many {\n set many { type ipv4_addr; flags interval; auto-merge; elements = { ",
    );
    for prefix in prefixes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{prefix}, ");
    }
    text + "} }\n}\n"
}

/// Runs `nft -f` and watches its memory; its peak, as of a moment before it ended.
fn run_nft(edge: &Edge, rules: &std::path::Path) -> Result<u64> {
    let mut running = edge.host.start(&["nft", "-f", &rules.to_string_lossy()])?;
    let (mut peak, begin) = (0, Instant::now());
    while running.is_running() && begin.elapsed() < NFT_LIMIT {
        peak = memory::peak(running.pid()).unwrap_or(peak);
        std::thread::sleep(Duration::from_millis(2));
    }
    Running::wait(running, NFT_LIMIT)?.require()?;
    Ok(peak)
}

/// From and to, by the clock of the stream.
#[derive(Clone, Copy, Debug)]
struct Span {
    from: u64,
    to: u64,
}

impl Span {
    fn seconds(self) -> f64 {
        (self.to - self.from) as f64 / 1e9
    }
}

fn spent(work: impl FnOnce() -> Result<()>) -> Result<Span> {
    let from = stream::now();
    work()?;
    Ok(Span {
        from,
        to: stream::now(),
    })
}

impl Set {
    /// From the policy's text to its being in force, without the daemon around it.
    fn in_force(&self) -> Vec<f64> {
        let parts = self.compile.iter().zip(&self.upload);
        parts.map(|(compile, upload)| compile + upload).collect()
    }
}

impl Push {
    /// As tables and a chart, and what goals are judged by.
    pub fn shown(&self) -> Shown {
        Shown {
            tables: vec![self.times(), self.memory(), self.delays()],
            charts: vec![self.chart()],
            measured: self.measured(),
            ..Shown::default()
        }
    }

    fn measured(&self) -> Vec<Measured> {
        let of_nft = |prefixes, ours: fn(&Set) -> Vec<f64>| {
            let set = self.sets.iter().find(|set| set.prefixes == prefixes);
            set.map_or(f64::NAN, |set| {
                quantile(&ours(set), 0.5) / quantile(&set.nft, 0.5)
            })
        };
        vec![
            ("push_100k_of_nft", of_nft(100_000, Set::in_force)),
            ("push_1m_of_nft", of_nft(1_000_000, Set::in_force)),
            (
                "apply_1m_of_nft",
                of_nft(1_000_000, |set| set.apply.clone()),
            ),
        ]
    }

    fn table(&self, title: &str, columns: &[&str], row: impl Fn(&Set) -> Vec<String>) -> Table {
        let columns = ["prefixes"].iter().chain(columns);
        let rows = self.sets.iter().map(|set| {
            let mut cells = vec![grouped(set.prefixes as u64)];
            cells.extend(row(set));
            cells
        });
        Table {
            title: format!("{title}; {} rounds", self.rounds),
            columns: columns.map(|column| (*column).to_owned()).collect(),
            rows: rows.collect(),
        }
    }

    fn times(&self) -> Table {
        let columns = [
            "read, check, compile",
            "build, write, read back, in force",
            "`edgefilter apply`",
            "`nft -f`",
            "xdp-filter",
        ];
        self.table(
            "Prefixes put in force, s, median (quartiles)",
            &columns,
            |set| {
                let times = [
                    &set.compile,
                    &set.upload,
                    &set.apply,
                    &set.nft,
                    &set.xdp_filter,
                ];
                times.map(|times| spread(times)).to_vec()
            },
        )
    }

    fn memory(&self) -> Table {
        let columns = [
            "daemon without its tables",
            "its tables, both banks and all state",
            "`nft`",
        ];
        self.table("Memory at the peak, MiB", &columns, |set| {
            let daemon = |pick: fn(&(u64, u64)) -> u64| set.daemon.iter().map(pick).max();
            [
                daemon(|(peak, _)| *peak),
                daemon(|(_, maps)| *maps),
                set.nft_peak.iter().copied().max(),
            ]
            .map(|bytes| format!("{:.1}", bytes.unwrap_or(0) as f64 / f64::from(1 << 20)))
            .to_vec()
        })
    }

    fn delays(&self) -> Table {
        let columns = ["before", "during `edgefilter apply`", "during `nft -f`"];
        let title =
            "Delay of datagrams that are let in, one each 250 us, us: median / 99 % / longest";
        self.table(title, &columns, |set| {
            [&set.quiet, &set.while_apply, &set.while_nft]
                .map(|delays| {
                    let all = |pick: fn(&Delays) -> f64| {
                        quantile(&delays.iter().map(pick).collect::<Vec<_>>(), 0.5)
                    };
                    if delays.is_empty() {
                        return String::new();
                    }
                    format!(
                        "{:.0} / {:.0} / {:.0}",
                        all(|delays| delays.median),
                        all(|delays| delays.p99),
                        all(|delays| delays.most)
                    )
                })
                .to_vec()
        })
    }

    fn chart(&self) -> Chart {
        let line = |name: &str, times: fn(&Set) -> Vec<f64>| Line {
            name: name.to_owned(),
            points: self
                .sets
                .iter()
                .map(|set| (set.prefixes as f64, times(set)))
                .filter(|(_, times)| !times.is_empty())
                .map(|(prefixes, times)| (prefixes, quantile(&times, 0.5)))
                .collect(),
        };
        Chart {
            name: "push".to_owned(),
            title: "Prefixes put in force".to_owned(),
            x: "prefixes".to_owned(),
            y: "s".to_owned(),
            lines: vec![
                line("edgefilter apply", |set| set.apply.clone()),
                line("of that: compile, write, in force", Set::in_force),
                line("nft -f", |set| set.nft.clone()),
                line("xdp-filter, one call an address", |set| {
                    set.xdp_filter.clone()
                }),
            ],
        }
    }
}

fn spread(times: &[f64]) -> String {
    let at = |part| quantile(times, part);
    match times {
        [] => String::new(),
        [only] => format!("{only:.3}"),
        _ => format!("{:.3} ({:.3}-{:.3})", at(0.5), at(0.25), at(0.75)),
    }
}
