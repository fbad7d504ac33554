//! Throughput of containers by iperf3: without a filter, with it on the container links (at either hook), and with it on
//! the outer interface as well; beside an empty XDP program there, since XDP on a veth costs its sender large segments.
//!
//! The containers are network namespaces on a CNI bridge, the outside is a third one. Every round measures everything once
//! in each mode, so that all modes see the same weather; a mode is compared with "no filter" of its own round.

use std::time::Duration;

use anyhow::{Context, Result};
use edgefilter_tests::netns::topology::{CLIENT_V4, HOST_V4};
use edgefilter_tests::netns::{Edge, Namespace, Running, finish};
use edgefilter_tests::programs::container::{Attachment, Published};
use edgefilter_tests::programs::foreign::{ForeignXdp, Verdict};
use edgefilter_tests::programs::{Edgefilter, Network, iperf};
use serde::Serialize;
use serde_json::Value;

use super::document::Table;
use super::goals::Measured;
use super::progress;
use super::report::Shown;
use super::spread::quantile;

/// iperf3's own port.
const PORT: u16 = 5201;
/// The host's port that leads to the second container.
const PUBLISHED: u16 = 5202;

const LINKS: &str = "version = 1
[profiles.pods]
interfaces = [\"veth*\"]
containers = {}
[[profiles.pods.allow]]
id = \"iperf\"
protocol = \"tcp\"
ports = [5201]
";
const OUTER: &str = "[profiles.edge]
interfaces = [\"eth0\"]
[[profiles.edge.allow]]
id = \"published\"
protocol = \"tcp\"
ports = [5202]
";

/// What is measured.
#[derive(Debug, Serialize)]
pub struct Containers {
    rounds: usize,
    seconds: u32,
    flows: Vec<Flow>,
    programs: Vec<ProgramTime>,
}

/// What the programs on container links took in one more run of a direction, by the kernel's own clock. Says what the
/// filter costs on a machine where throughput varies more than that.
#[derive(Debug, Serialize)]
struct ProgramTime {
    flow: &'static str,
    /// Runs, one for each segment up to 64 KiB.
    runs: u64,
    /// Nanoseconds a run, the two readings of the clock around it included.
    nanoseconds: f64,
    /// Of the time that the direction was measured for.
    share: f64,
}

/// One direction.
#[derive(Debug, Serialize)]
struct Flow {
    id: &'static str,
    what: &'static str,
    modes: Vec<ModeFigures>,
}

/// One direction in one mode.
#[derive(Debug, Serialize)]
struct ModeFigures {
    mode: &'static str,
    /// Gbit/s: median, lower and upper quartile.
    median: f64,
    lower: f64,
    upper: f64,
    /// Median of the ratios to "no filter" of the same round, and their quartiles.
    ratio: f64,
    ratio_lower: f64,
    ratio_upper: f64,
    /// The best round, which others on the machine disturbed least, and its ratio to the best one without a filter.
    best: f64,
    best_ratio: f64,
    /// Gbit/s by round.
    samples: Vec<f64>,
}

const MODES: [(&str, &str); 5] = [
    ("none", "no filter"),
    ("links", "on container links"),
    ("links_xdp", "there, hook = \"xdp\""),
    ("both", "on the outer interface too"),
    ("empty", "none; empty XDP on the outer"),
];
/// Where the filter on container links stands among the modes.
const ON_LINKS: usize = 1;
const FLOWS: [(&str, &str); 3] = [
    ("to_outside", "container to outside"),
    ("between", "container to container"),
    ("from_outside", "outside to published port"),
];
/// What each is judged by.
const GOALS: [&str; 3] = [
    "containers_to_outside",
    "containers_between",
    "containers_from_outside",
];

/// The namespaces, their network, and servers that wait.
struct World {
    // In this order: attachments are given up before the namespaces go.
    _servers: Vec<Running>,
    attachments: Vec<Attachment>,
    containers: Vec<Namespace>,
    edge: Edge,
}

impl World {
    fn build() -> Result<Self> {
        let edge = Edge::standard()?;
        let network = Network::prepare(&edge.host, &edge.scratch)?;
        let published = [Published {
            host: PUBLISHED,
            container: PORT,
        }];
        let (mut containers, mut attachments) = (Vec::new(), Vec::new());
        for ports in [&[][..], &published] {
            let container = Namespace::create("ctr")?;
            attachments.push(network.add(&container, ports)?);
            containers.push(container);
        }
        let inside = containers.last().context("no container")?;
        let servers = vec![
            iperf::server(&edge.client, PORT)?,
            iperf::server(inside, PORT)?,
        ];
        Ok(Self {
            _servers: servers,
            attachments,
            containers,
            edge,
        })
    }

    /// Gbit/s of each direction.
    fn measure(&self, seconds: u32) -> Result<[f64; 3]> {
        let mut figures = [0.0; 3];
        for (flow, figure) in figures.iter_mut().enumerate() {
            *figure = self.measure_one(flow, seconds)?;
        }
        Ok(figures)
    }

    fn measure_one(&self, flow: usize, seconds: u32) -> Result<f64> {
        let sender = self.containers.first().context("no container")?;
        let other = self.attachments.last().context("no attachment")?;
        let other = other.v4()?.to_string();
        let flows = [
            (sender, CLIENT_V4, PORT),
            (sender, &other, PORT),
            (&self.edge.client, HOST_V4, PUBLISHED),
        ];
        let (from, to, port) = flows.get(flow).context("no such direction")?;
        // Each end on a processor of its own, if there are two.
        let pinned: &[&str] = if std::thread::available_parallelism()?.get() > 1 {
            &["-A", "0,1"]
        } else {
            &[]
        };
        let client = iperf::client(from, to, *port, seconds, pinned)?;
        let limit = Duration::from_secs(u64::from(seconds) + 20);
        Ok(iperf::result(client, limit)?.bits_per_second / 1e9)
    }

    /// Runs and nanoseconds so far of the programs that the pinned links hold.
    fn program_times(&self) -> Result<(u64, u64)> {
        let links = self.edge.scratch.path().join("bpffs/edgefilter/links");
        let (mut runs, mut nanoseconds) = (0, 0);
        let mut seen = Vec::new();
        for entry in std::fs::read_dir(links)? {
            let link = bpftool(&["link", "show", "pinned", &entry?.path().to_string_lossy()])?;
            let id = link
                .get("prog_id")
                .and_then(Value::as_u64)
                .context("a link without a program")?;
            if seen.contains(&id) {
                continue;
            }
            seen.push(id);
            let program = bpftool(&["prog", "show", "id", &id.to_string()])?;
            let number = |key| program.get(key).and_then(Value::as_u64).unwrap_or(0);
            runs += number("run_cnt");
            nanoseconds += number("run_time_ns");
        }
        Ok((runs, nanoseconds))
    }

    /// With the filter in force on container links.
    fn time_programs(&self, seconds: u32) -> Result<Vec<ProgramTime>> {
        let _counting = aya::sys::enable_stats(aya::sys::Stats::RunTime)
            .context("the kernel does not count the time of programs")?;
        let mut times = Vec::new();
        for (flow, (id, _)) in FLOWS.iter().enumerate() {
            let before = self.program_times()?;
            self.measure_one(flow, seconds)?;
            let after = self.program_times()?;
            let (runs, spent) = (after.0 - before.0, (after.1 - before.1) as f64);
            times.push(ProgramTime {
                flow: id,
                runs,
                nanoseconds: spent / runs.max(1) as f64,
                share: spent / (f64::from(seconds) * 1e9),
            });
        }
        Ok(times)
    }
}

/// What bpftool says of one object.
fn bpftool(words: &[&str]) -> Result<Value> {
    let mut command = std::process::Command::new("bpftool");
    command.arg("--json").args(words);
    let shown = finish(command, Duration::from_secs(10))?.require()?;
    serde_json::from_str(&shown.stdout).context("bpftool gave no JSON")
}

/// Measures everything.
pub fn measure(quick: bool) -> Result<Containers> {
    let (rounds, seconds) = if quick { (3, 1) } else { (9, 2) };
    let world = World::build()?;
    let host = &world.edge.host;
    let mut daemon = Edgefilter::prepare(host, &world.edge.scratch, LINKS)?;
    let mut samples: [[Vec<f64>; MODES.len()]; FLOWS.len()] = Default::default();
    let bar = progress::bar("containers", rounds * MODES.len());
    for round in 0..rounds {
        for turn in 0..MODES.len() {
            // not always after the same neighbour
            let mode = (turn + round) % MODES.len();
            let policy = match MODES[mode].0 {
                "links" => Some(LINKS.to_owned()),
                "links_xdp" => Some(LINKS.replace("{}", "{ hook = \"xdp\" }")),
                "both" => Some(format!("{LINKS}{OUTER}")),
                _ => None,
            };
            // what native XDP costs on a veth, whatever the program: its peer stops sending large segments
            let _empty = match MODES[mode].0 {
                "empty" => Some(ForeignXdp::attach(host, "eth0", Verdict::Pass)?),
                _ => None,
            };
            if let Some(policy) = &policy {
                daemon.replace_policy(policy)?;
                daemon.start()?;
            }
            let figures = world.measure(seconds);
            if policy.is_some() {
                daemon.terminate()?;
                daemon.detach()?;
            }
            for (flow, figure) in figures?.into_iter().enumerate() {
                samples[flow][mode].push(figure);
            }
            bar.inc(1);
        }
    }
    daemon.replace_policy(LINKS)?;
    daemon.start()?;
    let programs = world.time_programs(seconds)?;
    daemon.terminate()?;
    daemon.detach()?;
    let flows: Vec<Flow> = FLOWS
        .iter()
        .zip(&samples)
        .map(|((id, what), modes)| Flow {
            id,
            what,
            modes: figures(modes),
        })
        .collect();
    Ok(Containers {
        rounds,
        seconds,
        flows,
        programs,
    })
}

fn figures(modes: &[Vec<f64>; MODES.len()]) -> Vec<ModeFigures> {
    let [without, ..] = modes;
    MODES
        .iter()
        .zip(modes)
        .map(|((mode, _), samples)| {
            let ratios: Vec<f64> = samples
                .iter()
                .zip(without)
                .map(|(with, without)| with / without)
                .collect();
            ModeFigures {
                mode,
                median: quantile(samples, 0.5),
                lower: quantile(samples, 0.25),
                upper: quantile(samples, 0.75),
                ratio: quantile(&ratios, 0.5),
                ratio_lower: quantile(&ratios, 0.25),
                ratio_upper: quantile(&ratios, 0.75),
                best: quantile(samples, 1.0),
                best_ratio: quantile(samples, 1.0) / quantile(without, 1.0),
                samples: samples.clone(),
            }
        })
        .collect()
}

impl Containers {
    /// As tables, and what goals are judged by.
    pub fn shown(&self) -> Shown {
        Shown {
            tables: vec![self.throughput(), self.programs()],
            measured: self.goals(),
            ..Shown::default()
        }
    }

    fn throughput(&self) -> Table {
        let columns = [
            "direction",
            "filter",
            "Gbit/s, median (quartiles)",
            "of no filter (quartiles)",
            "best",
            "of no filter",
        ];
        let rows = self.flows.iter().flat_map(|flow| {
            flow.modes.iter().zip(MODES).map(|(row, (_, mode))| {
                vec![
                    flow.what.to_owned(),
                    mode.to_owned(),
                    format!("{:.2} ({:.2}-{:.2})", row.median, row.lower, row.upper),
                    format!(
                        "{:.2} ({:.2}-{:.2})",
                        row.ratio, row.ratio_lower, row.ratio_upper
                    ),
                    format!("{:.2}", row.best),
                    format!("{:.2}", row.best_ratio),
                ]
            })
        });
        Table {
            title: format!(
                "iperf3, one TCP stream; {} rounds of {} s",
                self.rounds, self.seconds
            ),
            columns: columns.map(str::to_owned).to_vec(),
            rows: rows.collect(),
        }
    }

    fn programs(&self) -> Table {
        let columns = ["direction", "runs", "ns a run", "% of the time measured"];
        let rows = self.programs.iter().zip(FLOWS).map(|(time, (_, what))| {
            vec![
                what.to_owned(),
                time.runs.to_string(),
                format!("{:.0}", time.nanoseconds),
                format!("{:.2}", time.share * 100.0),
            ]
        });
        Table {
            title: "The programs on container links, by the kernel's own clock".to_owned(),
            columns: columns.map(str::to_owned).to_vec(),
            rows: rows.collect(),
        }
    }

    /// What goals are judged by.
    fn goals(&self) -> Vec<Measured> {
        let ratio = |flow: &Flow| flow.modes.get(ON_LINKS).map_or(f64::NAN, |mode| mode.ratio);
        let flows = GOALS.iter().zip(&self.flows);
        flows.map(|(id, flow)| (*id, ratio(flow))).collect()
    }
}
