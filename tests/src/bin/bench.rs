//! Measures the filter beside its neighbours: packets, sizes, pushes, the daemon, containers.
//!
//! Everything happens in namespaces that are removed in the end, so nothing of the machine is touched and nothing is left
//! behind. docs/performance.md says what is measured and how to read it; `cargo xtask bench` installs and builds what
//! this needs.

#[path = "../bench/arguments.rs"]
mod arguments;
#[path = "../bench/assembly.rs"]
mod assembly;
#[path = "../bench/containers.rs"]
mod containers;
#[path = "../bench/contestants.rs"]
mod contestants;
#[path = "../bench/cores.rs"]
mod cores;
#[path = "../bench/daemon.rs"]
mod daemon;
#[path = "../bench/document.rs"]
mod document;
#[path = "../bench/drops.rs"]
mod drops;
#[path = "../bench/filter.rs"]
mod filter;
#[path = "../bench/frames.rs"]
mod frames;
#[path = "../bench/goals.rs"]
mod goals;
#[path = "../bench/goodput.rs"]
mod goodput;
#[path = "../bench/isolation.rs"]
mod isolation;
#[path = "../bench/limits.rs"]
mod limits;
#[path = "../bench/loader.rs"]
mod loader;
#[path = "../bench/loading.rs"]
mod loading;
#[path = "../bench/measure.rs"]
mod measure;
#[path = "../bench/packets.rs"]
mod packets;
#[path = "../bench/peer.rs"]
mod peer;
#[path = "../bench/progress.rs"]
mod progress;
#[path = "../bench/push.rs"]
mod push;
#[path = "../bench/report.rs"]
mod report;
#[path = "../bench/sizes.rs"]
mod sizes;
#[path = "../bench/spread.rs"]
mod spread;
#[path = "../bench/stream.rs"]
mod stream;
#[path = "../bench/subjects.rs"]
mod subjects;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use clap::Parser;
use edgefilter_tests::bpf as kernel;
use nix::sched::{sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use arguments::{Asked, Bench};
use document::{Document, Section};
use limits::Limits;
use report::Machine;

/// The commit that was built: git may refuse to tell root of another user's folder, so whoever starts this says.
const COMMIT_VARIABLE: &str = "EDGEFILTER_COMMIT";

#[derive(Debug, Parser)]
#[command(
    name = "bench",
    about = "Measures the filter beside its neighbours. Needs root; `cargo xtask bench` installs and builds the rest."
)]
struct CommandLine {
    #[command(flatten)]
    asked: Asked,
}

fn main() -> ExitCode {
    match run(&CommandLine::parse().asked) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(asked: &Asked) -> Result<()> {
    let limits = Limits::read()?;
    let mut document = Document {
        machine: machine()?,
        commit: std::env::var(COMMIT_VARIABLE).unwrap_or_else(|_| "unknown".to_owned()),
        date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        quick: asked.quick,
        sections: Vec::new(),
        goals: Vec::new(),
    };
    let myself = Pid::from_raw(0);
    let processors = sched_getaffinity(myself)?;
    for bench in asked.chosen() {
        // the one before may have kept to one of them
        sched_setaffinity(myself, &processors)?;
        let section = measure(bench, asked.quick)
            .with_context(|| format!("{} could not be measured", bench.name()))?;
        document.sections.push(section);
        document.goals = limits.judge(&document.sections);
        // what was measured is there even if a later bench fails
        if let Some(file) = asked.json.as_deref().filter(|file| *file != Path::new("-")) {
            fs::write(file, serde_json::to_string_pretty(&document)? + "\n")
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
    }
    if asked.json.as_deref() == Some(Path::new("-")) {
        println!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        print!("{}", report::text(&document));
    }
    if asked.check {
        check(&document, &limits)?;
    }
    Ok(())
}

fn measure(bench: Bench, quick: bool) -> Result<Section> {
    match bench {
        Bench::Packets => {
            let figures = packets::measure(quick)?;
            report::section(bench, &figures, figures.shown())
        }
        Bench::Cores => {
            let figures = cores::measure(quick)?;
            report::section(bench, &figures, figures.shown())
        }
        Bench::Sizes => {
            let figures = sizes::measure(quick)?;
            report::section(bench, &figures, figures.shown())
        }
        Bench::Push => {
            let figures = push::measure(quick)?;
            report::section(bench, &figures, figures.shown())
        }
        Bench::Daemon => {
            let figures = daemon::measure(quick)?;
            report::section(bench, &figures, figures.shown())
        }
        Bench::Containers => {
            let figures = containers::measure(quick)?;
            report::section(bench, &figures, figures.shown())
        }
        Bench::Drops => {
            let figures = drops::measure(quick)?;
            report::section(bench, &figures, figures.shown())
        }
        Bench::Goodput => {
            let figures = goodput::measure(quick)?;
            report::section(bench, &figures, figures.shown())
        }
    }
}

/// Names every figure that is past its limit, and what was not held against any.
fn check(document: &Document, limits: &Limits) -> Result<()> {
    let mut wrong: Vec<String> = document
        .goals
        .iter()
        .filter(|goal| !goal.met)
        .map(|goal| {
            let value = goal
                .value
                .map_or("nothing".to_owned(), |value| format!("{value:.3}"));
            let sign = if goal.at_least { "at least" } else { "at most" };
            format!(
                "{} ({}): {value}, wanted {sign} {}",
                goal.id, goal.what, goal.limit
            )
        })
        .collect();
    let strangers = limits.strangers(&document.sections).into_iter();
    wrong.extend(strangers.map(|id| format!("{id}: has no limit in tests/bench-limits.toml")));
    if wrong.is_empty() {
        return Ok(());
    }
    bail!(
        "{} goals are missed:\n  {}",
        wrong.len(),
        wrong.join("\n  ")
    )
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
