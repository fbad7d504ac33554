//! What the daemon takes: processor time and memory, idle and while a flood is refused, with somebody following the events
//! and somebody scraping the metrics.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use edgefilter_tests::netns::topology::HOST_V4;
use edgefilter_tests::netns::{Edge, Running, links};
use edgefilter_tests::programs::{Edgefilter, Memory, memory};
use edgefilter_tests::traffic::sender::Engine;
use edgefilter_tests::traffic::{Description, Limits, Link, Sender};
use serde::Serialize;

use super::document::Table;
use super::filter::{self, Sources};
use super::progress;
use super::report::Shown;
use super::spread::quantile;

/// Packets a second that are to be refused.
const RATE: f64 = 3e6;
/// Between two looks at the metrics.
const SCRAPE: Duration = Duration::from_secs(5);
/// What starting costs is not what running costs.
const SETTLE: Duration = Duration::from_secs(2);

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Daemon {
    seconds: u64,
    idle: Vec<Figures>,
    flood: Vec<Figures>,
}

/// One look at the daemon.
#[derive(Clone, Copy, Debug, Serialize)]
struct Figures {
    /// Percent of one core: the daemon, then programs that it ran.
    own: f64,
    children: f64,
    /// Bytes.
    resident: u64,
    /// Bytes of all its BPF maps, resident in the process or not.
    maps: u64,
    /// Packets refused in a second.
    refused: f64,
}

/// Measures everything.
pub fn measure(quick: bool) -> Result<Daemon> {
    let (rounds, seconds) = if quick { (1, 5) } else { (7, 10) };
    let edge = Edge::standard()?;
    let policy = filter::edge(true, Sources::Checked)?.replace("\"lo\"", "\"eth0\"");
    let mut daemon = Edgefilter::enable(&edge.host, &edge.scratch, &policy)?;
    let time = Duration::from_secs(seconds);
    let (mut idle, mut flood) = (Vec::new(), Vec::new());
    let bar = progress::bar("daemon", rounds * 2);
    for _ in 0..rounds {
        thread::sleep(SETTLE);
        let quiet = || {
            thread::sleep(time);
            Ok(())
        };
        idle.push(watch(&daemon, quiet)?);
        bar.inc(1);
        flood.push(flooded(&edge, &daemon, time)?);
        bar.inc(1);
    }
    daemon.terminate()?;
    daemon.detach()?;
    Ok(Daemon {
        seconds,
        idle,
        flood,
    })
}

/// Watches the daemon while a flood is refused and others ask it.
fn flooded(edge: &Edge, daemon: &Edgefilter, time: Duration) -> Result<Figures> {
    let stop = AtomicBool::new(false);
    let events = Running::start(daemon.command(&["events", "--follow", "--json"])?)?;
    let figures = thread::scope(|scope| {
        let scraper = scope.spawn(|| -> Result<()> {
            let mut due = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                if Instant::now() >= due {
                    daemon.cli(&["metrics"])?.require()?;
                    due += SCRAPE;
                }
                thread::sleep(Duration::from_millis(50));
            }
            Ok(())
        });
        let figures = watch(daemon, || flood(edge, time));
        stop.store(true, Ordering::Relaxed);
        let scraped = scraper.join();
        scraped.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        figures
    });
    // whoever follows never goes by himself
    drop(events);
    figures
}

/// SYNs from random sources to random ports.
fn flood(edge: &Edge, time: Duration) -> Result<()> {
    let hardware_address = |namespace| links::hardware_address(namespace, "eth0");
    let macs = (
        hardware_address(&edge.client)?,
        hardware_address(&edge.host)?,
    );
    let description = Description {
        destination: Some(HOST_V4.parse()?),
        ports: "random".parse()?,
        ..Description::default()
    };
    let streams = description.streams(macs.0, macs.1)?;
    let limits = Limits {
        packets: u64::MAX,
        time,
    };
    edge.client.inside(|| {
        let mut sender = Sender::open(&Link::find("eth0")?, streams, Some(RATE), Engine::Kernel)?;
        sender.send(limits, &AtomicBool::new(false)).map(drop)
    })?
}

fn watch(daemon: &Edgefilter, work: impl FnOnce() -> Result<()>) -> Result<Figures> {
    let pid = daemon.pid().context("no daemon is running")?;
    let refused = || -> Result<u64> {
        let reasons = daemon.counters()?.by_reason();
        let dropped = reasons
            .iter()
            .filter(|(reason, _)| reason.starts_with("drop_"));
        Ok(dropped.map(|(_, count)| count.packets).sum())
    };
    let before = refused()?;
    let (own, children) = memory::processor_time(pid)?;
    let begin = Instant::now();
    work()?;
    let took = begin.elapsed().as_secs_f64();
    let later = memory::processor_time(pid)?;
    let percent =
        |later: Duration, before| later.saturating_sub(before).as_secs_f64() / took * 100.0;
    let memory = Memory::of(pid)?;
    Ok(Figures {
        own: percent(later.0, own),
        children: percent(later.1, children),
        resident: memory.resident,
        maps: memory.maps,
        refused: (refused()? - before) as f64 / took,
    })
}

impl Daemon {
    /// As a table, and what goals are judged by.
    pub fn shown(&self) -> Shown {
        let quartiles = |figures: &[Figures], pick: fn(&Figures) -> f64| {
            let all: Vec<f64> = figures.iter().map(pick).collect();
            [0.5, 0.25, 0.75].map(|part| quantile(&all, part))
        };
        let all = |figures: &Figures| figures.own + figures.children;
        let most = |figures: &[Figures], pick: fn(&Figures) -> u64| {
            let bytes = figures.iter().map(pick).max().unwrap_or(0);
            bytes as f64 / f64::from(1 << 20)
        };
        let row = |what: &str, figures: &[Figures]| {
            let [median, lower, upper] = quartiles(figures, all);
            let [children, ..] = quartiles(figures, |figures| figures.children);
            let [refused, ..] = quartiles(figures, |figures| figures.refused);
            vec![
                what.to_owned(),
                format!("{:.2}", refused / 1e6),
                format!("{median:.2} ({lower:.2}-{upper:.2})"),
                format!("{children:.2}"),
                format!("{:.1}", most(figures, |figures| figures.resident)),
                format!("{:.1}", most(figures, |figures| figures.maps)),
            ]
        };
        let columns = [
            "the daemon, edge policy",
            "refused, million a second",
            "% of a core, median (quartiles)",
            "of that programs it runs",
            "resident, MiB at most",
            "all its tables, MiB",
        ];
        let resident = |figures: &Figures| figures.resident;
        Shown {
            tables: vec![Table {
                title: format!("Daemon; {} rounds of {} s", self.idle.len(), self.seconds),
                columns: columns.map(str::to_owned).to_vec(),
                rows: vec![
                    row("idle", &self.idle),
                    row(
                        "flood of random sources, events followed, metrics scraped each 5 s",
                        &self.flood,
                    ),
                ],
            }],
            measured: vec![
                ("daemon_idle_percent", quartiles(&self.idle, all)[0]),
                ("daemon_flood_percent", quartiles(&self.flood, all)[0]),
                (
                    "daemon_resident_mib",
                    most(&self.idle, resident).max(most(&self.flood, resident)),
                ),
            ],
            ..Shown::default()
        }
    }
}
