//! Sends streams by a link, bounded in packets and in time, flat out or at a pace.
//!
//! The kernel makes and sends the packets itself where the link takes XDP frames (a veth does if its peer has an XDP program
//! or GRO on), and an AF_PACKET socket sends those made here elsewhere. Has to run on a thread that is in the link's network
//! namespace.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use super::link::{Counters, Link};
use super::pace::Pace;
use super::program::{self, Generator};
use super::stream::Stream;
use crate::netns::PacketSocket;

/// Packets of the first call into the kernel, from which the length of the next ones is reckoned.
const FIRST: u64 = 1 << 18;
/// What a call should take when sending flat out.
const CALL: Duration = Duration::from_secs(1);
/// The same at a pace: what is left of a call that is stopped costs some 30 ns a packet.
const PACED_CALL: Duration = Duration::from_secs(4);
/// Packets in a row when there are several streams.
const TURN: u64 = 1 << 16;
/// Packets to see by whether the link takes frames of XDP programs.
const PROBE: u64 = 64;
/// Packets between two looks at the clock when a socket sends flat out.
const BURST: u64 = 64;
/// How soon it is seen that somebody wants to stop.
const WATCH: Duration = Duration::from_millis(20);
/// What a counter may take to move, when a busy thread receives.
const SETTLE: Duration = Duration::from_millis(200);

/// Who makes the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// The kernel, if the link takes its frames, else a socket.
    Auto,
    /// The kernel.
    Kernel,
    /// An AF_PACKET socket.
    Socket,
}

/// What ends it.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Packets at most.
    pub packets: u64,
    /// Time at most.
    pub time: Duration,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sent {
    /// Packets made and handed to the link.
    pub packets: u64,
    /// Their bytes, without the checksum of Ethernet.
    pub bytes: u64,
    /// How long that took.
    pub seconds: f64,
    /// Packets a second.
    pub rate: f64,
    /// Of that time, the part spent on sending; the rest is waiting.
    pub busy: f64,
    /// Packets that the link could not take: the receiver was the limit.
    pub lost: u64,
    /// Who made them.
    pub engine: Engine,
}

/// Sends.
#[derive(Debug)]
pub struct Sender {
    link: Link,
    streams: Vec<Stream>,
    /// Packets a second.
    rate: Option<f64>,
    work: Work,
    /// May still become a socket.
    undecided: bool,
}

#[derive(Debug)]
enum Work {
    Kernel(Vec<Generator>),
    /// With the number of packets made of each stream, and room for one.
    Socket(PacketSocket, Vec<u64>, Vec<u8>),
}

/// So far.
#[derive(Debug, Default)]
struct Tally {
    packets: u64,
    bytes: u64,
    timed: u64,
    time: Duration,
    waited: Duration,
}

impl Sender {
    /// Gets ready to send `streams` by `link`, as fast as they go or at `rate` packets a second.
    pub fn open(
        link: &Link,
        streams: Vec<Stream>,
        rate: Option<f64>,
        engine: Engine,
    ) -> Result<Self> {
        ensure!(!streams.is_empty(), "there is nothing to send");
        let slow = rate.is_some_and(|rate| rate < program::SLOWEST);
        ensure!(
            !(slow && engine == Engine::Kernel),
            "the kernel keeps a pace of {} packets a second or more; send by a socket",
            program::SLOWEST
        );
        // Streams that take turns packet by packet are the socket's: a call into the kernel is for many of one.
        let by_socket = engine == Engine::Auto && (slow || streams.len() > 1);
        let work = if by_socket || engine == Engine::Socket {
            socket(link, streams.len())?
        } else {
            let generator = |stream| Generator::new(stream, link.index, rate);
            Work::Kernel(streams.iter().map(generator).collect::<Result<_>>()?)
        };
        Ok(Self {
            link: link.clone(),
            streams,
            rate,
            work,
            undecided: engine == Engine::Auto,
        })
    }

    /// Sends until one of the limits is reached or `stop` is set. A further call goes on where this one ended.
    pub fn send(&mut self, limits: Limits, stop: &AtomicBool) -> Result<Sent> {
        let before = self.link.counters()?;
        if self.undecided && matches!(self.work, Work::Kernel(_)) {
            let probe = Limits {
                packets: PROBE.min(limits.packets),
                ..limits
            };
            let sent = self.by_kernel(probe, stop)?.packets;
            self.undecided = false;
            if self.settle(before, sent)?.0 >= sent {
                let rest = Limits {
                    packets: limits.packets - sent,
                    ..limits
                };
                return self.finish(before, rest, sent, stop);
            }
            // Nothing of that got out, so nothing has been sent.
            self.work = socket(&self.link, self.streams.len())?;
        }
        self.finish(before, limits, 0, stop)
    }

    /// Sends, and adds the `probed` packets that were sent before.
    fn finish(
        &mut self,
        before: Counters,
        limits: Limits,
        probed: u64,
        stop: &AtomicBool,
    ) -> Result<Sent> {
        let began = Instant::now();
        let (tally, engine) = match self.work {
            Work::Kernel(_) => (self.by_kernel(limits, stop)?, Engine::Kernel),
            Work::Socket(..) => (self.by_socket(limits, stop)?, Engine::Socket),
        };
        let seconds = if tally.timed == 0 {
            began.elapsed().as_secs_f64()
        } else {
            tally.time.as_secs_f64() * tally.packets as f64 / tally.timed as f64
        };
        let (counted, lost) = self.settle(before, probed + tally.packets)?;
        ensure!(
            counted > 0 || tally.packets == 0,
            "{} takes no frames of XDP programs: switch GRO on at the other end (ethtool -K PEER gro on), or send by a socket \
             (--engine socket)",
            self.link.name
        );
        let size = self.streams.first().map_or(0, Stream::size) as u64;
        Ok(Sent {
            packets: probed + tally.packets,
            bytes: probed * size + tally.bytes,
            seconds,
            rate: tally.packets as f64 / seconds,
            busy: 1.0 - tally.waited.as_secs_f64() / tally.time.as_secs_f64().max(1e-9),
            lost,
            engine,
        })
    }

