//! Senders of packets whose source is not theirs: a fast one of our own, and the tools people use for it.
//!
//! Owns how much is sent: every sender is bounded in packets and in time. Must never send outside a namespace of ours.

use std::io;
use std::mem::zeroed;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::marker;
use crate::netns::{Finished, Namespace, PacketSocket};

/// Frames handed to the kernel at once; half of them are true ones.
const BATCH: usize = 64;
/// True frames under way at most. A veth with XDP queues 256 frames, and forged ones fill it as well.
const WINDOW: u64 = 96;
/// A true frame that is not seen for so long is lost.
const LOST: Duration = Duration::from_secs(3);
/// Bound on a tool.
const LIMIT: Duration = Duration::from_secs(30);

/// Frames of a flood for each true one among them, that one included.
const FLOOD: usize = BATCH / 2;
/// True frames of a flood under way at most: with them up to 128 forged ones.
const FLOOD_WINDOW: u64 = 4;

/// A socket that sends frames as they are, many at a time.
#[derive(Debug)]
pub struct Blaster(PacketSocket);

impl Blaster {
    /// Opens it on `link`.
    pub fn open(namespace: &Namespace, link: &str) -> Result<Self> {
        PacketSocket::open(namespace, link).map(Self)
    }

    /// Sends `forged` and `truthful` by turns, `pairs` times each, as fast as the true ones arrive; the last one is a true
    /// one. `arrived` says how many of the true ones have. Ends early, with an error, when one of them never does.
    pub fn interleave(
        &self,
        forged: &[u8],
        truthful: &[u8],
        pairs: u64,
        arrived: impl Fn() -> Result<u64>,
    ) -> Result<()> {
        let before = arrived()?;
        let mut sent = 0;
        while sent < pairs {
            let now = (pairs - sent).min(BATCH as u64 / 2);
            wait(&arrived, (before + sent + now).saturating_sub(WINDOW))?;
            let frames = [forged, truthful].repeat(now as usize);
            self.send(&frames, |index| index % 2 == 1)?;
            sent += now;
        }
        wait(&arrived, before + pairs)
    }

    /// Sends `count` frames that `forge` writes (it is told the number of each), and after each 31 of them a true one, as fast as
    /// the true ones arrive; the last one is a true one. Returns how many true ones there were: all of them arrived, and
    /// frames arrive in the order they were sent, so that no forged one was lost on the link either.
    pub fn flood(
        &self,
        count: u64,
        truthful: &[u8],
        mut forge: impl FnMut(u64, &mut Vec<u8>),
        arrived: impl Fn() -> Result<u64>,
    ) -> Result<u64> {
        let before = arrived()?;
        let mut forged: Vec<Vec<u8>> = (1..FLOOD).map(|_| Vec::new()).collect();
        let (mut sent, mut true_ones) = (0, 0);
        while sent < count {
            let now = (count - sent).min(FLOOD as u64 - 1);
            for (frame, number) in forged.iter_mut().zip(sent..sent + now) {
                forge(number, frame);
            }
            let mut frames: Vec<&[u8]> = forged.iter().map(Vec::as_slice).collect();
            frames.truncate(now as usize);
            frames.push(truthful);
            wait(
                &arrived,
                (before + true_ones + 1).saturating_sub(FLOOD_WINDOW),
            )?;
            self.send(&frames, |index| index as u64 == now)?;
            sent += now;
            true_ones += 1;
        }
        wait(&arrived, before + true_ones)?;
        Ok(true_ones)
    }

