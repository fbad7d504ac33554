//! Steady traffic while things change: which packet of which stream got through, and how long after a change one did that
//! should not have, or did not that should have.
//!
//! Owns the sender and the verdict. Streams send one packet each in turns, every few milliseconds. What is expected of one
//! depends on the state; a change leads from one state to the next, and for `LIMIT` after it both are right, but only for
//! the streams it concerns: all others have to be judged as ever, packet by packet.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use edgefilter_tests::netns::PacketSocket;
use edgefilter_tests::programs::Sink;

/// The time that a change may take to be followed.
pub const LIMIT: Duration = Duration::from_secs(1);
/// Between two packets of a stream.
const PERIOD: Duration = Duration::from_millis(4);
/// A packet that was sent just before a change may be judged just after it.
const ON_ITS_WAY: Duration = Duration::from_millis(50);

/// Whether a stream should get through.
pub type Rule<S> = fn(&S) -> bool;

/// Makes a frame out of a mark.
type Shape = Box<dyn Fn((u32, u32)) -> Vec<u8> + Send>;

/// Packets of one kind.
pub struct Stream<S> {
    pub name: String,
    /// Which of the sockets it is sent by.
    pub socket: usize,
    /// Which of the sinks it arrives at.
    pub sink: usize,
    pub shape: Shape,
    /// Whether it should get through.
    pub passes: Rule<S>,
}

/// One change: made between two moments.
struct Change<S> {
    name: String,
    begin: Instant,
    end: Instant,
    state: S,
}

/// What the verdict needs of a stream: its name, its sink, and when it should get through.
type Known<S> = (String, usize, Rule<S>);

/// Traffic under way.
pub struct Timeline<S> {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<Vec<Vec<Instant>>>,
    streams: Vec<Known<S>>,
    changes: Vec<Change<S>>,
}

/// What followed a change, in the worst case of all streams it concerned.
#[derive(Default)]
struct Lag {
    streams: usize,
    /// How long true packets went on being dropped, forged ones went on passing.
    lost: Option<Duration>,
    passed: Option<Duration>,
}

impl<S: Copy + Debug + 'static> Timeline<S> {
    /// Starts to send.
    pub fn start(state: S, sockets: Vec<PacketSocket>, streams: Vec<Stream<S>>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (mut known, mut shapes) = (Vec::new(), Vec::new());
        for stream in streams {
            known.push((stream.name, stream.sink, stream.passes));
            shapes.push((stream.socket, stream.shape));
        }
        let now = Instant::now();
        let stopped = Arc::clone(&stop);
        Self {
            stop,
            sender: std::thread::spawn(move || send(&sockets, &shapes, &stopped)),
            streams: known,
            changes: vec![Change {
                name: "the beginning".to_owned(),
                begin: now,
                end: now,
                state,
            }],
        }
    }

    /// Makes a change, which leads to `state`.
    pub fn change(
        &mut self,
        name: &str,
        state: S,
        make: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let begin = Instant::now();
        make().with_context(|| name.to_owned())?;
        self.note(name, state, (begin, Instant::now()));
        Ok(())
    }

    /// Notes a change that came about by itself between two moments.
    pub fn note(&mut self, name: &str, state: S, (begin, end): (Instant, Instant)) {
        self.changes.push(Change {
            name: name.to_owned(),
            begin,
            end,
            state,
        });
    }

    /// Lets the time pass in which a change has to be followed, and some more to see that it stays so.
    pub fn settle() {
        std::thread::sleep(LIMIT + Duration::from_millis(150));
    }

    /// Ends the traffic and compares what arrived with what was expected; `filtering` false: everything has to. Prints
    /// what was measured.
    pub fn judge(mut self, sinks: &[Sink], filtering: bool) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self
            .sender
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        if !filtering {
            for (_, _, passes) in &mut self.streams {
                *passes = |_| true;
            }
        }
        let mut arrived = arrived(&self.streams, sinks)?;
        let mut lags: Vec<Lag> = Vec::new();
        lags.resize_with(self.changes.len(), Lag::default);
        let (mut steady, mut wrong) = ([(0, 0); 2], Vec::new());
        for ((number, stream), sent) in self.streams.iter().enumerate().zip(&sent) {
            let seen = arrived.remove(&number).unwrap_or_default();
            let flips = flips(&self.changes, stream.2);
            if flips.is_empty() {
                let kind = &mut steady[usize::from((stream.2)(&self.changes[0].state))];
                *kind = (kind.0 + 1, kind.1 + sent.len());
            }
            wrong.extend(follow(
                &self.changes,
                stream,
                &flips,
                (sent, &seen),
                &mut lags,
            ));
        }
        for (change, lag) in self.changes.iter().zip(&lags).skip(1) {
            eprintln!(
                "{}: {} streams judged otherwise; true packets lost for {}, forged passed for {}",
                change.name,
                lag.streams,
                shown(lag.lost),
                shown(lag.passed)
            );
        }
        let [(refused, forged), (allowed, truthful)] = steady;
        eprintln!(
            "always true: {allowed} streams, {truthful} packets; always forged: {refused} streams, {forged} packets"
        );
        if !wrong.is_empty() {
            bail!("streams judged wrong:\n{}", wrong.join("\n"));
        }
        Ok(())
    }
}

