//! Packets a second that a filter drops, end to end: a flood from one network namespace through a veth pair to another one,
//! with everything on one processor, and with a receiver on a processor of its own (threaded NAPI).
//!
//! Every round floods all of them once, so that all see the same weather; ratios are those of the same round.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use edgefilter_tests::traffic::description::{Description, Protocol};
use edgefilter_tests::traffic::pair::{RECEIVER_V4, RECEIVER_V6};
use edgefilter_tests::traffic::sender::Engine;
use edgefilter_tests::traffic::{Limits, Sender};
use serde::Serialize;

use super::contestants::{BLOCKED, Filter, Lane};
use super::document::Table;
use super::goals::Measured;
use super::isolation::{pin, processors};
use super::progress;
use super::report::Shown;
use super::spread::Spread;

/// Packets that show what a filter does with them.
const TRIAL: u64 = 1000;
/// Of packets sent, what has to be seen if the generator was the limit.
const ALL: f64 = 0.98;

/// What is flooded with what.
struct Row {
    id: &'static str,
    what: &'static str,
    filter: Filter,
    flood: Flood,
}

/// What the packets are, each with the reason under which our filter drops it.
#[derive(Clone, Copy)]
enum Flood {
    Syn,
    Udp,
    Blocked,
    Martian,
    Ipv6,
    Fragment,
}

const fn row(id: &'static str, what: &'static str, filter: Filter, flood: Flood) -> Row {
    Row {
        id,
        what,
        filter,
        flood,
    }
}

#[rustfmt::skip]
const ROWS: [Row; 14] = [
    row("empty", "empty XDP_DROP", Filter::Empty, Flood::Syn),
    row("ours_syn", "edgefilter: SYN refused", Filter::Ours, Flood::Syn),
    row("ours_udp", "edgefilter: UDP refused", Filter::Ours, Flood::Udp),
    row("ours_blocked", "edgefilter: blocked source", Filter::Ours, Flood::Blocked),
    row("ours_martian", "edgefilter: martians", Filter::Ours, Flood::Martian),
    row("ours_ipv6", "edgefilter: SYN refused, IPv6", Filter::Ours, Flood::Ipv6),
    row("ours_fragment", "edgefilter: fragments of nothing", Filter::Ours, Flood::Fragment),
    row("xdp_filter", "xdp-filter, all features, deny", Filter::Xdp, Flood::Syn),
    row("nft_netdev", "nftables netdev, port set", Filter::Netdev, Flood::Syn),
    row("nft_input", "nftables input, stateless", Filter::Stateless, Flood::Syn),
    row("nft_conntrack", "nftables input, deny, conntrack", Filter::Conntrack, Flood::Syn),
    row("iptables_nft", "iptables (nft), conntrack", Filter::IptablesNft, Flood::Syn),
    row("iptables_legacy", "iptables (legacy), conntrack", Filter::IptablesLegacy, Flood::Syn),
    row("none", "no rules, closed port answers", Filter::None, Flood::Syn),
];

impl Flood {
    fn description(self) -> Result<Description> {
        let mut flood = Description {
            destination: Some(RECEIVER_V4.parse()?),
            ..Description::default()
        };
        match self {
            Self::Syn => {}
            Self::Udp => flood.protocol = Protocol::Udp,
            Self::Blocked => {
                flood.source = BLOCKED.parse()?;
                flood.ports = "443".parse()?;
            }
            Self::Martian => flood.source = "240.0.0.0/4".parse()?,
            Self::Ipv6 => flood.destination = Some(RECEIVER_V6.parse()?),
            Self::Fragment => flood.fragment = Some(185),
        }
        Ok(flood)
    }

    const fn reason(self) -> &'static str {
        match self {
            Self::Syn | Self::Udp | Self::Ipv6 => "drop_port",
            Self::Blocked => "drop_blocked",
            Self::Martian => "drop_martian",
            Self::Fragment => "drop_fragment",
        }
    }
}

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Drops {
    rounds: usize,
    seconds: f64,
    /// Everything on one processor.
    one_core: Vec<Figures>,
    /// The receiver on one of its own; empty if there is one only.
    two_cores: Vec<Figures>,
    /// What could not be measured here, and why.
    skipped: Vec<String>,
}