    fn by_kernel(&self, limits: Limits, stop: &AtomicBool) -> Result<Tally> {
        let Work::Kernel(generators) = &self.work else {
            bail!("no program is loaded");
        };
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    if stop.load(Ordering::Relaxed) {
                        generators.iter().for_each(Generator::stop);
                    }
                    std::thread::park_timeout(WATCH);
                }
            });
            let sent = self.calls(generators, limits, stop);
            done.store(true, Ordering::Relaxed);
            watcher.thread().unpark();
            sent
        })
    }

    fn calls(&self, generators: &[Generator], limits: Limits, stop: &AtomicBool) -> Result<Tally> {
        let began = Instant::now();
        let mut tally = Tally::default();
        let mut turns = self.turns();
        while tally.packets < limits.packets
            && began.elapsed() < limits.time
            && !stop.load(Ordering::Relaxed)
        {
            let Some(index) = turns.next() else { break };
            let left = limits.time.saturating_sub(began.elapsed());
            let mut call = match self.rate {
                Some(rate) => (rate * left.min(PACED_CALL).as_secs_f64()).ceil() as u64,
                None if tally.timed == 0 => FIRST,
                None => {
                    let rate = tally.timed as f64 / tally.time.as_secs_f64();
                    (rate * left.min(CALL).as_secs_f64()) as u64
                }
            };
            if generators.len() > 1 {
                call = call.min(TURN);
            }
            let call = call.clamp(1, limits.packets - tally.packets);
            let generator = generators.get(index).context("no such stream")?;
            let made = generator
                .send(call.try_into().unwrap_or(u32::MAX), left)
                .with_context(|| {
                    format!(
                        "the kernel does not send by {}: that takes Linux 5.18 and root",
                        self.link.name
                    )
                })?;
            tally.packets += made.packets;
            tally.bytes += made.packets * self.streams.get(index).map_or(0, Stream::size) as u64;
            tally.timed += made.timed;
            tally.time += made.time;
            tally.waited += made.waited;
        }
        Ok(tally)
    }

    fn by_socket(&mut self, limits: Limits, stop: &AtomicBool) -> Result<Tally> {
        let mut turns = self.turns();
        let Work::Socket(socket, made, frame) = &mut self.work else {
            bail!("no socket is open");
        };
        let mut tally = Tally::default();
        let pace = Pace::start(self.rate, limits.time, stop);
        while tally.packets < limits.packets {
            let asked = Instant::now();
            if (self.rate.is_some() || tally.packets.is_multiple_of(BURST))
                && !pace.wait(tally.packets)
            {
                break;
            }
            tally.waited += asked.elapsed();
            let Some(index) = turns.next() else { break };
            let stream = self.streams.get(index).context("no such stream")?;
            let number = made.get_mut(index).context("no such stream")?;
            stream.write(*number, frame);
            *number += 1;
            send_one(socket, frame)?;
            tally.packets += 1;
            tally.bytes += frame.len() as u64;
        }
        tally.timed = tally.packets;
        tally.time = pace.elapsed();
        Ok(tally)
    }

    /// Which stream is next, for ever: each as often as its weight says.
    fn turns(&self) -> impl Iterator<Item = usize> + use<> {
        let weights: Vec<u32> = self.streams.iter().map(|stream| stream.weight).collect();
        let most = weights.iter().copied().max().unwrap_or(1).max(1);
        let turn: Vec<usize> = (0..most)
            .flat_map(|round| {
                let due = move |weight: &u32| *weight > round;
                let weights = weights.iter().enumerate();
                weights.filter_map(move |(index, weight)| due(weight).then_some(index))
            })
            .collect();
        turn.into_iter().cycle()
    }

    /// Waits until the link has counted so many packets, for a while: how many it has, and how many of them it lost.
    fn settle(&self, before: Counters, packets: u64) -> Result<(u64, u64)> {
        let began = Instant::now();
        loop {
            let now = self.link.counters()?;
            let lost = now.send_dropped - before.send_dropped;
            let counted = now.sent - before.sent + lost;
            if counted >= packets || began.elapsed() > SETTLE {
                return Ok((counted, lost));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

fn socket(link: &Link, streams: usize) -> Result<Work> {
    let socket = PacketSocket::open_here(&link.name)
        .with_context(|| format!("cannot open a packet socket on {}", link.name))?;
    Ok(Work::Socket(socket, vec![0; streams], Vec::new()))
}

/// Sends a frame as soon as the link takes it.
pub(super) fn send_one(socket: &PacketSocket, frame: &[u8]) -> Result<()> {
    let began = Instant::now();
    loop {
        match socket.try_send(frame) {
            Ok(()) => return Ok(()),
            Err(error)
                if error.raw_os_error() == Some(libc::ENOBUFS)
                    && began.elapsed() < Duration::from_secs(1) =>
            {
                std::thread::yield_now();
            }
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot send a frame of {} bytes", frame.len()));
            }
        }
    }
}
