//! What a server still does while a flood is refused in front of it: an HTTP load at a fixed rate, and iperf3, at 0, 1 and 3
//! million refused packets a second.
//!
//! The attacker has one processor, at a paced rate that does not depend on what becomes of the packets. Everything else has the
//! other one: the thread of the kernel that receives (threaded NAPI), the filter, nginx, and the clients.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use edgefilter_tests::programs::{Nginx, iperf};
use edgefilter_tests::traffic::description::Description;
use edgefilter_tests::traffic::pair::RECEIVER_V4;
use edgefilter_tests::traffic::sender::{Engine, Sent};
use edgefilter_tests::traffic::{Limits, Sender};
use serde::Serialize;

use super::contestants::{Filter, Lane};
use super::document::Table;
use super::goals::Measured;
use super::isolation::{pin, processors};
use super::loader::{Answers, Load};
use super::progress;
use super::report::Shown;
use super::spread::{Spread, quantile};

/// Ports that every contestant has open.
const WEB: u16 = 80;
const IPERF: u16 = 443;
/// Requests a second, as a part of what the server answers with no filter, no flood and no pause.
const OFFERED: f64 = 0.2;
/// What the flood runs before and after what is measured.
const MARGIN: Duration = Duration::from_millis(100);

const CONTESTANTS: [(&str, &str, Filter); 3] = [
    ("none", "no rules", Filter::None),
    (
        "nftables",
        "nftables input, deny, conntrack",
        Filter::Conntrack,
    ),
    ("ours", "edgefilter", Filter::Ours),
];
/// Refused packets a second.
const FLOODS: [(&str, Option<f64>); 3] = [("0", None), ("1 M", Some(1e6)), ("3 M", Some(3e6))];

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Goodput {
    rounds: usize,
    seconds: f64,
    /// Requests a second that were made.
    offered: f64,
    rows: Vec<Figures>,
}

/// One contestant under one flood.
#[derive(Debug, Serialize)]
struct Figures {
    id: &'static str,
    what: &'static str,
    flood: &'static str,
    /// Requests answered a second.
    answered: Spread,
    /// Of those answered without a flood, in the same rounds.
    of_none: Spread,
    /// Milliseconds until the answer.
    p50: f64,
    p90: f64,
    p99: f64,
    /// Gbit/s of one TCP stream, which takes whatever is left.
    iperf: Spread,
    /// Of that without a flood, in the same rounds.
    iperf_of_none: Spread,
    /// Million packets of the flood a second that the receiver saw, and what part of the flood was lost before.
    refused_mpps: f64,
    lost: f64,
    /// Of the attacker's processor, the part that making and sending the flood took.
    generator: f64,
}

/// A contestant at work.
struct Subject {
    // In this order: servers end before their namespace goes.
    _server: Nginx,
    senders: Vec<Option<Sender>>,
    lane: Lane,
    samples: Vec<Samples>,
}

/// Of one flood, by round.
#[derive(Clone, Debug, Default)]
struct Samples {
    answered: Vec<f64>,
    percentiles: [Vec<f64>; 3],
    iperf: Vec<f64>,
    refused: Vec<f64>,
    lost: Vec<f64>,
    generator: Vec<f64>,
}

/// Measures everything. Takes two processors.
pub fn measure(quick: bool) -> Result<Goodput> {
    let (rounds, seconds) = if quick { (2, 0.6) } else { (7, 2.0) };
    let processors = processors()?;
    let [host, .., attacker] = processors[..] else {
        anyhow::bail!("the attacker needs a processor of its own: there is one only");
    };
    let mut subjects = Vec::new();
    for (_, what, filter) in CONTESTANTS {
        let subject = Subject::build(filter, host);
        subjects.push(subject.with_context(|| what.to_owned())?);
    }
    let none = subjects.first().context("no contestant")?;
    let most = none.load(None, Duration::from_secs_f64(seconds))?;
    let offered = (most.latencies.len() as f64 / seconds * OFFERED).round();
    let bar = progress::bar("goodput", rounds);
    for round in 0..rounds {
        for turn in 0..subjects.len() {
            let at = (turn + round) % subjects.len();
            let subject = subjects.get_mut(at).context("no contestant")?;
            for flood in 0..FLOODS.len() {
                subject.round(flood, offered, seconds, [host, attacker])?;
            }
        }
        bar.inc(1);
    }
    let rows = CONTESTANTS
        .iter()
        .zip(&subjects)
        .flat_map(|((id, what, _), subject)| figures(id, what, &subject.samples))
        .collect();
    Ok(Goodput {
        rounds,
        seconds,
        offered,
        rows,
    })
}

