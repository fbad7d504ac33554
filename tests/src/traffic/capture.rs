//! A capture, sent again: its frames as they are, at the pace they were captured at or at another one.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pcap_file::DataLink;
use pcap_file::pcap::PcapReader;

use super::link::Link;
use super::pace::Pace;
use super::sender::{Engine, Limits, Sent, send_one};
use crate::netns::PacketSocket;

/// Bytes of a capture that are kept in memory.
const MOST: usize = 1 << 30;

/// How fast a capture is sent.
#[derive(Clone, Copy, Debug)]
pub enum Speed {
    /// As it was captured.
    Original,
    /// So many packets a second.
    Rate(f64),
    /// As fast as they go.
    Most,
}

/// The frames of a capture, with the time since the first one.
#[derive(Debug)]
pub struct Capture(Vec<(Duration, Vec<u8>)>);

impl Capture {
    /// Reads a file in pcap format.
    pub fn read(path: &Path) -> Result<Self> {
        let show = path.display();
        let file = File::open(path).with_context(|| format!("cannot open {show}"))?;
        let mut reader = PcapReader::new(BufReader::new(file)).with_context(|| {
            format!("{show} is no capture (pcap; `editcap -F pcap` makes one of pcapng)")
        })?;
        let link = reader.header().datalink;
        ensure!(
            link == DataLink::ETHERNET,
            "{show} was captured on a link of another sort ({link:?}): only Ethernet frames can be sent"
        );
        let (mut frames, mut first, mut size) = (Vec::new(), None, 0);
        while let Some(packet) = reader.next_packet() {
            let packet = packet
                .with_context(|| format!("{show} is broken behind packet {}", frames.len()))?;
            size += packet.data.len();
            ensure!(
                size <= MOST,
                "{show} holds more than {MOST} bytes of frames: split it (editcap -c)"
            );
            let first = *first.get_or_insert(packet.timestamp);
            frames.push((
                packet.timestamp.saturating_sub(first),
                packet.data.into_owned(),
            ));
        }
        ensure!(!frames.is_empty(), "{show} holds no packets");
        Ok(Self(frames))
    }

    /// How many frames there are.
    pub fn frames(&self) -> usize {
        self.0.len()
    }

    /// Sends the frames by `link`, in turn and again from the first, until one of the limits is reached or `stop` is set.
    pub fn send(
        &self,
        link: &Link,
        limits: Limits,
        speed: Speed,
        stop: &AtomicBool,
    ) -> Result<Sent> {
        let socket = PacketSocket::open_here(&link.name)
            .with_context(|| format!("cannot open a packet socket on {}", link.name))?;
        let before = link.counters()?;
        let (mut packets, mut bytes, mut busy) = (0, 0, Duration::ZERO);
        let length = self.0.last().map_or(Duration::ZERO, |(offset, _)| *offset);
        let rate = match speed {
            Speed::Original | Speed::Most => None,
            Speed::Rate(rate) => Some(rate),
        };
        let pace = Pace::start(rate, limits.time, stop);
        'turns: for turn in 0_u32.. {
            for (offset, frame) in &self.0 {
                let due = match speed {
                    Speed::Original => pace.wait_for(length * turn + *offset),
                    Speed::Rate(_) | Speed::Most => pace.wait(packets),
                };
                if packets >= limits.packets || !due {
                    break 'turns;
                }
                let began = Instant::now();
                send_one(&socket, frame)?;
                busy += began.elapsed();
                packets += 1;
                bytes += frame.len() as u64;
            }
        }
        let elapsed = pace.elapsed().as_secs_f64();
        Ok(Sent {
            packets,
            bytes,
            seconds: elapsed,
            rate: packets as f64 / elapsed,
            busy: busy.as_secs_f64() / elapsed,
            lost: link.counters()?.send_dropped - before.send_dropped,
            engine: Engine::Socket,
        })
    }
}
