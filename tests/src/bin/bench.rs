//! Measures what a packet costs: the filter beside an empty program, xdp-filter and the kernel's LPM trie, in one run.
//!
//! Everything happens in a network and a mount namespace of this process, or in network namespaces that are removed in the
//! end, so nothing of the machine is touched and nothing is left behind. docs/performance.md says what is measured and how to read it.

#[path = "../bench/assembly.rs"]
mod assembly;
#[path = "../bench/containers.rs"]
mod containers;
#[path = "../bench/filter.rs"]
mod filter;
#[path = "../bench/frames.rs"]
mod frames;
#[path = "../bench/goals.rs"]
mod goals;
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
#[path = "../bench/subjects.rs"]
mod subjects;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, unshare};
use nix::unistd::Pid;

use filter::Filter;
use measure::Effort;
use report::{Machine, Report};
use subjects::{Fronts, Programs};

/// Sets whose loading is timed.
const LOADS: [usize; 2] = [100_000, 1_000_000];

/// Random sources touch megabytes of tables. A run has to be long enough that most of it finds them in the caches as a
/// flood would, and not as the program measured before it left them.
const VARIED: Effort = Effort {
    rounds: 21,
    repeat: 1_000_000,
};

const USAGE: &str = "usage: bench [--json] [--quick] [containers]

Measures the filter's cost per packet beside an empty program, xdp-filter and the
kernel's LPM trie. Needs root, and the packages xdp-tools, iproute2 and nftables.
Takes about three minutes; --quick some fifteen seconds.

With `containers`: the throughput of containers by iperf3, without a filter and with it.
Needs the CNI plugins and iperf3 as well, and EDGEFILTER_BIN (an optimised build).
Takes about four minutes; --quick one.";

fn main() -> ExitCode {
    let (mut json, mut quick, mut containers) = (false, false, false);
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--json" => json = true,
            "--quick" => quick = true,
            "containers" => containers = true,
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
    let shown = if containers {
        machine()
            .and_then(|machine| containers::measure(machine, quick))
            .and_then(|report| show(&report, json, containers::Containers::text))
    } else {
        measure_all(quick).and_then(|report| show(&report, json, Report::text))
    };
    match shown {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// For people or for programs.
fn show<T: serde::Serialize>(report: &T, json: bool, text: fn(&T) -> String) -> Result<String> {
    if json {
        Ok(serde_json::to_string_pretty(report)? + "\n")
    } else {
        Ok(text(report))
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
        filter::BPFFS,
        Some("bpf"),
        MsFlags::empty(),
        nothing,
    )
    .context("cannot mount a bpffs")?;
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
    let fixed = subjects::fixed(&programs)?;
    let fixed_samples = measure::rounds(&fixed, effort, &mut each_round)?;
    let packets = report::rows(&fixed, &fixed_samples);

    let fronts = Fronts::new(&programs)?;
    let varied = fronts.subjects();
    let varied_samples = measure::rounds(&varied, varied_effort, &mut each_round)?;
    let sources = report::rows(&varied, &varied_samples);
    let goals = goals::all(&packets, &sources, &loading);
    Ok(Report {
        machine,
        effort: [effort, varied_effort],
        packets,
        sources,
        goals,
        loading,
    })
}