/// One contestant in one way.
#[derive(Debug, Serialize)]
struct Figures {
    id: &'static str,
    what: &'static str,
    /// Million packets a second, as the receiver's link counted them.
    mpps: Spread,
    /// Of the empty program's, in the same rounds.
    of_empty: Spread,
    /// Nanoseconds a packet more than the empty program takes.
    ns_over_empty: f64,
    /// Million packets a second that were sent, and what part of them the receiver saw.
    sent_mpps: f64,
    seen: f64,
    /// Who was the limit.
    limit: &'static str,
    /// Million packets a second by round.
    samples: Vec<f64>,
}

/// A row, ready to be flooded.
struct Subject<'a> {
    row: &'static Row,
    lane: &'a Lane,
    sender: Sender,
    seen: Vec<f64>,
    sent: Vec<f64>,
}

/// Measures everything.
pub fn measure(quick: bool) -> Result<Drops> {
    let (rounds, seconds) = if quick { (3, 0.15) } else { (9, 0.4) };
    let mut skipped = Vec::new();
    let lanes = lanes(&mut skipped);
    let processors = processors()?;
    let mut subjects = Vec::new();
    for row in &ROWS {
        if let Some((_, lane)) = lanes.iter().find(|(filter, _)| *filter == row.filter) {
            let streams = lane.pair.streams(&row.flood.description()?)?;
            subjects.push(Subject {
                row,
                lane,
                sender: lane.pair.open(streams, None, Engine::Kernel)?,
                seen: Vec::new(),
                sent: Vec::new(),
            });
        }
    }
    for subject in &mut subjects {
        subject.try_out()?;
    }
    let (receive, send) = match processors[..] {
        [one] => (None, one),
        [first, .., last] => (Some(first), last),
        [] => (None, 0),
    };
    pin(send)?;
    let one_core = rounds_of(&mut subjects, rounds, seconds, "one core")?;
    let mut two_cores = Vec::new();
    if receive.is_some() {
        for (_, lane) in &lanes {
            lane.pair.receive_on(receive)?;
        }
        two_cores = rounds_of(&mut subjects, rounds, seconds, "two cores")?;
    } else {
        skipped.push("a receiver on a processor of its own: there is one processor".to_owned());
    }
    Ok(Drops {
        rounds,
        seconds,
        one_core,
        two_cores,
        skipped,
    })
}

/// The filters that can be put in force here.
fn lanes(skipped: &mut Vec<String>) -> Vec<(Filter, Lane)> {
    let mut lanes: Vec<(Filter, Lane)> = Vec::new();
    for row in &ROWS {
        if lanes.iter().any(|(filter, _)| *filter == row.filter) {
            continue;
        }
        match Lane::build(row.filter, true) {
            Ok(lane) => lanes.push((row.filter, lane)),
            // said once for each filter, and again in the result
            Err(error) => {
                let why = format!("{}: {error:#}", row.what);
                eprintln!("left out: {why}");
                if !skipped.contains(&why) {
                    skipped.push(why);
                }
            }
        }
    }
    lanes
}

impl Subject<'_> {
    /// A few packets, none of which may be answered, or all of them where there is no filter: then the packets are good.
    fn try_out(&mut self) -> Result<()> {
        let Row {
            what,
            filter,
            flood,
            ..
        } = self.row;
        let pair = &self.lane.pair;
        let before = pair.received()?;
        let counted = self.lane.counted(flood.reason())?;
        let limits = Limits {
            packets: TRIAL,
            time: Duration::from_secs(5),
        };
        let sent = pair.send(&mut self.sender, limits)?;
        let after = pair.received()?;
        let answers = after.sent - before.sent;
        ensure!(
            sent.packets == TRIAL && after.received - before.received >= TRIAL - sent.lost,
            "{what}: {TRIAL} packets were to be sent, {} arrived",
            after.received - before.received
        );
        let open = *filter == Filter::None;
        ensure!(
            open == (answers > TRIAL / 2),
            "{what}: {answers} of {TRIAL} packets were answered"
        );
        if let (Some(before), Some(after)) = (counted, self.lane.counted(flood.reason())?) {
            ensure!(
                after - before >= TRIAL - sent.lost,
                "{what}: {} of {TRIAL} packets were counted as {}",
                after - before,
                flood.reason()
            );
        }
        Ok(())
    }

    fn flood(&mut self, seconds: f64) -> Result<()> {
        let pair = &self.lane.pair;
        let limits = Limits {
            packets: u64::MAX,
            time: Duration::from_secs_f64(seconds),
        };
        let before = pair.received()?.received;
        let sent = pair.send(&mut self.sender, limits)?;
        let seen = pair.received()?.received - before;
        self.seen.push(seen as f64 / sent.seconds / 1e6);
        self.sent.push(sent.rate / 1e6);
        Ok(())
    }
}