impl Subject {
    fn build(filter: Filter, host: usize) -> Result<Self> {
        let lane = Lane::build(filter, false)?;
        lane.pair.receive_on(Some(host))?;
        let flood = Description {
            destination: Some(RECEIVER_V4.parse()?),
            ..Description::default()
        };
        let senders = FLOODS
            .iter()
            .map(|(_, rate)| {
                let open = |rate| {
                    let streams = lane.pair.streams(&flood)?;
                    lane.pair.open(streams, Some(rate), Engine::Kernel)
                };
                rate.map(open).transpose()
            })
            .collect::<Result<_>>()?;
        // Programs stay where the thread was that started them.
        pin(host)?;
        let server = Nginx::start(&lane.pair.receiver, &lane.scratch, &[WEB])?;
        Ok(Self {
            _server: server,
            senders,
            lane,
            samples: vec![Samples::default(); FLOODS.len()],
        })
    }

    fn load(&self, rate: Option<f64>, time: Duration) -> Result<Answers> {
        let load = Load {
            server: SocketAddr::new(RECEIVER_V4.parse()?, WEB),
            rate,
            time,
        };
        self.lane.pair.sender.inside(|| load.run())?
    }

    fn iperf(&self, seconds: u32, flooded: bool) -> Result<f64> {
        let sender = &self.lane.pair.sender;
        let extra = ["--connect-timeout", "1000"];
        let client = iperf::client(sender, RECEIVER_V4, IPERF, seconds, &extra)?;
        let limit = Duration::from_secs(u64::from(seconds) + 3);
        match iperf::result(client, limit) {
            Ok(result) => Ok(result.bits_per_second / 1e9),
            // a flood that nobody stops can keep a stream from being set up: that is a result
            Err(_) if flooded => Ok(0.0),
            Err(error) => Err(error),
        }
    }

    /// HTTP, then iperf3, while `flood` goes on.
    fn round(
        &mut self,
        flood: usize,
        offered: f64,
        seconds: f64,
        [host, attacker]: [usize; 2],
    ) -> Result<()> {
        let time = Duration::from_secs_f64(seconds);
        // a new one each time: it goes on to wait for a stream that a flood has cut
        pin(host)?;
        let _iperf = iperf::server(&self.lane.pair.receiver, IPERF)?;
        let mut sender = self.senders.get_mut(flood).and_then(Option::take);
        let flooded = sender.is_some();
        let stop = AtomicBool::new(false);
        let pair = &self.lane.pair;
        let before = pair.received()?;
        let (answers, gbits, sent) = std::thread::scope(|scope| {
            let flooding = sender.as_mut().map(|sender| {
                let stop = &stop;
                scope.spawn(move || {
                    pin(attacker)?;
                    let limits = Limits {
                        packets: u64::MAX,
                        // it is stopped long before
                        time: Duration::from_mins(1),
                    };
                    pair.sender.inside(|| sender.send(limits, stop))?
                })
            });
            let measured = pin(host).and_then(|()| {
                std::thread::sleep(MARGIN);
                let answers = self.load(Some(offered), time)?;
                let gbits = self.iperf(seconds.ceil() as u32, flooded)?;
                Ok((answers, gbits))
            });
            stop.store(true, Ordering::Relaxed);
            let sent = flooding
                .map(|thread| {
                    let joined = thread.join();
                    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                })
                .transpose()?;
            let (answers, gbits) = measured?;
            Ok::<_, anyhow::Error>((answers, gbits, sent))
        })?;
        let after = pair.received()?;
        if let Some(slot) = self.senders.get_mut(flood) {
            *slot = sender;
        }
        ensure!(answers.due > 0, "no request was due in {time:?}");
        let samples = self.samples.get_mut(flood).context("no such flood")?;
        samples.add(&answers, gbits, seconds);
        samples.flooded(sent, after.received - before.received);
        Ok(())
    }
}

