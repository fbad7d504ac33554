//! A paced stream of datagrams that are let in, and how long each was on its way: from before it is sent to when the
//! kernel has it behind the filter. What delays packets while tables are swapped shows here, and what only delays the
//! program that counts them does not.

use std::io::IoSliceMut;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use edgefilter_tests::netns::Namespace;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use nix::sys::time::TimeSpec;
use serde::Serialize;

/// Between two datagrams.
const PACE: Duration = Duration::from_micros(250);
/// Datagrams that are still under way when the stream ends.
const LINGER: Duration = Duration::from_millis(100);

/// A stream that goes on until it is finished.
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<Result<()>>,
    receiver: JoinHandle<Result<Vec<Arrival>>>,
}

/// One datagram, in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    /// When it was sent.
    sent: u64,
    /// How long it took.
    delay: u64,
}

/// What arrived.
#[derive(Debug)]
pub struct Arrivals(Vec<Arrival>);

/// Delays within some time, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Delays {
    /// Datagrams.
    pub count: usize,
    /// Half of them took no longer.
    pub median: f64,
    /// 99 in 100 took no longer.
    pub p99: f64,
    /// The longest.
    pub most: f64,
    /// The longest time between two of them, a pause of the sender included.
    pub gap: f64,
}

/// Nanoseconds since 1970: the clock of the kernel's time stamps.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}

impl Stream {
    /// Sends from one namespace to `to` in the other.
    pub fn start(from: &Namespace, host: &Namespace, to: SocketAddr) -> Result<Self> {
        let receiver = host
            .inside(|| UdpSocket::bind(to))?
            .with_context(|| format!("cannot receive at {to}"))?;
        receiver.set_read_timeout(Some(LINGER))?;
        setsockopt(&receiver, sockopt::ReceiveTimestampns, &true)
            .context("the kernel gives no time stamps")?;
        let sender = from.inside(|| UdpSocket::bind(("0.0.0.0", 0)))??;
        sender.connect(to)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (sending, receiving) = (stop.clone(), stop.clone());
        Ok(Self {
            stop,
            sender: thread::spawn(move || send(&sender, &sending)),
            receiver: thread::spawn(move || receive(&receiver, &receiving)),
        })
    }

    /// Ends the stream.
    pub fn finish(self) -> Result<Arrivals> {
        self.stop.store(true, Ordering::Relaxed);
        let joined = self.sender.join();
        joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let joined = self.receiver.join();
        let arrivals = joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(Arrivals(arrivals))
    }
}

fn send(socket: &UdpSocket, stop: &AtomicBool) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        socket.send(&now().to_ne_bytes())?;
        thread::sleep(PACE);
    }
    Ok(())
}

fn receive(socket: &UdpSocket, stop: &AtomicBool) -> Result<Vec<Arrival>> {
    let mut arrivals = Vec::new();
    let mut data = [0; 8];
    let mut control = nix::cmsg_space!(TimeSpec);
    loop {
        let mut parts = [IoSliceMut::new(&mut data)];
        let received = recvmsg::<SockaddrStorage>(
            socket.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            MsgFlags::empty(),
        );
        let stamp = match received {
            Ok(message) => message.cmsgs()?.find_map(|part| match part {
                ControlMessageOwned::ScmTimestampns(stamp) => Some(stamp),
                _ => None,
            }),
            // nothing came for a while
            Err(nix::Error::EAGAIN) if stop.load(Ordering::Relaxed) => return Ok(arrivals),
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => continue,
            Err(error) => return Err(error).context("cannot receive"),
        };
        let stamp = Duration::from(stamp.context("a datagram without a time stamp")?);
        let sent = u64::from_ne_bytes(data);
        arrivals.push(Arrival {
            sent,
            delay: (stamp.as_nanos() as u64).saturating_sub(sent),
        });
    }
}

impl Arrivals {
    /// Of those sent in this time; `None` if there are none.
    pub fn between(&self, from: u64, to: u64) -> Option<Delays> {
        let within = self.0.iter().filter(|one| (from..=to).contains(&one.sent));
        let (mut delays, sent): (Vec<u64>, Vec<u64>) =
            within.map(|one| (one.delay, one.sent)).unzip();
        delays.sort_unstable();
        let micros = |nanoseconds: u64| nanoseconds as f64 / 1e3;
        let at = |part: f64| {
            let place = (part * delays.len() as f64) as usize;
            delays
                .get(place.min(delays.len().saturating_sub(1)))
                .copied()
        };
        let gaps = sent.iter().zip(sent.iter().skip(1));
        Some(Delays {
            count: delays.len(),
            median: micros(at(0.5)?),
            p99: micros(at(0.99)?),
            most: micros(at(1.0)?),
            gap: micros(
                gaps.map(|(one, next)| next.saturating_sub(*one))
                    .max()
                    .unwrap_or(0),
            ),
        })
    }
}