/// Floods all of them in turn, and sums up.
fn rounds_of(
    subjects: &mut [Subject<'_>],
    rounds: usize,
    seconds: f64,
    what: &str,
) -> Result<Vec<Figures>> {
    for subject in &mut *subjects {
        // caches, branch predictors, and the length of a call
        subject.flood(seconds / 4.0)?;
        (subject.seen, subject.sent) = (Vec::new(), Vec::new());
    }
    let count = subjects.len();
    let bar = progress::bar(&format!("drops, {what}"), rounds);
    for round in 0..rounds {
        for turn in 0..count {
            // not always after the same neighbour
            let subject = subjects.get_mut((turn + round * 5) % count);
            subject.context("no such contestant")?.flood(seconds)?;
        }
        bar.inc(1);
    }
    let empty = subjects.first().context("no contestant")?.seen.clone();
    let one_core = what == "one core";
    Ok(subjects
        .iter_mut()
        .map(|subject| {
            let samples = std::mem::take(&mut subject.seen);
            let sent = std::mem::take(&mut subject.sent);
            let mpps = Spread::of(&samples);
            let seen = Spread::of_ratios(&samples, &sent).median;
            Figures {
                id: subject.row.id,
                what: subject.row.what,
                of_empty: Spread::of_ratios(&samples, &empty),
                ns_over_empty: 1e3 / mpps.median - 1e3 / Spread::of(&empty).median,
                sent_mpps: Spread::of(&sent).median,
                seen,
                limit: match () {
                    () if one_core => "shared",
                    () if seen >= ALL => "generator",
                    () => "receiver",
                },
                mpps,
                samples,
            }
        })
        .collect())
}

impl Drops {
    /// The ratios that are held against limits.
    fn goals(&self) -> Vec<Measured> {
        let ratio = |figures: &[Figures], to: &str| {
            let samples = |id: &str| {
                let row = figures.iter().find(|row| row.id == id)?;
                Some(row.samples.clone())
            };
            let (ours, theirs) = (samples("ours_syn")?, samples(to)?);
            Some(Spread::of_ratios(&ours, &theirs).median)
        };
        let (one, two) = (&self.one_core, &self.two_cores);
        [
            ("drops_one_core_of_empty", ratio(one, "empty")),
            ("drops_one_core_of_xdp_filter", ratio(one, "xdp_filter")),
            ("drops_one_core_of_nftables", ratio(one, "nft_conntrack")),
            ("drops_two_cores_of_xdp_filter", ratio(two, "xdp_filter")),
            ("drops_two_cores_of_nftables", ratio(two, "nft_conntrack")),
        ]
        .into_iter()
        .filter_map(|(id, value)| Some((id, value?)))
        .collect()
    }

    /// As tables, and what goals are judged by.
    pub fn shown(&self) -> Shown {
        let titles = [
            (
                "everything on one core (each packet sent is received there: the generator takes a part of each, as much as \
                 in the first row)",
                &self.one_core,
            ),
            (
                "the receiver on a core of its own (what the ring has no room for is lost)",
                &self.two_cores,
            ),
        ];
        let measured = titles.iter().filter(|(_, figures)| !figures.is_empty());
        Shown {
            tables: measured
                .map(|(title, figures)| self.table(title, figures))
                .collect(),
            text: self
                .skipped
                .iter()
                .map(|why| ["left out: ", why, "\n"].concat())
                .collect(),
            measured: self.goals(),
            ..Shown::default()
        }
    }

    fn table(&self, title: &str, figures: &[Figures]) -> Table {
        let columns = [
            "filter",
            "Mpps (quartiles)",
            "of empty (quartiles)",
            "ns over empty",
            "sent, Mpps",
            "seen",
            "limit",
        ];
        let spread = |spread: &Spread| {
            format!(
                "{:.2} ({:.2}-{:.2})",
                spread.median, spread.lower, spread.upper
            )
        };
        let rows = figures.iter().map(|row| {
            vec![
                row.what.to_owned(),
                spread(&row.mpps),
                spread(&row.of_empty),
                format!("{:.0}", row.ns_over_empty),
                format!("{:.2}", row.sent_mpps),
                format!("{:.0} %", row.seen * 100.0),
                row.limit.to_owned(),
            ]
        });
        Table {
            title: format!(
                "Million packets dropped a second, {title}; {} rounds of {} s",
                self.rounds, self.seconds
            ),
            columns: columns.map(str::to_owned).to_vec(),
            rows: rows.collect(),
        }
    }
}