impl Samples {
    fn add(&mut self, answers: &Answers, gbits: f64, seconds: f64) {
        self.answered.push(answers.latencies.len() as f64 / seconds);
        for (samples, part) in self.percentiles.iter_mut().zip([0.5, 0.9, 0.99]) {
            samples.push(quantile(&answers.latencies, part));
        }
        self.iperf.push(gbits);
    }

    fn flooded(&mut self, sent: Option<Sent>, received: u64) {
        let Some(sent) = sent else { return };
        // what the clients sent is little beside it
        self.refused
            .push(received.min(sent.packets) as f64 / sent.seconds / 1e6);
        self.lost
            .push(sent.lost as f64 / sent.packets.max(1) as f64);
        self.generator.push(sent.busy);
    }
}

fn figures(id: &'static str, what: &'static str, samples: &[Samples]) -> Vec<Figures> {
    let none = samples.first().cloned().unwrap_or_default();
    let median = |samples: &[f64]| {
        // a flood of nothing
        if samples.is_empty() {
            0.0
        } else {
            quantile(samples, 0.5)
        }
    };
    FLOODS
        .iter()
        .zip(samples)
        .map(|((flood, _), own)| Figures {
            id,
            what,
            flood,
            answered: Spread::of(&own.answered),
            of_none: Spread::of_ratios(&own.answered, &none.answered),
            p50: quantile(&own.percentiles[0], 0.5),
            p90: quantile(&own.percentiles[1], 0.5),
            p99: quantile(&own.percentiles[2], 0.5),
            iperf: Spread::of(&own.iperf),
            iperf_of_none: Spread::of_ratios(&own.iperf, &none.iperf),
            refused_mpps: median(&own.refused),
            lost: median(&own.lost),
            generator: median(&own.generator),
        })
        .collect()
}

impl Goodput {
    /// The ratios that are held against limits.
    fn goals(&self) -> Vec<Measured> {
        self.rows
            .iter()
            .filter(|row| row.id == "ours" && row.flood == "1 M")
            .map(|row| ("goodput_1m_of_none", row.of_none.median))
            .collect()
    }

    /// As a table, and what goals are judged by.
    pub fn shown(&self) -> Shown {
        let columns = [
            "filter",
            "flood",
            "answered a second",
            "of none",
            "p50 ms",
            "p90 ms",
            "p99 ms",
            "iperf3, Gbit/s",
            "of none",
            "refused (Mpps)",
            "lost in the ring",
            "generator",
        ];
        let rows = self.rows.iter().map(|row| {
            vec![
                row.what.to_owned(),
                row.flood.to_owned(),
                format!("{:.0}", row.answered.median),
                format!("{:.2}", row.of_none.median),
                format!("{:.2}", row.p50),
                format!("{:.2}", row.p90),
                format!("{:.2}", row.p99),
                format!("{:.2}", row.iperf.median),
                format!("{:.2}", row.iperf_of_none.median),
                format!("{:.2}", row.refused_mpps),
                format!("{:.0} %", row.lost * 100.0),
                format!("{:.0} %", row.generator * 100.0),
            ]
        });
        Shown {
            tables: vec![Table {
                title: format!(
                    "{} requests a second, and one TCP stream, under a flood; {} rounds of {} s each",
                    self.offered, self.rounds, self.seconds
                ),
                columns: columns.map(str::to_owned).to_vec(),
                rows: rows.collect(),
            }],
            measured: self.goals(),
            ..Shown::default()
        }
    }
}
