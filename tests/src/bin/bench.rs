//! Measures what a packet costs: the filter beside an empty program, xdp-filter and the kernel's LPM trie, in one run.
//!
//! Everything happens in a network and a mount namespace of this process, so nothing of the machine is touched and
//! nothing is left behind. docs/performance.md says what is measured and how to read it.

#[path = "../bench/assembly.rs"]
mod assembly;
#[path = "../bench/filter.rs"]
mod filter;
#[path = "../bench/frames.rs"]
mod frames;
#[path = "../bench/kernel.rs"]
mod kernel;
#[path = "../bench/loading.rs"]
mod loading;
#[path = "../bench/measure.rs"]
mod measure;
#[path = "../bench/peer.rs"]
mod peer;
#[path = "../bench/report.rs"]
mod report;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, unshare};
use nix::unistd::Pid;

use assembly::{Prologue, Sources};
use filter::{CLIENT_PORT, Filter};
use frames::{PEER_PORT, PEER4, Version, tcp, udp};
use kernel::{Kind, Program};
use measure::{Effort, Subject};
use report::{Goal, Machine, Report};

/// XDP actions.
const DROP: Option<u32> = Some(1);
/// See [`DROP`].
const PASS: Option<u32> = Some(2);

/// Prefixes in the group that is measured under random sources.
const PREFIXES: usize = 100_000;
/// Every which prefix is looked up once, to see that it is there.
const SAMPLED: usize = 97;
/// Rules in the large policy.
const RULES: usize = 1000;
/// Sets whose loading is timed.
const LOADS: [usize; 2] = [100_000, 1_000_000];

/// Random sources touch megabytes of tables. A run has to be long enough that most of it finds them in the caches as a
/// flood would, and not as the program measured before it left them.
const VARIED: Effort = Effort {
    rounds: 21,
    repeat: 1_000_000,
};

const USAGE: &str = "usage: bench [--json] [--quick]

Measures the filter's cost per packet beside an empty program, xdp-filter and the
kernel's LPM trie. Needs root, and the packages xdp-tools, iproute2 and nftables.
Takes about three minutes; --quick some fifteen seconds.";