/// The sequence numbers of each stream that arrived where it should, if at all.
fn arrived<S>(streams: &[Known<S>], sinks: &[Sink]) -> Result<BTreeMap<usize, HashSet<u32>>> {
    let mut arrived: BTreeMap<usize, HashSet<u32>> = BTreeMap::new();
    for sink in sinks {
        sink.settle()?;
    }
    for (number, (name, sink, _)) in streams.iter().enumerate() {
        let packets = sinks[*sink].packets()?;
        let of_this = packets
            .into_iter()
            .filter(|(kind, _)| *kind as usize == number);
        let seen: HashSet<u32> = of_this.map(|(_, sequence)| sequence).collect();
        let counted = sinks[*sink].count(number as u32)?;
        ensure!(
            counted == seen.len() as u64,
            "{name}: {counted} packets counted, {} kept: the sink forgets",
            seen.len()
        );
        arrived.insert(number, seen);
    }
    Ok(arrived)
}

/// The changes that concern a stream.
fn flips<S>(changes: &[Change<S>], passes: Rule<S>) -> Vec<usize> {
    let passes = |at: usize| passes(&changes[at].state);
    (1..changes.len())
        .filter(|at| passes(*at) != passes(at - 1))
        .collect()
}

/// Judges each packet of a stream; returns what was wrong beyond the time that a change may take.
fn follow<S: Debug>(
    changes: &[Change<S>],
    (name, _, passes): &Known<S>,
    flips: &[usize],
    (sent, seen): (&[Instant], &HashSet<u32>),
    lags: &mut [Lag],
) -> Vec<String> {
    for flip in flips {
        lags[*flip].streams += 1;
    }
    // For each change: how many packets, and the last one of them.
    let mut wrong: BTreeMap<usize, (usize, Instant)> = BTreeMap::new();
    for (sequence, at) in (0..).zip(sent) {
        let now = changes.partition_point(|change| change.begin <= *at + ON_ITS_WAY);
        let now = now.saturating_sub(1);
        let expected = passes(&changes[now].state);
        if seen.contains(&sequence) == expected {
            continue;
        }
        let flip = flips.iter().rev().find(|flip| **flip <= now).copied();
        let Some(flip) = flip.filter(|flip| *at <= changes[*flip].end + LIMIT) else {
            let entry = wrong.entry(now).or_insert((0, *at));
            *entry = (entry.0 + 1, *at);
            continue;
        };
        let took = at.saturating_duration_since(changes[flip].begin) + PERIOD;
        let lag = &mut lags[flip];
        let lag = if expected {
            &mut lag.lost
        } else {
            &mut lag.passed
        };
        *lag = (*lag).max(Some(took));
    }
    let shown = wrong.into_iter().map(|(at, (count, last))| {
        let change = &changes[at];
        format!(
            "{name}: {count} packets {} that should not be, after: {}; the last {} ms after it; {:?}",
            if passes(&change.state) { "lost" } else { "passed" },
            change.name,
            last.saturating_duration_since(change.begin).as_millis(),
            change.state,
        )
    });
    shown.collect()
}

fn shown(lag: Option<Duration>) -> String {
    lag.map_or_else(
        || "0 ms".to_owned(),
        |lag| format!("{} ms", lag.as_millis()),
    )
}

/// Sends one packet of each stream in turns; returns when each was sent.
fn send(
    sockets: &[PacketSocket],
    shapes: &[(usize, Shape)],
    stop: &AtomicBool,
) -> Vec<Vec<Instant>> {
    let mut sent: Vec<Vec<Instant>> = vec![Vec::new(); shapes.len()];
    let (mut next, mut sequence) = (Instant::now(), 0);
    while !stop.load(Ordering::Relaxed) {
        for ((socket, shape), (kind, times)) in shapes.iter().zip((0..).zip(&mut sent)) {
            let frame = shape((kind, sequence));
            times.push(Instant::now());
            // A filter on the way out lets the call fail, and a frame that was not sent will be missed.
            let _ = sockets[*socket].send(&frame);
        }
        sequence += 1;
        next += PERIOD;
        let now = Instant::now();
        if next > now {
            std::thread::sleep(next - now);
        } else {
            next = now;
        }
    }
    sent
}