    /// Sends at most `BATCH` frames; `truthful` says which of them are true ones.
    fn send(&self, frames: &[&[u8]], truthful: impl Fn(usize) -> bool) -> Result<()> {
        let mut parts: Vec<libc::iovec> = frames
            .iter()
            .map(|frame| libc::iovec {
                iov_base: frame.as_ptr().cast_mut().cast(),
                iov_len: frame.len(),
            })
            .collect();
        // SAFETY: mmsghdr is plain data, for which all zeroes is a value.
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
        for (message, part) in messages.iter_mut().zip(&mut parts) {
            message.msg_hdr.msg_iov = std::ptr::from_mut(part);
            message.msg_hdr.msg_iovlen = 1;
        }
        let wanted = parts.len().min(BATCH);
        let (mut done, mut since) = (0, Instant::now());
        while done < wanted {
            // SAFETY: the messages from `done` to `wanted` lie inside the array; their parts point to `frames`, which
            // the kernel only reads.
            let sent = unsafe {
                libc::sendmmsg(
                    self.0.descriptor().as_raw_fd(),
                    messages[done..].as_mut_ptr(),
                    (wanted - done) as libc::c_uint,
                    0,
                )
            };
            if let Ok(sent) = usize::try_from(sent) {
                (done, since) = (done + sent, Instant::now());
            } else {
                let error = io::Error::last_os_error();
                ensure!(
                    error.raw_os_error() == Some(libc::ENOBUFS) && since.elapsed() < LOST,
                    "cannot send {} frames: {error}",
                    if truthful(done) { "true" } else { "forged" }
                );
            }
            // The call ends at a frame it tried and failed to send. A filter on the way out dropped it, which is what
            // should become of a forged one. For a true one the queue was full for a moment.
            if done < wanted && !truthful(done) {
                done += 1;
            } else if done < wanted {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        Ok(())
    }
}

/// Waits until `wanted` have arrived; an error when the next one does not for `LOST`.
fn wait(arrived: impl Fn() -> Result<u64>, wanted: u64) -> Result<()> {
    let (mut before, mut since) = (0, Instant::now());
    loop {
        let now = arrived()?;
        if now >= wanted {
            return Ok(());
        }
        if now != before {
            (before, since) = (now, Instant::now());
        }
        ensure!(
            since.elapsed() < LOST,
            "a true frame was lost: {now} arrived, {wanted} have to"
        );
        std::thread::yield_now();
    }
}

/// `hping3 --udp --spoof`: `count` datagrams with our mark to `port` of `target`, as if from `source`.
pub fn hping3(
    namespace: &Namespace,
    scratch: &crate::netns::Scratch,
    (source, target, port): (&str, &str, u16),
    (kind, count): (u32, u32),
) -> Result<Finished> {
    let file = scratch.file(&format!("hping3-{kind}"), marker::payload(kind, 0))?;
    let (port, count) = (port.to_string(), count.to_string());
    let words = [
        "hping3",
        "--udp",
        "--quiet",
        "--spoof",
        source,
        "--destport",
        &port,
        "--count",
        &count,
        "--interval",
        "u2000",
        "--data",
        "16",
        "--file",
        &file.to_string_lossy(),
        target,
    ];
    // It waits for answers, and ends with 1 when none came.
    let done = namespace.try_run(&words, LIMIT)?;
    ensure!(
        done.stderr
            .contains(&format!("{count} packets transmitted")),
        "hping3 did not send: {}{}",
        done.stderr.trim(),
        done.stdout.trim()
    );
    Ok(done)
}

/// Runs a scapy script, kept in a file named after `label`: `lines` may use all of scapy and `mark(kind, sequence)`, and send by `sendp`.
pub fn scapy(
    namespace: &Namespace,
    scratch: &crate::netns::Scratch,
    label: &str,
    lines: &str,
) -> Result<Finished> {
    let magic = String::from_utf8_lossy(&marker::MAGIC).into_owned();
    let script = format!(
        "import logging, struct\n\
         logging.getLogger('scapy.runtime').setLevel(logging.ERROR)\n\
         from scapy.all import *\n\
         conf.verb = 0\n\
         def mark(kind, sequence=0):\n    return b'{magic}' + struct.pack('>II', kind, sequence)\n\
         {lines}\n"
    );
    let file = scratch.file(&format!("scapy-{label}.py"), script)?;
    // Debian's package belongs to the system's Python; another one may come first on PATH.
    namespace
        .try_run(&["/usr/bin/python3", &file.to_string_lossy()], LIMIT)?
        .require()
}

/// Whether the system's Python has scapy.
pub fn has_scapy() -> bool {
    std::path::Path::new("/usr/lib/python3/dist-packages/scapy").is_dir()
}

/// `nmap` with `extra` (`-S`, `-D`, `--spoof-mac`), one UDP probe with our mark to `port` of `target` from each source.
pub fn nmap(
    namespace: &Namespace,
    (target, port): (&str, u16),
    kind: u32,
    extra: &[&str],
) -> Result<Finished> {
    let (port, mark) = (port.to_string(), marker::hexadecimal(kind, 0));
    let mut words = vec![
        "nmap",
        "-n",
        "-Pn",
        "--disable-arp-ping",
        "-sU",
        "-e",
        "eth0",
        "-p",
        &port,
        "--data",
        &mark,
        "--max-retries",
        "0",
        "--max-rtt-timeout",
        "300ms",
        "--host-timeout",
        "15s",
    ];
    words.extend(extra);
    if target.contains(':') {
        words.push("-6");
    }
    words.push(target);
    namespace.try_run(&words, LIMIT)?.require()
}