fn main() -> ExitCode {
    let (mut json, mut quick) = (false, false);
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--json" => json = true,
            "--quick" => quick = true,
            "--help" | "-h" => {
                println!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            other => {
                eprintln!("bench: unknown argument {other}\n{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    match measure_all(quick) {
        Ok(report) if json => match serde_json::to_string_pretty(&report) {
            Ok(text) => {
                println!("{text}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("bench: {error}");
                ExitCode::FAILURE
            }
        },
        Ok(report) => {
            print!("{}", report.text());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Moves to namespaces of our own, with a bpffs in the usual place, and to one processor.
fn isolate() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .context("cannot make namespaces: the benchmark needs root")?;
    let nothing = None::<&str>;
    mount(
        nothing,
        "/",
        nothing,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        nothing,
    )
    .context("cannot make mounts private")?;
    // `ip` and xdp-filter look for their network namespace's devices here
    mount(
        Some("sysfs"),
        "/sys",
        Some("sysfs"),
        MsFlags::empty(),
        nothing,
    )
    .context("cannot mount /sys")?;
    mount(
        Some("bpf"),
        "/sys/fs/bpf",
        Some("bpf"),
        MsFlags::empty(),
        nothing,
    )
    .context("cannot mount /sys/fs/bpf")?;
    peer::command("ip", &["link", "set", "lo", "up"])?;

    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let last = (0..CpuSet::count())
        .rev()
        .find(|cpu| allowed.is_set(*cpu).unwrap_or(false))
        .unwrap_or(0);
    let mut one = CpuSet::new();
    one.set(last)?;
    sched_setaffinity(Pid::from_raw(0), &one).context("cannot stay on one processor")
}

fn machine() -> Result<Machine> {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = processor
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    Ok(Machine {
        kernel: nix::sys::utsname::uname()?
            .release()
            .to_string_lossy()
            .into_owned(),
        processor: processor.map_or_else(
            || "unknown processor".to_owned(),
            |(_, name)| name.to_owned(),
        ),
        processors: std::thread::available_parallelism()?.get(),
        xdp_filter: peer::xdp_filter_version()?,
    })
}

fn measure_all(quick: bool) -> Result<Report> {
    let machine = machine()?;
    isolate()?;
    let directory = tempfile::tempdir()?;
    // before anything that has to be measured precisely fills the memory
    let mut loading = Vec::new();
    if !quick {
        for count in LOADS {
            loading.push(loading::measure(directory.path(), &peer::prefixes(count))?);
        }
    }
    measure_packets(quick, machine, loading, directory.path())
}

/// Everything that is measured, loaded.
struct Programs {
    empty: Program,
    xdp_filter: Program,
    edge: Program,
    monitor: Program,
    one_rule: Program,
    many_rules: Program,
    group: Program,
    trie: peer::Trie,
}

impl Programs {
    /// The programs, and what our own run on.
    fn load(directory: &Path) -> Result<(Self, Vec<Filter>)> {
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
            edge: load("edge", filter::edge(true)?)?,
            monitor: load("monitor", filter::edge(false)?)?,
            one_rule: load("one-rule", filter::with_rules(1))?,
            many_rules: load("many-rules", filter::with_rules(RULES))?,
            group: load("group", filter::with_group("many.txt"))?,
            trie: peer::Trie::new(&prefixes)?,
        };
        for prefix in prefixes.iter().step_by(SAMPLED) {
            let mut frame = tcp(Version::V4, PEER_PORT, 443, true)?;
            frames::set_source(&mut frame, prefix.network());
            if Some(programs.group.run(&frame, 1)?.action) != PASS {
                bail!("a source in {prefix} is refused although its group is let in");
            }
        }
        Ok((programs, filters))
    }
}

fn measure_packets(
    quick: bool,
    machine: Machine,
    loading: Vec<loading::Loading>,
    directory: &Path,
) -> Result<Report> {
    let (programs, mut filters) = Programs::load(directory)?;
    let mut each_round = || filters.iter_mut().try_for_each(Filter::renew_events);
    let (effort, varied_effort) = if quick {
        (
            Effort {
                rounds: 15,
                repeat: 20_000,
            },
            Effort {
                rounds: 5,
                repeat: 200_000,
            },
        )
    } else {
        (
            Effort {
                rounds: 101,
                repeat: 100_000,
            },
            VARIED,
        )
    };
    let fixed = fixed_subjects(&programs)?;
    let fixed_samples = measure::rounds(&fixed, effort, &mut each_round)?;
    let packets = report::rows(&fixed, &fixed_samples);

    let fronts = Fronts::new(&programs)?;
    let varied = fronts.subjects()?;
    let varied_samples = measure::rounds(&varied, varied_effort, &mut each_round)?;
    let sources = report::rows(&varied, &varied_samples);
    let goals = goals(&packets, &sources, &loading);
    Ok(Report {
        machine,
        effort: [effort, varied_effort],
        packets,
        sources,
        goals,
        loading,
    })
}

/// One packet, again and again.
fn fixed_subjects(programs: &Programs) -> Result<Vec<Subject<'_>>> {
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
        "edge: TCP ACK refused (flow and socket looked up)",
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

/// Programs behind prologues, each with one source and with random ones.
struct Fronts(Vec<(&'static str, &'static str, u16, Prologue)>);

impl Fronts {
    fn new(programs: &Programs) -> Result<Self> {
        let one = Sources::One(PEER4.octets());
        let mut fronts = Vec::new();
        let mut add = |ids: [&'static str; 2],
                       what: [&'static str; 2],
                       port,
                       program: &Program|
         -> Result<()> {
            fronts.push((ids[0], what[0], port, Prologue::before(program, one)?));
            fronts.push((
                ids[1],
                what[1],
                port,
                Prologue::before(program, Sources::Random)?,
            ));
            Ok(())
        };
        add(
            ["empty_one", "empty_random"],
            ["empty program: one source", "empty program: random sources"],
            80,
            &programs.empty,
        )?;
        add(
            ["xdp_filter_one", "xdp_filter_random"],
            [
                "xdp-filter: TCP allowed, one source",
                "xdp-filter: TCP allowed, random sources",
            ],
            80,
            &programs.xdp_filter,
        )?;
        add(
            ["edge_allowed_one", "edge_allowed_random"],
            [
                "edge: SYN allowed, one source",
                "edge: SYN allowed, random sources",
            ],
            80,
            &programs.edge,
        )?;
        add(
            ["edge_refused_one", "edge_refused_random"],
            [
                "edge: SYN refused, one source",
                "edge: SYN refused, random sources",
            ],
            81,
            &programs.edge,
        )?;
        add(
            ["group_one", "group_random"],
            [
                "rule with 100,000 prefixes: SYN, one source",
                "rule with 100,000 prefixes: SYN, random sources",
            ],
            443,
            &programs.group,
        )?;
        add(
            ["one_rule_one", "one_rule_random"],
            ["1 rule: SYN, one source", "1 rule: SYN, random sources"],
            443,
            &programs.one_rule,
        )?;
        add(
            ["many_rules_one", "many_rules_random"],
            [
                "1,000 rules: SYN, one source",
                "1,000 rules: SYN, random sources",
            ],
            443,
            &programs.many_rules,
        )?;
        add(
            ["no_trie_one", "no_trie_random"],
            [
                "LPM trie program without look-up: one source",
                "LPM trie program without look-up: random sources",
            ],
            443,
            &programs.trie.without,
        )?;
        add(
            ["trie_one", "trie_random"],
            [
                "LPM trie of 100,000: one source",
                "LPM trie of 100,000: random sources",
            ],
            443,
            &programs.trie.with,
        )?;
        Ok(Self(fronts))
    }

    fn subjects(&self) -> Result<Vec<Subject<'_>>> {
        self.0
            .iter()
            .enumerate()
            .map(|(at, (id, what, port, front))| {
                Ok(Subject {
                    id,
                    what: (*what).to_owned(),
                    program: &front.program,
                    frame: tcp(Version::V4, PEER_PORT, *port, true)?,
                    action: None,
                    floor: Some(at % 2),
                })
            })
            .collect()
    }
}

fn goals(
    packets: &[report::Row],
    sources: &[report::Row],
    loading: &[loading::Loading],
) -> Vec<Goal> {
    let median = |id: &str| {
        packets
            .iter()
            .find(|row| row.id == id)
            .map_or(f64::NAN, |row| row.median)
    };
    let net = |id: &str| {
        packets
            .iter()
            .chain(sources)
            .find(|row| row.id == id)
            .map_or(f64::NAN, |row| row.net)
    };
    let mut goals = vec![
        Goal::at_most(
            "TCP SYN allowed, of xdp-filter",
            median("edge_syn_allowed") / median("xdp_filter_tcp_allowed"),
            1.0,
        ),
        Goal::at_most(
            "TCP ACK allowed, of xdp-filter",
            median("edge_ack_allowed") / median("xdp_filter_tcp_allowed"),
            1.0,
        ),
        Goal::at_most(
            "TCP SYN refused, of xdp-filter",
            median("edge_syn_refused") / median("xdp_filter_tcp_refused"),
            1.0,
        ),
        Goal::at_most(
            "the same, net of the empty program: allowed",
            net("edge_syn_allowed") / net("xdp_filter_tcp_allowed"),
            0.75,
        ),
        Goal::at_most(
            "the same, net of the empty program: refused",
            net("edge_syn_refused") / net("xdp_filter_tcp_refused"),
            0.75,
        ),
        Goal::at_most(
            "random sources, of one source: allowed",
            net("edge_allowed_random") / net("edge_allowed_one"),
            1.5,
        ),
        Goal::at_most(
            "random sources, of one source: refused",
            net("edge_refused_random") / net("edge_refused_one"),
            1.5,
        ),
        Goal::at_least(
            "LPM trie's look-up in 100,000 prefixes under random sources, of ours",
            (net("trie_random") - net("no_trie_random"))
                / (net("group_random") - net("one_rule_random")),
            8.0,
        ),
        Goal::at_least(
            "the same, with everything that random sources cost us counted in",
            (net("trie_random") - net("no_trie_random"))
                / (net("group_random") - net("one_rule_one")),
            8.0,
        ),
        Goal::at_most(
            "1,000 rules, of 1 rule: allowed",
            median("many_rules") / median("one_rule"),
            1.1,
        ),
        Goal::at_most(
            "1,000 rules, of 1 rule: refused",
            median("many_rules_refused") / median("one_rule_refused"),
            1.1,
        ),
    ];
    for row in loading {
        goals.push(Goal::at_most(
            &format!("{} prefixes put in force, of nft -f", row.prefixes),
            row.push / row.nft,
            0.2,
        ));
    }
    goals
}
