//! A flood of SYNs from random sources to random ports, by live frames: the kernel makes the packets, and a program of a
//! few instructions sends each out of a link of the namespace that it runs in. Bounded in time, and paced.

use std::time::{Duration, Instant};

use anyhow::Result;
use edgefilter_tests::netns::Namespace;
use edgefilter_tests::netns::links;

use super::assembly;
use super::frames::{Version, tcp};

/// Packets that are sent at once: beginning and ending a test run takes the kernel some milliseconds.
const BURST: u32 = 262_144;

/// Sends as many as `rate` a second for so long; how many there were.
pub fn send(
    from: &Namespace,
    link: &str,
    destination: ([u8; 6], [u8; 4]),
    rate: u64,
    time: Duration,
) -> Result<u64> {
    let program = assembly::random_syns(links::index(from, link)?)?;
    let mut frame = tcp(Version::V4, 1000, 1, true)?;
    let (mac, address) = destination;
    // where a frame without a tag has them; the filter looks at no checksum
    frame[..6].copy_from_slice(&mac);
    frame[30..34].copy_from_slice(&address);
    from.inside(|| {
        let (begin, mut sent) = (Instant::now(), 0);
        while begin.elapsed() < time {
            let due = (begin.elapsed().as_secs_f64() * rate as f64) as u64;
            if sent > due {
                std::thread::sleep(Duration::from_micros(500));
                continue;
            }
            program.send(&frame, BURST)?;
            sent += u64::from(BURST);
        }
        Ok(sent)
    })?
}
